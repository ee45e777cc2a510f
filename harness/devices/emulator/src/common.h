// The frame of libopapi: CANN's opaque handles over ATen tensors of the host, and the OP macro
// that turns one line into the two functions of an aclnn operator.
//
// Parameters have the names of ACL's documentation in snake case; what is changed in place
// (selfRef there) is self, and the first result is out.
//
// Nothing checks the C signatures: the parameter types of an operator must be those that
// torch_npu's operator library passes.
#pragma once

#ifndef AT_PER_OPERATOR_HEADERS  // else build.py includes the operators that are named
#include <ATen/Functions.h>
#endif
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
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
  explicit aclOpExecutor(const char* operator_name) : name(operator_name) {}
  virtual ~aclOpExecutor() = default;
  virtual void compute() = 0;
  const char* const name;
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

// A parameter as it is declared ("T self") and its value, if it has a name.  Hundreds of operators
// make these, so that nothing is to be allocated or destroyed.
struct Passed {
  const char* declared;
  enum { kNothing, kTensor, kList, kArray, kNumber } kind = kNothing;
  const void* handle = nullptr;
  int64_t number = 0;

  explicit Passed(const char* declared) : declared(declared) {}
  Passed(const char* declared, T tensor) : declared(declared), kind(kTensor), handle(tensor) {}
  Passed(const char* declared, List list) : declared(declared), kind(kList), handle(list) {}
  Passed(const char* declared, Ints array) : declared(declared), kind(kArray), handle(array) {}
  template <typename Other>
  Passed(const char* declared, const Other& value) : declared(declared) {
    if constexpr (std::is_integral_v<Other>) kind = kNumber, number = value;
  }
};

// What CANN answers, in the first phase, to arguments that its contract (contract.csv) refuses; 0
// when it accepts them.  Sets the error text.
int refused(const char* name, std::initializer_list<Passed> arguments);

// An executor that calls `function` when it runs.
template <typename Function>
aclOpExecutor* computing(const char* name, Function function) {
  struct Executor : aclOpExecutor {
    Executor(const char* name, Function&& function)
        : aclOpExecutor(name), function(std::move(function)) {}
    void compute() override { function(); }
    Function function;
  };
  return new Executor(name, std::move(function));
}

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

// The parameters of an operator as a list of arguments.  Pasted before a parameter, VALUE_ and its
// type vanish and leave the name.
#define VALUE_T
#define VALUE_S
#define VALUE_D
#define VALUE_Ints
#define VALUE_Bools
#define VALUE_List
#define VALUE_bool
#define VALUE_int
#define VALUE_int8_t
#define VALUE_int64_t
#define VALUE_float
#define VALUE_double
#define ARGUMENT(parameter) \
  emulator::Passed { #parameter, VALUE_##parameter }
#define ARGUMENTS_1(parameter) ARGUMENT(parameter)
#define ARGUMENTS_2(parameter, ...) ARGUMENT(parameter), ARGUMENTS_1(__VA_ARGS__)
#define ARGUMENTS_3(parameter, ...) ARGUMENT(parameter), ARGUMENTS_2(__VA_ARGS__)
#define ARGUMENTS_4(parameter, ...) ARGUMENT(parameter), ARGUMENTS_3(__VA_ARGS__)
#define ARGUMENTS_5(parameter, ...) ARGUMENT(parameter), ARGUMENTS_4(__VA_ARGS__)
#define ARGUMENTS_6(parameter, ...) ARGUMENT(parameter), ARGUMENTS_5(__VA_ARGS__)
#define ARGUMENTS_7(parameter, ...) ARGUMENT(parameter), ARGUMENTS_6(__VA_ARGS__)
#define ARGUMENTS_8(parameter, ...) ARGUMENT(parameter), ARGUMENTS_7(__VA_ARGS__)
#define ARGUMENTS_9(parameter, ...) ARGUMENT(parameter), ARGUMENTS_8(__VA_ARGS__)
#define ARGUMENTS_10(parameter, ...) ARGUMENT(parameter), ARGUMENTS_9(__VA_ARGS__)
#define ARGUMENTS_11(parameter, ...) ARGUMENT(parameter), ARGUMENTS_10(__VA_ARGS__)
#define ARGUMENTS_12(parameter, ...) ARGUMENT(parameter), ARGUMENTS_11(__VA_ARGS__)
#define ARGUMENTS_13(parameter, ...) ARGUMENT(parameter), ARGUMENTS_12(__VA_ARGS__)
#define ARGUMENTS_14(parameter, ...) ARGUMENT(parameter), ARGUMENTS_13(__VA_ARGS__)
#define ARGUMENTS_15(parameter, ...) ARGUMENT(parameter), ARGUMENTS_14(__VA_ARGS__)
#define ARGUMENTS_16(parameter, ...) ARGUMENT(parameter), ARGUMENTS_15(__VA_ARGS__)
#define ARGUMENTS_17(parameter, ...) ARGUMENT(parameter), ARGUMENTS_16(__VA_ARGS__)
#define ARGUMENTS_18(parameter, ...) ARGUMENT(parameter), ARGUMENTS_17(__VA_ARGS__)
#define ARGUMENTS_19(parameter, ...) ARGUMENT(parameter), ARGUMENTS_18(__VA_ARGS__)
#define ARGUMENTS_20(parameter, ...) ARGUMENT(parameter), ARGUMENTS_19(__VA_ARGS__)
#define ARGUMENTS_OF(p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12, p13, p14, p15, p16, p17, \
                     p18, p19, p20, n, ...)                                                      \
  ARGUMENTS_##n
#define ARGUMENTS(...)                                                                          \
  ARGUMENTS_OF(__VA_ARGS__, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, \
               1)(__VA_ARGS__)

#define P(...) __VA_ARGS__
#define OP(name, parameters, ...)                                                        \
  EMULATOR_API int aclnn##name##GetWorkspaceSize(parameters, uint64_t* workspace_bytes,  \
                                                 aclOpExecutor** executor) {             \
    *workspace_bytes = 0;                                                                \
    if (const int code = emulator::refused(#name, {ARGUMENTS(parameters)})) return code; \
    *executor = emulator::computing(#name, [=]() __VA_ARGS__);                           \
    return 0;                                                                            \
  }                                                                                      \
  EMULATOR_API int aclnn##name(void*, uint64_t, aclOpExecutor* executor, void* stream) { \
    return emulator::execute(executor, stream);                                          \
  }
