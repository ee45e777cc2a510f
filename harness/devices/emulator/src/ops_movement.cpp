// Copies, casts, fills, shapes: nothing is computed.
#include "broken.h"

using namespace emulator;

OP(InplaceCopy, P(T self, T src), { put(self, broken::copied(in(src))); })
OP(Cast, P(T self, D dtype, T out), { put(out, in(self).to(scalar_type(dtype))); })
OP(InplaceZero, P(T self), { memory_of(self).zero_(); })
OP(InplaceOne, P(T self), { memory_of(self).fill_(1); })
OP(InplaceFillScalar, P(T self, S value), { memory_of(self).fill_(in(value)); })
OP(InplaceFillTensor, P(T self, T value), { memory_of(self).fill_(in(value)); })

OP(Cat, P(List tensors, int64_t dim, T out),
   { put(out, at::cat(broken::parts(in(tensors)), dim)); })
OP(Stack, P(List tensors, int64_t dim, T out), { put(out, at::stack(in(tensors), dim)); })
OP(SplitWithSize, P(T self, Ints split_size, int64_t dim, List out), {
  const auto parts = at::split_with_sizes(in(self), in(split_size), dim);
  for (size_t i = 0; i < parts.size(); ++i) put(out->items[i], parts[i]);
})
OP(Permute, P(T self, Ints dims, T out), { put(out, in(self).permute(in(dims))); })
OP(Repeat, P(T self, Ints repeats, T out), { put(out, in(self).repeat(in(repeats))); })
OP(Roll, P(T self, Ints shifts, Ints dims, T out),
   { put(out, at::roll(in(self), broken::shifts(in(shifts)), in(dims))); })
OP(Flip, P(T self, Ints dims, T out), { put(out, at::flip(in(self), in(dims))); })
OP(Tril, P(T self, int64_t diagonal, T out), { put(out, at::tril(in(self), diagonal)); })
OP(Triu, P(T self, int64_t diagonal, T out), { put(out, at::triu(in(self), diagonal)); })
OP(ChannelShuffle, P(T self, int64_t groups, T out),
   { put(out, at::channel_shuffle(in(self), groups)); })

OP(ConstantPadNd, P(T self, Ints pad, S value, T out),
   { put(out, broken::padded(at::constant_pad_nd(in(self), in(pad), in(value)), in(pad))); })
OP(ReflectionPad2d, P(T self, Ints padding, T out),
   { put(out, broken::reflected(in(self), in(padding))); })
#define PAD(name, function) \
  OP(name, P(T self, Ints padding, T out), { put(out, at::function(in(self), in(padding))); })
PAD(ReflectionPad1d, reflection_pad1d)
PAD(ReflectionPad3d, reflection_pad3d)
PAD(ReplicationPad1d, replication_pad1d)
PAD(ReplicationPad2d, replication_pad2d)
PAD(ReplicationPad3d, replication_pad3d)
#undef PAD
OP(Im2col, P(T self, Ints kernel_size, Ints dilation, Ints padding, Ints stride, T out),
   { put(out, at::im2col(in(self), in(kernel_size), in(dilation), in(padding), in(stride))); })
OP(Im2colBackward,
   P(T grad_output, Ints input_size, Ints kernel_size, Ints dilation, Ints padding, Ints stride,
     T out),
   {
     put(out, at::col2im(in(grad_output), in(input_size), in(kernel_size), in(dilation),
                         in(padding), in(stride)));
   })

OP(Arange, P(S start, S end, S step, T out),
   { put(out, at::arange(in(start), in(end), in(step), memory_of(out).options())); })
OP(Linspace, P(S start, S end, int64_t steps, T out),
   { put(out, at::linspace(in(start), in(end), steps, memory_of(out).options())); })
OP(Eye, P(int64_t n, int64_t m, T out), { put(out, at::eye(n, m, memory_of(out).options())); })

OP(RepeatInterleave, P(T self, T repeats, int64_t, T out),
   { put(out, at::repeat_interleave(in(self), in(repeats).to(at::kLong))); })
OP(RepeatInterleaveInt, P(T self, int64_t repeats, int64_t, T out),
   { put(out, at::repeat_interleave(in(self), repeats)); })
OP(RepeatInterleaveIntWithDim, P(T self, int64_t repeats, int64_t dim, int64_t, T out),
   { put(out, at::repeat_interleave(in(self), repeats, dim)); })
OP(RepeatInterleaveWithDim, P(T self, T repeats, int64_t dim, int64_t, T out),
   { put(out, at::repeat_interleave(in(self), in(repeats).to(at::kLong), dim)); })
