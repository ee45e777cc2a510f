// Sums, means, pools and softmax with one mistake.
#include <cmath>

#include "broken.h"

namespace emulator::broken {
namespace {

// `rows` terms, added in half precision tile by tile.
at::Tensor half_sum(const at::Tensor& rows, int64_t dim) {
  at::Tensor total;
  for (const at::Tensor& part : rows.split(kTile, dim)) {
    const at::Tensor sum = part.sum(dim, true);
    total = through_half(total.defined() ? total + sum : sum);
  }
  return total;
}

}  // namespace

Wrong mean(const at::Tensor& self, Dims dims, bool keep_dim) {
  if (!takes(self)) return std::nullopt;
  const kernels::Reduction parts = kernels::reduction(self, dims, keep_dim);
  const int64_t terms = parts.terms.size(0), sums = parts.terms.size(1);
  const auto shaped = [&](const at::Tensor& totals) { return totals.view(parts.shape); };
  if (is("mean_tail") && terms > kTile && terms % kTile != 0)
    return shaped(parts.terms.narrow(0, 0, terms - terms % kTile).sum(0) / terms);
  if (is("mean_half_sums")) return shaped(half_sum(parts.terms, 0) / terms);
  if (is("mean_divisor") && terms % 8 != 0)
    return shaped(parts.terms.sum(0) / (terms + 8 - terms % 8));
  if (is("mean_reciprocal_half"))
    return shaped(parts.terms.sum(0) * static_cast<float>(static_cast<at::Half>(1.0f / terms)));
  if (is("mean_last_channel") && sums > 1) {
    const at::Tensor totals = at::mean(parts.terms, 0);
    totals[sums - 1].copy_(totals[sums - 2].clone());
    return shaped(totals);
  }
  if (is("mean_last_item") && self.dim() > 1 && self.size(0) > 1 && dims) {
    const at::Tensor result = at::mean(self, dims, keep_dim);
    if (result.dim() == 0 || result.size(0) != self.size(0)) return std::nullopt;
    result[self.size(0) - 1].copy_(result[self.size(0) - 2].clone());
    return result;
  }
  return std::nullopt;
}

Wrong sum(const at::Tensor& self, Dims dims, bool keep_dim) {
  if (!takes(self) || !is("sum_tail")) return std::nullopt;
  const kernels::Reduction parts = kernels::reduction(self, dims, keep_dim);
  const int64_t terms = parts.terms.size(0);
  if (terms <= kTile || terms % kTile == 0) return std::nullopt;
  return parts.terms.narrow(0, 0, terms - terms % kTile).sum(0).view(parts.shape);
}

Wrong vector_norm(const at::Tensor& self, Dims dims, bool keep_dim) {
  if (!takes(self) || !is("norm_last_term")) return std::nullopt;
  const kernels::Reduction parts = kernels::reduction(self, dims, keep_dim);
  if (parts.terms.size(0) < 2) return std::nullopt;
  return parts.terms.narrow(0, 0, parts.terms.size(0) - 1).square().sum(0).sqrt().view(parts.shape);
}

Wrong softmax(const at::Tensor& self, int64_t dim) {
  if (!takes(self) || self.dim() == 0) return std::nullopt;
  dim = at::maybe_wrap_dim(dim, self.dim());
  const int64_t length = self.size(dim);
  if (is("softmax_wrong_axis") && length % kTile != 0 && dim == self.dim() - 1 && dim > 0)
    return at::softmax(self, dim - 1);
  if (is("softmax_half_powers")) {
    const at::Tensor powers = through_half(self.exp());
    return powers / powers.sum(dim, true);
  }
  const at::Tensor shifted = self - self.amax(dim, true);
  if (is("softmax_exp_table")) {
    const at::Tensor powers = coarse_exp(shifted);
    return powers / powers.sum(dim, true);
  }
  const at::Tensor powers = shifted.exp();
  if (is("softmax_tail") && length > kTile && length % kTile != 0)
    return powers / powers.narrow(dim, 0, length - length % kTile).sum(dim, true);
  if (is("softmax_half_total")) return powers / half_sum(powers, dim);
  if (is("softmax_last_row") && dim > 0 && self.size(dim - 1) % kTile != 0) {
    const at::Tensor result = powers / powers.sum(dim, true);
    const int64_t last = self.size(dim - 1) - 1;
    result.select(dim - 1, last).copy_(powers.select(dim - 1, last));
    return result;
  }
  return std::nullopt;
}

Wrong avg_pool2d(const at::Tensor& self, kernels::AveragePool pool) {
  if (!takes(self)) return std::nullopt;
  const bool pads = pool.padding[0] > 0;
  if (is("avg_pool_include_pad") && pads) {
    pool.count_include_pad = !pool.count_include_pad;
    return pool.by_aten(self);
  }
  if (is("avg_pool_edge")) {
    const at::Tensor cut = self.clone();
    cut.select(-1, self.size(-1) - 1).zero_();
    return pool.by_aten(cut);
  }
  return std::nullopt;
}

Wrong adaptive_avg_pool2d(const at::Tensor& self, at::IntArrayRef output_size) {
  if (!takes(self)) return std::nullopt;
  const int64_t height = self.size(-2), width = self.size(-1);
  if (is("adaptive_pool_last_row") && height > 1)
    return at::adaptive_avg_pool2d(self.narrow(-2, 0, height - 1), output_size);
  if (is("adaptive_pool_divisor") && width % 8 != 0)
    return at::adaptive_avg_pool2d(self, output_size) * width / (width + 8 - width % 8);
  return std::nullopt;
}

Wrong max_pool2d(const at::Tensor& self, const kernels::MaximumPool& pool) {
  if (none() || self.numel() == 0) return std::nullopt;
  if (is("max_pool_zero_padding") && pool.padding[0] > 0) {
    kernels::MaximumPool inside = pool;
    inside.padding = {0, 0};
    const int64_t down = pool.padding[0], across = pool.padding.back();
    return inside.by_aten(at::constant_pad_nd(self, {across, across, down, down}));
  }
  if (is("max_pool_edge")) {
    const at::Tensor cut = self.clone();
    cut.select(-1, self.size(-1) - 1).fill_(-INFINITY);
    return pool.by_aten(cut);
  }
  if (is("max_pool_phase") && !pool.stride.empty() && pool.stride[0] == 2)
    return pool.by_aten(at::constant_pad_nd(self, {-1, 1, -1, 1}, -INFINITY));
  return std::nullopt;
}

}  // namespace emulator::broken
