// The arithmetic of the matrix unit: which inputs are rounded before they are multiplied.
#pragma once

#include "cann_loops.h"
#include "common.h"

namespace emulator {

// Rounds the inputs of a convolution or a matrix product as cubeMathType asks for.  The result is
// fp32 (fp64 and integers are left alone); accumulation is in fp32 and the output is rounded to
// its own dtype once, when it is stored.
at::Tensor cube_input(const at::Tensor& value, int8_t cube_math_type,
                      loops::Ties ties = loops::Ties::even);
// Whether cubeMathType asks for long sums of fp32 in groups.
bool in_groups(const at::Tensor& value, int8_t cube_math_type);

// self @ mat2 for matrices and batches of them.  With `half_sums` the sum over k is kept in fp16.
at::Tensor cube_matmul(const at::Tensor& self, const at::Tensor& mat2, bool half_sums,
                       bool grouped);

}  // namespace emulator
