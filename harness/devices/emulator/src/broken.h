// Kernels with one mistake each: harness/devices/broken_kernels.py has the list and says what is
// wrong.  Each function answers only where the kernels in force are wrong for these arguments, so
// that everything else is computed as always.
#pragma once

#include "kernels.h"

namespace emulator::broken {

using Wrong = std::optional<at::Tensor>;

// Whether this mistake is in force.
bool is(const char* name);
inline bool none() { return kernel_mistake().empty(); }
// Whether there is anything to be wrong about.
bool takes(const at::Tensor& input);

constexpr int64_t kTile = 16;  // of the cube unit, and of whoever counts in such blocks

// ---- cube unit (broken_cube.cpp, broken_convolution.cpp)
Wrong product(const at::Tensor& left, const at::Tensor& right);
Wrong bias(const at::Tensor& bias);
Wrong hf32(const at::Tensor& factor);  // a float32 factor that is to be rounded to HF32
Wrong convolution(kernels::Convolution call);

// ---- sums (broken_sums.cpp)
Wrong mean(const at::Tensor& self, Dims dims, bool keep_dim);
Wrong sum(const at::Tensor& self, Dims dims, bool keep_dim);
Wrong vector_norm(const at::Tensor& self, Dims dims, bool keep_dim);
Wrong softmax(const at::Tensor& self, int64_t dim);
Wrong avg_pool2d(const at::Tensor& self, kernels::AveragePool pool);
Wrong adaptive_avg_pool2d(const at::Tensor& self, at::IntArrayRef output_size);
Wrong max_pool2d(const at::Tensor& self, const kernels::MaximumPool& pool);

// ---- normalisation (broken_norm.cpp)
std::optional<kernels::Normalised> layer_norm(const at::Tensor& input, at::IntArrayRef shape,
                                              const Optional& weight, const Optional& bias,
                                              double eps);
Wrong group_norm(const at::Tensor& input, const Optional& weight, const Optional& bias, int64_t n,
                 int64_t c, int64_t hxw, int64_t groups, double eps);
Wrong batch_norm(const at::Tensor& input, const Optional& weight, const Optional& bias,
                 const at::Tensor& mean, const at::Tensor& variance, double eps);

// ---- attention (broken_attention.cpp)
Wrong attention(kernels::AttentionInputs call);

// ---- elementwise (broken_elementwise.cpp); `name` is the operator's
Wrong unary(const std::string& name, const at::Tensor& self);
Wrong binary(const std::string& name, const at::Tensor& self, const at::Tensor& other);
at::Tensor coarse_exp(const at::Tensor& x);
at::Tensor estimate(const at::Tensor& exact);  // 12 bits of it, as hardware's first guess has
at::Tensor through_half(const at::Tensor& x);

// ---- movement and results (broken_movement.cpp); these change what they are given
std::vector<at::Tensor> parts(std::vector<at::Tensor> tensors);
std::vector<int64_t> shifts(std::vector<int64_t> by);
at::Tensor index(const at::Tensor& index, int64_t size);
at::Tensor padded(const at::Tensor& result, at::IntArrayRef pad);
at::Tensor reflected(const at::Tensor& self, at::IntArrayRef padding);
at::Tensor copied(const at::Tensor& source);
Wrong resized(const at::Tensor& self, at::IntArrayRef size, bool align_corners, bool cubic);
bool stores();  // whether short formats are stored wrongly, so that a result must come in float32
at::Tensor stored(const at::Tensor& result, at::ScalarType type);

}  // namespace emulator::broken
