// Normalisation, softmax, reductions, pooling and resizing.
#include "kernels.h"

using namespace emulator;

namespace {

// torch_npu passes 0 for a scale that was not given.
std::optional<double> optional_scale(double scale) {
  return scale > 0 ? std::optional<double>(scale) : std::nullopt;
}

std::optional<int64_t> optional_divisor(int64_t divisor) {
  return divisor != 0 ? std::optional<int64_t>(divisor) : std::nullopt;
}

at::OptionalIntArrayRef dims_or_all(Ints dims) {
  if (dims == nullptr || in(dims).empty()) return std::nullopt;
  return at::IntArrayRef(in(dims));
}

}  // namespace

// ---- normalisation
OP(BatchNorm,
   P(T input, T weight, T bias, T running_mean, T running_var, bool training, double momentum,
     double eps, T out, T save_mean, T save_invstd),
   {
     const at::Tensor wide_input = wide(in(input));
     // fp32 statistics are updated in place in training; narrow ones in a copy that is stored
     // below.
     auto used_mean = wide(optional_tensor(running_mean));
     const auto used_var = wide(optional_tensor(running_var));
     if (!training && used_mean && used_var)
       used_mean = faulty_mean(*used_mean, *used_var, wide_input.size(0));
     const auto result =
         kernels::batch_norm(wide_input, wide(optional_tensor(weight)), wide(optional_tensor(bias)),
                             used_mean, used_var, training, momentum, eps);
     put(out, std::get<0>(result));
     if (!training) return;
     put(save_mean, std::get<1>(result));
     put(save_invstd, std::get<2>(result));
     if (used_mean && !used_mean->is_same(in(running_mean)))
       memory_of(running_mean).copy_(*used_mean);
     if (used_var && !used_var->is_same(in(running_var))) memory_of(running_var).copy_(*used_var);
   })
#define LAYER_NORM(name, fast)                                                                     \
  OP(name, P(T input, Ints normalized_shape, T weight, T bias, double eps, T out, T mean, T rstd), \
     {                                                                                             \
       const auto result =                                                                         \
           kernels::layer_norm(in(input), in(normalized_shape), optional_tensor(weight),           \
                               optional_tensor(bias), eps, fast);                                  \
       put(out, std::get<0>(result));                                                              \
       put(mean, std::get<1>(result));                                                             \
       put(rstd, std::get<2>(result));                                                             \
     })
LAYER_NORM(LayerNorm, false)
LAYER_NORM(FastLayerNorm, true)  // torch_npu's choice with TORCH_NPU_USE_COMPATIBLE_IMPL=1
OP(GroupNorm,
   P(T self, T gamma, T beta, int64_t n, int64_t c, int64_t hxw, int64_t group, double eps, T out,
     T mean, T rstd),
   {
     const auto result =
         kernels::group_norm(wide(in(self)).contiguous(), wide(optional_tensor(gamma)),
                             wide(optional_tensor(beta)), n, c, hxw, group, eps);
     put(out, std::get<0>(result));
     put(mean, std::get<1>(result));
     put(rstd, std::get<2>(result));
   })
OP(RmsNorm, P(T self, T gamma, double eps, T out, T rstd), {
  const auto result = kernels::rms_norm(wide(in(self)), wide(in(gamma)), eps);
  put(out, std::get<0>(result));
  put(rstd, std::get<1>(result));
})

// ---- softmax
OP(Softmax, P(T self, int64_t dim, T out), { put(out, kernels::softmax(in(self), dim)); })
OP(LogSoftmax, P(T self, int64_t dim, T out),
   { put(out, kernels::log_softmax(wide(in(self)), dim)); })

// ---- reductions
OP(Mean, P(T self, Ints dims, bool keep_dim, D, T out),
   { put(out, kernels::mean(wide(in(self)), dims_or_all(dims), keep_dim)); })
OP(MeanV2, P(T self, Ints dims, bool keep_dim, bool, T out),
   { put(out, kernels::mean(wide(in(self)), dims_or_all(dims), keep_dim)); })
