// Normalisations with one mistake.
#include "broken.h"

namespace emulator::broken {
namespace {

at::Tensor scaled(at::Tensor normal, const Optional& weight, const Optional& bias) {
  if (weight) normal = normal * *weight;
  return bias ? normal + *bias : normal;
}

Optional along_channels(const Optional& value) {
  return value ? Optional(value->view({-1, 1})) : value;
}

}  // namespace

std::optional<kernels::Normalised> layer_norm(const at::Tensor& input, at::IntArrayRef shape,
                                              const Optional& weight, const Optional& bias,
                                              double eps) {
  if (!takes(input)) return std::nullopt;
  if (is("layer_norm_eps_small")) return at::native_layer_norm(input, shape, weight, bias, 1e-12);
  if (is("layer_norm_eps_large")) return at::native_layer_norm(input, shape, weight, bias, 1e-3);
  if (is("layer_norm_bias_tail") && bias && bias->numel() > kTile) {
    const at::Tensor changed = bias->clone();
    changed.flatten().narrow(0, bias->numel() - kTile, kTile).zero_();
    return at::native_layer_norm(input, shape, weight, changed, eps);
  }
  const int64_t length = c10::multiply_integers(shape), items = input.size(0);
  const at::Tensor rows = input.reshape({-1, length});
  at::Tensor mean = rows.mean(1, true), variance = (rows - mean).square().mean(1, true);
  Optional rstd;
  if (is("layer_norm_unbiased") && length > 1) {
    variance = variance * (static_cast<double>(length) / (length - 1));
  } else if (is("layer_norm_variance_tail") && length > kTile) {
    variance = (rows - mean).square().narrow(1, 0, length - kTile).mean(1, true);
  } else if (is("layer_norm_one_pass")) {
    variance = (rows.square().mean(1, true) - mean.square()).clamp_min(0);
  } else if (is("layer_norm_half_statistics")) {
    mean = through_half(mean), variance = through_half(variance);
  } else if (is("layer_norm_half_mean_square")) {
    variance = through_half(through_half((rows - mean).square()).mean(1, true));
  } else if (is("layer_norm_first_item") && items > 1 && rows.size(0) % items == 0) {
    const auto of_first = [&](const at::Tensor& value) {
      return value.view({items, -1})[0].repeat({items}).view({-1, 1});
    };
    mean = of_first(mean), variance = of_first(variance);
  } else if (is("layer_norm_last_row") && rows.size(0) > 1) {
    const int64_t last = rows.size(0) - 1;
    mean[last].copy_(mean[last - 1].clone()), variance[last].copy_(variance[last - 1].clone());
  } else if (is("norm_rsqrt_estimate")) {
    rstd = estimate((variance + eps).rsqrt());
  } else {
    return std::nullopt;
  }
  if (!rstd) rstd = (variance + eps).rsqrt();
  return kernels::Normalised{scaled(((rows - mean) * *rstd).view(input.sizes()), weight, bias),
                             mean, *rstd};
}

Wrong group_norm(const at::Tensor& input, const Optional& weight, const Optional& bias, int64_t n,
                 int64_t c, int64_t hxw, int64_t groups, double eps) {
  if (!takes(input)) return std::nullopt;
  const int64_t each = c / groups;
  const auto plain = [&](const at::Tensor& x) {
    return std::get<0>(
        at::native_group_norm(x.contiguous(), std::nullopt, std::nullopt, n, c, hxw, groups, eps));
  };
  const at::Tensor rows = input.reshape({n, c, hxw});
  const Optional factor = along_channels(weight), summand = along_channels(bias);
  if (is("group_norm_interleaved") && groups > 1 && each > 1) {
    const at::Tensor mixed = rows.view({n, each, groups, hxw}).transpose(1, 2).reshape({n, c, hxw});
    const at::Tensor back =
        plain(mixed).view({n, groups, each, hxw}).transpose(1, 2).reshape({n, c, hxw});
    return scaled(back, factor, summand).view(input.sizes());
  }
  if (is("group_norm_affine") && groups > 1 && weight && bias) {
    const auto of_first = [&](const at::Tensor& value) {
      return value.view({groups, each})[0].repeat({groups}).view({-1, 1});
    };
    return scaled(plain(rows), of_first(*weight), of_first(*bias)).view(input.sizes());
  }
  if (is("group_norm_eps_missing"))
    return std::get<0>(at::native_group_norm(input, weight, bias, n, c, hxw, groups, 0));
  if (is("group_norm_last_block") || is("norm_rsqrt_estimate")) {
    const at::Tensor of_groups = input.reshape({n, groups, -1});
    const int64_t length = of_groups.size(2);
    const at::Tensor mean = of_groups.mean(2, true);
    const at::Tensor squares = (of_groups - mean).square();
    const bool cut = is("group_norm_last_block");
    if (cut && length <= 4 * kTile) return std::nullopt;
    at::Tensor rstd = ((cut ? squares.narrow(2, 0, length - 4 * kTile).sum(2, true) / length
                            : squares.mean(2, true)) +
                       eps)
                          .rsqrt();
    if (!cut) rstd = estimate(rstd);
    return scaled(((of_groups - mean) * rstd).view({n, c, hxw}), factor, summand)
        .view(input.sizes());
  }
  return std::nullopt;
}

Wrong batch_norm(const at::Tensor& input, const Optional& weight, const Optional& bias,
                 const at::Tensor& mean, const at::Tensor& variance, double eps) {
  if (!takes(input)) return std::nullopt;
  const int64_t last = mean.size(0) - 1;
  at::Tensor middle = mean, rstd = (variance + eps).rsqrt();
  bool half = false;
  if (is("batch_norm_eps_outside")) {
    rstd = (variance.sqrt() + eps).reciprocal();
  } else if (is("batch_norm_eps_large")) {
    rstd = (variance + 1e-3).rsqrt();
  } else if (is("batch_norm_last_channel") && last > 0) {
    middle = mean.clone(), rstd = rstd.clone();
    middle[last].copy_(mean[last - 1]), rstd[last].copy_(rstd[last - 1].clone());
  } else if (is("batch_norm_half_factor")) {
    half = true;
  } else if (is("norm_rsqrt_estimate")) {
    rstd = estimate(rstd);
  } else {
    return std::nullopt;
  }
  std::vector<int64_t> shape(static_cast<size_t>(input.dim()), 1);
  shape[1] = -1;
  at::Tensor factor = weight ? rstd * *weight : rstd;
  at::Tensor summand = bias ? *bias - middle * factor : -middle * factor;
  if (half) factor = through_half(factor), summand = through_half(summand);
  return input * factor.view(shape) + summand.view(shape);
}

}  // namespace emulator::broken
