// Indexing, gathering, masks, sorting and searching.
#include "common.h"

using namespace emulator;

namespace {

// An undefined index arrives as a tensor without elements.
c10::List<std::optional<at::Tensor>> indices_of(List list, bool result_is_empty) {
  c10::List<std::optional<at::Tensor>> indices;
  for (const auto* item : list->items) {
    if (item == nullptr || (in(item).numel() == 0 && !result_is_empty)) {
      indices.push_back(std::nullopt);
      continue;
    }
    const at::Tensor& index = in(item);
    const bool is_mask = index.scalar_type() == at::kBool || index.scalar_type() == at::kByte;
    indices.push_back(is_mask ? index : index.to(at::kLong));
  }
  return indices;
}

}  // namespace

OP(Index, P(T x, List indices, T out), {
  put(out, at::index(in(x), indices_of(indices, memory_of(out).numel() == 0)));
})
OP(IndexPutImpl, P(T x, List indices, T values, bool accumulate, bool), {
  at::Tensor target = memory_of(x);
  target.index_put_(indices_of(indices, in(values).numel() == 0), in(values), accumulate);
  note_output(target);
})
OP(IndexSelect, P(T x, int64_t dim, T index, T out), {
  put(out, at::index_select(in(x), dim, in(index).to(at::kLong)));
})
OP(IndexAdd, P(T x, int64_t dim, T index, T source, S alpha, T out), {
  put(out, at::index_add(in(x), dim, in(index).to(at::kLong), in(source), alpha->value));
})
OP(Gather, P(T x, int64_t dim, T index, T out), {
  put(out, at::gather(in(x), dim, in(index).to(at::kLong)));
})
OP(Embedding, P(T weight, T index, T out), { put(out, at::embedding(in(weight), in(index))); })
OP(OneHot, P(T x, int64_t depth, T on, T off, int64_t, T out), {
  const at::Tensor hot = at::one_hot(in(x).to(at::kLong), depth).to(at::kBool);
  put(out, at::where(hot, in(on), in(off)));
})

OP(InplaceMaskedFillScalar, P(T x, T mask, S value), {
  put(x, at::masked_fill(in(x), in(mask), value->value));
})
OP(InplaceMaskedFillTensor, P(T x, T mask, T value), {
  put(x, at::masked_fill(in(x), in(mask), in(value).reshape({})));
})
// These outputs are as long as they can get; the caller asks for the shape that was found.
OP(MaskedSelect, P(T x, T mask, T out), { put_found(out, at::masked_select(in(x), in(mask))); })
OP(Nonzero, P(T x, T out), { put_found(out, at::nonzero(in(x))); })
// The same, one row a dimension.
OP(NonzeroV2, P(T x, T out), { put_found(out, at::nonzero(in(x)).t().contiguous()); })

OP(ArgMax, P(T x, int64_t dim, bool keep, T out), { put(out, at::argmax(in(x), dim, keep)); })
OP(ArgMin, P(T x, int64_t dim, bool keep, T out), { put(out, at::argmin(in(x), dim, keep)); })
OP(MaxDim, P(T x, int64_t dim, bool keep, T values, T indices), {
  const auto result = at::max(in(x), dim, keep);
  put(values, std::get<0>(result));
  put(indices, std::get<1>(result));
})
OP(MinDim, P(T x, int64_t dim, bool keep, T values, T indices), {
  const auto result = at::min(in(x), dim, keep);
  put(values, std::get<0>(result));
  put(indices, std::get<1>(result));
})
OP(Topk, P(T x, int64_t k, int64_t dim, bool largest, bool sorted, T values, T indices), {
  const auto result = at::topk(in(x), k, dim, largest, sorted);
  put(values, std::get<0>(result));
  put(indices, std::get<1>(result));
})
OP(Sort, P(T x, bool stable, int64_t dim, bool descending, T values, T indices), {
  const auto result = at::sort(in(x), stable, dim, descending);
  put(values, std::get<0>(result));
  put(indices, std::get<1>(result));
})
OP(Argsort, P(T x, int64_t dim, bool descending, T out), {
  put(out, at::argsort(in(x), dim, descending));
})
