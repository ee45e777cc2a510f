// The fault kinds that change tensors.  faults.py has the table of kinds.
#include <cmath>

#include "ATen/CPUGeneratorImpl.h"
#include "common.h"

namespace emulator {
namespace {

thread_local std::vector<Hit> hits;
thread_local std::vector<at::Tensor> outputs;

int64_t batch_of(const at::Tensor& value) { return value.dim() > 0 ? value.size(0) : 0; }

// The first planned fault of a kind that applies to this call; counts it.
const Fault* take(const char* kind, int64_t batch) {
  for (const Hit& hit : hits) {
    if (hit.fault->kind != kind || batch <= hit.fault->batch_over) continue;
    mark_applied(hit);
    return hit.fault.get();
  }
  return nullptr;
}

at::Generator generator(const Hit& hit) {
  // Another stream for every call: the same call of another run sees the same numbers.
  return at::make_generator<at::CPUGeneratorImpl>(hit.fault->seed * 0x9E3779B97F4A7C15ull +
                                                  static_cast<uint64_t>(hit.call));
}

// A view of one element, by its index in row-major order, whatever the strides.
at::Tensor element(const at::Tensor& value, int64_t index) {
  index = ((index % value.numel()) + value.numel()) % value.numel();
  at::Tensor view = value;
  for (int64_t d = value.dim() - 1; d >= 0; --d) {
    const int64_t size = value.size(d);
    view = view.select(d, index % size);
    index /= size;
  }
  return view;
}

at::ScalarType bits_of(const at::Tensor& value) {
  switch (value.element_size()) {
    case 1: return at::kByte;
    case 2: return at::kShort;
    case 4: return at::kInt;
    default: return at::kLong;
  }
}

void flip_bit(const at::Tensor& output, const Hit& hit) {
  auto random = generator(hit);
  int64_t index = hit.fault->index;
  if (index < 0) index = at::randint(output.numel(), {1}, random).item<int64_t>();
  at::Tensor cell = element(output, index).view(bits_of(output));
  const int64_t width = 8 * output.element_size();
  const int64_t bit = hit.fault->bit % width;
  // The top bit of a signed integer is its sign: -2^(width-1).
  const int64_t mask = bit == width - 1 && width > 8 ? (int64_t{-1} << bit) : (int64_t{1} << bit);
  cell.bitwise_xor_(mask);
  mark_applied(hit);
}

void saturate(const at::Tensor& output, const Hit& hit) {
  if (output.isfinite().all().item<bool>()) return;
  output.nan_to_num_(0.0);
  mark_applied(hit);
}

// Kinds that mix up the items of a batch, whatever the dtype.  True when the kind was one.
bool damage_batch(const at::Tensor& output, const Hit& hit) {
  const std::string& kind = hit.fault->kind;
  if (kind != "duplicate_first_item" && kind != "permute_batch") return false;
  if (batch_of(output) < 2) return true;
  if (kind == "duplicate_first_item") {
    output.select(0, output.size(0) - 1).copy_(output.select(0, 0).clone());
  } else {
    output.copy_(output.roll(1, 0));
  }
  mark_applied(hit);
  return true;
}

void damage_values(const at::Tensor& output, const Hit& hit) {
  const Fault& fault = *hit.fault;
  if (fault.kind == "bit_flip") return flip_bit(output, hit);
  if (fault.kind == "saturate") return saturate(output, hit);
  if (fault.kind == "scale_output") {
    // Not mul_: it would round the magnitude to the output's dtype first.
    output.copy_(output * fault.magnitude);
  } else if (fault.kind == "noise_output") {
    const at::Tensor exact = output.to(at::kFloat);
    const double spread = exact.numel() > 1 ? exact.std().item<double>() : 0.0;
    output.copy_(exact + at::randn(exact.sizes(), generator(hit)) * (fault.magnitude * spread));
  } else if (fault.kind == "zero_output") {
    output.zero_();
  } else if (fault.kind == "zero_channels") {
    if (output.dim() < 2) return;
    const int64_t count = std::min<int64_t>(std::llround(fault.magnitude), output.size(1));
    output.narrow(1, output.size(1) - count, count).zero_();
  } else if (fault.kind == "nan_output") {
    element(output, std::max<int64_t>(0, fault.index)).fill_(NAN);
  } else if (fault.kind == "inf_output") {
    element(output, std::max<int64_t>(0, fault.index)).fill_(INFINITY);
  } else {
    return;  // an input or control kind: done elsewhere
  }
  mark_applied(hit);
}

}  // namespace

void begin_tensor_faults(const std::vector<Hit>& current) {
  hits = current;
  outputs.clear();
}

void note_output(const at::Tensor& output) {
  if (!hits.empty()) outputs.push_back(output);
}

void damage_outputs() {
  for (const Hit& hit : hits) {
    for (const at::Tensor& output : outputs) {
      if (output.numel() == 0 || batch_of(output) <= hit.fault->batch_over) continue;
      if (damage_batch(output, hit)) continue;
      if (output.is_floating_point()) damage_values(output, hit);
    }
  }
  outputs.clear();
  hits.clear();
}

at::Tensor faulty_weight(const at::Tensor& weight, int64_t batch) {
  const Fault* fault = hits.empty() ? nullptr : take("scale_weight", batch);
  if (fault == nullptr) return weight;
  if (fault->index < 0) return weight * fault->magnitude;
  const at::Tensor changed = weight.contiguous().clone();
  const at::Tensor cell = element(changed, fault->index);
  cell.copy_(cell * fault->magnitude);
  return changed;
}

at::Tensor faulty_input_channels(const at::Tensor& input) {
  if (hits.empty() || input.dim() < 3) return input;
  return take("swap_channels", batch_of(input)) == nullptr ? input : input.flip({1});
}

at::Tensor faulty_mean(const at::Tensor& mean, const at::Tensor& variance, int64_t batch) {
  const Fault* fault = hits.empty() ? nullptr : take("stale_mean", batch);
  return fault == nullptr ? mean : mean + variance.sqrt() * fault->magnitude;
}

bool bias_is_dropped(int64_t batch) { return !hits.empty() && take("drop_bias", batch) != nullptr; }

bool accumulates_in_half(int64_t batch) {
  return !hits.empty() && take("fp16_accumulate", batch) != nullptr;
}

}  // namespace emulator
