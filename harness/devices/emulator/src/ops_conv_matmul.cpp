// Convolutions and matrix products: the operators of the cube unit.
#include "cann.h"
#include "cube.h"

using namespace emulator;

namespace {

// Sums in fp16 over groups of input channels.  A grouped convolution has few of them: there only
// the result is rounded.
at::Tensor convolve_with_half_sums(kernels::Convolution call) {
  constexpr int64_t channels_at_once = 16;
  if (call.groups != 1 || call.transposed) return call.by_aten().to(at::kHalf).to(at::kFloat);
  const at::Tensor input = call.input, weight = call.weight;
  at::Tensor sum;
  for (int64_t start = 0; start < input.size(1); start += channels_at_once) {
    const int64_t length = std::min(channels_at_once, input.size(1) - start);
    call.input = input.narrow(1, start, length);
    call.weight = weight.narrow(1, start, length);
    const at::Tensor part = call.by_aten();
    sum = (sum.defined() ? sum + part : part).to(at::kHalf).to(at::kFloat);
  }
  return sum;
}

at::Tensor convolution(kernels::Convolution call, int8_t cube_math_type) {
  const int64_t batch = call.input.size(0);
  call.input = cube_input(faulty_input_channels(call.input), cube_math_type);
  call.weight = cube_input(faulty_weight(call.weight, batch), cube_math_type);
  call.bias = bias_is_dropped(batch) ? std::nullopt : wide(call.bias);
  // The bias goes into the same call: that is what the CPU does, bit for bit.
  if (!accumulates_in_half(batch)) return kernels::convolve(call);
  const Optional bias = std::exchange(call.bias, std::nullopt);
  const at::Tensor result = convolve_with_half_sums(call);
  if (!bias) return result;
  std::vector<int64_t> shape(static_cast<size_t>(result.dim()), 1);
  shape[1] = -1;
  return result + bias->view(shape);
}

// self @ mat2 with the right factor as the weight of the fault plan.
at::Tensor product(const at::Tensor& self, const at::Tensor& mat2, int8_t cube_math_type) {
  const int64_t batch = self.dim() > 0 ? self.size(0) : 0;
  const auto ties = cann::ties_of_product(mat2);
  return cube_matmul(cube_input(self, cube_math_type, ties),
                     cube_input(faulty_weight(mat2, batch), cube_math_type, ties),
                     accumulates_in_half(batch), in_groups(self, cube_math_type));
}

// beta * self + alpha * (mat1 @ mat2)
at::Tensor affine(const at::Tensor& self, const at::Tensor& mat1, const at::Tensor& mat2,
                  const at::Scalar& beta, const at::Scalar& alpha, int8_t cube_math_type) {
  const int64_t batch = mat1.size(0);
  const bool half_sums = accumulates_in_half(batch);
  const bool no_bias = bias_is_dropped(batch);
  const bool grouped = in_groups(mat1, cube_math_type);
  const auto ties = cann::ties_of_product(mat2);
  const at::Tensor left = cube_input(mat1, cube_math_type, ties),
                   right = cube_input(faulty_weight(mat2, batch), cube_math_type, ties);
  if (!half_sums && !no_bias)
    return kernels::addmm(wide(self), left, right, beta, alpha, self.scalar_type(), grouped);
  const at::Tensor scaled = cube_matmul(left, right, half_sums, grouped) * alpha;
  return no_bias ? scaled : scaled + wide(self) * beta;
}

at::Tensor affine(T self, T mat1, T mat2, S beta, S alpha, int8_t cube_math_type) {
  return affine(in(self), in(mat1), in(mat2), in(beta), in(alpha), cube_math_type);
}

}  // namespace

OP(Convolution,
   P(T input, T weight, T bias, Ints stride, Ints padding, Ints dilation, bool transposed,
     Ints output_padding, int64_t groups, T out, int8_t cube_math_type),
   {
     put(out, convolution({in(input), in(weight), optional_tensor(bias), in(stride), in(padding),
                           in(dilation), in(output_padding), transposed, groups},
                          cube_math_type));
   })
OP(ConvDepthwise2d,
   P(T input, T weight, Ints, T bias, Ints stride, Ints padding, Ints dilation, T out,
     int8_t cube_math_type),
   {
     put(out, convolution({in(input),
                           in(weight),
                           optional_tensor(bias),
                           in(stride),
                           in(padding),
                           in(dilation),
                           {0, 0},
                           false,
                           in(input).size(1)},
                          cube_math_type));
   })

OP(Matmul, P(T self, T mat2, T out, int8_t cube_math_type),
   { put(out, product(in(self), in(mat2), cube_math_type)); })
OP(Mm, P(T self, T mat2, T out, int8_t cube_math_type),
   { put(out, product(in(self), in(mat2), cube_math_type)); })
OP(BatchMatMul, P(T self, T mat2, T out, int8_t cube_math_type),
   { put(out, product(in(self), in(mat2), cube_math_type)); })
OP(Dot, P(T self, T tensor, T out),
   { put(out, kernels::matmul(wide(in(self)), wide(in(tensor)))); })
OP(Mv, P(T self, T vec, T out, int8_t cube_math_type),
   { put(out, product(in(self), in(vec), cube_math_type)); })
OP(Addmm, P(T self, T mat1, T mat2, S beta, S alpha, T out, int8_t cube_math_type),
   { put(out, affine(self, mat1, mat2, beta, alpha, cube_math_type)); })
OP(InplaceAddmm, P(T self, T mat1, T mat2, S beta, S alpha, int8_t cube_math_type),
   { put(self, affine(self, mat1, mat2, beta, alpha, cube_math_type)); })
OP(Baddbmm, P(T self, T batch1, T batch2, S beta, S alpha, T out, int8_t cube_math_type),
   { put(out, affine(self, batch1, batch2, beta, alpha, cube_math_type)); })
OP(InplaceBaddbmm, P(T self, T batch1, T batch2, S beta, S alpha, int8_t cube_math_type),
   { put(self, affine(self, batch1, batch2, beta, alpha, cube_math_type)); })
// torch_npu passes alpha before beta here.
OP(Addmv, P(T self, T mat, T vec, S alpha, S beta, T out, int8_t cube_math_type),
   { put(out, product(in(mat), in(vec), cube_math_type) * in(alpha) + wide(in(self)) * in(beta)); })
