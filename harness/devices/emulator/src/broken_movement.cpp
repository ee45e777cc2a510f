// Data moved with one mistake, and results stored with one.
#include "broken.h"

namespace emulator::broken {

bool is(const char* name) { return kernel_mistake() == name; }

bool takes(const at::Tensor& input) {
  return !none() && input.scalar_type() == at::kFloat && input.numel() > 0;
}

std::vector<at::Tensor> parts(std::vector<at::Tensor> tensors) {
  const size_t count = tensors.size();
  if (is("cat_order") && count > 2 && tensors[count - 1].sizes() == tensors[count - 2].sizes())
    std::swap(tensors[count - 1], tensors[count - 2]);
  return tensors;
}

std::vector<int64_t> shifts(std::vector<int64_t> by) {
  if (is("roll_one_less") && !by.empty() && by.back() != 0) by.back() += by.back() > 0 ? -1 : 1;
  return by;
}

// The last index points to the row beside.
at::Tensor index(const at::Tensor& index, int64_t size) {
  if (!is("index_last") || index.numel() == 0 || size < 2) return index;
  const at::Tensor changed = index.contiguous().clone();
  const at::Tensor last = changed.view(-1)[index.numel() - 1];
  last.copy_(last.item<int64_t>() > 0 ? last - 1 : last + 1);
  return changed;
}

// The last column inside stands in the columns that were added at the right.
at::Tensor padded(const at::Tensor& result, at::IntArrayRef pad) {
  if (!is("pad_repeats") || pad.size() < 2 || pad[1] <= 0 || pad[1] >= result.size(-1))
    return result;
  const at::Tensor changed = result.clone();
  const int64_t inside = result.size(-1) - pad[1];
  changed.narrow(-1, inside, pad[1])
      .copy_(result.narrow(-1, inside - 1, 1).expand_as(result.narrow(-1, inside, pad[1])));
  return changed;
}

at::Tensor reflected(const at::Tensor& self, at::IntArrayRef padding) {
  if (!is("pad_reflect_edge")) return at::reflection_pad2d(self, padding);
  // The edge itself is the first of what is reflected.
  at::Tensor result = self;
  for (const int64_t axis : {-1, -2}) {
    const int64_t before = padding[axis == -1 ? 0 : 2], after = padding[axis == -1 ? 1 : 3];
    const at::Tensor end = result.narrow(axis, result.size(axis) - after, after);
    result = at::cat({result.narrow(axis, 0, before).flip(axis), result, end.flip(axis)}, axis);
  }
  return result;
}

at::Tensor copied(const at::Tensor& source) {
  if (!is("copy_last_column") || source.dim() < 2 || source.is_contiguous() ||
      source.size(-1) < 17 || source.size(-1) % 16 == 0)
    return source;
  const at::Tensor changed = source.clone();
  const int64_t last = source.size(-1) - 1;
  changed.select(-1, last).copy_(source.select(-1, last - 1));
  return changed;
}

Wrong resized(const at::Tensor& self, at::IntArrayRef size, bool align_corners, bool cubic) {
  if (none()) return std::nullopt;
  const auto by_aten = [&](bool corners) {
    return cubic ? at::upsample_bicubic2d(self, size, corners)
                 : at::upsample_bilinear2d(self, size, corners);
  };
  if (is("resize_align_corners")) return by_aten(!align_corners);
  if (is("resize_half_pixel") && !align_corners) {
    // Coordinates i * scale rather than (i + 1/2) * scale - 1/2: a grid that starts half a pixel
    // on.
    const auto along = [&](int64_t axis) {
      const int64_t from = self.size(axis - 2), to = size[axis];
      const at::Tensor points = at::arange(to, at::kFloat) * (static_cast<double>(from) / to);
      return (2 * points + 1) / from - 1;
    };
    const at::Tensor rows = along(0).view({-1, 1}).expand({size[0], size[1]});
    const at::Tensor columns = along(1).view({1, -1}).expand({size[0], size[1]});
    const at::Tensor grid =
        at::stack({columns, rows}, -1).unsqueeze(0).expand({self.size(0), size[0], size[1], 2});
    return at::grid_sampler(self, grid, cubic ? 2 : 0, 1, false);
  }
  // The kernel with a = -1/2, which that for reducing has.
  if (is("resize_cubic_a") && cubic && size[0] >= self.size(-2) && size[1] >= self.size(-1))
    return at::_upsample_bicubic2d_aa(self, size, align_corners);
  return std::nullopt;
}

bool stores() { return kernel_mistake().rfind("half_", 0) == 0; }

at::Tensor stored(const at::Tensor& result, at::ScalarType type) {
  if (!stores() || result.scalar_type() != at::kFloat) return result;
  const bool half = type == at::kHalf;
  if (!half && type != at::kBFloat16) return result;
  const at::Tensor nearest = result.to(type).to(at::kFloat);
  if (is("half_toward_zero")) {
    const at::Tensor cut = result.contiguous().view(at::kInt).bitwise_and(half ? ~0x1FFF : ~0xFFFF);
    // Below float16's normal range its steps are wider: there the nearest stands.
    return half ? at::where(result.abs() < 6.104e-5, nearest, cut.view(at::kFloat))
                : cut.view(at::kFloat);
  }
  if (is("half_denormals") && half) return at::where(nearest.abs() < 6.1035e-5, 0 * result, result);
  if (is("half_saturates") && half) return result.clamp(-65504, 65504);
  return result;
}

}  // namespace emulator::broken
