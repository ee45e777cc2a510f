#include "loops.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

namespace emulator::loops {
namespace {

constexpr int64_t kColumns = 32;  // of a tile that stays in registers and the nearest cache
constexpr int64_t kWelfordBlock = 64;
constexpr int64_t kWorthAThread = 1 << 22;  // multiplications

// One row of a tile: acc[w] += sum of a[i] * b[i, w] over i.
template <int64_t W>
void add_products(const float* a, const float* b, int64_t stride, int64_t count, float* acc) {
  for (int64_t i = 0; i < count; ++i) {
    const float factor = a[i];
    const float* row = b + i * stride;
    for (int64_t w = 0; w < W; ++w) acc[w] += factor * row[w];
  }
}

template <int64_t W>
void multiply_tile(const float* a, const float* b, float* c, int64_t n, int64_t k, int64_t block) {
  if (block == 0) return add_products<W>(a, b, n, k, c);
  float total[W] = {};
  for (int64_t start = 0; start < k; start += block) {
    float part[W] = {};
    add_products<W>(a + start, b + start * n, n, std::min(block, k - start), part);
    for (int64_t w = 0; w < W; ++w) total[w] += part[w];
  }
  for (int64_t w = 0; w < W; ++w) c[w] += total[w];
}

void multiply_rows(const float* a, const float* b, float* c, int64_t begin, int64_t end, int64_t n,
                   int64_t k, int64_t block) {
  const int64_t whole = n - n % kColumns;
  for (int64_t j = 0; j < whole; j += kColumns)
    for (int64_t i = begin; i < end; ++i)
      multiply_tile<kColumns>(a + i * k, b + j, c + i * n + j, n, k, block);
  for (int64_t j = whole; j < n; ++j)
    for (int64_t i = begin; i < end; ++i)
      multiply_tile<1>(a + i * k, b + j, c + i * n + j, n, k, block);
}

}  // namespace

void multiply(const float* a, const float* b, float* c, int64_t m, int64_t n, int64_t k,
              int64_t block) {
  const int64_t work = m * n * k / kWorthAThread;
  const int64_t threads =
      std::min<int64_t>({work, m, static_cast<int64_t>(std::thread::hardware_concurrency())});
  if (threads < 2) return multiply_rows(a, b, c, 0, m, n, k, block);
  std::vector<std::thread> running;
  for (int64_t t = 0; t < threads; ++t)
    running.emplace_back(multiply_rows, a, b, c, m * t / threads, m * (t + 1) / threads, n, k,
                         block);
  for (auto& thread : running) thread.join();
}

void add_rows(const float* x, float* out, int64_t r, int64_t n, int64_t block) {
  std::fill(out, out + n, 0.0f);
  if (block == 0) block = r;
  std::vector<float> part(n);
  for (int64_t start = 0; start < r; start += block) {
    std::fill(part.begin(), part.end(), 0.0f);
    for (int64_t i = start; i < std::min(r, start + block); ++i)
      for (int64_t j = 0; j < n; ++j) part[j] += x[i * n + j];
    for (int64_t j = 0; j < n; ++j) out[j] += part[j];
  }
}

void pool(const float* x, float* out, int64_t planes, int64_t h, int64_t w, const Window* rows,
          int64_t oh, const Window* columns, int64_t ow, int64_t divisor, int64_t block) {
  for (int64_t p = 0; p < planes; ++p) {
    for (int64_t i = 0; i < oh; ++i) {
      for (int64_t j = 0; j < ow; ++j) {
        float total = 0, part = 0;
        int64_t taken = 0;
        for (int64_t y = rows[i].start; y < rows[i].end; ++y) {
          for (int64_t z = columns[j].start; z < columns[j].end; ++z) {
            part += x[(p * h + y) * w + z];
            if (++taken == block) total += part, part = 0, taken = 0;
          }
        }
        const int64_t counted = divisor != 0 ? divisor : rows[i].counted * columns[j].counted;
        *out++ = (total + part) / static_cast<float>(counted);
      }
    }
  }
}

void welford(const float* x, float* mean, float* variance, int64_t outer, int64_t r) {
  for (int64_t row = 0; row < outer; ++row, x += r) {
    float all_mean = 0, all_squares = 0;
    for (int64_t start = 0; start < r; start += kWelfordBlock) {
      const int64_t count = std::min(kWelfordBlock, r - start);
      float block_mean = 0, squares = 0;
      for (int64_t i = 0; i < count; ++i) {
        const float delta = x[start + i] - block_mean;
        block_mean += delta / static_cast<float>(i + 1);
        squares += delta * (x[start + i] - block_mean);
      }
      const float before = static_cast<float>(start), here = static_cast<float>(count);
      const float delta = block_mean - all_mean, both = before + here;
      all_mean += delta * (here / both);
      all_squares += squares + delta * delta * (before * here / both);
    }
    mean[row] = all_mean;
    variance[row] = all_squares / static_cast<float>(r);
  }
}

void misround(float* values, const float* seed, int64_t count, int64_t ulps) {
  constexpr uint32_t kSmallestNormal = 0x00800000u, kLargest = 0x7F7FFFFFu;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits, hash;
    memcpy(&bits, values + i, sizeof bits);
    memcpy(&hash, seed + i, sizeof hash);
    const uint32_t size = bits & 0x7FFFFFFFu;
    if (size < kSmallestNormal + ulps || size > kLargest - ulps) continue;
    // The finaliser of MurmurHash3.
    hash = (hash ^ (hash >> 16)) * 0x85EBCA6Bu;
    hash = (hash ^ (hash >> 13)) * 0xC2B2AE35u;
    hash ^= hash >> 16;
    bits += static_cast<uint32_t>(static_cast<int64_t>(hash % (2 * ulps + 1)) - ulps);
    memcpy(values + i, &bits, sizeof bits);
  }
}

}  // namespace emulator::loops
