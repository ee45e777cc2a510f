// Fused attention with one mistake.
#include <cmath>

#include "broken.h"

namespace emulator::broken {
namespace {

constexpr int64_t kKeysOfATile = 64;

at::Tensor scores_of(const kernels::AttentionInputs& call) {
  const at::Tensor scores = at::matmul(call.query, call.key.transpose(-1, -2)) * call.scale;
  return call.hidden ? scores.masked_fill(*call.hidden, -INFINITY) : scores;
}

at::Tensor attended(const kernels::AttentionInputs& call) {
  return at::matmul(at::softmax(scores_of(call), -1), call.value);
}

// The sums of earlier tiles of keys stay as they were when a greater maximum comes.
at::Tensor without_rescaling(const kernels::AttentionInputs& call) {
  const at::Tensor scores = scores_of(call);
  at::Tensor largest, total, result;
  for (int64_t start = 0; start < scores.size(-1); start += kKeysOfATile) {
    const int64_t count = std::min(kKeysOfATile, scores.size(-1) - start);
    const at::Tensor part = scores.narrow(-1, start, count);
    largest = largest.defined() ? at::maximum(largest, part.amax(-1, true)) : part.amax(-1, true);
    const at::Tensor weights = (part - largest).exp();
    const at::Tensor sum = weights.sum(-1, true);
    const at::Tensor values = at::matmul(weights, call.value.narrow(2, start, count));
    total = total.defined() ? total + sum : sum;
    result = result.defined() ? result + values : values;
  }
  return result / total;
}

}  // namespace

Wrong attention(kernels::AttentionInputs call) {
  if (none()) return std::nullopt;
  const int64_t keys = call.key.size(2), queries = call.query.size(2), heads = call.query.size(1);
  const int64_t tail = keys % kTile;
  if (is("attention_scale") && call.query.size(3) % 64 != 0) {
    call.scale *= call.scale;
    return attended(call);
  }
  if (is("attention_mask_tile") && call.hidden && keys > kTile) {
    call.hidden = call.hidden->clone();
    call.hidden->narrow(-1, keys - kTile, kTile).zero_();
    return attended(call);
  }
  if (is("attention_no_rescale") && keys > kKeysOfATile) return without_rescaling(call);
  if (is("attention_key_tail") && keys > kTile && tail != 0) {
    call.key = call.key.narrow(2, 0, keys - tail);
    call.value = call.value.narrow(2, 0, keys - tail);
    if (call.hidden) call.hidden = call.hidden->narrow(-1, 0, keys - tail);
    return attended(call);
  }
  if (is("attention_half_scores"))
    return at::matmul(at::softmax(through_half(scores_of(call)), -1), call.value);
  if (is("attention_half_weights"))
    return at::matmul(through_half(at::softmax(scores_of(call), -1)), call.value);
  if (is("attention_exp_table")) {
    const at::Tensor scores = scores_of(call);
    const at::Tensor powers = coarse_exp(scores - scores.amax(-1, true));
    return at::matmul(powers / powers.sum(-1, true), call.value);
  }
  if (is("attention_last_head") && heads > 1) {
    call.value = call.value.clone();
    call.value.select(1, heads - 1).copy_(call.value.select(1, heads - 2).clone());
    return attended(call);
  }
  if (is("attention_last_query") && queries > 1 && queries % kTile != 0) {
    const at::Tensor result = attended(call);
    result.select(2, queries - 1).copy_(result.select(2, queries - 2).clone());
    return result;
  }
  return std::nullopt;
}

}  // namespace emulator::broken
