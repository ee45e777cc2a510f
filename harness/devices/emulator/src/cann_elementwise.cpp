// Elementwise functions of the profile `cann`: float16 and bfloat16 in float32, rounded once.
#include <ATen/Parallel.h>

#include <map>

#include "cann.h"

namespace emulator::cann {
bool computes(const at::Tensor& input) {
  return cann_kernels() && input.numel() > 0 && input.scalar_type() == at::kFloat;
}

Format format_of(at::ScalarType type) {
  if (type == at::kHalf) return Format::float16;
  return type == at::kBFloat16 ? Format::bfloat16 : Format::float32;
}

at::Tensor shortened(const at::Tensor& value, Format format, Ties ties) {
  if (format == Format::float32) return value;
  const at::Tensor result = value.contiguous().clone();
  float* numbers = result.data_ptr<float>();
  at::parallel_for(0, result.numel(), kOfAThread, [&](int64_t begin, int64_t end) {
    loops::shorten(numbers + begin, end - begin, format, ties);
  });
  return result;
}

Answer unary(const std::string& name, const at::Tensor& self) {
  using loops::Function;
  static const std::map<std::string, Function> functions{
      {"Gelu", Function::gelu_tanh},      {"GeluV2", Function::gelu_erf},
      {"Silu", Function::silu},           {"Sigmoid", Function::sigmoid},
      {"Tanh", Function::tanh},           {"Erf", Function::erf},
      {"Hardswish", Function::hardswish}, {"Hardsigmoid", Function::hardsigmoid}};
  const auto found = functions.find(name);
  if (!cann_kernels() || found == functions.end()) return std::nullopt;
  const at::Tensor x = wide(self.is_non_overlapping_and_dense() ? self : self.contiguous());
  if (!computes(x)) return std::nullopt;
  const at::Tensor y = x.is_same(self) ? at::empty_like(x) : x;
  const float* from = x.const_data_ptr<float>();
  float* to = y.data_ptr<float>();
  at::parallel_for(0, x.numel(), kOfAThread, [&](int64_t begin, int64_t end) {
    loops::apply(found->second, from + begin, to + begin, end - begin);
  });
  return y;
}

}  // namespace emulator::cann
