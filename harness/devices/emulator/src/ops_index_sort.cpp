// Indexing, gathering, masks, sorting and searching.
#include "broken.h"

using namespace emulator;

namespace {

// An undefined index arrives as a tensor without elements.
c10::List<std::optional<at::Tensor>> indices_of(List list, bool result_is_empty,
                                                const at::Tensor* self = nullptr) {
  c10::List<std::optional<at::Tensor>> indices;
  for (const auto* item : list->items) {
    if (item == nullptr || (in(item).numel() == 0 && !result_is_empty)) {
      indices.push_back(std::nullopt);
      continue;
    }
    const at::Tensor& index = in(item);
    const bool is_mask = index.scalar_type() == at::kBool || index.scalar_type() == at::kByte;
    const bool whole = !is_mask && self != nullptr && indices.size() < self->dim();
    const at::Tensor number = is_mask ? index : index.to(at::kLong);
    indices.push_back(whole ? broken::index(number, self->size(indices.size())) : number);
  }
  return indices;
}

}  // namespace

OP(Index, P(T self, List indices, T out),
   { put(out, at::index(in(self), indices_of(indices, memory_of(out).numel() == 0, &in(self)))); })
OP(IndexPutImpl, P(T self, List indices, T values, bool accumulate, bool), {
  at::Tensor target = memory_of(self);
  target.index_put_(indices_of(indices, in(values).numel() == 0), in(values), accumulate);
  note_output(target);
})
OP(IndexSelect, P(T self, int64_t dim, T index, T out), {
  put(out,
      at::index_select(in(self), dim, broken::index(in(index).to(at::kLong), in(self).size(dim))));
})
OP(IndexAdd, P(T self, int64_t dim, T index, T source, S alpha, T out),
   { put(out, at::index_add(in(self), dim, in(index).to(at::kLong), in(source), in(alpha))); })
OP(Gather, P(T self, int64_t dim, T index, T out), {
  put(out, at::gather(in(self), dim, broken::index(in(index).to(at::kLong), in(self).size(dim))));
})
OP(Embedding, P(T weight, T indices, T out),
   { put(out, at::embedding(in(weight), broken::index(in(indices), in(weight).size(0)))); })
OP(OneHot, P(T self, int64_t num_classes, T on_value, T off_value, int64_t, T out), {
  const at::Tensor hot = at::one_hot(in(self).to(at::kLong), num_classes).to(at::kBool);
  put(out, at::where(hot, in(on_value), in(off_value)));
})

OP(InplaceMaskedFillScalar, P(T self, T mask, S value),
   { put(self, at::masked_fill(in(self), in(mask), in(value))); })
OP(InplaceMaskedFillTensor, P(T self, T mask, T value),
   { put(self, at::masked_fill(in(self), in(mask), in(value).reshape({}))); })
// These outputs are as long as they can get; the caller asks for the shape that was found.
OP(MaskedSelect, P(T self, T mask, T out),
   { put_found(out, at::masked_select(in(self), in(mask))); })
OP(Nonzero, P(T self, T out), { put_found(out, at::nonzero(in(self))); })
// The same, one row a dimension.
OP(NonzeroV2, P(T self, T out), { put_found(out, at::nonzero(in(self)).t().contiguous()); })

OP(ArgMax, P(T self, int64_t dim, bool keep_dim, T out),
   { put(out, at::argmax(in(self), dim, keep_dim)); })
OP(ArgMin, P(T self, int64_t dim, bool keep_dim, T out),
   { put(out, at::argmin(in(self), dim, keep_dim)); })
OP(MaxDim, P(T self, int64_t dim, bool keep_dim, T values, T indices), {
  const auto result = at::max(in(self), dim, keep_dim);
  put(values, std::get<0>(result));
  put(indices, std::get<1>(result));
})
OP(MinDim, P(T self, int64_t dim, bool keep_dim, T values, T indices), {
  const auto result = at::min(in(self), dim, keep_dim);
  put(values, std::get<0>(result));
  put(indices, std::get<1>(result));
})
OP(Topk, P(T self, int64_t k, int64_t dim, bool largest, bool sorted, T values, T indices), {
  const auto result = at::topk(in(self), k, dim, largest, sorted);
  put(values, std::get<0>(result));
  put(indices, std::get<1>(result));
})
OP(Sort, P(T self, bool stable, int64_t dim, bool descending, T values, T indices), {
  const auto result = at::sort(in(self), stable, dim, descending);
  put(values, std::get<0>(result));
  put(indices, std::get<1>(result));
})
OP(Argsort, P(T self, int64_t dim, bool descending, T out),
   { put(out, at::argsort(in(self), dim, descending)); })
