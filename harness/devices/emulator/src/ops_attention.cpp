// Scaled dot product attention, forward.  Layouts: BNSD, BSND, BSH, SBH.
#include "acl/acl.h"
#include "kernels.h"

using namespace emulator;

namespace {

// To batch, heads, sequence, head size.
at::Tensor to_heads(const at::Tensor& tensor, const std::string& layout, int64_t heads) {
  if (layout == "BNSD") return tensor;
  if (layout == "BSND") return tensor.transpose(1, 2);
  if (layout == "BSH") return tensor.unflatten(2, {heads, -1}).transpose(1, 2);
  if (layout == "SBH") return tensor.unflatten(2, {heads, -1}).permute({1, 2, 0, 3});
  throw std::runtime_error("layout " + layout + " is not emulated");
}

at::Tensor from_heads(const at::Tensor& tensor, const std::string& layout) {
  if (layout == "BSND") return tensor.transpose(1, 2);
  if (layout == "BSH") return tensor.transpose(1, 2).flatten(2);
  if (layout == "SBH") return tensor.permute({2, 0, 1, 3}).flatten(2);
  return tensor;
}

// Key and value may have fewer heads than the query (grouped query attention).
int64_t key_heads(const at::Tensor& key, const std::string& layout, int64_t head_size) {
  if (layout == "BNSD") return key.size(1);
  if (layout == "BSND") return key.size(2);
  return key.size(2) / head_size;
}

// What the contract says of a call, with the sizes of the heads as arguments.
int refused_attention(T query, T key, T value, int64_t head_num) {
  const bool flat = query->value.dim() == 3;  // the heads side by side in the last dimension
  const auto size = [&](T tensor) { return tensor->value.dim() > 0 ? tensor->value.size(-1) : 0; };
  const int64_t head_size = flat ? size(query) / std::max<int64_t>(1, head_num) : size(query);
  if (flat)
    return refused("FlashAttentionScore",
                   {ARGUMENTS(T query, T key, T value, int64_t head_num, int64_t head_size)});
  const int64_t key_head_size = size(key), value_head_size = size(value);
  return refused("FlashAttentionScore",
                 {ARGUMENTS(T query, T key, T value, int64_t head_num, int64_t head_size,
                            int64_t key_head_size, int64_t value_head_size)});
}

struct Attention {
  T query, key, value, mask, max, sum, out;
  double scale;
  int64_t heads, sparse_mode;
  std::string layout;
};

constexpr int64_t kCausal = 2;

void attend(const Attention& call) {
  const at::Tensor query = wide(to_heads(in(call.query), call.layout, call.heads));
  const int64_t heads = key_heads(in(call.key), call.layout, query.size(3));
  at::Tensor key = wide(to_heads(in(call.key), call.layout, heads));
  at::Tensor value = wide(to_heads(in(call.value), call.layout, heads));
  if (heads != call.heads) {
    key = key.repeat_interleave(call.heads / heads, 1);
    value = value.repeat_interleave(call.heads / heads, 1);
  }
  Optional hidden;
  if (call.sparse_mode == kCausal) {
    hidden = at::ones({query.size(2), key.size(2)}, at::kBool).triu_(1);
  } else if (call.mask != nullptr) {
    hidden = in(call.mask).to(at::kBool);
  }
  const kernels::Attended found =
      kernels::attention({query, key, value, hidden, call.scale, in(call.query).scalar_type()});
  // The outputs for the backward pass come first: the result is what a fault plan damages.
  if (call.max != nullptr)
    memory_of(call.max).copy_(found.largest.expand(memory_of(call.max).sizes()));
  if (call.sum != nullptr)
    memory_of(call.sum).copy_(found.total.expand(memory_of(call.sum).sizes()));
  put(call.out, from_heads(found.result, call.layout));
}

}  // namespace

EMULATOR_API int aclnnFlashAttentionScoreGetWorkspaceSize(
    T query, T key, T value, T real_shift, T drop_mask, T padding_mask, T atten_mask, Ints,
    double scale_value, double keep_prob, int64_t, int64_t, int64_t head_num, char* input_layout,
    int64_t, int64_t sparse_mode, T softmax_max, T softmax_sum, T, T out, uint64_t* workspace_bytes,
    aclOpExecutor** executor) {
  if (drop_mask != nullptr || real_shift != nullptr || padding_mask != nullptr ||
      keep_prob != 1.0) {
    set_error("EZ1001: EMULATED NPU: FlashAttentionScore with dropout, shift or padding mask");
    return 161002;  // ACLNN_ERR_PARAM_INVALID
  }
  if (const int code = refused_attention(query, key, value, head_num)) return code;
  // The caller's text is gone when the operator runs on another thread: copy it now.
  const Attention attention{query, key,         value,    atten_mask,  softmax_max, softmax_sum,
                            out,   scale_value, head_num, sparse_mode, input_layout};
  *workspace_bytes = 0;
  *executor = computing("FlashAttentionScore", [=]() { attend(attention); });
  return 0;
}
EMULATOR_API int aclnnFlashAttentionScore(void*, uint64_t, aclOpExecutor* executor, void* stream) {
  return execute(executor, stream);
}
