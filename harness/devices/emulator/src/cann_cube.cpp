// Matrix products of the profile `cann`.
#include "cann.h"

namespace emulator::cann {
namespace {

// The document says from which k on, not how long a group is: as long as that is taken here.
constexpr int64_t kGroup = 2048;

}  // namespace

Ties ties_of_product(const at::Tensor& right) {
  return cann_kernels() && right.dim() <= 2 ? Ties::away : Ties::even;
}

Answer grouped_product(const at::Tensor& left, const at::Tensor& right) {
  const int64_t k = left.size(-1), rows = right.dim() == 1 ? 0 : -2;
  if (!computes(left) || k <= kGroup) return std::nullopt;
  at::Tensor sum;
  for (int64_t start = 0; start < k; start += kGroup) {
    const int64_t count = std::min(kGroup, k - start);
    const at::Tensor part =
        at::matmul(left.narrow(-1, start, count), right.narrow(rows, start, count));
    sum = sum.defined() ? sum + part : part;
  }
  return sum;
}

bool rides_along(const at::Tensor& self, const at::Scalar& beta, const at::Scalar& alpha) {
  const bool row = self.dim() == 1 || (self.dim() == 2 && self.size(0) == 1);
  return row && alpha.equal(1) && beta.equal(1);
}

at::Tensor addmm(const at::Tensor& self, const at::Tensor& product, const at::Scalar& beta,
                 const at::Scalar& alpha, at::ScalarType stored) {
  const at::Tensor kept = shortened(product, format_of(stored), Ties::even) * alpha;
  return beta.equal(0) ? kept : kept + self * beta;
}

}  // namespace emulator::cann
