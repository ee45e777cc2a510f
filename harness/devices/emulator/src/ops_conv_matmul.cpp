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

at::Tensor convolve(const at::Tensor& x, const at::Tensor& w, const Geometry& g) {
  return at::convolution(x, w, std::nullopt, g.stride, g.padding, g.dilation, g.transposed,
                         g.output_padding, g.groups);
}

// Sums in fp16 over groups of input channels.  A grouped convolution has few of them: there only
// the result is rounded.
at::Tensor convolve_with_half_sums(const at::Tensor& x, const at::Tensor& w, const Geometry& g) {
  constexpr int64_t channels_at_once = 16;
  if (g.groups != 1 || g.transposed) return convolve(x, w, g).to(at::kHalf).to(at::kFloat);
  at::Tensor sum;
  for (int64_t start = 0; start < x.size(1); start += channels_at_once) {
    const int64_t length = std::min(channels_at_once, x.size(1) - start);
    const at::Tensor part = convolve(x.narrow(1, start, length), w.narrow(1, start, length), g);
    sum = (sum.defined() ? sum + part : part).to(at::kHalf).to(at::kFloat);
  }
  return sum;
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, const Geometry& g, int8_t math) {
  const int64_t batch = input.size(0);
  const at::Tensor x = cube_input(faulty_input_channels(input), math);
  const at::Tensor w = cube_input(faulty_weight(weight, batch), math);
  const bool with_bias = bias && !bias_is_dropped(batch);
  if (accumulates_in_half(batch)) {
    at::Tensor result = convolve_with_half_sums(x, w, g);
    if (!with_bias) return result;
    std::vector<int64_t> shape(static_cast<size_t>(result.dim()), 1);
    shape[1] = -1;
    return result + wide(*bias).view(shape);
  }
  // The bias goes into the same call: that is what the CPU does, bit for bit.
  return at::convolution(x, w, with_bias ? std::optional<at::Tensor>(wide(*bias)) : std::nullopt,
                         g.stride, g.padding, g.dilation, g.transposed, g.output_padding, g.groups);
}

// a @ b with the right factor as the weight of the fault plan.
at::Tensor product(const at::Tensor& a, const at::Tensor& b, int8_t math) {
  const int64_t batch = a.dim() > 0 ? a.size(0) : 0;
  return cube_matmul(cube_input(a, math), cube_input(faulty_weight(b, batch), math),
                     accumulates_in_half(batch));
}

// beta * c + alpha * (a @ b).  `fused` is the ATen call that does it at once.
template <typename Fused>
at::Tensor affine(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b,
                  const at::Scalar& beta, const at::Scalar& alpha, int8_t math, Fused fused) {
  const int64_t batch = a.size(0);
  const bool half_sums = accumulates_in_half(batch);
  const bool no_bias = bias_is_dropped(batch);
  const at::Tensor x = cube_input(a, math), y = cube_input(faulty_weight(b, batch), math);
  if (!half_sums && !no_bias) return fused(wide(c), x, y, beta, alpha);
  const at::Tensor scaled = cube_matmul(x, y, half_sums) * alpha;
  return no_bias ? scaled : scaled + wide(c) * beta;
}

at::Tensor addmm(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b, S beta, S alpha,
                 int8_t math) {
  return affine(c, a, b, beta->value, alpha->value, math,
                [](const auto& c_, const auto& a_, const auto& b_, const auto& beta_,
                   const auto& alpha_) { return at::addmm(c_, a_, b_, beta_, alpha_); });
}

at::Tensor baddbmm(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b, S beta, S alpha,
                   int8_t math) {
  return affine(c, a, b, beta->value, alpha->value, math,
                [](const auto& c_, const auto& a_, const auto& b_, const auto& beta_,
                   const auto& alpha_) { return at::baddbmm(c_, a_, b_, beta_, alpha_); });
}

}  // namespace

OP(Convolution, P(T x, T w, T bias, Ints stride, Ints padding, Ints dilation, bool transposed,
                  Ints output_padding, int64_t groups, T out, int8_t math), {
  const Geometry g{stride->values, padding->values, dilation->values, output_padding->values,
                   transposed, groups};
  put(out, convolution(in(x), in(w), optional_tensor(bias), g, math));
})
OP(ConvDepthwise2d, P(T x, T w, Ints, T bias, Ints stride, Ints padding, Ints dilation, T out,
                      int8_t math), {
  const Geometry g{stride->values, padding->values, dilation->values, {0, 0}, false,
                   in(x).size(1)};
  put(out, convolution(in(x), in(w), optional_tensor(bias), g, math));
})

OP(Matmul, P(T a, T b, T out, int8_t math), { put(out, product(in(a), in(b), math)); })
OP(Mm, P(T a, T b, T out, int8_t math), { put(out, product(in(a), in(b), math)); })
OP(BatchMatMul, P(T a, T b, T out, int8_t math), { put(out, product(in(a), in(b), math)); })
OP(Dot, P(T a, T b, T out), { put(out, at::dot(wide(in(a)), wide(in(b)))); })
OP(Mv, P(T a, T b, T out, int8_t math), { put(out, product(in(a), in(b), math)); })
OP(Addmm, P(T c, T a, T b, S beta, S alpha, T out, int8_t math), {
  put(out, addmm(in(c), in(a), in(b), beta, alpha, math));
})
OP(InplaceAddmm, P(T c, T a, T b, S beta, S alpha, int8_t math), {
  put(c, addmm(in(c), in(a), in(b), beta, alpha, math));
})
OP(Baddbmm, P(T c, T a, T b, S beta, S alpha, T out, int8_t math), {
  put(out, baddbmm(in(c), in(a), in(b), beta, alpha, math));
})
OP(InplaceBaddbmm, P(T c, T a, T b, S beta, S alpha, int8_t math), {
  put(c, baddbmm(in(c), in(a), in(b), beta, alpha, math));
})
// torch_npu passes alpha before beta here.
OP(Addmv, P(T c, T a, T b, S alpha, S beta, T out, int8_t math), {
  put(out, product(in(a), in(b), math) * alpha->value + wide(in(c)) * beta->value);
})
