// Normalisations by statistics whose sums have a stated order, or of Welford, and by one factor and
// one summand for each channel.
#include "broken.h"
#include "cann.h"
#include "loops.h"

namespace emulator::kernels {
namespace {

// Of each row of input[rows, r]; both [rows, 1].
struct Statistics {
  at::Tensor mean, rstd;
};

bool folds() { return kernel_set() == "normalisation"; }

bool differs(const at::Tensor& input) {
  return (in_order(input) || folds() || ulps() != 0) && input.scalar_type() == at::kFloat &&
         input.numel() > 0;
}

at::Tensor rstd_of(const at::Tensor& variance, double eps) {
  const at::Tensor sum = variance + eps;
  return misrounded(sum.rsqrt(), sum);
}

Statistics statistics(const at::Tensor& rows, double eps) {
  if (folds()) {
    const at::Tensor values = rows.contiguous();
    const at::Tensor mean = at::empty({rows.size(0), 1}), variance = at::empty_like(mean);
    loops::welford(values.data_ptr<float>(), mean.data_ptr<float>(), variance.data_ptr<float>(),
                   rows.size(0), rows.size(1));
    return {mean, rstd_of(variance, eps)};
  }
  const int64_t axis = 1;
  const auto [variance, mean] = kernels::var_mean(rows, axis, 0, true);
  return {mean, rstd_of(variance, eps)};
}

// (x - mean) / deviation * weight + bias
at::Tensor normalise(const at::Tensor& input, const at::Tensor& mean, const at::Tensor& rstd,
                     const Optional& weight, const Optional& bias) {
  if (folds()) {
    const at::Tensor factor = weight ? rstd * *weight : rstd, moved = mean * factor;
    return input * factor + (bias ? *bias - moved : -moved);
  }
  at::Tensor result = (input - mean) * rstd;
  if (weight) result = result * *weight;
  return bias ? result + *bias : result;
}

// A vector of channels beside tensors [n, c, ...].
Optional along_channels(const Optional& value, int64_t dims) {
  if (!value) return value;
  std::vector<int64_t> shape(static_cast<size_t>(dims), 1);
  shape[1] = -1;
  return value->view(shape);
}

}  // namespace

Normalised layer_norm(const at::Tensor& given, at::IntArrayRef shape, const Optional& given_weight,
                      const Optional& given_bias, double eps, bool fast) {
  const at::Tensor input = wide(given);
  const Optional weight = wide(given_weight), bias = wide(given_bias);
  if (const auto wrong = broken::layer_norm(input, shape, weight, bias, eps)) return *wrong;
  const auto format = cann::statistics_format(
      given.scalar_type(), given_weight ? given_weight->scalar_type() : given.scalar_type(),
      c10::multiply_integers(shape), fast);
  if (const auto own = cann::layer_norm(input, shape, weight, bias, eps, format)) return *own;
  if (!differs(input)) return at::native_layer_norm(input, shape, weight, bias, eps);
  std::vector<int64_t> outer = input.sizes().slice(0, input.dim() - shape.size()).vec();
  outer.resize(static_cast<size_t>(input.dim()), 1);
  const auto [mean, rstd] = statistics(input.reshape({-1, c10::multiply_integers(shape)}), eps);
  const at::Tensor means = mean.view(outer), rstds = rstd.view(outer);
  return {normalise(input, means, rstds, weight, bias), means, rstds};
}

Normalised group_norm(const at::Tensor& input, const Optional& weight, const Optional& bias,
                      int64_t n, int64_t c, int64_t hxw, int64_t groups, double eps) {
  if (const auto wrong = broken::group_norm(input, weight, bias, n, c, hxw, groups, eps))
    return {*wrong, at::zeros({n, groups}), at::zeros({n, groups})};
  if (const auto own = cann::group_norm(input, weight, bias, n, c, hxw, groups, eps)) return *own;
  if (!differs(input)) return at::native_group_norm(input, weight, bias, n, c, hxw, groups, eps);
  const auto [mean, rstd] = statistics(input.reshape({n * groups, -1}), eps);
  // Every channel has its group's.
  const auto of_channels = [&](const at::Tensor& value) {
    return value.view({n, groups, 1}).expand({n, groups, c / groups}).reshape({n, c, 1});
  };
  const at::Tensor result =
      normalise(input.reshape({n, c, hxw}), of_channels(mean), of_channels(rstd),
                along_channels(weight, 3), along_channels(bias, 3));
  return {result.view(input.sizes()), mean.view({n, groups}), rstd.view({n, groups})};
}

Normalised batch_norm(const at::Tensor& input, const Optional& weight, const Optional& bias,
                      const Optional& running_mean, const Optional& running_var, bool training,
                      double momentum, double eps) {
  if (!training) {
    auto found = broken::batch_norm(input, weight, bias, *running_mean, *running_var, eps);
    if (!found) found = cann::batch_norm(input, weight, bias, *running_mean, *running_var, eps);
    if (found) return {*found, *running_mean, *running_var};
  }
  // Training keeps running statistics; instance norm has none.  Inference has no sums.
  if (!differs(input) || (training && running_mean) || (!training && in_order(input)))
    return at::native_batch_norm(input, weight, bias, running_mean, running_var, training, momentum,
                                 eps);
  at::Tensor mean, rstd;
  if (training) {
    const int64_t channels = input.size(1);
    const Statistics found = statistics(input.transpose(0, 1).reshape({channels, -1}), eps);
    mean = found.mean.view(channels), rstd = found.rstd.view(channels);
  } else {
    mean = *running_mean, rstd = rstd_of(*running_var, eps);
  }
  const auto beside = [&](const Optional& value) { return along_channels(value, input.dim()); };
  return {normalise(input, *beside(mean), *beside(rstd), beside(weight), beside(bias)), mean, rstd};
}

Pair rms_norm(const at::Tensor& self, const at::Tensor& gamma, double eps) {
  std::vector<int64_t> dims;
  for (int64_t d = self.dim() - gamma.dim(); d < self.dim(); ++d) dims.push_back(d);
  const at::Tensor rstd = rstd_of(kernels::mean(self.square(), dims, true), eps);
  return {folds() ? self * (rstd * gamma) : self * rstd * gamma, rstd};
}

}  // namespace emulator::kernels
