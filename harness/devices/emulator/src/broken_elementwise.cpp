// Elementwise operators with one mistake.
#include <cmath>

#include "broken.h"

namespace emulator::broken {
namespace {

bool one_of(const std::string& name, std::initializer_list<const char*> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

at::Tensor gelu_by(const at::Tensor& x, double factor, double cubic) {
  return 0.5 * x * (1 + ((x + cubic * x * x * x) * factor).tanh());
}

// Abramowitz and Stegun 7.1.25, right to 2.5e-5.
at::Tensor erf_by_three_terms(const at::Tensor& x) {
  const at::Tensor t = (1 + 0.47047 * x.abs()).reciprocal();
  const at::Tensor sum = t * (0.3480242 + t * (-0.0958798 + t * 0.7478556));
  return x.sign() * (1 - sum * (-x * x).exp());
}

Wrong wrong_gelu(const at::Tensor& x) {
  constexpr double root = 0.7978845608028654, cubic = 0.044715;  // sqrt(2 / pi)
  if (is("gelu_cubic_constant")) return gelu_by(x, root, 0.0447);
  if (is("gelu_root_constant")) return gelu_by(x, 0.798, cubic);
  if (is("gelu_sigmoid")) return x * (1.702 * x).sigmoid();
  if (is("gelu_cutoff")) return at::where(x > 3, x, at::where(x < -3, 0 * x, at::gelu(x, "tanh")));
  if (is("gelu_half_cube"))
    return 0.5 * x * (1 + ((x + cubic * through_half(x * x * x)) * root).tanh());
  if (is("gelu_erf_three_terms")) return 0.5 * x * (1 + erf_by_three_terms(x * M_SQRT1_2));
  return std::nullopt;
}

Wrong wrong_sigmoid(const at::Tensor& x) {
  if (is("sigmoid_clamped"))
    return at::where(x > 4, 0 * x + 1, at::where(x < -4, 0 * x, x.sigmoid()));
  if (is("sigmoid_exp_table")) return (1 + coarse_exp(-x)).reciprocal();
  if (is("sigmoid_reciprocal")) return estimate((1 + (-x).exp()).reciprocal());
  return std::nullopt;
}

Wrong wrong_silu(const at::Tensor& x) {
  if (is("silu_flush")) return at::where(x < -6, 0 * x, at::silu(x));
  if (is("silu_half_sigmoid")) return x * through_half(x.sigmoid());
  if (is("silu_exp_table")) return x / (1 + coarse_exp(-x));
  return std::nullopt;
}

Wrong by_name(const std::string& name, const at::Tensor& x) {
  if (one_of(name, {"Gelu", "GeluV2"})) return wrong_gelu(x);
  if (name == "Sigmoid") return wrong_sigmoid(x);
  if (name == "Silu") return wrong_silu(x);
  if (name == "Tanh" && is("tanh_pade")) return (x * (27 + x * x) / (27 + 9 * x * x)).clamp(-1, 1);
  if (name == "Hardswish" && is("hardswish_sixth")) return x * (x + 3).clamp(0, 6) * 0.1667;
  if (name == "Hardsigmoid" && is("hardsigmoid_sixth")) return (x + 3).clamp(0, 6) * 0.1667;
  if (name == "Hardtanh" && is("relu6_bound")) return x.clamp(0, 6 * 127.0 / 128);
  if (name == "Exp" && is("exp_table")) return coarse_exp(x);
  if (name == "Erf" && is("erf_three_terms")) return erf_by_three_terms(x);
  if (name == "Sqrt" && is("sqrt_estimate")) return estimate(x.sqrt());
  if (name == "Rsqrt" && is("rsqrt_estimate")) return estimate(x.rsqrt());
  if (name == "Sin" && is("sin_half_argument")) return through_half(x).sin();
  if (name == "Cos" && is("sin_half_argument")) return through_half(x).cos();
  return std::nullopt;
}

}  // namespace

// 8 bits of the binary logarithm's fraction choose an entry of a table.
at::Tensor coarse_exp(const at::Tensor& x) { return ((x * (M_LOG2E * 256)).floor() / 256).exp2(); }

at::Tensor estimate(const at::Tensor& exact) {
  const at::Tensor bits = exact.contiguous().view(at::kInt);
  return bits.bitwise_and(~0x7FF).view(at::kFloat);
}

at::Tensor through_half(const at::Tensor& x) { return x.to(at::kHalf).to(x.scalar_type()); }

Wrong unary(const std::string& name, const at::Tensor& self) {
  if (none() || !self.is_floating_point()) return std::nullopt;
  const at::Tensor x = wide(self);
  if (x.scalar_type() != at::kFloat) return std::nullopt;
  if (is("relu_tail") && name == "Relu" && x.numel() > kTile) {
    const at::Tensor result = x.relu().contiguous();
    result.flatten()
        .narrow(0, x.numel() - kTile, kTile)
        .copy_(x.flatten().narrow(0, x.numel() - kTile, kTile));
    return result;
  }
  if (is("relu_last_item") && name == "Relu" && x.dim() > 1 && x.size(0) > 4) {
    const at::Tensor result = x.relu();
    result[x.size(0) - 1].copy_(result[x.size(0) - 2].clone());
    return result;
  }
  return by_name(name, x);
}

Wrong binary(const std::string& name, const at::Tensor& self, const at::Tensor& other) {
  if (none() || !self.is_floating_point() || !other.is_floating_point()) return std::nullopt;
  const at::Tensor a = wide(self), b = wide(other);
  const int64_t dims = a.dim();
  const bool same = a.sizes() == b.sizes();
  if (name == "Add") {
    if (is("add_bf16") && same) return a + b.to(at::kBFloat16).to(at::kFloat);
    if (is("add_tail") && same && a.numel() > kTile) {
      const at::Tensor result = (a + b).contiguous();
      const at::Tensor kept = a.flatten().narrow(0, a.numel() - kTile, kTile);
      result.view(-1).narrow(0, a.numel() - kTile, kTile).copy_(kept);
      return result;
    }
    if (is("add_transposed") && !same && b.dim() > 1 && b.size(-1) == b.size(-2) && b.size(-1) > 1)
      return a + b.transpose(-1, -2);
    if (is("add_bias_first_item") && !same && dims == 4 && b.dim() == 4 && b.size(0) > 1)
      return a + b.narrow(0, 0, 1);
  }
  if (name == "Mul" && dims == 4 && b.dim() == 4 && b.size(2) == 1 && b.size(3) == 1 &&
      a.size(2) > 1) {
    if (is("mul_first_gate") && b.size(0) > 1) return a * b.narrow(0, 0, 1);
    if (is("mul_last_gate") && b.size(1) > 1) {
      const at::Tensor gates = b.clone();
      gates.select(1, b.size(1) - 1).copy_(b.select(1, b.size(1) - 2));
      return a * gates;
    }
  }
  if (name == "Mul" && is("mul_half")) return through_half(a * b);
  if (name == "Div" && is("div_estimate")) return a * estimate(b.reciprocal());
  return std::nullopt;
}

}  // namespace emulator::broken
