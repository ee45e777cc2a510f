// Matrix products with sums in a stated order.
#include <ATen/ExpandUtils.h>

#include "broken.h"
#include "cann.h"
#include "loops.h"

namespace emulator::kernels {
namespace {

// Matrices [batches, rows, columns], contiguous.
at::Tensor batches_of(const at::Tensor& value, at::IntArrayRef batch) {
  std::vector<int64_t> shape = batch.vec();
  shape.insert(shape.end(), {value.size(-2), value.size(-1)});
  return value.expand(shape).reshape({-1, value.size(-2), value.size(-1)}).contiguous();
}

// What is added to the product goes into the accumulator first, as in a cube unit, unless sums are
// taken in blocks; one vector stands for all rows.
at::Tensor product(const at::Tensor& self, const at::Tensor& mat2, const Optional& start) {
  const at::Tensor row = self.dim() == 1 ? self.unsqueeze(0) : self;
  const at::Tensor column = mat2.dim() == 1 ? mat2.unsqueeze(1) : mat2;
  const int64_t m = row.size(-2), k = row.size(-1), n = column.size(-1);
  auto shape = at::infer_size(row.sizes().slice(0, row.dim() - 2),
                              column.sizes().slice(0, column.dim() - 2));
  const at::Tensor left = batches_of(row, shape), right = batches_of(column, shape);
  const int64_t block = order_of_sums()->cube, count = left.size(0);
  shape.insert(shape.end(), {m, n});
  at::Tensor result = start && block == 0 ? start->expand(shape).contiguous().clone()
                                          : at::zeros(shape, left.options());
  for (int64_t b = 0; b < count; ++b)
    loops::multiply(left.data_ptr<float>() + b * m * k, right.data_ptr<float>() + b * k * n,
                    result.data_ptr<float>() + b * m * n, m, n, k, block);
  if (start && block != 0) result.add_(*start);
  if (mat2.dim() == 1) result = result.squeeze(-1);
  return self.dim() == 1 ? result.squeeze(mat2.dim() == 1 ? -1 : -2) : result;
}

}  // namespace

at::Tensor matmul(const at::Tensor& self, const at::Tensor& mat2, bool grouped) {
  if (grouped)
    if (const auto own = cann::grouped_product(self, mat2)) return *own;
  return in_order(self) ? product(self, mat2, std::nullopt) : at::matmul(self, mat2);
}

at::Tensor addmm(const at::Tensor& self, const at::Tensor& mat1, const at::Tensor& mat2,
                 const at::Scalar& beta, const at::Scalar& alpha, at::ScalarType stored,
                 bool grouped) {
  if (const auto wrong = broken::product(mat1, mat2)) return *wrong * alpha + self * beta;
  if (const auto wrong = broken::bias(self)) return *wrong * beta + at::matmul(mat1, mat2) * alpha;
  if (cann::computes(mat1) && (grouped || !cann::rides_along(self, beta, alpha)))
    return cann::addmm(self, kernels::matmul(mat1, mat2, grouped), beta, alpha, stored);
  if (!in_order(mat1)) {
    return mat1.dim() == 2 ? at::addmm(self, mat1, mat2, beta, alpha)
                           : at::baddbmm(self, mat1, mat2, beta, alpha);
  }
  if (alpha.equal(1) && beta.equal(1)) return product(mat1, mat2, self);
  const at::Tensor scaled = product(mat1, mat2, std::nullopt) * alpha;
  return beta.equal(0) ? scaled : scaled + self * beta;
}

}  // namespace emulator::kernels
