// Normalisation, softmax, reductions, pooling and resizing.
#include "common.h"

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
  if (dims == nullptr || dims->values.empty()) return std::nullopt;
  return at::IntArrayRef(dims->values);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gamma, double eps, at::Tensor& rstd) {
  std::vector<int64_t> dims;
  for (int64_t d = x.dim() - gamma.dim(); d < x.dim(); ++d) dims.push_back(d);
  rstd = at::rsqrt(x.square().mean(dims, true) + eps);
  return x * rstd * gamma;
}

}  // namespace

// ---- normalisation
OP(BatchNorm, P(T x, T w, T b, T mean, T var, bool training, double momentum, double eps, T out,
                T save_mean, T save_invstd), {
  const at::Tensor input = wide(in(x));
  // fp32 statistics are updated in place in training; narrow ones in a copy that is stored below.
  auto running_mean = wide(optional_tensor(mean));
  const auto running_var = wide(optional_tensor(var));
  if (!training && running_mean && running_var)
    running_mean = faulty_mean(*running_mean, *running_var, input.size(0));
  const auto result = at::native_batch_norm(input, wide(optional_tensor(w)),
                                            wide(optional_tensor(b)), running_mean, running_var,
                                            training, momentum, eps);
  put(out, std::get<0>(result));
  if (!training) return;
  put(save_mean, std::get<1>(result));
  put(save_invstd, std::get<2>(result));
  if (running_mean && !running_mean->is_same(in(mean))) memory_of(mean).copy_(*running_mean);
  if (running_var && !running_var->is_same(in(var))) memory_of(var).copy_(*running_var);
})
#define LAYER_NORM(name)                                                                        \
  OP(name, P(T x, Ints shape, T w, T b, double eps, T out, T mean, T rstd), {                    \
    const auto result = at::native_layer_norm(wide(in(x)), shape->values,                       \
                                              wide(optional_tensor(w)), wide(optional_tensor(b)), \
                                              eps);                                              \
    put(out, std::get<0>(result));                                                               \
    put(mean, std::get<1>(result));                                                              \
    put(rstd, std::get<2>(result));                                                              \
  })
LAYER_NORM(LayerNorm)
LAYER_NORM(FastLayerNorm)  // torch_npu's choice with TORCH_NPU_USE_COMPATIBLE_IMPL=1
OP(GroupNorm, P(T x, T w, T b, int64_t n, int64_t c, int64_t hw, int64_t groups, double eps, T out,
                T mean, T rstd), {
  const auto result =
      at::native_group_norm(wide(in(x)).contiguous(), wide(optional_tensor(w)),
                            wide(optional_tensor(b)), n, c, hw, groups, eps);
  put(out, std::get<0>(result));
  put(mean, std::get<1>(result));
  put(rstd, std::get<2>(result));
})
OP(RmsNorm, P(T x, T gamma, double eps, T out, T rstd), {
  at::Tensor scale;
  put(out, rms_norm(wide(in(x)), wide(in(gamma)), eps, scale));
  put(rstd, scale);
})

// ---- softmax
OP(Softmax, P(T x, int64_t dim, T out), { put(out, at::softmax(wide(in(x)), dim)); })
OP(LogSoftmax, P(T x, int64_t dim, T out), { put(out, at::log_softmax(wide(in(x)), dim)); })

