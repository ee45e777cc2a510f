#include "cann_loops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

// The vector unit's functions have many lanes: so has the host, where its compiler is told.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define LANES __attribute__((target_clones("avx2", "default")))
#else
#define LANES
#endif

namespace emulator::loops {
namespace {

constexpr int64_t kLanes = 64;  // float32 numbers in a vector register of 256 bytes

inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline float clip(float value, float low, float high) {  // keeps NaN
  value = value < low ? low : value;
  return value > high ? high : value;
}

// Off by less than one unit in the last place: 2^n e^r with |r| <= ln 2 / 2, e^r by its series up
// to r^7 (what is left is below r^8 / 8! = 5e-9), n ln 2 taken off in two parts (Cody and Waite
// 1980).
inline float power_of_e(float x) {
  constexpr float kShifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  x = clip(x, -150.0f, 130.0f);
  const float shifted = x * 1.44269504f + kShifter;
  const float n = shifted - kShifter;
  const int32_t whole = static_cast<int32_t>(bits_of(shifted) - bits_of(kShifter));
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = (p * r) * r + r;
  p = p + 1.0f;
  // Two factors, so that neither leaves the range where the result does.
  const int32_t half = whole >> 1;
  return p * from_bits(static_cast<uint32_t>(half + 127) << 23) *
         from_bits(static_cast<uint32_t>(whole - half + 127) << 23);
}

// The coefficients here are this project's own: `python -m benchmarks.fits` derives and prints
// them.
inline float gelu_tanh(float x) {
  constexpr float kFactor = -1.5957691216057308f;  // -2 sqrt(2 / pi)
  return x / (1.0f + power_of_e(kFactor * (x + 0.044715f * (x * x * x))));
}

inline float gelu_erf(float x) {
  const float t = clip(x, -5.75f, 5.75f), u = t * t;
  float p = -3.6112339785177028e-09f;
  p = p * u + 2.6689286869441275e-07f;
  p = p * u + -7.93821982369991e-06f;
  p = p * u + 0.0001104803232010454f;
  p = p * u + 6.625997048104182e-05f;
  p = p * u + -0.07266856729984283f;
  p = p * u + -1.5957684516906738f;
  return x / (1.0f + power_of_e(p * t));
}

inline float silu(float x) { return x / (1.0f + power_of_e(-x)); }

inline float sigmoid(float x) { return 1.0f / (1.0f + power_of_e(-x)); }

inline float tanh_of(float x) {
  const float t = clip(x, -20.0f, 20.0f), u = x * x;
  const float power = power_of_e(2.0f * t);
  const float far = (power - 1.0f) / (power + 1.0f);
  float p = 0.016437433660030365f;
  p = p * u + -0.05267173796892166f;
  p = p * u + 0.13320724666118622f;
  p = p * u + -0.3333294689655304f;
  const float near = (p * u) * x + x;
  return std::fabs(x) < 0.55f ? near : far;
}

inline float erf_of(float x) {
  const float t = clip(x, -3.92f, 3.92f), u = t * t;
  float p = 2.0498109734035097e-06f;
  p = p * u + 0.00028485493385232985f;
  p = p * u + 0.0037653667386621237f;
  p = p * u + 0.05274782329797745f;
  p = p * u + 0.19040367007255554f;
  p = p * u + 1.1283791065216064f;
  float q = 3.8087411667220294e-05f;
  q = q * u + 0.001162434578873217f;
  q = q * u + 0.014968713745474815f;
  q = q * u + 0.11410747468471527f;
  q = q * u + 0.5020735859870911f;
  q = q * u + 1.0f;
  return (p * t) / q;
}

inline float hardswish(float x) { return x * (clip(x + 3.0f, 0.0f, 6.0f) * (1.0f / 6)); }

inline float hardsigmoid(float x) { return clip((1.0f / 6) * x + 0.5f, 0.0f, 1.0f); }

#define EACH(name, function)                                   \
  LANES void name(const float* x, float* y, int64_t count) {   \
    for (int64_t i = 0; i < count; ++i) y[i] = function(x[i]); \
  }
EACH(each_gelu_tanh, gelu_tanh)
EACH(each_gelu_erf, gelu_erf)
EACH(each_silu, silu)
EACH(each_sigmoid, sigmoid)
EACH(each_tanh, tanh_of)
EACH(each_erf, erf_of)
EACH(each_hardswish, hardswish)
EACH(each_hardsigmoid, hardsigmoid)
#undef EACH

// Takes off the last `dropped` bits of the mantissa; what is not finite stays.
inline float rounded(float value, uint32_t dropped, uint32_t away) {
  const uint32_t bits = bits_of(value), odd = (bits >> dropped) & 1u;
  const uint32_t up = (bits + (1u << (dropped - 1)) - 1u + (away | odd)) & (~0u << dropped);
  return (bits & 0x7F800000u) == 0x7F800000u ? value : from_bits(up);
}

// float16 has steps of 2^-24 below 2^-14, and ends at 65504.
inline float to_float16(float value, uint32_t away) {
  constexpr float kSmallestNormal = 6.103515625e-05f, kSteps = 16777216.0f, kShifter = 8388608.0f;
  const float size = std::fabs(value), steps = size * kSteps;
  const float even = (steps + kShifter) - kShifter;
  const bool tie = steps - even == 0.5f;
  const float small = (even + (away != 0u && tie ? 1.0f : 0.0f)) / kSteps;
  float large = rounded(size, 13, away);
  large = large > 65504.0f ? INFINITY : large;
  return std::copysign(size < kSmallestNormal ? small : large, value);
}

LANES void each_float16(float* values, int64_t count, uint32_t away) {
  for (int64_t i = 0; i < count; ++i) values[i] = to_float16(values[i], away);
}

LANES void each_rounded(float* values, int64_t count, uint32_t dropped, uint32_t away) {
  for (int64_t i = 0; i < count; ++i) values[i] = rounded(values[i], dropped, away);
}

// The sum of term(i) over i < count.
template <typename Term>
inline float sum_in_lanes(int64_t count, Term term) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  for (int64_t lane = 0; i < count; ++i, ++lane) lanes[lane] += term(i);
  for (int64_t width = kLanes / 2; width > 0; width /= 2)
    for (int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  return lanes[0];
}

LANES float sum_of_deviations(const float* x, int64_t count, float mean, float factor) {
  return sum_in_lanes(count, [=](int64_t i) {
    const float deviation = x[i] - mean;
    return deviation * deviation * factor;
  });
}

LANES void normalise(const float* x, const float* weight, const float* bias, float* y, int64_t n,
                     float mean, float rstd) {
  if (weight == nullptr && bias == nullptr) {
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * rstd;
  } else if (bias == nullptr) {
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * rstd * weight[i];
  } else if (weight == nullptr) {
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * rstd + bias[i];
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * rstd * weight[i] + bias[i];
  }
}

}  // namespace

void shorten(float* values, int64_t count, Format format, Ties ties) {
  const uint32_t away = ties == Ties::away ? 1 : 0;
  if (format == Format::hf32) each_rounded(values, count, 12, away);
  if (format == Format::bfloat16) each_rounded(values, count, 16, away);
  if (format == Format::float16) each_float16(values, count, away);
}

void apply(Function function, const float* x, float* y, int64_t count) {
  switch (function) {
    case Function::gelu_tanh: return each_gelu_tanh(x, y, count);
    case Function::gelu_erf: return each_gelu_erf(x, y, count);
    case Function::silu: return each_silu(x, y, count);
    case Function::sigmoid: return each_sigmoid(x, y, count);
    case Function::tanh: return each_tanh(x, y, count);
    case Function::erf: return each_erf(x, y, count);
    case Function::hardswish: return each_hardswish(x, y, count);
    case Function::hardsigmoid: return each_hardsigmoid(x, y, count);
  }
}

LANES void scale_and_shift(const float* x, float* y, int64_t count, float factor, float summand) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] * factor + summand;
}

LANES float scaled_sum(const float* x, int64_t count, float factor) {
  return sum_in_lanes(count, [=](int64_t i) { return x[i] * factor; });
}

LANES float sum_of_squares(const float* x, int64_t count) {
  return sum_in_lanes(count, [=](int64_t i) { return x[i] * x[i]; });
}

void layer_norm(const float* x, const float* weight, const float* bias, float* y, float* mean,
                float* rstd, int64_t rows, int64_t n, float eps, Format statistics) {
  const float share = 1.0f / static_cast<float>(n);
  for (int64_t row = 0; row < rows; ++row, x += n, y += n) {
    mean[row] = scaled_sum(x, n, share);
    shorten(mean + row, 1, statistics, Ties::even);
    rstd[row] = 1.0f / std::sqrt(sum_of_deviations(x, n, mean[row], share) + eps);
    shorten(rstd + row, 1, statistics, Ties::even);
    normalise(x, weight, bias, y, n, mean[row], rstd[row]);
  }
}

}  // namespace emulator::loops
