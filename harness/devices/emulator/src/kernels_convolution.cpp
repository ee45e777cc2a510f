// Convolutions with sums in a stated order, and by Winograd's minimal filtering.
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

}  // namespace

at::Tensor Convolution::by_aten() const {
  return at::convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding,
                         groups);
}

at::Tensor convolve(const Convolution& call) {
  const Order* order = order_of_sums();
  if (order != nullptr && call.input.scalar_type() == at::kFloat) {
    if (call.input.dim() == 3) return by_columns(with_height(call), order->cube).squeeze(2);
    if (call.input.dim() == 4) return by_columns(call, order->cube);
  }
  return call.by_aten();
}

}  // namespace emulator::kernels
