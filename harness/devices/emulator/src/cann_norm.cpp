// Normalisations of the profile `cann`.
#include <ATen/Parallel.h>

#include "cann.h"

namespace emulator::cann {
namespace {

// Numbers of a parameter, or null.
struct Numbers {
  at::Tensor values;
  const float* data = nullptr;

  explicit Numbers(const Optional& given) {
    if (!given) return;
    values = given->contiguous();
    data = values.const_data_ptr<float>();
  }
};

// x * factor + summand, with one of each for every plane of `size` numbers; `channel(plane)` says
// which.
template <typename Channel>
at::Tensor folded(const at::Tensor& x, int64_t size, const std::vector<float>& factor,
                  const std::vector<float>& summand, Channel channel) {
  const at::Tensor y = at::empty_like(x);
  const float* from = x.const_data_ptr<float>();
  float* to = y.data_ptr<float>();
  at::parallel_for(0, x.numel() / size, std::max<int64_t>(1, kOfAThread / size),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t plane = begin; plane < end; ++plane) {
                       const int64_t c = channel(plane);
                       loops::scale_and_shift(from + plane * size, to + plane * size, size,
                                              factor[c], summand[c]);
                     }
                   });
  return y;
}

}  // namespace

Format statistics_format(at::ScalarType input, at::ScalarType weight, int64_t n, bool fast) {
  const bool v4 = fast || (input == at::kBFloat16 && (n == 1024 || n == 4096)) ||
                  (n < 64 && n % (input == at::kFloat ? 8 : 16) != 0);
  return v4 || input != weight ? Format::float32 : format_of(input);
}

std::optional<kernels::Normalised> layer_norm(const at::Tensor& input, at::IntArrayRef shape,
                                              const Optional& weight, const Optional& bias,
                                              double eps, Format statistics) {
  if (!computes(input)) return std::nullopt;
  const at::Tensor x = input.contiguous();
  const int64_t n = c10::multiply_integers(shape), rows = x.numel() / n;
  std::vector<int64_t> outer = input.sizes().slice(0, input.dim() - shape.size()).vec();
  outer.resize(static_cast<size_t>(input.dim()), 1);
  const at::Tensor y = at::empty_like(x), mean = at::empty(outer, x.options()),
                   rstd = at::empty_like(mean);
  const Numbers factor(weight), summand(bias);
  const float* from = x.const_data_ptr<float>();
  float *to = y.data_ptr<float>(), *means = mean.data_ptr<float>(), *rstds = rstd.data_ptr<float>();
  at::parallel_for(0, rows, std::max<int64_t>(1, kOfAThread / n), [&](int64_t begin, int64_t end) {
    loops::layer_norm(from + begin * n, factor.data, summand.data, to + begin * n, means + begin,
                      rstds + begin, end - begin, n, static_cast<float>(eps), statistics);
  });
  return kernels::Normalised{y, mean, rstd};
}

// The variance is the mean square less the square of the mean, in float32: below -eps it has no
// root, and the group is NaN.
std::optional<kernels::Normalised> group_norm(const at::Tensor& input, const Optional& weight,
                                              const Optional& bias, int64_t n, int64_t c,
                                              int64_t hxw, int64_t groups, double eps) {
  if (!computes(input)) return std::nullopt;
  const at::Tensor x = input.contiguous();
  const int64_t size = c / groups * hxw;
  const at::Tensor mean = at::empty({n, groups}, x.options()), rstd = at::empty_like(mean);
  const float* from = x.const_data_ptr<float>();
  float *means = mean.data_ptr<float>(), *rstds = rstd.data_ptr<float>();
  at::parallel_for(
      0, n * groups, std::max<int64_t>(1, kOfAThread / size), [&](int64_t begin, int64_t end) {
        for (int64_t group = begin; group < end; ++group) {
          const float* part = from + group * size;
          const float count = static_cast<float>(size);
          const float middle = loops::scaled_sum(part, size, 1.0f) / count;
          const float square = loops::sum_of_squares(part, size) / count;
          means[group] = middle;
          rstds[group] = 1.0f / std::sqrt(square - middle * middle + static_cast<float>(eps));
        }
      });
  const Numbers gamma(weight), beta(bias);
  std::vector<float> factor(n * c), summand(n * c);
  for (int64_t i = 0; i < n * c; ++i) {
    const int64_t group = i / (c / groups), channel = i % c;
    factor[i] = gamma.data ? rstds[group] * gamma.data[channel] : rstds[group];
    summand[i] = (beta.data ? beta.data[channel] : 0.0f) - factor[i] * means[group];
  }
  const at::Tensor y = folded(x, hxw, factor, summand, [](int64_t plane) { return plane; });
  return kernels::Normalised{y, mean, rstd};
}

Answer batch_norm(const at::Tensor& input, const Optional& weight, const Optional& bias,
                  const at::Tensor& mean, const at::Tensor& variance, double eps) {
  if (!computes(input)) return std::nullopt;
  const at::Tensor x = input.contiguous();
  const int64_t channels = x.size(1), size = x.numel() / x.size(0) / channels;
  const Numbers gamma(weight), beta(bias), middle(mean), spread(variance);
  std::vector<float> factor(channels), summand(channels);
  for (int64_t c = 0; c < channels; ++c) {
    factor[c] = 1.0f / std::sqrt(spread.data[c] + static_cast<float>(eps));
    if (gamma.data) factor[c] = gamma.data[c] / std::sqrt(spread.data[c] + static_cast<float>(eps));
    summand[c] = (beta.data ? beta.data[c] : 0.0f) - factor[c] * middle.data[c];
  }
  return folded(x, size, factor, summand, [=](int64_t plane) { return plane % channels; });
}

}  // namespace emulator::cann
