#include "cube.h"

#include "broken.h"
#include "cann.h"

namespace emulator {
namespace {

// Values of cubeMathType in the aclnn interface.
constexpr int8_t kAllowDownPrecision = 1;
constexpr int8_t kUseFp16 = 2;
constexpr int8_t kUseHf32 = 3;
constexpr int8_t kUseFp32Add = 4;

// The cube unit multiplies tiles of 16: the partial sums leave it after 16 terms.
constexpr int64_t kTile = 16;

// Only the A2 and A3 chips (910B, 910_93) have HF32; older ones lower fp32 to fp16.
bool chip_has_hf32() {
  const std::string& soc = options().soc;
  return soc.rfind("Ascend910B", 0) == 0 || soc.rfind("Ascend910_93", 0) == 0;
}

}  // namespace

// HF32 has the exponent of fp32 and 11 mantissa bits: CANN's documentation of --allow_hf32,
// "HF32 shares the same value range with float32, but its mantissa precision (11 bits) is close
// to FP16 (10 bits)".  SetHF32's default transMode 0 rounds to nearest, ties to even; 1 asks for
// ties away from zero.
at::Tensor cube_input(const at::Tensor& value, int8_t cube_math_type, loops::Ties ties) {
  if (value.scalar_type() != at::kFloat) return wide(value);
  const bool lower = cube_math_type == kAllowDownPrecision;
  if (cube_math_type == kUseHf32 || (lower && chip_has_hf32())) {
    if (const auto wrong = broken::hf32(value)) return *wrong;
    return cann::shortened(value, loops::Format::hf32, ties);
  }
  if (cube_math_type == kUseFp16 || lower) return value.to(at::kHalf).to(at::kFloat);
  return value;
}

bool in_groups(const at::Tensor& value, int8_t cube_math_type) {
  return cube_math_type == kUseFp32Add && value.scalar_type() == at::kFloat;
}

at::Tensor cube_matmul(const at::Tensor& self, const at::Tensor& mat2, bool half_sums,
                       bool grouped) {
  if (!half_sums) {
    const auto wrong = broken::product(self, mat2);
    return wrong ? *wrong : kernels::matmul(self, mat2, grouped);
  }
  const int64_t inner = self.size(-1);
  at::Tensor sum;
  for (int64_t start = 0; start < inner; start += kTile) {
    const int64_t length = std::min(kTile, inner - start);
    const int64_t row_dim = mat2.dim() == 1 ? 0 : -2;
    const at::Tensor part =
        at::matmul(self.narrow(-1, start, length), mat2.narrow(row_dim, start, length));
    sum = (sum.defined() ? sum + part : part).to(at::kHalf).to(at::kFloat);
  }
  return sum;
}

}  // namespace emulator
