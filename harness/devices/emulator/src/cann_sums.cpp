// Softmax, means, pools and resizing of the profile `cann`.
#include "cann.h"

namespace emulator::cann {
namespace {

at::Tensor in_format(const at::Tensor& value, at::ScalarType type) {
  return shortened(value, format_of(type), Ties::even);
}

// One number stands for both axes.
int64_t along(const std::vector<int64_t>& values, int64_t axis) {
  return values.size() == 1 ? values[0] : values[axis];
}

// The matrix [out, in] that resizes one axis by linear interpolation; `scale`: out / in as asked.
at::Tensor interpolation(int64_t in, int64_t out, double scale, bool align_corners) {
  const at::Tensor matrix = at::zeros({out, in});
  auto cells = matrix.accessor<float, 2>();
  const float step = static_cast<float>(
      align_corners ? (out > 1 ? static_cast<double>(in - 1) / (out - 1) : 0.0) : 1.0 / scale);
  for (int64_t i = 0; i < out; ++i) {
    const float place = align_corners ? i * step : std::max(0.0f, (i + 0.5f) * step - 0.5f);
    const int64_t left = std::min<int64_t>(static_cast<int64_t>(place), in - 1);
    if (left == in - 1) {
      cells[i][left] = 1.0f;
      continue;
    }
    const float part = place - static_cast<float>(left);
    cells[i][left] = 1.0f - part;
    cells[i][left + 1] = part;
  }
  return matrix;
}

}  // namespace

// float16 is subtracted in float16; all else is float32.
Answer softmax(const at::Tensor& self, int64_t dim, at::ScalarType type) {
  if (!computes(self)) return std::nullopt;
  at::Tensor powers = self - self.amax(dim, true);
  if (type == at::kHalf) powers = in_format(powers, type);
  powers.exp_();
  return powers.div_(powers.sum(dim, true));
}

// Terms are scaled before they are added.
Answer mean(const at::Tensor& self, Dims dims, bool keep_dim) {
  if (!computes(self)) return std::nullopt;
  int64_t count = dims && self.dim() > 0 ? 1 : self.numel();
  if (dims && self.dim() > 0)
    for (const int64_t dim : *dims) count *= self.size(dim);
  const float share = 1.0f / static_cast<float>(count);
  return at::sum(self * share, dims, keep_dim);
}

Answer adaptive_avg_pool2d(const at::Tensor& self, at::IntArrayRef output_size) {
  if (output_size[0] != 1 || output_size[1] != 1) return std::nullopt;
  return cann::mean(self, at::IntArrayRef{-2, -1}, true);
}

// A window as large as the image is a mean.  Otherwise the cube unit adds up the window's numbers
// times a factor that has the input's format (bfloat16 goes as float32); where padding does not
// count, the sum is stored and divided afterwards.  Images of 2:1 and longer, ceil_mode and large
// windows go to the vector unit, of which nothing else than ATen's way is known.
Answer avg_pool2d(const at::Tensor& self, const kernels::AveragePool& pool, at::ScalarType type) {
  if (!computes(self)) return std::nullopt;
  const int64_t height = self.size(-2), width = self.size(-1);
  const int64_t rows = along(pool.kernel, 0), columns = along(pool.kernel, 1);
  const bool padded = along(pool.padding, 0) != 0 || along(pool.padding, 1) != 0;
  if (rows == height && columns == width && !padded) {
    const auto found = cann::mean(self, at::IntArrayRef{-2, -1}, true);
    return pool.divisor ? *found * (static_cast<double>(rows * columns) / *pool.divisor) : *found;
  }
  const bool strip = width / height >= 2 || height / width >= 2;
  const bool fits = (rows * columns <= 255 || (rows <= 20 && columns <= 20)) && rows <= 255 &&
                    columns <= 255 && std::abs(pool.divisor.value_or(1)) <= 255;
  if (pool.ceil_mode || strip || !fits) return std::nullopt;
  kernels::AveragePool sums = pool;
  sums.divisor = 1;
  const bool half = type == at::kHalf;
  if (!pool.count_include_pad && !pool.divisor) {
    const at::Tensor total = sums.by_aten(self);
    const at::Tensor counts = sums.by_aten(at::ones({1, height, width}));
    return (half ? in_format(total, type) : total) / counts;
  }
  float factor =
      static_cast<float>(1.0 / static_cast<double>(pool.divisor.value_or(rows * columns)));
  if (half) loops::shorten(&factor, 1, Format::float16, Ties::even);
  return sums.by_aten(self * factor);
}

// Sizes alone, and the scale 2 except in bfloat16, are another operator's.
Answer upsample_bilinear2d(const at::Tensor& self, at::IntArrayRef size, bool align_corners,
                           std::optional<double> scales_h, std::optional<double> scales_w,
                           at::ScalarType type) {
  if (!computes(self) || !scales_h || !scales_w) return std::nullopt;
  if (*scales_h == 2 && *scales_w == 2 && type != at::kBFloat16) return std::nullopt;
  at::Tensor result = self;
  if (*scales_w != 1) {
    const at::Tensor across = interpolation(self.size(3), size[1], *scales_w, align_corners);
    result = in_format(at::matmul(result, in_format(across, type).t()), type);
  }
  if (*scales_h != 1) {
    const at::Tensor down = interpolation(self.size(2), size[0], *scales_h, align_corners);
    result = at::matmul(in_format(down, type), result);
  }
  return result;
}

}  // namespace emulator::cann
