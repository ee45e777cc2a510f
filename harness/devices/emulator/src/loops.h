// Plain loops over float32 memory, compiled with all optimisation.  Row-major, without gaps.
#pragma once

#include <cstdint>

namespace emulator::loops {

// c[m, n] += a[m, k] @ b[k, n]: the terms of an element are added one after another, in blocks of
// `block` terms, 0: without blocks.
void multiply(const float* a, const float* b, float* c, int64_t m, int64_t n, int64_t k,
              int64_t block);

// out[n] = sum over r of x[r, n], likewise.
void add_rows(const float* x, float* out, int64_t r, int64_t n, int64_t block);

// One axis of a pooling window: the elements [start, end), and how many count for the divisor.
struct Window {
  int64_t start, end, counted;
};
// out[planes, oh, ow] = sum over a window / `divisor`, 0: / the number of elements that count.
void pool(const float* x, float* out, int64_t planes, int64_t h, int64_t w, const Window* rows,
          int64_t oh, const Window* columns, int64_t ow, int64_t divisor, int64_t block);

// Mean and mean square deviation of x[outer, r] over r: Welford (1962) in blocks of 64 elements,
// joined as Chan, Golub and LeVeque (1979) do.
void welford(const float* x, float* mean, float* variance, int64_t outer, int64_t r);

// Moves every normal number by up to `ulps` units in the last place; the bits of `seed` decide by
// how many.
void misround(float* values, const float* seed, int64_t count, int64_t ulps);

}  // namespace emulator::loops
