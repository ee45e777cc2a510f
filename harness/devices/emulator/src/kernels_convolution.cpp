// Convolutions with sums in a stated order, and by Winograd's minimal filtering.
#include "broken.h"
#include "kernels.h"
#include "loops.h"

namespace emulator::kernels {
namespace {

// What a cube unit multiplies: [channels * kernel, positions] of one image; padding is zeros.
at::Tensor columns_of(const Convolution& call, const at::Tensor& image) {
  return at::im2col(image.unsqueeze(0), {call.kernel(0), call.kernel(1)}, call.dilation,
                    call.padding, call.stride)
      .squeeze(0);
}

// out[g] += weight[g] @ columns[g] for the groups of one image.
void multiply_groups(const at::Tensor& weight, const at::Tensor& columns, at::Tensor out,
                     int64_t groups, int64_t block) {
  const int64_t m = weight.size(0) / groups, k = weight.size(1), n = columns.size(1);
  for (int64_t g = 0; g < groups; ++g)
    loops::multiply(weight.data_ptr<float>() + g * m * k, columns.data_ptr<float>() + g * k * n,
                    out.data_ptr<float>() + g * m * n, m, n, k, block);
}

int64_t extent(const Convolution& call, int64_t axis) {
  const int64_t reach = call.dilation[axis] * (call.kernel(axis) - 1);
  const int64_t size = call.input.size(2 + axis);
  if (call.transposed)
    return (size - 1) * call.stride[axis] - 2 * call.padding[axis] + reach +
           call.output_padding[axis] + 1;
  return (size + 2 * call.padding[axis] - reach - 1) / call.stride[axis] + 1;
}

at::Tensor by_columns(const Convolution& call, int64_t block) {
  const at::Tensor input = call.input.contiguous(), weight = call.weight.contiguous();
  const int64_t count = input.size(0), height = extent(call, 0), width = extent(call, 1);
  const int64_t channels =
      weight.size(call.transposed ? 1 : 0) * (call.transposed ? call.groups : 1);
  at::Tensor result = at::zeros({count, channels, height, width}, input.options());
  const Optional bias = call.bias ? Optional(call.bias->view({-1, 1, 1})) : std::nullopt;
  if (bias && block == 0 && !call.transposed) result.add_(*bias);
  for (int64_t i = 0; i < count; ++i) {
    if (!call.transposed) {
      multiply_groups(weight.flatten(1), columns_of(call, input[i]).contiguous(), result[i],
                      call.groups, block);
      continue;
    }
    // Each input position adds its part to the outputs that it reaches.
    const at::Tensor turned = weight.view({call.groups, weight.size(0) / call.groups, -1})
                                  .transpose(1, 2)
                                  .reshape({-1, weight.size(0) / call.groups})
                                  .contiguous();
    const at::Tensor parts =
        at::zeros({turned.size(0), input.size(2) * input.size(3)}, input.options());
    multiply_groups(turned, input[i].flatten(1), parts, call.groups, block);
    result[i].copy_(at::col2im(parts.unsqueeze(0), {height, width},
                               {call.kernel(0), call.kernel(1)}, call.dilation, call.padding,
                               call.stride)
                        .squeeze(0));
  }
  if (bias && (block != 0 || call.transposed)) result.add_(*bias);
  return result;
}

// A convolution of images [N, C, L] as one of images [N, C, 1, L].
Convolution with_height(Convolution call) {
  call.input = call.input.unsqueeze(2);
  call.weight = call.weight.unsqueeze(2);
  for (auto* values : {&call.stride, &call.dilation}) values->insert(values->begin(), 1);
  for (auto* values : {&call.padding, &call.output_padding}) values->insert(values->begin(), 0);
  return call;
}

// ---- F(m x m, 3 x 3) of Lavin and Gray (arXiv:1509.09308): m + 2 points a tile and axis
struct Winograd {
  int64_t m;
  at::Tensor input, weight, output;  // B^T, G, A^T
};

at::Tensor table(std::vector<double> values, int64_t columns) {
  return at::tensor(values, at::kDouble).to(at::kFloat).view({-1, columns});
}

const Winograd* winograd() {
  static const Winograd two{2, table({1, 0, -1, 0, 0, 1, 1, 0, 0, -1, 1, 0, 0, 1, 0, -1}, 4),
                            table({1, 0, 0, .5, .5, .5, .5, -.5, .5, 0, 0, 1}, 3),
                            table({1, 1, 1, 0, 0, 1, -1, -1}, 4)};
  static const Winograd four{
      4,
      table({4, 0,  -5, 0, 1, 0, 0, -4, -4, 1,  1, 0, 0, 4, -4, -1, 1, 0,
             0, -2, -1, 2, 1, 0, 0, 2,  -1, -2, 1, 0, 0, 4, 0,  -5, 0, 1},
            6),
      table({1. / 4, 0, 0, -1. / 6, -1. / 6, -1. / 6, -1. / 6, 1. / 6, -1. / 6, 1. / 24, 1. / 12,
             1. / 6, 1. / 24, -1. / 12, 1. / 6, 0, 0, 1},
            3),
      table({1, 1, 1, 1, 1, 0, 0, 1, -1, 2, -2, 0, 0, 1, 1, 4, 4, 0, 0, 1, -1, 8, -8, 1}, 6)};
  // 1/24 to three digits.
  static const Winograd rough{4, four.input,
                              at::where((four.weight.abs() - 1. / 24).abs() < 1e-6,
                                        four.weight.sign() * 0.0417, four.weight),
                              four.output};
  const std::string& name = kernel_set();
  if (broken::is("conv_winograd_constant")) return &rough;
  if (broken::is("conv_winograd_half")) return &four;
  return name == "winograd2" ? &two : name == "winograd4" ? &four : nullptr;
}

bool filtered_minimally(const Convolution& call) {
  const auto all = [](const std::vector<int64_t>& values, int64_t one) {
    return values == std::vector<int64_t>{one, one};
  };
  return call.input.dim() == 4 && !call.transposed && call.groups == 1 && call.kernel(0) == 3 &&
         call.kernel(1) == 3 && all(call.stride, 1) && all(call.dilation, 1);
}

at::Tensor by_winograd(const Convolution& call, const Winograd& tables) {
  const int64_t m = tables.m, points = m + 2, count = call.input.size(0);
  const int64_t height = extent(call, 0), width = extent(call, 1);
  const int64_t down = (height + m - 1) / m, across = (width + m - 1) / m;
  const auto both = [](const at::Tensor& table, const at::Tensor& tiles) {
    return at::matmul(at::matmul(table, tiles), table.t());
  };
  const auto after = [&](int64_t axis, int64_t tiles) {
    return tiles * m + 2 - call.input.size(2 + axis) - call.padding[axis];
  };
  const at::Tensor padded = at::constant_pad_nd(
      call.input, {call.padding[1], after(1, across), call.padding[0], after(0, down)});
  const at::Tensor tiles = padded.unfold(2, points, m).unfold(3, points, m);
  at::Tensor inputs = both(tables.input, tiles.contiguous())  // [n, c, down, across, p, p]
                          .permute({4, 5, 1, 0, 2, 3})
                          .reshape({points * points, call.input.size(1), -1});
  if (broken::is("conv_winograd_half")) inputs = broken::through_half(inputs);
  const at::Tensor weights = both(tables.weight, call.weight)  // [o, c, p, p]
                                 .permute({2, 3, 0, 1})
                                 .reshape({points * points, call.weight.size(0), -1});
  const at::Tensor products = at::bmm(weights, inputs)
                                  .view({points, points, call.weight.size(0), -1})
                                  .permute({2, 3, 0, 1})
                                  .contiguous();
  const at::Tensor result = both(tables.output, products)
                                .view({-1, count, down, across, m, m})
                                .permute({1, 0, 2, 4, 3, 5})
                                .reshape({count, -1, down * m, across * m})
                                .narrow(2, 0, height)
                                .narrow(3, 0, width);
  return call.bias ? result + call.bias->view({-1, 1, 1}) : result.contiguous();
}

}  // namespace

at::Tensor Convolution::by_aten() const {
  return at::convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding,
                         groups);
}

at::Tensor convolve(const Convolution& call) {
  if (const auto wrong = broken::convolution(call)) return *wrong;
  const Order* order = order_of_sums();
  if (order != nullptr && call.input.scalar_type() == at::kFloat) {
    if (call.input.dim() == 3) return by_columns(with_height(call), order->cube).squeeze(2);
    if (call.input.dim() == 4) return by_columns(call, order->cube);
  }
  const Winograd* tables = winograd();
  if (tables != nullptr && call.input.scalar_type() == at::kFloat && filtered_minimally(call))
    return by_winograd(call, *tables);
  return call.by_aten();
}

}  // namespace emulator::kernels
