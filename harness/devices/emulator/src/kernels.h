// One point of dispatch for each family of operators: ATen's kernels, or the set that
// harness/devices/emulated_kernels.py names and describes.
//
// Tensors are float32 when another set is to have an effect (wide() makes them so); other dtypes
// go to ATen's kernels.  Where the format counts, a tensor comes as the operator got it.
#pragma once

#include <c10/util/FunctionRef.h>

#include "common.h"

namespace emulator {

using Dims = at::OptionalIntArrayRef;
using Optional = std::optional<at::Tensor>;

inline bool cann_kernels() { return kernel_set() == "cann"; }  // cann.h

// How many terms are added to one another before their sum is added to the rest: in the cube unit
// and elsewhere.  0: no blocks, every term is added to all before it.
struct Order {
  int64_t cube, vector;
};
// nullptr: as ATen's kernels add.
const Order* order_of_sums();
bool in_order(const at::Tensor& terms);  // whether there is such an order for these terms

// By how many units in the last place elementary functions may be off, beside ATen's own error.
int64_t ulps();
// A float32 result, off by as many; the argument's bits decide by how many.
at::Tensor misrounded(const at::Tensor& result, const at::Tensor& argument);

namespace kernels {

// ---- cube unit (kernels_cube.cpp, kernels_convolution.cpp)
at::Tensor matmul(const at::Tensor& self, const at::Tensor& mat2, bool grouped = false);
// beta * self + alpha * (mat1 @ mat2) of matrices, or of batches of them; `stored`: the result's
// dtype, `grouped`: long sums in groups, as cubeMathType 4 asks
at::Tensor addmm(const at::Tensor& self, const at::Tensor& mat1, const at::Tensor& mat2,
                 const at::Scalar& beta, const at::Scalar& alpha, at::ScalarType stored,
                 bool grouped);

struct Convolution {
  at::Tensor input, weight;
  Optional bias;
  std::vector<int64_t> stride, padding, dilation, output_padding;
  bool transposed;
  int64_t groups;

  at::Tensor by_aten() const;
  int64_t kernel(int64_t axis) const { return weight.size(2 + axis); }
};
at::Tensor convolve(const Convolution& call);

// ---- sums (kernels_sums.cpp)
at::Tensor sum(const at::Tensor& self, Dims dims, bool keep_dim,
               std::optional<at::ScalarType> dtype = std::nullopt);
at::Tensor mean(const at::Tensor& self, Dims dims, bool keep_dim);
using Pair = std::tuple<at::Tensor, at::Tensor>;
at::Tensor var(const at::Tensor& self, Dims dims, int64_t correction, bool keep_dim);
at::Tensor std(const at::Tensor& self, Dims dims, int64_t correction, bool keep_dim);
Pair var_mean(const at::Tensor& self, Dims dims, int64_t correction, bool keep_dim);
Pair std_mean(const at::Tensor& self, Dims dims, int64_t correction, bool keep_dim);
at::Tensor vector_norm(const at::Tensor& self, const at::Scalar& order, Dims dims, bool keep_dim);
at::Tensor softmax(const at::Tensor& given, int64_t dim);
at::Tensor log_softmax(const at::Tensor& self, int64_t dim);

// `self` as [terms, sums]: the reduced dimensions, in their order, and the others.
struct Reduction {
  at::Tensor terms;
  std::vector<int64_t> shape;  // of the result
};
Reduction reduction(const at::Tensor& self, Dims dims, bool keep_dim);

struct AveragePool {
  std::vector<int64_t> kernel, stride, padding;
  bool ceil_mode, count_include_pad;
  std::optional<int64_t> divisor;

  at::Tensor by_aten(const at::Tensor& self) const;
};
struct MaximumPool {
  std::vector<int64_t> kernel, stride, padding, dilation;
  bool ceil_mode;

  at::Tensor by_aten(const at::Tensor& self) const;
};
at::Tensor avg_pool2d(const at::Tensor& given, const AveragePool& pool);
at::Tensor adaptive_avg_pool2d(const at::Tensor& self, at::IntArrayRef output_size);
at::Tensor max_pool2d(const at::Tensor& self, const MaximumPool& pool);
at::Tensor upsample(const at::Tensor& given, at::IntArrayRef size, bool align_corners, bool cubic,
                    std::optional<double> scales_h, std::optional<double> scales_w);

// ---- normalisation (kernels_norm.cpp); result, mean, 1 / standard deviation
using Normalised = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
// `fast`: torch_npu's FastLayerNorm
Normalised layer_norm(const at::Tensor& given, at::IntArrayRef shape, const Optional& given_weight,
                      const Optional& given_bias, double eps, bool fast);
Normalised group_norm(const at::Tensor& input, const Optional& weight, const Optional& bias,
                      int64_t n, int64_t c, int64_t hxw, int64_t groups, double eps);
Normalised batch_norm(const at::Tensor& input, const Optional& weight, const Optional& bias,
                      const Optional& running_mean, const Optional& running_var, bool training,
                      double momentum, double eps);
// result, 1 / root of the mean square
Pair rms_norm(const at::Tensor& self, const at::Tensor& gamma, double eps);

// ---- attention (kernels_attention.cpp); tensors [batch, heads, sequence, head size]
struct AttentionInputs {
  at::Tensor query, key, value;
  Optional hidden;  // bool, true where a query does not see a key
  double scale;
  at::ScalarType type;  // of query, key and value before they were widened
};
struct Attended {
  at::Tensor result, largest, total;  // the latter of the scores and of their powers
};
Attended attention(const AttentionInputs& call);

// ---- elementwise (kernels_elementwise.cpp); `name` is the operator's
using Unary = c10::function_ref<at::Tensor(const at::Tensor&)>;
using Binary = c10::function_ref<at::Tensor(const at::Tensor&, const at::Tensor&)>;
at::Tensor unary(const char* name, const at::Tensor& self, Unary function);
at::Tensor binary(const char* name, const at::Tensor& self, const at::Tensor& other,
                  Binary function);

}  // namespace kernels
}  // namespace emulator
