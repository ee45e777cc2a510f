// The frame of libopapi: CANN's opaque handles over ATen tensors of the host, and the OP macro
// that turns one line into the two functions of an aclnn operator.
//
// Parameters have the names of ACL's documentation in snake case; what is changed in place
// (selfRef there) is self, and the first result is out.
//
// Nothing checks the C signatures: the parameter types of an operator must be those that
// torch_npu's operator library passes.
#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "acl/acl_base.h"
#include "control.h"

struct aclTensor {
  at::Tensor value;
  std::string problem;  // why its address may not be used; empty when it may
  // The shape that an operator with an output of unknown length found; set when it differs.
  mutable std::optional<std::vector<int64_t>> found_shape;

  // Every use of a tensor goes through here, so that a bad address becomes an error of the
  // operator that uses it and never an access to it.
  const at::Tensor& checked() const;
};
struct aclScalar {
  at::Scalar value;
};
struct aclIntArray {
  std::vector<int64_t> values;
};
struct aclFloatArray {
  std::vector<float> values;
};
struct aclBoolArray {
  std::vector<uint8_t> values;
};
struct aclTensorList {
  std::vector<const aclTensor*> items;
};
struct aclScalarList {
  std::vector<const aclScalar*> items;
};
struct aclOpExecutor {
  const char* name;
  std::function<void()> compute;
};

namespace emulator {

using T = const aclTensor*;
using S = const aclScalar*;
using Ints = const aclIntArray*;
using Bools = const aclBoolArray*;
using List = const aclTensorList*;
using D = aclDataType;

struct BadAddress : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Runs, counts and destroys an executor; acts out the fault plan.  Returns an ACL code.
int execute(aclOpExecutor* executor, void* stream);

at::ScalarType scalar_type(int acl_type);
int acl_type(at::ScalarType type);

// What an operator reads.
inline const at::Tensor& in(T tensor) { return tensor->checked(); }
inline const at::Scalar& in(S scalar) { return scalar->value; }
inline const std::vector<int64_t>& in(Ints array) { return array->values; }
std::vector<at::Tensor> in(List list);
std::optional<at::Tensor> optional_tensor(T tensor);

// What an operator writes, for the few that do not leave that to put().
inline const at::Tensor& memory_of(T out) { return out->checked(); }

// Writes a result: into the memory, strides and dtype of the output.
void put(T out, const at::Tensor& result);

// Writes a result that is smaller than its output's memory; aclGetViewShape then tells its shape.
void put_found(T out, const at::Tensor& result);

// fp16 and bf16 are computed in fp32 and rounded once when the result is stored, as the cube and
// vector units do; other dtypes are left alone.
at::Tensor wide(const at::Tensor& value);
std::optional<at::Tensor> wide(const std::optional<at::Tensor>& value);

// ---- the fault kinds that change an operator's inputs; each returns its argument when the plan
// asks for nothing (faults.cpp)
at::Tensor faulty_weight(const at::Tensor& weight, int64_t batch);
at::Tensor faulty_input_channels(const at::Tensor& input);
at::Tensor faulty_mean(const at::Tensor& mean, const at::Tensor& variance, int64_t batch);
bool bias_is_dropped(int64_t batch);
bool accumulates_in_half(int64_t batch);

// ---- the frame's side of the fault plan
void begin_tensor_faults(const std::vector<Hit>& hits);
void damage_outputs();
void note_output(const at::Tensor& output);

}  // namespace emulator

#define P(...) __VA_ARGS__
#define OP(name, parameters, ...)                                                        \
  EMULATOR_API int aclnn##name##GetWorkspaceSize(parameters, uint64_t* workspace_bytes,  \
                                                 aclOpExecutor** executor) {             \
    *workspace_bytes = 0;                                                                \
    *executor = new aclOpExecutor{#name, [=]() __VA_ARGS__};                             \
    return 0;                                                                            \
  }                                                                                      \
  EMULATOR_API int aclnn##name(void*, uint64_t, aclOpExecutor* executor, void* stream) { \
    return emulator::execute(executor, stream);                                          \
  }
