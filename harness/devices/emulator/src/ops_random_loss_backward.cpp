// Random numbers, losses and the backward operators of a small convolutional network.
#include "ATen/CPUGeneratorImpl.h"
#include "cube.h"

using namespace emulator;

namespace {

at::Generator seeded_generator(int64_t seed, int64_t offset) {
  return at::make_generator<at::CPUGeneratorImpl>(
      static_cast<uint64_t>(seed) * 0x9E3779B97F4A7C15ull + static_cast<uint64_t>(offset));
}

std::array<bool, 3> wanted(Bools mask) {
  return {mask->values[0] != 0, mask->values[1] != 0, mask->values[2] != 0};
}

template <typename Gradients>
void put_wanted(Bools mask, T x, T w, T b, const Gradients& gradients) {
  if (mask->values[0]) put(x, std::get<0>(gradients));
  if (mask->values[1]) put(w, std::get<1>(gradients));
  if (mask->values[2]) put(b, std::get<2>(gradients));
}

}  // namespace

// ---- random numbers; not the numbers that an NPU draws
// The mean and the deviation are float here, unlike the bounds of the uniform distribution.
OP(InplaceNormal, P(T x, float mean, float std, int64_t seed, int64_t offset), {
  at::Tensor target = memory_of(x);
  target.normal_(mean, std, seeded_generator(seed, offset));
})
OP(InplaceUniform, P(T x, double from, double to, int64_t seed, int64_t offset), {
  at::Tensor target = memory_of(x);
  target.uniform_(from, to, seeded_generator(seed, offset));
})
OP(InplaceRandom, P(T x, int64_t from, int64_t to, int64_t seed, int64_t offset), {
  at::Tensor target = memory_of(x);
  target.random_(from, to, seeded_generator(seed, offset));
})
OP(InplaceBernoulli, P(T x, S p, int64_t seed, int64_t offset), {
  at::Tensor target = memory_of(x);
  target.bernoulli_(p->value.toDouble(), seeded_generator(seed, offset));
})

// ---- losses
OP(NLLLoss, P(T x, T target, T weight, int64_t reduction, int64_t ignore, T out, T total), {
  const auto result = at::nll_loss_forward(in(x), in(target).to(at::kLong),
                                           optional_tensor(weight), reduction, ignore);
  put(out, std::get<0>(result));
  put(total, std::get<1>(result));
})
OP(NLLLossBackward, P(T g, T x, T target, T weight, int64_t reduction, int64_t ignore, T total,
                      T out), {
  put(out, at::nll_loss_backward(in(g), in(x), in(target).to(at::kLong),
                                 optional_tensor(weight), reduction, ignore, in(total)));
})
OP(MseLoss, P(T x, T y, int64_t reduction, T out), { put(out, at::mse_loss(in(x), in(y), reduction)); })
OP(MseLossBackward, P(T g, T x, T y, int64_t reduction, T out), {
  put(out, at::mse_loss_backward(in(g), in(x), in(y), reduction));
})

// ---- backward
OP(LogSoftmaxBackward, P(T g, T y, int64_t dim, T out), {
  put(out, at::_log_softmax_backward_data(in(g), in(y), dim, in(g).scalar_type()));
})
OP(SoftmaxBackward, P(T g, T y, int64_t dim, T out), {
  put(out, at::_softmax_backward_data(in(g), in(y), dim, in(g).scalar_type()));
})
OP(ThresholdBackward, P(T g, T x, S threshold, T out), {
  put(out, at::threshold_backward(in(g), in(x), threshold->value));
})
OP(SiluBackward, P(T g, T x, T out), { put(out, at::silu_backward(in(g), in(x))); })
OP(SigmoidBackward, P(T g, T y, T out), { put(out, at::sigmoid_backward(in(g), in(y))); })
OP(GeluBackward, P(T g, T x, T out), { put(out, at::gelu_backward(in(g), in(x))); })
OP(ConvolutionBackward, P(T g, T x, T w, Ints bias_sizes, Ints stride, Ints padding, Ints dilation,
                          bool transposed, Ints output_padding, int64_t groups, Bools mask,
                          int8_t math, T grad_x, T grad_w, T grad_b), {
  const auto sizes = bias_sizes != nullptr ? at::OptionalIntArrayRef(bias_sizes->values)
                                           : at::OptionalIntArrayRef();
  put_wanted(mask, grad_x, grad_w, grad_b,
             at::convolution_backward(cube_input(in(g), math), cube_input(in(x), math),
                                      cube_input(in(w), math), sizes, stride->values,
                                      padding->values, dilation->values, transposed,
                                      output_padding->values, groups, wanted(mask)));
})
OP(BatchNormBackward, P(T g, T x, T w, T mean, T var, T save_mean, T save_invstd, bool training,
                        double eps, Bools mask, T grad_x, T grad_w, T grad_b), {
  put_wanted(mask, grad_x, grad_w, grad_b,
             at::native_batch_norm_backward(in(g), in(x), optional_tensor(w),
                                            optional_tensor(mean), optional_tensor(var),
                                            optional_tensor(save_mean),
                                            optional_tensor(save_invstd), training, eps,
                                            wanted(mask)));
})
