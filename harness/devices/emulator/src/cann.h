// The kernels that CANN publishes for the 910B, as far as its public sources and documents say what
// they compute: facts, computed by code of this project (docs/emulated-npu.md has the table and
// what is not known).  Each function answers only where the profile `cann` has its own way.
//
// Tensors are float32, as wide() makes them; `type` is what they were before, since what is rounded
// inside depends on it.
#pragma once

#include "cann_loops.h"
#include "kernels.h"

namespace emulator::cann {

using loops::Format;
using loops::Ties;
using Answer = std::optional<at::Tensor>;

constexpr int64_t kOfAThread = 1 << 14;  // elements that are worth a thread of the host

// Whether the profile is in force and there are float32 numbers.
bool computes(const at::Tensor& input);
Format format_of(at::ScalarType type);
// `value` in float32, rounded to what `format` holds.
at::Tensor shortened(const at::Tensor& value, Format format, Ties ties);

// ---- elementwise; `name` is the operator's, `self` not widened
Answer unary(const std::string& name, const at::Tensor& self);

// ---- cube unit
// Matrices are multiplied by MatMulV3, batches of them by BatchMatMulV3.
Ties ties_of_product(const at::Tensor& right);
// left @ right with k > 2048 in groups, as cubeMathType 4 asks.
Answer grouped_product(const at::Tensor& left, const at::Tensor& right);
// What does not ride along in the product is added to its stored result.
at::Tensor addmm(const at::Tensor& self, const at::Tensor& product, const at::Scalar& beta,
                 const at::Scalar& alpha, at::ScalarType stored);
bool rides_along(const at::Tensor& self, const at::Scalar& beta, const at::Scalar& alpha);

// ---- sums
Answer softmax(const at::Tensor& self, int64_t dim, at::ScalarType type);
Answer mean(const at::Tensor& self, Dims dims, bool keep_dim);
Answer avg_pool2d(const at::Tensor& self, const kernels::AveragePool& pool, at::ScalarType type);
Answer adaptive_avg_pool2d(const at::Tensor& self, at::IntArrayRef output_size);
Answer upsample_bilinear2d(const at::Tensor& self, at::IntArrayRef size, bool align_corners,
                           std::optional<double> scales_h, std::optional<double> scales_w,
                           at::ScalarType type);

// ---- normalisation
std::optional<kernels::Normalised> layer_norm(const at::Tensor& input, at::IntArrayRef shape,
                                              const Optional& weight, const Optional& bias,
                                              double eps, Format statistics);
// What LayerNormV3 rounds its statistics to: the format that input and weight share.  V4, which is
// taken for some shapes and always where `fast`, is not known to.
Format statistics_format(at::ScalarType input, at::ScalarType weight, int64_t n, bool fast);
std::optional<kernels::Normalised> group_norm(const at::Tensor& input, const Optional& weight,
                                              const Optional& bias, int64_t n, int64_t c,
                                              int64_t hxw, int64_t groups, double eps);
Answer batch_norm(const at::Tensor& input, const Optional& weight, const Optional& bias,
                  const at::Tensor& mean, const at::Tensor& variance, double eps);

}  // namespace emulator::cann
