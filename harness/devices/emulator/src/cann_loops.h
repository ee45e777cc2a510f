// Plain loops of the profile `cann` over float32 memory, compiled with all optimisation: what the
// vector unit does element by element and row by row.  Row-major, without gaps.
#pragma once

#include <cstdint>

namespace emulator::loops {

// How a number is brought to fewer bits.
enum class Format { float32, hf32, float16, bfloat16 };
enum class Ties { even, away };

// Rounds to nearest; the numbers stay float32.
void shorten(float* values, int64_t count, Format format, Ties ties);

enum class Function { gelu_tanh, gelu_erf, silu, sigmoid, tanh, erf, hardswish, hardsigmoid };
// y = function(x); y may be x.
void apply(Function function, const float* x, float* y, int64_t count);

// y = x * factor + summand.
void scale_and_shift(const float* x, float* y, int64_t count, float factor, float summand);

// The sum of x[i] * factor, and of their squares: 64 lanes, folded in halves.
float scaled_sum(const float* x, int64_t count, float factor);
float sum_of_squares(const float* x, int64_t count);

// Rows of x[rows, n] less their mean over their deviation, * weight + bias (either may be null).
// Mean and 1 / deviation are rounded to `statistics` before they are used.
void layer_norm(const float* x, const float* weight, const float* bias, float* y, float* mean,
                float* rstd, int64_t rows, int64_t n, float eps, Format statistics);

}  // namespace emulator::loops
