// Elementwise operators with two or more tensor inputs, or a tensor and a scalar.
#include "common.h"

using namespace emulator;

// name: two tensors; names: tensor and scalar; both with an in-place form.
#define ARITHMETIC(name, function)                                                         \
  OP(name, P(T x, T y, T out), { put(out, at::function(in(x), in(y))); })                \
  OP(name##s, P(T x, S y, T out), { put(out, at::function(in(x), y->value)); })           \
  OP(Inplace##name, P(T x, T y), { put(x, at::function(in(x), in(y))); })                \
  OP(Inplace##name##s, P(T x, S y), { put(x, at::function(in(x), y->value)); })
ARITHMETIC(Mul, mul)
ARITHMETIC(Div, div)
ARITHMETIC(FloorDivide, floor_divide)

#define SCALED(name, function)                                                              \
  OP(name, P(T x, T y, S a, T out), { put(out, at::function(in(x), in(y), a->value)); })  \
  OP(name##s, P(T x, S y, S a, T out), {                                                    \
    put(out, at::function(in(x), y->value, a->value));                                     \
  })                                                                                        \
  OP(Inplace##name, P(T x, T y, S a), { put(x, at::function(in(x), in(y), a->value)); })  \
  OP(Inplace##name##s, P(T x, S y, S a), { put(x, at::function(in(x), y->value, a->value)); })
SCALED(Add, add)
SCALED(Sub, sub)
OP(Rsub, P(T x, T y, S a, T out), { put(out, at::rsub(in(x), in(y), a->value)); })
OP(Rsubs, P(T x, S y, S a, T out), { put(out, at::rsub(in(x), y->value, a->value)); })

#define COMPARISON(name, function)                                                          \
  OP(name##Tensor, P(T x, T y, T out), { put(out, at::function(in(x), in(y))); })         \
  OP(name##Scalar, P(T x, S y, T out), { put(out, at::function(in(x), y->value)); })       \
  OP(Inplace##name##Tensor, P(T x, T y), { put(x, at::function(in(x), in(y))); })         \
  OP(Inplace##name##Scalar, P(T x, S y), { put(x, at::function(in(x), y->value)); })
COMPARISON(Eq, eq)
COMPARISON(Ne, ne)
COMPARISON(Lt, lt)
COMPARISON(Le, le)
COMPARISON(Gt, gt)
COMPARISON(Ge, ge)
COMPARISON(BitwiseAnd, bitwise_and)
COMPARISON(BitwiseOr, bitwise_or)
COMPARISON(BitwiseXor, bitwise_xor)
COMPARISON(Fmod, fmod)

#define PAIR(name, function) \
  OP(name, P(T x, T y, T out), { put(out, at::function(in(x), in(y))); })
PAIR(LogicalAnd, logical_and)
PAIR(LogicalOr, logical_or)
PAIR(LogicalXor, logical_xor)
PAIR(Maximum, maximum)
PAIR(Minimum, minimum)
PAIR(Atan2, atan2)
PAIR(PowTensorTensor, pow)
PAIR(RemainderTensorTensor, remainder)
PAIR(LogAddExp, logaddexp)
OP(InplaceLogicalAnd, P(T x, T y), { put(x, at::logical_and(in(x), in(y))); })
OP(InplaceLogicalOr, P(T x, T y), { put(x, at::logical_or(in(x), in(y))); })
OP(PowTensorScalar, P(T x, S y, T out), { put(out, at::pow(in(x), y->value)); })
OP(InplacePowTensorScalar, P(T x, S y), { put(x, at::pow(in(x), y->value)); })
OP(InplacePowTensorTensor, P(T x, T y), { put(x, at::pow(in(x), in(y))); })
OP(PowScalarTensor, P(S x, T y, T out), { put(out, at::pow(x->value, in(y))); })
OP(RemainderTensorScalar, P(T x, S y, T out), { put(out, at::remainder(in(x), y->value)); })
OP(InplaceRemainderTensorScalar, P(T x, S y), { put(x, at::remainder(in(x), y->value)); })

// Division with rounding: 0 none, 1 towards zero, 2 down.
namespace {
std::optional<c10::string_view> rounding(int mode) {
  if (mode == 1) return "trunc";
  if (mode == 2) return "floor";
  return std::nullopt;
}
}  // namespace
OP(DivMod, P(T x, T y, int mode, T out), { put(out, at::div(in(x), in(y), rounding(mode))); })
OP(DivMods, P(T x, S y, int mode, T out), { put(out, at::div(in(x), y->value, rounding(mode))); })
OP(InplaceDivMods, P(T x, S y, int mode), { put(x, at::div(in(x), y->value, rounding(mode))); })

// three tensors
OP(Addcmul, P(T x, T a, T b, S v, T out), {
  put(out, at::addcmul(in(x), in(a), in(b), v->value));
})
OP(InplaceAddcmul, P(T x, T a, T b, S v), { put(x, at::addcmul(in(x), in(a), in(b), v->value)); })
OP(Addcdiv, P(T x, T a, T b, S v, T out), {
  put(out, at::addcdiv(in(x), in(a), in(b), v->value));
})
OP(InplaceAddcdiv, P(T x, T a, T b, S v), { put(x, at::addcdiv(in(x), in(a), in(b), v->value)); })
OP(Lerp, P(T x, T y, T w, T out), { put(out, at::lerp(in(x), in(y), in(w))); })
OP(Lerps, P(T x, T y, S w, T out), { put(out, at::lerp(in(x), in(y), w->value)); })
OP(InplaceLerps, P(T x, T y, S w), { put(x, at::lerp(in(x), in(y), w->value)); })
OP(SWhere, P(T c, T x, T y, T out), { put(out, at::where(in(c), in(x), in(y))); })

// closeness
OP(IsClose, P(T x, T y, double rtol, double atol, bool equal_nan, T out), {
  put(out, at::isclose(in(x), in(y), rtol, atol, equal_nan));
})
OP(Equal, P(T x, T y, T out), {
  memory_of(out).fill_(in(x).sizes() == in(y).sizes() && at::equal(in(x), in(y)));
})

#undef ARITHMETIC
#undef SCALED
#undef COMPARISON
#undef PAIR