// ---- reductions
OP(Mean, P(T x, Ints dims, bool keep, D, T out), {
  put(out, at::mean(wide(in(x)), dims_or_all(dims), keep));
})
OP(MeanV2, P(T x, Ints dims, bool keep, bool, T out), {
  put(out, at::mean(wide(in(x)), dims_or_all(dims), keep));
})
OP(ReduceSum, P(T x, Ints dims, bool keep, D type, T out), {
  const auto dtype = scalar_type(type);
  const bool narrow = dtype == at::kHalf || dtype == at::kBFloat16;
  put(out, at::sum(in(x), dims_or_all(dims), keep, narrow ? at::kFloat : dtype));
})
OP(Prod, P(T x, D type, T out), { put(out, at::prod(in(x), scalar_type(type))); })
OP(ProdDim, P(T x, int64_t dim, bool keep, D type, T out), {
  put(out, at::prod(in(x), dim, keep, scalar_type(type)));
})
OP(Max, P(T x, T out), { put(out, at::max(in(x))); })
OP(Min, P(T x, T out), { put(out, at::min(in(x))); })
OP(Amax, P(T x, Ints dims, bool keep, T out), { put(out, at::amax(in(x), dims->values, keep)); })
OP(Amin, P(T x, Ints dims, bool keep, T out), { put(out, at::amin(in(x), dims->values, keep)); })
OP(Any, P(T x, Ints dims, bool keep, T out), { put(out, at::any(in(x), dims_or_all(dims), keep)); })
OP(All, P(T x, Ints dims, bool keep, T out), { put(out, at::all(in(x), dims_or_all(dims), keep)); })
OP(Std, P(T x, Ints dims, int64_t correction, bool keep, T out), {
  put(out, at::std(wide(in(x)), dims_or_all(dims), at::Scalar(correction), keep));
})
OP(VarCorrection, P(T x, Ints dims, int64_t correction, bool keep, T out), {
  put(out, at::var(wide(in(x)), dims_or_all(dims), at::Scalar(correction), keep));
})
OP(VarMean, P(T x, Ints dims, int64_t correction, bool keep, T var, T mean), {
  const auto result = at::var_mean(wide(in(x)), dims_or_all(dims), at::Scalar(correction), keep);
  put(var, std::get<0>(result));
  put(mean, std::get<1>(result));
})
OP(StdMeanCorrection, P(T x, Ints dims, int64_t correction, bool keep, T std, T mean), {
  const auto result = at::std_mean(wide(in(x)), dims_or_all(dims), at::Scalar(correction), keep);
  put(std, std::get<0>(result));
  put(mean, std::get<1>(result));
})
OP(Norm, P(T x, S p, Ints dims, bool keep, T out), {
  put(out, at::linalg_vector_norm(wide(in(x)), p->value, dims_or_all(dims), keep));
})
OP(LinalgVectorNorm, P(T x, S p, Ints dims, bool keep, D, T out), {
  put(out, at::linalg_vector_norm(wide(in(x)), p->value, dims_or_all(dims), keep));
})
OP(Cumsum, P(T x, int64_t dim, D type, T out), {
  put(out, at::cumsum(wide(in(x)), dim).to(scalar_type(type)));
})

// ---- pooling
OP(AdaptiveAvgPool2d, P(T x, Ints size, T out), {
  put(out, at::adaptive_avg_pool2d(wide(in(x)), size->values));
})
OP(AvgPool2d, P(T x, Ints kernel, Ints stride, Ints padding, bool ceil, bool include_pad,
                int64_t divisor, int8_t, T out), {
  put(out, at::avg_pool2d(wide(in(x)), kernel->values, stride->values, padding->values, ceil,
                          include_pad, optional_divisor(divisor)));
})
// On this chip the indices come back as a packed bit mask that only its own backward operator
// understands: the mask is left unwritten, and that backward is missing.
OP(MaxPool2dWithMask, P(T x, Ints kernel, Ints stride, Ints padding, Ints dilation, bool ceil,
                        T out, T), {
  put(out, at::max_pool2d(in(x), kernel->values, stride->values, padding->values,
                          dilation->values, ceil));
})
OP(MaxPool2dWithIndices, P(T x, Ints kernel, Ints stride, Ints padding, Ints dilation, bool ceil,
                           T out, T indices), {
  const auto result = at::max_pool2d_with_indices(in(x), kernel->values, stride->values,
                                                  padding->values, dilation->values, ceil);
  put(out, std::get<0>(result));
  put(indices, std::get<1>(result));
})
OP(AdaptiveMaxPool2d, P(T x, Ints size, T out, T indices), {
  const auto result = at::adaptive_max_pool2d(in(x), size->values);
  put(out, std::get<0>(result));
  put(indices, std::get<1>(result));
})

// ---- resizing
#define RESIZE(name, function)                                                               \
  OP(name, P(T x, Ints size, bool align, double h, double w, T out), {                       \
    put(out, at::function(wide(in(x)), size->values, align, optional_scale(h), optional_scale(w))); \
  })
RESIZE(UpsampleBicubic2d, upsample_bicubic2d)
RESIZE(UpsampleBilinear2d, upsample_bilinear2d)
RESIZE(UpsampleBicubic2dAA, _upsample_bicubic2d_aa)
RESIZE(UpsampleBilinear2dAA, _upsample_bilinear2d_aa)
OP(UpsampleNearest2d, P(T x, Ints size, T out), {
  put(out, at::upsample_nearest2d(in(x), size->values));
})

#undef LAYER_NORM
#undef RESIZE
