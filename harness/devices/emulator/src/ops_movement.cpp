// Copies, casts, fills, shapes: nothing is computed.
#include "common.h"

using namespace emulator;

OP(InplaceCopy, P(T x, T from), { put(x, in(from)); })
OP(Cast, P(T x, D type, T out), { put(out, in(x).to(scalar_type(type))); })
OP(InplaceZero, P(T x), { memory_of(x).zero_(); })
OP(InplaceOne, P(T x), { memory_of(x).fill_(1); })
OP(InplaceFillScalar, P(T x, S value), { memory_of(x).fill_(value->value); })
OP(InplaceFillTensor, P(T x, T value), { memory_of(x).fill_(in(value)); })

OP(Cat, P(List items, int64_t dim, T out), { put(out, at::cat(in(items), dim)); })
OP(Stack, P(List items, int64_t dim, T out), { put(out, at::stack(in(items), dim)); })
OP(SplitWithSize, P(T x, Ints sizes, int64_t dim, List out), {
  const auto parts = at::split_with_sizes(in(x), sizes->values, dim);
  for (size_t i = 0; i < parts.size(); ++i) put(out->items[i], parts[i]);
})
OP(Permute, P(T x, Ints dims, T out), { put(out, in(x).permute(dims->values)); })
OP(Repeat, P(T x, Ints counts, T out), { put(out, in(x).repeat(counts->values)); })
OP(Roll, P(T x, Ints shifts, Ints dims, T out), {
  put(out, at::roll(in(x), shifts->values, dims->values));
})
OP(Flip, P(T x, Ints dims, T out), { put(out, at::flip(in(x), dims->values)); })
OP(Tril, P(T x, int64_t diagonal, T out), { put(out, at::tril(in(x), diagonal)); })
OP(Triu, P(T x, int64_t diagonal, T out), { put(out, at::triu(in(x), diagonal)); })
OP(ChannelShuffle, P(T x, int64_t groups, T out), { put(out, at::channel_shuffle(in(x), groups)); })

OP(ConstantPadNd, P(T x, Ints pad, S value, T out), {
  put(out, at::constant_pad_nd(in(x), pad->values, value->value));
})
OP(ReflectionPad2d, P(T x, Ints pad, T out), { put(out, at::reflection_pad2d(in(x), pad->values)); })
OP(ReplicationPad2d, P(T x, Ints pad, T out), {
  put(out, at::replication_pad2d(in(x), pad->values));
})
OP(Im2col, P(T x, Ints kernel, Ints dilation, Ints padding, Ints stride, T out), {
  put(out, at::im2col(in(x), kernel->values, dilation->values, padding->values, stride->values));
})
OP(Im2colBackward, P(T x, Ints size, Ints kernel, Ints dilation, Ints padding, Ints stride, T out), {
  put(out, at::col2im(in(x), size->values, kernel->values, dilation->values, padding->values,
                      stride->values));
})

OP(Arange, P(S start, S end, S step, T out), {
  put(out, at::arange(start->value, end->value, step->value, memory_of(out).options()));
})
OP(Linspace, P(S start, S end, int64_t steps, T out), {
  put(out, at::linspace(start->value, end->value, steps, memory_of(out).options()));
})
OP(Eye, P(int64_t rows, int64_t columns, T out), {
  put(out, at::eye(rows, columns, memory_of(out).options()));
})

OP(RepeatInterleave, P(T x, T repeats, int64_t, T out), {
  put(out, at::repeat_interleave(in(x), in(repeats).to(at::kLong)));
})
OP(RepeatInterleaveInt, P(T x, int64_t repeats, int64_t, T out), {
  put(out, at::repeat_interleave(in(x), repeats));
})
OP(RepeatInterleaveIntWithDim, P(T x, int64_t repeats, int64_t dim, int64_t, T out), {
  put(out, at::repeat_interleave(in(x), repeats, dim));
})
OP(RepeatInterleaveWithDim, P(T x, T repeats, int64_t dim, int64_t, T out), {
  put(out, at::repeat_interleave(in(x), in(repeats).to(at::kLong), dim));
})
