// Elementwise operators with one tensor input: activations, mathematics, casts of sign.
// One line an operator.  Parameters as torch_npu passes them.
#include "common.h"

using namespace emulator;

#define UNARY(name, function) OP(name, P(T x, T out), { put(out, at::function(in(x))); })
#define INPLACE(name, function) OP(Inplace##name, P(T x), { put(x, at::function(in(x))); })
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
OP(Gelu, P(T x, T out), { put(out, at::gelu(in(x), "tanh")); })
UNARY(LogSigmoid, log_sigmoid)
OP(GeluV2, P(T x, int64_t tanh, T out), { put(out, at::gelu(in(x), tanh ? "tanh" : "none")); })
OP(LeakyRelu, P(T x, S slope, T out), { put(out, at::leaky_relu(in(x), slope->value)); })
OP(InplaceLeakyRelu, P(T x, S slope), { put(x, at::leaky_relu(in(x), slope->value)); })
OP(Elu, P(T x, S a, S s, S i, T out), { put(out, at::elu(in(x), a->value, s->value, i->value)); })
OP(InplaceElu, P(T x, S a, S s, S i), { put(x, at::elu(in(x), a->value, s->value, i->value)); })
OP(Celu, P(T x, S alpha, T out), { put(out, at::celu(in(x), alpha->value)); })
OP(Softplus, P(T x, S b, S t, T out), { put(out, at::softplus(in(x), b->value, t->value)); })
OP(Hardtanh, P(T x, S lo, S hi, T out), { put(out, at::clamp(in(x), lo->value, hi->value)); })
OP(InplaceHardtanh, P(T x, S lo, S hi), { put(x, at::clamp(in(x), lo->value, hi->value)); })
OP(Threshold, P(T x, S t, S v, T out), { put(out, at::threshold(in(x), t->value, v->value)); })
OP(InplaceThreshold, P(T x, S t, S v), { put(x, at::threshold(in(x), t->value, v->value)); })
OP(Prelu, P(T x, T w, T out), { put(out, at::prelu(in(x), in(w))); })
OP(Glu, P(T x, int64_t dim, T out), { put(out, at::glu(in(x), dim)); })

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
  return scalar->value;
}
at::Tensor clamped(const at::Tensor& x, S low, S high) {
  return at::clamp(x, optional_scalar(low), optional_scalar(high));
}
}  // namespace
OP(Clamp, P(T x, S low, S high, T out), { put(out, clamped(in(x), low, high)); })
OP(InplaceClamp, P(T x, S low, S high), { put(x, clamped(in(x), low, high)); })
OP(ClampMin, P(T x, S low, T out), { put(out, at::clamp_min(in(x), low->value)); })
OP(InplaceClampMin, P(T x, S low), { put(x, at::clamp_min(in(x), low->value)); })
OP(ClampMax, P(T x, S high, T out), { put(out, at::clamp_max(in(x), high->value)); })
OP(InplaceClampMax, P(T x, S high), { put(x, at::clamp_max(in(x), high->value)); })
OP(ClampMinTensor, P(T x, T low, T out), { put(out, at::clamp_min(in(x), in(low))); })
OP(ClampTensor, P(T x, T low, T high, T out), {
  put(out, at::clamp(in(x), optional_tensor(low), optional_tensor(high)));
})
OP(NanToNum, P(T x, float nan, float high, float low, T out), {
  put(out, at::nan_to_num(in(x), nan, high, low));
})

#undef UNARY
#undef INPLACE
#undef BOTH
