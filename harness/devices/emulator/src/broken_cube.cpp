// Matrix products with one mistake.
#include "broken.h"

namespace emulator::broken {
namespace {

at::Tensor bf16(const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); }

at::Tensor towards_zero(const at::Tensor& exact) {
  const at::Tensor nearest = exact.to(at::kFloat);
  return at::where(nearest.to(at::kDouble).abs() > exact.abs(),
                   at::nextafter(nearest, at::zeros({}, at::kFloat)), nearest);
}

// Sums over tiles of k, each brought to a format by `keep`.
template <typename Keep>
at::Tensor tile_by_tile(const at::Tensor& left, const at::Tensor& right, Keep keep) {
  const int64_t k = left.size(-1);
  at::Tensor sum;
  for (int64_t start = 0; start < k; start += kTile) {
    const int64_t count = std::min(kTile, k - start);
    const at::Tensor part =
        at::matmul(left.narrow(-1, start, count), right.narrow(-2, start, count));
    sum = keep(sum.defined() ? sum + part : part);
  }
  return sum;
}

}  // namespace

Wrong product(const at::Tensor& left, const at::Tensor& right) {
  if (none() || left.dim() < 2 || right.dim() < 2 || left.scalar_type() != at::kFloat)
    return std::nullopt;
  const int64_t m = left.size(-2), k = left.size(-1), n = right.size(-1);
  const auto some = [&](int64_t start, int64_t count) {
    return at::matmul(left.narrow(-1, start, count), right.narrow(-2, start, count));
  };
  if (is("matmul_k_tail") && k > kTile && k % kTile != 0) return some(0, k - k % kTile);
  if (is("matmul_half_sums")) return tile_by_tile(left, right, through_half);
  if (is("matmul_truncated_sums"))
    return tile_by_tile(left.to(at::kDouble), right.to(at::kDouble),
                        [](const at::Tensor& sum) { return towards_zero(sum).to(at::kDouble); })
        .to(at::kFloat);
  if (is("matmul_bf16_factors")) return at::matmul(bf16(left), bf16(right));
  if (is("matmul_bf16_pairs")) {
    const at::Tensor high = bf16(right);
    return at::matmul(left, high + bf16(right - high));
  }
  if (is("matmul_half_result")) return through_half(at::matmul(left, right));
  const at::Tensor whole = at::matmul(left, right);
  if (is("matmul_last_tile") && n > 2 * kTile && n % kTile != 0) {
    const int64_t tail = n % kTile;
    whole.narrow(-1, n - tail, tail).copy_(whole.narrow(-1, n - 2 * tail, tail).clone());
    return whole;
  }
  if (is("matmul_last_row") && m > 1 && m % kTile != 0) {
    whole.select(-2, m - 1).copy_(whole.select(-2, m - 2).clone());
    return whole;
  }
  if (is("matmul_last_column") && k > kTile) {
    whole.select(-1, n - 1).copy_(some(0, k - kTile).select(-1, n - 1));
    return whole;
  }
  if (is("matmul_sixteen_columns") && k > kTile && n >= 2 * kTile) {
    whole.narrow(-1, kTile, kTile).copy_(some(0, k - kTile).narrow(-1, kTile, kTile));
    return whole;
  }
  if (is("matmul_tile_twice") && k > 3 * kTile) return whole + some(2 * kTile, kTile);
  if (is("matmul_batch_factor") && right.dim() > 2 && left.dim() == right.dim() &&
      left.sizes().slice(0, left.dim() - 2) == right.sizes().slice(0, left.dim() - 2)) {
    const at::Tensor all = whole.flatten(0, -3), lefts = left.flatten(0, -3);
    const int64_t last = all.size(0) - 1;
    if (last < 1) return std::nullopt;
    const at::Tensor result = all.clone();
    result[last].copy_(at::matmul(lefts[last], right.flatten(0, -3)[last - 1]));
    return result.view(whole.sizes());
  }
  return std::nullopt;
}

Wrong hf32(const at::Tensor& factor) {
  if (none() || !is("hf32_truncated")) return std::nullopt;
  return factor.view(at::kInt).bitwise_and(~0xFFF).view(at::kFloat);
}

Wrong bias(const at::Tensor& bias) {
  if (none() || bias.dim() == 0) return std::nullopt;
  const int64_t n = bias.size(-1);
  const auto without = [&](int64_t start, int64_t count) {
    const at::Tensor changed = bias.clone();
    changed.narrow(-1, start, count).zero_();
    return changed;
  };
  if (is("addmm_bias_twice")) return bias + bias;
  if (is("addmm_bias_half")) return through_half(bias);
  if (is("addmm_bias_first_tile") && n > 4 * kTile) return without(4 * kTile, n - 4 * kTile);
  if (is("addmm_bias_tail") && n % kTile != 0) return without(n - n % kTile, n % kTile);
  return std::nullopt;
}

}  // namespace emulator::broken