OP(ReduceSum, P(T self, Ints dims, bool keep_dim, D dtype, T out), {
  const auto type = scalar_type(dtype);
  const bool narrow = type == at::kHalf || type == at::kBFloat16;
  put(out, kernels::sum(in(self), dims_or_all(dims), keep_dim, narrow ? at::kFloat : type));
})
OP(Prod, P(T self, D dtype, T out), { put(out, at::prod(in(self), scalar_type(dtype))); })
OP(ProdDim, P(T self, int64_t dim, bool keep_dim, D dtype, T out),
   { put(out, at::prod(in(self), dim, keep_dim, scalar_type(dtype))); })
OP(Max, P(T self, T out), { put(out, at::max(in(self))); })
OP(Min, P(T self, T out), { put(out, at::min(in(self))); })
OP(Amax, P(T self, Ints dims, bool keep_dim, T out),
   { put(out, at::amax(in(self), in(dims), keep_dim)); })
OP(Amin, P(T self, Ints dims, bool keep_dim, T out),
   { put(out, at::amin(in(self), in(dims), keep_dim)); })
OP(Any, P(T self, Ints dims, bool keep_dim, T out),
   { put(out, at::any(in(self), dims_or_all(dims), keep_dim)); })
OP(All, P(T self, Ints dims, bool keep_dim, T out),
   { put(out, at::all(in(self), dims_or_all(dims), keep_dim)); })
OP(Std, P(T self, Ints dims, int64_t correction, bool keep_dim, T out),
   { put(out, kernels::std(wide(in(self)), dims_or_all(dims), correction, keep_dim)); })
OP(VarCorrection, P(T self, Ints dims, int64_t correction, bool keep_dim, T out),
   { put(out, kernels::var(wide(in(self)), dims_or_all(dims), correction, keep_dim)); })
OP(VarMean, P(T self, Ints dims, int64_t correction, bool keep_dim, T var, T mean), {
  const auto result = kernels::var_mean(wide(in(self)), dims_or_all(dims), correction, keep_dim);
  put(var, std::get<0>(result));
  put(mean, std::get<1>(result));
})
OP(StdMeanCorrection, P(T self, Ints dims, int64_t correction, bool keep_dim, T std, T mean), {
  const auto result = kernels::std_mean(wide(in(self)), dims_or_all(dims), correction, keep_dim);
  put(std, std::get<0>(result));
  put(mean, std::get<1>(result));
})
OP(Norm, P(T self, S p_scalar, Ints dims, bool keep_dim, T out),
   { put(out, kernels::vector_norm(wide(in(self)), in(p_scalar), dims_or_all(dims), keep_dim)); })
OP(LinalgVectorNorm, P(T self, S ord, Ints dims, bool keep_dim, D, T out),
   { put(out, kernels::vector_norm(wide(in(self)), in(ord), dims_or_all(dims), keep_dim)); })
OP(Cumsum, P(T self, int64_t dim, D dtype, T out),
   { put(out, at::cumsum(wide(in(self)), dim).to(scalar_type(dtype))); })

// ---- pooling
OP(AdaptiveAvgPool2d, P(T self, Ints output_size, T out),
   { put(out, kernels::adaptive_avg_pool2d(wide(in(self)), in(output_size))); })
OP(AvgPool2d,
   P(T self, Ints kernel_size, Ints stride, Ints padding, bool ceil_mode, bool count_include_pad,
     int64_t divisor_override, int8_t, T out),
   {
     put(out,
         kernels::avg_pool2d(in(self), {in(kernel_size), in(stride), in(padding), ceil_mode,
                                        count_include_pad, optional_divisor(divisor_override)}));
   })
// On this chip the indices come back as a packed bit mask that only its own backward operator
// understands: the mask is left unwritten, and that backward is missing.
OP(MaxPool2dWithMask,
   P(T self, Ints kernel_size, Ints stride, Ints padding, Ints dilation, bool ceil_mode, T out, T),
   {
     put(out, kernels::max_pool2d(
                  in(self), {in(kernel_size), in(stride), in(padding), in(dilation), ceil_mode}));
   })
OP(MaxPool2dWithIndices,
   P(T self, Ints kernel_size, Ints stride, Ints padding, Ints dilation, bool ceil_mode, T out,
     T indices),
   {
     const auto result = at::max_pool2d_with_indices(in(self), in(kernel_size), in(stride),
                                                     in(padding), in(dilation), ceil_mode);
     put(out, std::get<0>(result));
     put(indices, std::get<1>(result));
   })
