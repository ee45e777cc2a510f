// Elementwise operators with one tensor input: activations, mathematics, casts of sign.
// One line an operator where it fits.  Parameters as torch_npu passes them.
#include "kernels.h"

using namespace emulator;

// `x` is the tensor input in `expression`.
#define COMPUTED(name, expression) \
  kernels::unary(#name, in(self), [&](const at::Tensor& x) { return expression; })
#define UNARY(name, function) \
  OP(name, P(T self, T out), { put(out, COMPUTED(name, at::function(x))); })
#define INPLACE(name, function) \
  OP(Inplace##name, P(T self), { put(self, COMPUTED(name, at::function(x))); })
#define BOTH(name, function) UNARY(name, function) INPLACE(name, function)

// activations
BOTH(Relu, relu)
BOTH(Sigmoid, sigmoid)
BOTH(Hardswish, hardswish)
BOTH(Hardsigmoid, hardsigmoid)
BOTH(Tanh, tanh)
BOTH(Selu, selu)
UNARY(Silu, silu)
UNARY(Mish, mish)
INPLACE(Mish, mish)
// torch_npu documents that its native gelu is tanh whatever is asked; GeluV2 is told.
OP(Gelu, P(T self, T out), { put(out, COMPUTED(Gelu, at::gelu(x, "tanh"))); })
UNARY(LogSigmoid, log_sigmoid)
OP(LogSigmoidForward, P(T self, T out, T), { put(out, COMPUTED(LogSigmoid, at::log_sigmoid(x))); })
OP(Softshrink, P(T self, S lambda, T out), { put(out, at::softshrink(in(self), in(lambda))); })
OP(Hardshrink, P(T self, S lambda, T out), { put(out, at::hardshrink(in(self), in(lambda))); })
OP(GeluV2, P(T self, int64_t approximate, T out), {
  put(out,
      approximate ? COMPUTED(Gelu, at::gelu(x, "tanh")) : COMPUTED(GeluV2, at::gelu(x, "none")));
})
OP(LeakyRelu, P(T self, S negative_slope, T out),
   { put(out, COMPUTED(LeakyRelu, at::leaky_relu(x, in(negative_slope)))); })
OP(InplaceLeakyRelu, P(T self, S negative_slope),
   { put(self, COMPUTED(LeakyRelu, at::leaky_relu(x, in(negative_slope)))); })
OP(Elu, P(T self, S alpha, S scale, S input_scale, T out),
   { put(out, COMPUTED(Elu, at::elu(x, in(alpha), in(scale), in(input_scale)))); })
OP(InplaceElu, P(T self, S alpha, S scale, S input_scale),
   { put(self, COMPUTED(Elu, at::elu(x, in(alpha), in(scale), in(input_scale)))); })
OP(Celu, P(T self, S alpha, T out), { put(out, COMPUTED(Celu, at::celu(x, in(alpha)))); })
OP(Softplus, P(T self, S beta, S threshold, T out),
   { put(out, COMPUTED(Softplus, at::softplus(x, in(beta), in(threshold)))); })
OP(Hardtanh, P(T self, S min, S max, T out),
   { put(out, COMPUTED(Hardtanh, at::clamp(x, in(min), in(max)))); })
OP(InplaceHardtanh, P(T self, S min, S max),
   { put(self, COMPUTED(Hardtanh, at::clamp(x, in(min), in(max)))); })
OP(Threshold, P(T self, S threshold, S value, T out),
   { put(out, at::threshold(in(self), in(threshold), in(value))); })
OP(InplaceThreshold, P(T self, S threshold, S value),
   { put(self, at::threshold(in(self), in(threshold), in(value))); })
OP(Prelu, P(T self, T weight, T out), { put(out, at::prelu(in(self), in(weight).flatten())); })
OP(Glu, P(T self, int64_t dim, T out), { put(out, COMPUTED(Glu, at::glu(x, dim))); })

// mathematics
BOTH(Exp, exp)
BOTH(Exp2, exp2)
BOTH(Expm1, expm1)
BOTH(Log, log)
BOTH(Log2, log2)
BOTH(Log10, log10)
BOTH(Log1p, log1p)
BOTH(Sqrt, sqrt)
BOTH(Rsqrt, rsqrt)
BOTH(Reciprocal, reciprocal)
BOTH(Sin, sin)
BOTH(Cos, cos)
BOTH(Tan, tan)
BOTH(Atan, atan)
BOTH(Erf, erf)
BOTH(Floor, floor)
BOTH(Ceil, ceil)
BOTH(Trunc, trunc)
BOTH(Round, round)
BOTH(Neg, neg)
UNARY(Abs, abs)
UNARY(Sign, sign)
UNARY(Square, square)
BOTH(LogicalNot, logical_not)
UNARY(BitwiseNot, bitwise_not)
UNARY(IsFinite, isfinite)
UNARY(IsInf, isinf)
UNARY(IsPosInf, isposinf)
UNARY(IsNegInf, isneginf)

// limits
namespace {
std::optional<at::Scalar> optional_scalar(S scalar) {
  if (scalar == nullptr) return std::nullopt;
  return in(scalar);
}
at::Tensor clamped(T self, S min, S max) {
  return at::clamp(in(self), optional_scalar(min), optional_scalar(max));
}
}  // namespace
OP(Clamp, P(T self, S min, S max, T out), { put(out, clamped(self, min, max)); })
OP(InplaceClamp, P(T self, S min, S max), { put(self, clamped(self, min, max)); })
OP(ClampMin, P(T self, S min, T out), { put(out, at::clamp_min(in(self), in(min))); })
OP(InplaceClampMin, P(T self, S min), { put(self, at::clamp_min(in(self), in(min))); })
OP(ClampMax, P(T self, S max, T out), { put(out, at::clamp_max(in(self), in(max))); })
OP(InplaceClampMax, P(T self, S max), { put(self, at::clamp_max(in(self), in(max))); })
OP(ClampMinTensor, P(T self, T min, T out), { put(out, at::clamp_min(in(self), in(min))); })
OP(InplaceClampMinTensor, P(T self, T min), { put(self, at::clamp_min(in(self), in(min))); })
OP(ClampTensor, P(T self, T min, T max, T out),
   { put(out, at::clamp(in(self), optional_tensor(min), optional_tensor(max))); })
OP(NanToNum, P(T self, float nan, float posinf, float neginf, T out),
   { put(out, at::nan_to_num(in(self), nan, posinf, neginf)); })

#undef COMPUTED
#undef UNARY
#undef INPLACE
#undef BOTH
