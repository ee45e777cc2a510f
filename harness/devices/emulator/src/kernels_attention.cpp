// Scaled dot product attention: as a product, a softmax and a product, or tile by tile of keys with
// the running maximum and sum of Milakov and Gimelshein (2018), as FlashAttention does.
#include <cmath>

#include "broken.h"
#include "cann.h"

namespace emulator::kernels {
namespace {

struct Tiles {
  int64_t keys;
  bool scales_query;     // the query before the product, else the scores after it
  loops::Format powers;  // what the powers are rounded to before they meet the values
};

Attended by_tiles(const AttentionInputs& call, const Tiles& tiles) {
  const at::Tensor query = tiles.scales_query ? call.query * call.scale : call.query;
  const int64_t keys = call.key.size(2);
  at::Tensor largest = at::full({1}, -INFINITY), total = at::zeros({1}), result = at::zeros({1});
  for (int64_t start = 0; start < keys; start += tiles.keys) {
    const int64_t count = std::min(tiles.keys, keys - start);
    const at::Tensor scores = at::matmul(query, call.key.narrow(2, start, count).transpose(-1, -2));
    if (!tiles.scales_query) scores.mul_(call.scale);
    if (call.hidden) scores.masked_fill_(call.hidden->narrow(-1, start, count), -INFINITY);
    const at::Tensor now = at::maximum(largest, scores.amax(-1, true));
    // Rows without a key so far.
    const at::Tensor shift = now.masked_fill(now == -INFINITY, 0);
    const at::Tensor weights = (scores - shift).exp_(), kept = (largest - shift).exp_();
    total = total * kept + weights.sum(-1, true);
    result = result * kept + at::matmul(cann::shortened(weights, tiles.powers, loops::Ties::away),
                                        call.value.narrow(2, start, count));
    largest = now;
  }
  return {result / total, largest, total};
}

}  // namespace

Attended attention(const AttentionInputs& call) {
  if (const auto wrong = broken::attention(call)) return {*wrong, at::zeros({1}), at::zeros({1})};
  if (kernel_set() == "attention") return by_tiles(call, {128, true, loops::Format::float32});
  if (cann::computes(call.query)) {
    // The powers are rounded before they are divided by their sum, and the result with its ties
    // away from zero as well.
    const loops::Format format = cann::format_of(call.type);
    Attended found = by_tiles(call, {1024, false, format});
    found.result = cann::shortened(found.result, format, loops::Ties::away);
    return found;
  }
  const at::Tensor scores =
      kernels::matmul(call.query, call.key.transpose(-1, -2)).mul_(call.scale);
  if (call.hidden) scores.masked_fill_(*call.hidden, -INFINITY);
  const at::Tensor largest = scores.amax(-1, true);
  const at::Tensor shifted = scores - largest;
  const at::Tensor weights = misrounded(shifted.exp(), shifted);
  const int64_t axis = -1;
  const at::Tensor total =
      in_order(weights) ? kernels::sum(weights, axis, true) : weights.sum(axis, true);
  return {kernels::matmul(misrounded(weights / total, weights), call.value), largest, total};
}

}  // namespace emulator::kernels
