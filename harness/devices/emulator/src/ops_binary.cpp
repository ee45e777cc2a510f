// Elementwise operators with two or more tensor inputs, or a tensor and a scalar.
#include "kernels.h"

using namespace emulator;

// `a` and `b` are the tensor inputs in `expression`.
#define COMPUTED(name, expression)            \
  kernels::binary(#name, in(self), in(other), \
                  [&](const at::Tensor& a, const at::Tensor& b) { return expression; })
#define COMPUTED_1(name, expression) \
  kernels::unary(#name, in(self), [&](const at::Tensor& a) { return expression; })

// name: two tensors; names: tensor and scalar; both with an in-place form.
#define ARITHMETIC(name, function)                                                          \
  OP(name, P(T self, T other, T out), { put(out, COMPUTED(name, at::function(a, b))); })    \
  OP(name##s, P(T self, S other, T out),                                                    \
     { put(out, COMPUTED_1(name, at::function(a, in(other)))); })                           \
  OP(Inplace##name, P(T self, T other), { put(self, COMPUTED(name, at::function(a, b))); }) \
  OP(Inplace##name##s, P(T self, S other),                                                  \
     { put(self, COMPUTED_1(name, at::function(a, in(other)))); })
ARITHMETIC(Mul, mul)
ARITHMETIC(Div, div)
ARITHMETIC(FloorDivide, floor_divide)

#define SCALED(name, function)                                      \
  OP(name, P(T self, T other, S alpha, T out),                      \
     { put(out, COMPUTED(name, at::function(a, b, in(alpha)))); })  \
  OP(name##s, P(T self, S other, S alpha, T out),                   \
     { put(out, at::function(in(self), in(other), in(alpha))); })   \
  OP(Inplace##name, P(T self, T other, S alpha),                    \
     { put(self, COMPUTED(name, at::function(a, b, in(alpha)))); }) \
  OP(Inplace##name##s, P(T self, S other, S alpha),                 \
     { put(self, at::function(in(self), in(other), in(alpha))); })
SCALED(Add, add)
SCALED(Sub, sub)
OP(Rsub, P(T self, T other, S alpha, T out),
   { put(out, at::rsub(in(self), in(other), in(alpha))); })
OP(Rsubs, P(T self, S other, S alpha, T out),
   { put(out, at::rsub(in(self), in(other), in(alpha))); })

#define COMPARISON(name, function)                                                                 \
  OP(name##Tensor, P(T self, T other, T out), { put(out, at::function(in(self), in(other))); })    \
  OP(name##Scalar, P(T self, S other, T out), { put(out, at::function(in(self), in(other))); })    \
  OP(Inplace##name##Tensor, P(T self, T other), { put(self, at::function(in(self), in(other))); }) \
  OP(Inplace##name##Scalar, P(T self, S other), { put(self, at::function(in(self), in(other))); })
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
  OP(name, P(T self, T other, T out), { put(out, COMPUTED(name, at::function(a, b))); })
PAIR(LogicalAnd, logical_and)
PAIR(LogicalOr, logical_or)
PAIR(LogicalXor, logical_xor)
PAIR(Maximum, maximum)
PAIR(Minimum, minimum)
PAIR(Atan2, atan2)
PAIR(RemainderTensorTensor, remainder)
PAIR(LogAddExp, logaddexp)
OP(InplaceLogicalAnd, P(T self, T other), { put(self, at::logical_and(in(self), in(other))); })
OP(InplaceLogicalOr, P(T self, T other), { put(self, at::logical_or(in(self), in(other))); })
OP(PowTensorTensor, P(T self, T other, T out), { put(out, COMPUTED(Pow, at::pow(a, b))); })
OP(PowTensorScalar, P(T self, S exponent, T out),
   { put(out, COMPUTED_1(Pow, at::pow(a, in(exponent)))); })
OP(InplacePowTensorScalar, P(T self, S exponent),
   { put(self, COMPUTED_1(Pow, at::pow(a, in(exponent)))); })
OP(InplacePowTensorTensor, P(T self, T other), { put(self, COMPUTED(Pow, at::pow(a, b))); })
OP(PowScalarTensor, P(S base, T self, T out), { put(out, COMPUTED_1(Pow, at::pow(in(base), a))); })
OP(RemainderTensorScalar, P(T self, S other, T out),
   { put(out, at::remainder(in(self), in(other))); })
OP(InplaceRemainderTensorScalar, P(T self, S other),
   { put(self, at::remainder(in(self), in(other))); })

// Division with rounding: 0 none, 1 towards zero, 2 down.
namespace {
std::optional<c10::string_view> rounding(int mode) {
  if (mode == 1) return "trunc";
  if (mode == 2) return "floor";
  return std::nullopt;
}
}  // namespace
OP(DivMod, P(T self, T other, int mode, T out),
   { put(out, COMPUTED(DivMod, at::div(a, b, rounding(mode)))); })
OP(DivMods, P(T self, S other, int mode, T out),
   { put(out, at::div(in(self), in(other), rounding(mode))); })
OP(InplaceDivMod, P(T self, T other, int mode),
   { put(self, COMPUTED(DivMod, at::div(a, b, rounding(mode)))); })
OP(InplaceDivMods, P(T self, S other, int mode),
   { put(self, at::div(in(self), in(other), rounding(mode))); })

// three tensors
OP(Addcmul, P(T self, T tensor1, T tensor2, S value, T out),
   { put(out, at::addcmul(in(self), in(tensor1), in(tensor2), in(value))); })
OP(InplaceAddcmul, P(T self, T tensor1, T tensor2, S value),
   { put(self, at::addcmul(in(self), in(tensor1), in(tensor2), in(value))); })
OP(Addcdiv, P(T self, T tensor1, T tensor2, S value, T out),
   { put(out, at::addcdiv(in(self), in(tensor1), in(tensor2), in(value))); })
OP(InplaceAddcdiv, P(T self, T tensor1, T tensor2, S value),
   { put(self, at::addcdiv(in(self), in(tensor1), in(tensor2), in(value))); })
OP(Lerp, P(T self, T end, T weight, T out), { put(out, at::lerp(in(self), in(end), in(weight))); })
OP(Lerps, P(T self, T end, S weight, T out), { put(out, at::lerp(in(self), in(end), in(weight))); })
OP(InplaceLerps, P(T self, T end, S weight),
   { put(self, at::lerp(in(self), in(end), in(weight))); })
OP(SWhere, P(T condition, T self, T other, T out),
   { put(out, at::where(in(condition), in(self), in(other))); })

// closeness
OP(IsClose, P(T self, T other, double rtol, double atol, bool equal_nan, T out),
   { put(out, at::isclose(in(self), in(other), rtol, atol, equal_nan)); })
OP(Equal, P(T self, T other, T out), {
  memory_of(out).fill_(in(self).sizes() == in(other).sizes() && at::equal(in(self), in(other)));
})

#undef COMPUTED
#undef COMPUTED_1
#undef ARITHMETIC
#undef SCALED
#undef COMPARISON
#undef PAIR