OP(AvgPool3d,
   P(T self, Ints kernel_size, Ints stride, Ints padding, bool ceil_mode, bool count_include_pad,
     int64_t divisor_override, T out),
   {
     put(out, at::avg_pool3d(wide(in(self)), in(kernel_size), in(stride), in(padding), ceil_mode,
                             count_include_pad, optional_divisor(divisor_override)));
   })
OP(MaxPool3dWithArgmax,
   P(T self, Ints kernel_size, Ints stride, Ints padding, Ints dilation, bool ceil_mode, T out,
     T indices),
   {
     const auto result = at::max_pool3d_with_indices(in(self), in(kernel_size), in(stride),
                                                     in(padding), in(dilation), ceil_mode);
     put(out, std::get<0>(result));
     put(indices, std::get<1>(result));
   })
OP(AdaptiveMaxPool2d, P(T self, Ints output_size, T out, T indices), {
  const auto result = at::adaptive_max_pool2d(in(self), in(output_size));
  put(out, std::get<0>(result));
  put(indices, std::get<1>(result));
})

// ---- resizing
#define RESIZE(name, function)                                                                   \
  OP(name,                                                                                       \
     P(T self, Ints output_size, bool align_corners, double scales_h, double scales_w, T out), { \
       put(out, at::function(wide(in(self)), in(output_size), align_corners,                     \
                             optional_scale(scales_h), optional_scale(scales_w)));               \
     })
#define UPSAMPLE(name, cubic)                                                                    \
  OP(name,                                                                                       \
     P(T self, Ints output_size, bool align_corners, double scales_h, double scales_w, T out), { \
       put(out, kernels::upsample(in(self), in(output_size), align_corners, cubic,               \
                                  optional_scale(scales_h), optional_scale(scales_w)));          \
     })
UPSAMPLE(UpsampleBicubic2d, true)
UPSAMPLE(UpsampleBilinear2d, false)
RESIZE(UpsampleBicubic2dAA, _upsample_bicubic2d_aa)
RESIZE(UpsampleBilinear2dAA, _upsample_bilinear2d_aa)
OP(UpsampleNearest1d, P(T self, Ints output_size, T out),
   { put(out, at::upsample_nearest1d(in(self), in(output_size))); })
OP(UpsampleNearest2d, P(T self, Ints output_size, T out),
   { put(out, at::upsample_nearest2d(in(self), in(output_size))); })
OP(UpsampleNearest3d,
   P(T self, Ints output_size, double scales_d, double scales_h, double scales_w, T out), {
     put(out, at::upsample_nearest3d(in(self), in(output_size), optional_scale(scales_d),
                                     optional_scale(scales_h), optional_scale(scales_w)));
   })
OP(UpsampleLinear1d, P(T self, Ints output_size, bool align_corners, double scales, T out), {
  put(out, at::upsample_linear1d(wide(in(self)), in(output_size), align_corners,
                                 optional_scale(scales)));
})
OP(UpsampleTrilinear3d,
   P(T self, Ints output_size, bool align_corners, double scales_d, double scales_h,
     double scales_w, T out),
   {
     put(out, at::upsample_trilinear3d(wide(in(self)), in(output_size), align_corners,
                                       optional_scale(scales_d), optional_scale(scales_h),
                                       optional_scale(scales_w)));
   })
#define GRID_SAMPLER(name, function)                                                            \
  OP(name,                                                                                      \
     P(T input, T grid, int64_t interpolation_mode, int64_t padding_mode, bool align_corners,   \
       T out),                                                                                  \
     {                                                                                          \
       put(out, at::function(wide(in(input)), wide(in(grid)), interpolation_mode, padding_mode, \
                             align_corners));                                                   \
     })
GRID_SAMPLER(GridSampler2D, grid_sampler_2d)
GRID_SAMPLER(GridSampler3D, grid_sampler_3d)
#undef GRID_SAMPLER

#undef LAYER_NORM
#undef RESIZE
#undef UPSAMPLE
