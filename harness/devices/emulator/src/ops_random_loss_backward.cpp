// Random numbers, losses and the backward operators of a small convolutional network.
#include "ATen/CPUGeneratorImpl.h"
#include "cube.h"

using namespace emulator;

namespace {

at::Generator seeded_generator(int64_t seed, int64_t offset) {
  return at::make_generator<at::CPUGeneratorImpl>(
      static_cast<uint64_t>(seed) * 0x9E3779B97F4A7C15ull + static_cast<uint64_t>(offset));
}

std::array<bool, 3> wanted(Bools output_mask) {
  return {output_mask->values[0] != 0, output_mask->values[1] != 0, output_mask->values[2] != 0};
}

template <typename Gradients>
void put_wanted(Bools output_mask, T grad_input, T grad_weight, T grad_bias,
                const Gradients& gradients) {
  if (output_mask->values[0]) put(grad_input, std::get<0>(gradients));
  if (output_mask->values[1]) put(grad_weight, std::get<1>(gradients));
  if (output_mask->values[2]) put(grad_bias, std::get<2>(gradients));
}

}  // namespace

// ---- random numbers; not the numbers that an NPU draws
// The mean and the deviation are float here, unlike the bounds of the uniform distribution.
OP(InplaceNormal, P(T self, float mean, float std, int64_t seed, int64_t offset), {
  at::Tensor target = memory_of(self);
  target.normal_(mean, std, seeded_generator(seed, offset));
})
OP(InplaceUniform, P(T self, double from, double to, int64_t seed, int64_t offset), {
  at::Tensor target = memory_of(self);
  target.uniform_(from, to, seeded_generator(seed, offset));
})
OP(InplaceRandom, P(T self, int64_t from, int64_t to, int64_t seed, int64_t offset), {
  at::Tensor target = memory_of(self);
  target.random_(from, to, seeded_generator(seed, offset));
})
OP(InplaceBernoulli, P(T self, S prob, int64_t seed, int64_t offset), {
  at::Tensor target = memory_of(self);
  target.bernoulli_(in(prob).toDouble(), seeded_generator(seed, offset));
})

// ---- losses
OP(NLLLoss,
   P(T self, T target, T weight, int64_t reduction, int64_t ignore_index, T out, T total_weight), {
     const auto result = at::nll_loss_forward(in(self), in(target).to(at::kLong),
                                              optional_tensor(weight), reduction, ignore_index);
     put(out, std::get<0>(result));
     put(total_weight, std::get<1>(result));
   })
OP(NLLLossBackward,
   P(T grad_output, T self, T target, T weight, int64_t reduction, int64_t ignore_index,
     T total_weight, T out),
   {
     put(out,
         at::nll_loss_backward(in(grad_output), in(self), in(target).to(at::kLong),
                               optional_tensor(weight), reduction, ignore_index, in(total_weight)));
   })
OP(MseLoss, P(T self, T target, int64_t reduction, T out),
   { put(out, at::mse_loss(in(self), in(target), reduction)); })
OP(MseLossBackward, P(T grad_output, T self, T target, int64_t reduction, T out),
   { put(out, at::mse_loss_backward(in(grad_output), in(self), in(target), reduction)); })

// ---- backward
OP(LogSoftmaxBackward, P(T grad_output, T output, int64_t dim, T out), {
  put(out, at::_log_softmax_backward_data(in(grad_output), in(output), dim,
                                          in(grad_output).scalar_type()));
})
OP(SoftmaxBackward, P(T grad_output, T output, int64_t dim, T out), {
  put(out,
      at::_softmax_backward_data(in(grad_output), in(output), dim, in(grad_output).scalar_type()));
})
OP(ThresholdBackward, P(T grad_output, T self, S threshold, T out),
   { put(out, at::threshold_backward(in(grad_output), in(self), in(threshold))); })
OP(SiluBackward, P(T grad_output, T self, T grad_input),
   { put(grad_input, at::silu_backward(in(grad_output), in(self))); })
OP(SigmoidBackward, P(T grad_output, T output, T grad_input),
   { put(grad_input, at::sigmoid_backward(in(grad_output), in(output))); })
OP(GeluBackward, P(T grad_output, T self, T grad_input),
   { put(grad_input, at::gelu_backward(in(grad_output), in(self))); })
OP(ConvolutionBackward,
   P(T grad_output, T input, T weight, Ints bias_sizes, Ints stride, Ints padding, Ints dilation,
     bool transposed, Ints output_padding, int64_t groups, Bools output_mask, int8_t cube_math_type,
     T grad_input, T grad_weight, T grad_bias),
   {
     const auto sizes = bias_sizes != nullptr ? at::OptionalIntArrayRef(in(bias_sizes))
                                              : at::OptionalIntArrayRef();
     put_wanted(output_mask, grad_input, grad_weight, grad_bias,
                at::convolution_backward(cube_input(in(grad_output), cube_math_type),
                                         cube_input(in(input), cube_math_type),
                                         cube_input(in(weight), cube_math_type), sizes, in(stride),
                                         in(padding), in(dilation), transposed, in(output_padding),
                                         groups, wanted(output_mask)));
   })
OP(BatchNormBackward,
   P(T grad_output, T input, T weight, T running_mean, T running_var, T save_mean, T save_invstd,
     bool training, double eps, Bools output_mask, T grad_input, T grad_weight, T grad_bias),
   {
     put_wanted(
         output_mask, grad_input, grad_weight, grad_bias,
         at::native_batch_norm_backward(in(grad_output), in(input), optional_tensor(weight),
                                        optional_tensor(running_mean), optional_tensor(running_var),
                                        optional_tensor(save_mean), optional_tensor(save_invstd),
                                        training, eps, wanted(output_mask)));
   })
