// Convolutions and matrix products: the operators of the cube unit.
#include "cube.h"

using namespace emulator;

namespace {

// What a convolution needs beside its tensors.
struct Geometry {
  std::vector<int64_t> stride, padding, dilation, output_padding;
  bool transposed;
  int64_t groups;
};

at::Tensor convolve(const at::Tensor& input, const at::Tensor& weight, const Geometry& geometry) {
  return at::convolution(input, weight, std::nullopt, geometry.stride, geometry.padding,
                         geometry.dilation, geometry.transposed, geometry.output_padding,
                         geometry.groups);
}

// Sums in fp16 over groups of input channels.  A grouped convolution has few of them: there only
// the result is rounded.
at::Tensor convolve_with_half_sums(const at::Tensor& input, const at::Tensor& weight,
                                   const Geometry& geometry) {
  constexpr int64_t channels_at_once = 16;
  if (geometry.groups != 1 || geometry.transposed)
    return convolve(input, weight, geometry).to(at::kHalf).to(at::kFloat);
  at::Tensor sum;
  for (int64_t start = 0; start < input.size(1); start += channels_at_once) {
    const int64_t length = std::min(channels_at_once, input.size(1) - start);
    const at::Tensor part =
        convolve(input.narrow(1, start, length), weight.narrow(1, start, length), geometry);
    sum = (sum.defined() ? sum + part : part).to(at::kHalf).to(at::kFloat);
  }
  return sum;
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, const Geometry& geometry,
                       int8_t cube_math_type) {
  const int64_t batch = input.size(0);
  const at::Tensor wide_input = cube_input(faulty_input_channels(input), cube_math_type);
  const at::Tensor wide_weight = cube_input(faulty_weight(weight, batch), cube_math_type);
  const bool with_bias = bias && !bias_is_dropped(batch);
  if (accumulates_in_half(batch)) {
    at::Tensor result = convolve_with_half_sums(wide_input, wide_weight, geometry);
    if (!with_bias) return result;
    std::vector<int64_t> shape(static_cast<size_t>(result.dim()), 1);
    shape[1] = -1;
    return result + wide(*bias).view(shape);
  }
  // The bias goes into the same call: that is what the CPU does, bit for bit.
  return at::convolution(wide_input, wide_weight,
                         with_bias ? std::optional<at::Tensor>(wide(*bias)) : std::nullopt,
                         geometry.stride, geometry.padding, geometry.dilation, geometry.transposed,
                         geometry.output_padding, geometry.groups);
}

// self @ mat2 with the right factor as the weight of the fault plan.
at::Tensor product(const at::Tensor& self, const at::Tensor& mat2, int8_t cube_math_type) {
  const int64_t batch = self.dim() > 0 ? self.size(0) : 0;
  return cube_matmul(cube_input(self, cube_math_type),
                     cube_input(faulty_weight(mat2, batch), cube_math_type),
                     accumulates_in_half(batch));
}

// beta * self + alpha * (mat1 @ mat2).  `fused` is the ATen call that does it at once.
template <typename Fused>
at::Tensor affine(const at::Tensor& self, const at::Tensor& mat1, const at::Tensor& mat2,
                  const at::Scalar& beta, const at::Scalar& alpha, int8_t cube_math_type,
                  Fused fused) {
  const int64_t batch = mat1.size(0);
  const bool half_sums = accumulates_in_half(batch);
  const bool no_bias = bias_is_dropped(batch);
  const at::Tensor left = cube_input(mat1, cube_math_type),
                   right = cube_input(faulty_weight(mat2, batch), cube_math_type);
  if (!half_sums && !no_bias) return fused(wide(self), left, right, beta, alpha);
  const at::Tensor scaled = cube_matmul(left, right, half_sums) * alpha;
  return no_bias ? scaled : scaled + wide(self) * beta;
}

at::Tensor addmm(T self, T mat1, T mat2, S beta, S alpha, int8_t cube_math_type) {
  return affine(in(self), in(mat1), in(mat2), in(beta), in(alpha), cube_math_type,
                [](const auto&... parts) { return at::addmm(parts...); });
}

at::Tensor baddbmm(T self, T batch1, T batch2, S beta, S alpha, int8_t cube_math_type) {
  return affine(in(self), in(batch1), in(batch2), in(beta), in(alpha), cube_math_type,
                [](const auto&... parts) { return at::baddbmm(parts...); });
}

}  // namespace

OP(Convolution,
   P(T input, T weight, T bias, Ints stride, Ints padding, Ints dilation, bool transposed,
     Ints output_padding, int64_t groups, T out, int8_t cube_math_type),
   {
     const Geometry geometry{in(stride),         in(padding), in(dilation),
                             in(output_padding), transposed,  groups};
     put(out, convolution(in(input), in(weight), optional_tensor(bias), geometry, cube_math_type));
   })
OP(ConvDepthwise2d,
   P(T input, T weight, Ints, T bias, Ints stride, Ints padding, Ints dilation, T out,
     int8_t cube_math_type),
   {
     const Geometry geometry{in(stride), in(padding), in(dilation),
                             {0, 0},     false,       in(input).size(1)};
     put(out, convolution(in(input), in(weight), optional_tensor(bias), geometry, cube_math_type));
   })

OP(Matmul, P(T self, T mat2, T out, int8_t cube_math_type),
   { put(out, product(in(self), in(mat2), cube_math_type)); })
OP(Mm, P(T self, T mat2, T out, int8_t cube_math_type),
   { put(out, product(in(self), in(mat2), cube_math_type)); })
OP(BatchMatMul, P(T self, T mat2, T out, int8_t cube_math_type),
   { put(out, product(in(self), in(mat2), cube_math_type)); })
OP(Dot, P(T self, T tensor, T out), { put(out, at::dot(wide(in(self)), wide(in(tensor)))); })
OP(Mv, P(T self, T vec, T out, int8_t cube_math_type),
   { put(out, product(in(self), in(vec), cube_math_type)); })
OP(Addmm, P(T self, T mat1, T mat2, S beta, S alpha, T out, int8_t cube_math_type),
   { put(out, addmm(self, mat1, mat2, beta, alpha, cube_math_type)); })
OP(InplaceAddmm, P(T self, T mat1, T mat2, S beta, S alpha, int8_t cube_math_type),
   { put(self, addmm(self, mat1, mat2, beta, alpha, cube_math_type)); })
OP(Baddbmm, P(T self, T batch1, T batch2, S beta, S alpha, T out, int8_t cube_math_type),
   { put(out, baddbmm(self, batch1, batch2, beta, alpha, cube_math_type)); })
OP(InplaceBaddbmm, P(T self, T batch1, T batch2, S beta, S alpha, int8_t cube_math_type),
   { put(self, baddbmm(self, batch1, batch2, beta, alpha, cube_math_type)); })
// torch_npu passes alpha before beta here.
OP(Addmv, P(T self, T mat, T vec, S alpha, S beta, T out, int8_t cube_math_type),
   { put(out, product(in(mat), in(vec), cube_math_type) * in(alpha) + wide(in(self)) * in(beta)); })
