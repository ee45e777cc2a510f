// Elementwise operators, with functions that are off by some units in the last place.
#include <set>

#include "broken.h"
#include "cann.h"
#include "loops.h"

namespace emulator {

int64_t ulps() {
  const std::string& name = kernel_set();
  return name == "ulp2" ? 2 : name == "ulp4" ? 4 : 0;
}

at::Tensor misrounded(const at::Tensor& result, const at::Tensor& argument) {
  if (ulps() == 0 || result.scalar_type() != at::kFloat) return result;
  const at::Tensor values = result.contiguous().clone();
  const bool fits = argument.scalar_type() == at::kFloat && argument.sizes() == result.sizes();
  const at::Tensor seed = (fits ? argument : result).contiguous();
  loops::misround(values.data_ptr<float>(), seed.data_ptr<float>(), values.numel(), ulps());
  return values;
}

namespace kernels {
namespace {

bool is_elementary(const std::string& name) {
  static const std::set<std::string> names{
      "Sigmoid", "Tanh",  "Selu", "Silu",     "Mish", "Gelu",       "GeluV2",   "LogSigmoid",
      "Elu",     "Celu",  "Glu",  "Softplus", "Exp",  "Exp2",       "Expm1",    "Log",
      "Log2",    "Log10", "Sqrt", "Log1p",    "Sin",  "Reciprocal", "Cos",      "Tan",
      "Atan",    "Erf",   "Div",  "Rsqrt",    "Pow",  "Atan2",      "LogAddExp"};
  return names.count(name) != 0;
}

// These never leave [-1, 1].
bool is_bounded(const std::string& name) {
  static const std::set<std::string> names{"Sigmoid", "Tanh", "Sin", "Cos", "Erf"};
  return names.count(name) != 0;
}

}  // namespace

at::Tensor unary(const char* name, const at::Tensor& self, Unary function) {
  if (const auto wrong = broken::unary(name, self)) return *wrong;
  if (const auto own = cann::unary(name, self)) return *own;
  if (broken::stores()) return function(wide(self));
  if (ulps() == 0 || !is_elementary(name)) return function(self);
  const at::Tensor argument = wide(self);
  const at::Tensor result = misrounded(function(argument), argument);
  return is_bounded(name) ? result.clamp(-1, 1) : result;
}

at::Tensor binary(const char* name, const at::Tensor& self, const at::Tensor& other,
                  Binary function) {
  if (const auto wrong = broken::binary(name, self, other)) return *wrong;
  if (broken::stores()) return function(wide(self), wide(other));
  if (ulps() == 0 || !is_elementary(name)) return function(self, other);
  return misrounded(function(wide(self), wide(other)), wide(self));
}

}  // namespace kernels
}  // namespace emulator
