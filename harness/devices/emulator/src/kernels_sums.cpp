// Sums, means, norms, softmax and average pools with sums in a stated order.
#include "broken.h"
#include "cann.h"
#include "loops.h"

namespace emulator {

const Order* order_of_sums() {
  // A cube unit multiplies tiles of 16; a vector register of 256 bytes holds 64 numbers.
  static const Order sequential{0, 0}, blocked{16, 64}, blocked128{128, 128};
  const std::string& name = kernel_set();
  if (name == "sequential") return &sequential;
  if (name == "blocked") return &blocked;
  return name == "blocked128" ? &blocked128 : nullptr;
}

bool in_order(const at::Tensor& terms) {
  return order_of_sums() != nullptr && terms.scalar_type() == at::kFloat && terms.numel() > 0;
}

namespace kernels {

Reduction reduction(const at::Tensor& self, Dims dims, bool keep_dim) {
  std::vector<bool> reduced(static_cast<size_t>(self.dim()), !dims);
  if (dims)
    for (const int64_t dim : *dims) reduced[at::maybe_wrap_dim(dim, self.dim())] = true;
  std::vector<int64_t> first, last, shape;
  int64_t terms = 1;
  for (int64_t d = 0; d < self.dim(); ++d) {
    (reduced[d] ? first : last).push_back(d);
    if (reduced[d]) terms *= self.size(d);
    if (!reduced[d] || keep_dim) shape.push_back(reduced[d] ? 1 : self.size(d));
  }
  first.insert(first.end(), last.begin(), last.end());
  return {self.permute(first).reshape({terms, -1}).contiguous(), shape};
}

namespace {

at::Tensor added(const Reduction& of) {
  at::Tensor result = at::empty({of.terms.size(1)}, of.terms.options());
  loops::add_rows(of.terms.data_ptr<float>(), result.data_ptr<float>(), of.terms.size(0),
                  of.terms.size(1), order_of_sums()->vector);
  return result.view(of.shape);
}

std::vector<loops::Window> windows(int64_t size, int64_t kernel, int64_t stride, int64_t padding,
                                   bool ceil_mode, bool count_include_pad) {
  int64_t count = (size + 2 * padding - kernel + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (count - 1) * stride >= size + padding) --count;
  std::vector<loops::Window> found;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t start = i * stride - padding, end = std::min(start + kernel, size + padding);
    const int64_t inside = std::max<int64_t>(start, 0), until = std::min(end, size);
    found.push_back({inside, until, count_include_pad ? end - start : until - inside});
  }
  return found;
}

at::Tensor pooled(const at::Tensor& self, const std::vector<loops::Window>& rows,
                  const std::vector<loops::Window>& columns, int64_t divisor) {
  const at::Tensor input = self.contiguous();
  std::vector<int64_t> shape = input.sizes().vec();
  const int64_t height = input.size(-2), width = input.size(-1);
  shape[shape.size() - 2] = static_cast<int64_t>(rows.size());
  shape[shape.size() - 1] = static_cast<int64_t>(columns.size());
  at::Tensor result = at::empty(shape, input.options());
  loops::pool(input.data_ptr<float>(), result.data_ptr<float>(), input.numel() / height / width,
              height, width, rows.data(), rows.size(), columns.data(), columns.size(), divisor,
              order_of_sums()->vector);
  return result;
}

}  // namespace

at::Tensor sum(const at::Tensor& self, Dims dims, bool keep_dim,
               std::optional<at::ScalarType> dtype) {
  if (const auto wrong = broken::sum(self, dims, keep_dim)) return *wrong;
  if (order_of_sums() == nullptr || dtype.value_or(self.scalar_type()) != at::kFloat)
    return at::sum(self, dims, keep_dim, dtype);
  const at::Tensor terms = self.to(at::kFloat);
  return in_order(terms) ? added(reduction(terms, dims, keep_dim)) : at::sum(terms, dims, keep_dim);
}

at::Tensor mean(const at::Tensor& self, Dims dims, bool keep_dim) {
  if (const auto wrong = broken::mean(self, dims, keep_dim)) return *wrong;
  if (const auto own = cann::mean(self, dims, keep_dim)) return *own;
  if (!in_order(self)) return at::mean(self, dims, keep_dim);
  const Reduction parts = reduction(self, dims, keep_dim);
  return added(parts) / parts.terms.size(0);
}

Pair var_mean(const at::Tensor& self, Dims dims, int64_t correction, bool keep_dim) {
  if (broken::is("var_population")) correction = 0;
  if (!in_order(self)) return at::var_mean(self, dims, at::Scalar(correction), keep_dim);
  const at::Tensor average = kernels::mean(self, dims, true);
  const Reduction squares = reduction((self - average).square(), dims, keep_dim);
  return {added(squares) / std::max<int64_t>(0, squares.terms.size(0) - correction),
          average.view(squares.shape)};
}

Pair std_mean(const at::Tensor& self, Dims dims, int64_t correction, bool keep_dim) {
  if (broken::is("var_population")) correction = 0;
  if (!in_order(self)) return at::std_mean(self, dims, at::Scalar(correction), keep_dim);
  const auto [variance, mean] = kernels::var_mean(self, dims, correction, keep_dim);
  return {variance.sqrt(), mean};
}

at::Tensor var(const at::Tensor& self, Dims dims, int64_t correction, bool keep_dim) {
  if (broken::is("var_population")) correction = 0;
  return in_order(self) ? std::get<0>(kernels::var_mean(self, dims, correction, keep_dim))
                        : at::var(self, dims, at::Scalar(correction), keep_dim);
}

at::Tensor std(const at::Tensor& self, Dims dims, int64_t correction, bool keep_dim) {
  if (broken::is("var_population")) correction = 0;
  return in_order(self) ? std::get<0>(kernels::std_mean(self, dims, correction, keep_dim))
                        : at::std(self, dims, at::Scalar(correction), keep_dim);
}

at::Tensor vector_norm(const at::Tensor& self, const at::Scalar& order, Dims dims, bool keep_dim) {
  const double p = order.toDouble();
  if (const auto wrong = broken::vector_norm(self, dims, keep_dim)) return *wrong;
  if (!in_order(self) || (p != 1 && p != 2))
    return at::linalg_vector_norm(self, order, dims, keep_dim);
  return p == 1 ? kernels::sum(self.abs(), dims, keep_dim)
                : kernels::sum(self.square(), dims, keep_dim).sqrt();
}

at::Tensor softmax(const at::Tensor& given, int64_t dim) {
  const at::Tensor self = wide(given);
  if (const auto wrong = broken::softmax(self, dim)) return *wrong;
  if (const auto own = cann::softmax(self, dim, given.scalar_type())) return *own;
  if (!in_order(self) && ulps() == 0) return at::softmax(self, dim);
  const at::Tensor shifted = self - self.amax(dim, true);
  const at::Tensor powers = misrounded(shifted.exp(), shifted);
  return misrounded(powers / kernels::sum(powers, dim, true), powers);
}

at::Tensor log_softmax(const at::Tensor& self, int64_t dim) {
  if (!in_order(self) && ulps() == 0) return at::log_softmax(self, dim);
  const at::Tensor shifted = self - self.amax(dim, true);
  const at::Tensor total = kernels::sum(misrounded(shifted.exp(), shifted), dim, true);
  return shifted - misrounded(total.log(), total);
}

at::Tensor AveragePool::by_aten(const at::Tensor& self) const {
  return at::avg_pool2d(self, kernel, stride, padding, ceil_mode, count_include_pad, divisor);
}

at::Tensor MaximumPool::by_aten(const at::Tensor& self) const {
  return at::max_pool2d(self, kernel, stride, padding, dilation, ceil_mode);
}

at::Tensor max_pool2d(const at::Tensor& self, const MaximumPool& pool) {
  if (const auto wrong = broken::max_pool2d(self, pool)) return *wrong;
  return pool.by_aten(self);
}

at::Tensor upsample(const at::Tensor& given, at::IntArrayRef size, bool align_corners, bool cubic,
                    std::optional<double> scales_h, std::optional<double> scales_w) {
  const at::Tensor self = wide(given);
  if (const auto wrong = broken::resized(self, size, align_corners, cubic)) return *wrong;
  if (!cubic)
    if (const auto own = cann::upsample_bilinear2d(self, size, align_corners, scales_h, scales_w,
                                                   given.scalar_type()))
      return *own;
  return cubic ? at::upsample_bicubic2d(self, size, align_corners, scales_h, scales_w)
               : at::upsample_bilinear2d(self, size, align_corners, scales_h, scales_w);
}

at::Tensor avg_pool2d(const at::Tensor& given, const AveragePool& pool) {
  const at::Tensor self = wide(given);
  if (const auto wrong = broken::avg_pool2d(self, pool)) return *wrong;
  if (const auto own = cann::avg_pool2d(self, pool, given.scalar_type())) return *own;
  if (!in_order(self)) return pool.by_aten(self);
  // One number stands for both axes; no stride means the kernel's.
  const auto of = [](const std::vector<int64_t>& values, int64_t axis) {
    return values.size() == 1 ? values[0] : values[axis];
  };
  const auto& strides = pool.stride.empty() ? pool.kernel : pool.stride;
  const auto along = [&](int64_t axis) {
    return windows(self.size(axis - 2), of(pool.kernel, axis), of(strides, axis),
                   of(pool.padding, axis), pool.ceil_mode, pool.count_include_pad);
  };
  return pooled(self, along(0), along(1), pool.divisor.value_or(0));
}

at::Tensor adaptive_avg_pool2d(const at::Tensor& self, at::IntArrayRef output_size) {
  if (const auto wrong = broken::adaptive_avg_pool2d(self, output_size)) return *wrong;
  if (const auto own = cann::adaptive_avg_pool2d(self, output_size)) return *own;
  if (!in_order(self)) return at::adaptive_avg_pool2d(self, output_size);
  const auto along = [&](int64_t axis) {
    const int64_t size = self.size(axis - 2), count = output_size[axis];
    std::vector<loops::Window> found;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t start = i * size / count, end = ((i + 1) * size + count - 1) / count;
      found.push_back({start, end, end - start});
    }
    return found;
  };
  return pooled(self, along(0), along(1), 0);
}

}  // namespace kernels
}  // namespace emulator
