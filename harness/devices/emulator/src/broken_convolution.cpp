// Convolutions with one mistake.
#include "broken.h"
#include "cube.h"

namespace emulator::broken {
namespace {

constexpr int8_t kHf32 = 3;  // of cubeMathType

// The input without its padding at the right and at the bottom, which `fill` adds.
template <typename Fill>
at::Tensor by_own_padding(kernels::Convolution call, Fill fill) {
  const int64_t down = call.padding[0], across = call.padding[1];
  call.input = fill(at::constant_pad_nd(call.input, {across, 0, down, 0}), across, down);
  call.padding = {0, 0};
  return call.by_aten();
}

// Changes the weight of one output channel.
template <typename Change>
at::Tensor with_channel(kernels::Convolution call, int64_t channel, Change change) {
  call.weight = call.weight.clone();
  change(call.weight[channel]);
  return call.by_aten();
}

at::Tensor half_sums(kernels::Convolution call) {
  const at::Tensor input = call.input, weight = call.weight;
  const Optional bias = std::exchange(call.bias, std::nullopt);
  at::Tensor sum;
  for (int64_t start = 0; start < input.size(1); start += kTile) {
    const int64_t count = std::min(kTile, input.size(1) - start);
    call.input = input.narrow(1, start, count);
    call.weight = weight.narrow(1, start, count);
    sum = through_half(sum.defined() ? sum + call.by_aten() : call.by_aten());
  }
  return bias ? sum + bias->view({-1, 1, 1}) : sum;
}

// Mistakes in what is padded and where the kernel is put.
Wrong in_geometry(kernels::Convolution& call) {
  const bool pads = call.padding[0] > 0 && call.padding[1] > 0;
  if (is("conv_padding_repeats") && pads)
    return by_own_padding(call, [](const at::Tensor& x, int64_t across, int64_t down) {
      return at::replication_pad2d(x, {0, across, 0, down});
    });
  if (is("conv_padding_wraps") && pads)
    return by_own_padding(call, [](const at::Tensor& x, int64_t across, int64_t down) {
      const at::Tensor next = at::constant_pad_nd(x.narrow(2, 1, x.size(2) - 1), {0, 0, 0, 1});
      const at::Tensor wide = at::cat({x, next.narrow(3, across, across)}, 3);
      return at::constant_pad_nd(wide, {0, 0, 0, down});
    });
  if (is("conv_dilation_ignored") && call.dilation[0] > 1) {
    for (int64_t axis : {0, 1})
      call.padding[axis] -= (call.dilation[axis] - 1) * (call.kernel(axis) - 1) / 2;
    if (call.padding[0] < 0 || call.padding[1] < 0) return std::nullopt;
    call.dilation = {1, 1};
    return call.by_aten();
  }
  if (is("conv_stride_phase") && call.stride[0] == 2 && call.kernel(0) > 1) {
    call.input = at::constant_pad_nd(call.input, {-1, 1, -1, 1});
    return call.by_aten();
  }
  if (is("conv_kernel_last_row") && call.kernel(0) > 3) {
    call.weight = call.weight.clone();
    call.weight.select(2, call.kernel(0) - 1).zero_();
    return call.by_aten();
  }
  return std::nullopt;
}

// Mistakes in which channels belong together.
Wrong in_channels(kernels::Convolution& call) {
  const int64_t channels = call.weight.size(0), each = call.weight.size(1);
  const bool pointwise = call.kernel(0) == 1 && call.kernel(1) == 1;
  if (is("conv_pointwise_channel") && pointwise && each > kTile)
    return with_channel(call, channels - 1, [&](const at::Tensor& weight) {
      weight.narrow(0, each - kTile, kTile).zero_();
    });
  if (is("conv_depthwise_neighbour") && each == 1 && call.groups > 1)
    return with_channel(call, channels - 1,
                        [&](const at::Tensor& weight) { weight.copy_(call.weight[channels - 2]); });
  if (is("conv_int8_channel"))
    return with_channel(call, channels / 2, [](const at::Tensor& weight) {
      const at::Tensor step = weight.abs().max() / 127;
      weight.copy_((weight / step).round() * step);
    });
  if (is("conv_groups_interleaved") && call.groups > 1 && each > 1) {
    call.input = at::channel_shuffle(call.input, call.groups);
    return call.by_aten();
  }
  if (is("conv_input_tail") && call.groups == 1 && each > kTile && each % kTile != 0) {
    call.input = call.input.narrow(1, 0, each - each % kTile);
    call.weight = call.weight.narrow(1, 0, each - each % kTile);
    return call.by_aten();
  }
  if (!call.bias) return std::nullopt;
  if (is("conv_bias_twice")) {
    call.bias = *call.bias * 2;
    return call.by_aten();
  }
  if (is("conv_bias_first_tile") && channels > kTile) {
    call.bias = call.bias->clone();
    call.bias->narrow(0, kTile, channels - kTile).zero_();
    return call.by_aten();
  }
  return std::nullopt;
}

// Mistakes in a part of the result.
Wrong in_results(kernels::Convolution& call) {
  if (is("conv_half_result")) return through_half(call.by_aten());
  if (!is("conv_last_columns") && !is("conv_last_pixel") && !is("conv_batch_tail"))
    return std::nullopt;
  const at::Tensor whole = call.by_aten();
  const int64_t width = whole.size(3), last = whole.size(0) - 1;
  if (is("conv_last_columns") && width > kTile && width % kTile != 0) {
    call.input = call.input.roll(1, 3);
    const int64_t tail = width % kTile;
    whole.narrow(3, width - tail, tail).copy_(call.by_aten().narrow(3, width - tail, tail));
    return whole;
  }
  if (is("conv_last_pixel") && width > 1) {
    const at::Tensor row = whole.select(2, whole.size(2) - 1);
    row.select(2, width - 1).copy_(row.select(2, width - 2).clone());
    return whole;
  }
  if (is("conv_batch_tail") && last >= 4 && whole.size(1) > kTile) {
    const int64_t start = whole.size(1) - kTile;
    whole[last].narrow(0, start, kTile).copy_(whole[last - 1].narrow(0, start, kTile).clone());
    return whole;
  }
  return std::nullopt;
}

}  // namespace

Wrong convolution(kernels::Convolution call) {
  if (none() || call.input.dim() != 4 || call.input.scalar_type() != at::kFloat)
    return std::nullopt;
  if (call.transposed) {
    if (!is("conv_transposed_phase")) return std::nullopt;
    const at::Tensor whole = call.by_aten();
    return at::constant_pad_nd(whole, {-1, 1, -1, 1});
  }
  if (is("conv_bf16_weight")) {
    call.weight = call.weight.to(at::kBFloat16).to(at::kFloat);
    return call.by_aten();
  }
  if (is("conv_hf32_factors")) {
    call.input = cube_input(call.input, kHf32);
    call.weight = cube_input(call.weight, kHf32);
    return call.by_aten();
  }
  if (is("conv_half_sums") && call.groups == 1) return half_sums(call);
  for (const auto& mistake : {in_geometry, in_channels, in_results})
    if (const Wrong wrong = mistake(call)) return wrong;
  return std::nullopt;
}

}  // namespace emulator::broken
