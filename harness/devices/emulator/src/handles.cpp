// CANN's handles (tensors, scalars, arrays, lists) and the execution of one operator.
#include <ATen/core/grad_mode.h>

#include <sstream>

#include "acl/acl.h"
#include "broken.h"
#include "common.h"

using namespace emulator;

namespace emulator {
namespace {

// What CANN's aclnn functions return for an internal error and for a vector core exception.
constexpr int kInnerError = 561103;
constexpr int kDeviceException = 507035;

const struct {
  int acl;
  at::ScalarType aten;
} kTypes[] = {
    {ACL_FLOAT, at::kFloat},
    {ACL_FLOAT16, at::kHalf},
    {ACL_BF16, at::kBFloat16},
    {ACL_INT8, at::kChar},
    {ACL_INT16, at::kShort},
    {ACL_INT32, at::kInt},
    {ACL_INT64, at::kLong},
    {ACL_UINT8, at::kByte},
    {ACL_BOOL, at::kBool},
    {ACL_DOUBLE, at::kDouble},
    {ACL_COMPLEX64, at::kComplexFloat},
    {ACL_COMPLEX128, at::kComplexDouble},
};

// The bytes between the first and the last element, both included.
size_t span_bytes(at::IntArrayRef sizes, at::IntArrayRef strides, size_t item) {
  int64_t last = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 0) return 0;
    last += (sizes[i] - 1) * strides[i];
  }
  return (static_cast<size_t>(last) + 1) * item;
}

}  // namespace

at::ScalarType scalar_type(int acl) {
  for (const auto& entry : kTypes)
    if (entry.acl == acl) return entry.aten;
  throw std::runtime_error("ACL data type " + std::to_string(acl) + " is not emulated");
}

int acl_type(at::ScalarType aten) {
  for (const auto& entry : kTypes)
    if (entry.aten == aten) return entry.acl;
  throw std::runtime_error("dtype is not emulated");
}

std::optional<at::Tensor> optional_tensor(T tensor) {
  if (tensor == nullptr) return std::nullopt;
  return in(tensor);
}

std::vector<at::Tensor> in(List list) {
  std::vector<at::Tensor> values;
  for (const auto* item : list->items) values.push_back(in(item));
  return values;
}

namespace {
thread_local const char* running = "";  // the operator that this thread executes

void written(const at::Tensor& output) {
  note_output(output);
  if (!lists_outputs()) return;
  std::ostringstream text;
  text << running << ' ' << output.scalar_type() << output.sizes();
  list_output(text.str());
}
}  // namespace

void put(T out, const at::Tensor& result) {
  if (out == nullptr) return;
  const at::Tensor& target = memory_of(out);
  const bool reshaped = target.sizes() != result.sizes() && target.numel() == result.numel();
  const at::Tensor kept = broken::stored(result, target.scalar_type());
  target.copy_(reshaped ? kept.reshape(target.sizes()) : kept);
  written(target);
}

void put_found(T out, const at::Tensor& result) {
  const at::Tensor start = memory_of(out).flatten().narrow(0, 0, result.numel());
  start.copy_(result.flatten());
  out->found_shape = result.sizes().vec();
  written(start.view(result.sizes()));
}

at::Tensor wide(const at::Tensor& value) {
  const auto type = value.scalar_type();
  return type == at::kHalf || type == at::kBFloat16 ? value.to(at::kFloat) : value;
}

std::optional<at::Tensor> wide(const std::optional<at::Tensor>& value) {
  if (!value) return value;
  return wide(*value);
}

int execute(aclOpExecutor* raw, void* stream) {
  const std::unique_ptr<aclOpExecutor> executor(raw);
  const std::string name = executor->name;
  if (!stream_is_live(stream)) {
    set_error("EMULATED NPU: operator " + name + " on an unknown or destroyed stream");
    return ACL_ERROR_RT_PARAM_INVALID;
  }
  const auto hits = begin_operator(name);
  if (const int code = act_on_control_faults(hits, name)) return code;
  running = executor->name;
  try {
    const at::NoGradGuard no_grad;
    begin_tensor_faults(hits);
    executor->compute();
    damage_outputs();
    return 0;
  } catch (const BadAddress& error) {
    set_error("EZ9999: EMULATED NPU: operator " + name + ": " + error.what());
    return kDeviceException;
  } catch (const std::exception& error) {
    set_error("EZ9999: EMULATED NPU: operator " + name + ": " + error.what());
    return kInnerError;
  }
}

}  // namespace emulator

const at::Tensor& aclTensor::checked() const {
  if (!problem.empty()) throw BadAddress(problem);
  return value;
}

EMULATOR_API aclTensor* aclCreateTensor(const int64_t* sizes, uint64_t rank, aclDataType type,
                                        const int64_t* strides, int64_t offset, aclFormat,
                                        const int64_t*, uint64_t, void* storage) {
  const at::IntArrayRef shape(sizes, rank), steps(strides, rank);
  auto tensor = std::make_unique<aclTensor>();
  at::ScalarType dtype;
  try {
    dtype = scalar_type(type);
  } catch (const std::exception& error) {
    tensor->problem = error.what();
    return tensor.release();
  }
  const size_t item = c10::elementSize(dtype);
  char* base = static_cast<char*>(storage) + offset * static_cast<int64_t>(item);
  const size_t bytes = span_bytes(shape, steps, item);
  tensor->problem = device_range_problem(base, bytes);
  tensor->value = at::from_blob(base, shape, steps, [](void*) {}, at::TensorOptions().dtype(dtype));
  return tensor.release();
}
EMULATOR_API int aclDestroyTensor(const aclTensor* tensor) {
  delete tensor;
  return 0;
}
EMULATOR_API int aclGetViewShape(const aclTensor* tensor, int64_t** sizes, uint64_t* rank) {
  const at::IntArrayRef shape =
      tensor->found_shape ? at::IntArrayRef(*tensor->found_shape) : tensor->value.sizes();
  *rank = shape.size();
  *sizes = new int64_t[shape.size()];  // the caller frees it with delete[]
  std::copy(shape.begin(), shape.end(), *sizes);
  return 0;
}

EMULATOR_API aclScalar* aclCreateScalar(void* value, aclDataType type) {
  switch (type) {
    case ACL_FLOAT: return new aclScalar{*static_cast<float*>(value)};
    case ACL_DOUBLE: return new aclScalar{*static_cast<double*>(value)};
    case ACL_FLOAT16: return new aclScalar{static_cast<float>(*static_cast<at::Half*>(value))};
    case ACL_BF16: return new aclScalar{static_cast<float>(*static_cast<at::BFloat16*>(value))};
    case ACL_INT64: return new aclScalar{*static_cast<int64_t*>(value)};
    case ACL_INT32: return new aclScalar{int64_t{*static_cast<int32_t*>(value)}};
    case ACL_INT16: return new aclScalar{int64_t{*static_cast<int16_t*>(value)}};
    case ACL_INT8: return new aclScalar{int64_t{*static_cast<int8_t*>(value)}};
    case ACL_UINT8: return new aclScalar{int64_t{*static_cast<uint8_t*>(value)}};
    case ACL_BOOL: return new aclScalar{*static_cast<bool*>(value)};
    case ACL_COMPLEX64: return new aclScalar{*static_cast<c10::complex<float>*>(value)};
    case ACL_COMPLEX128: return new aclScalar{*static_cast<c10::complex<double>*>(value)};
    default:
      set_error("EMULATED NPU: a scalar of ACL data type " + std::to_string(type) +
                " is not emulated");
      return nullptr;
  }
}
EMULATOR_API int aclDestroyScalar(const aclScalar* scalar) {
  delete scalar;
  return 0;
}
EMULATOR_API aclIntArray* aclCreateIntArray(const int64_t* values, uint64_t count) {
  return new aclIntArray{{values, values + count}};
}
EMULATOR_API int aclDestroyIntArray(const aclIntArray* array) {
  delete array;
  return 0;
}
EMULATOR_API aclFloatArray* aclCreateFloatArray(const float* values, uint64_t count) {
  return new aclFloatArray{{values, values + count}};
}
EMULATOR_API int aclDestroyFloatArray(const aclFloatArray* array) {
  delete array;
  return 0;
}
EMULATOR_API aclBoolArray* aclCreateBoolArray(const bool* values, uint64_t count) {
  return new aclBoolArray{{values, values + count}};
}
EMULATOR_API int aclDestroyBoolArray(const aclBoolArray* array) {
  delete array;
  return 0;
}
EMULATOR_API aclTensorList* aclCreateTensorList(const aclTensor* const* items, uint64_t count) {
  return new aclTensorList{{items, items + count}};
}
// A list owns its items, as in CANN.
EMULATOR_API int aclDestroyTensorList(const aclTensorList* list) {
  for (const auto* item : list->items) delete item;
  delete list;
  return 0;
}
EMULATOR_API aclScalarList* aclCreateScalarList(const aclScalar* const* items, uint64_t count) {
  return new aclScalarList{{items, items + count}};
}
EMULATOR_API int aclDestroyScalarList(const aclScalarList* list) {
  for (const auto* item : list->items) delete item;
  delete list;
  return 0;
}
EMULATOR_API int aclDestroyAclOpExecutor(aclOpExecutor* executor) {
  delete executor;
  return 0;
}
EMULATOR_API int aclnnInit(const char*) { return 0; }
EMULATOR_API int aclnnFinalize() { return 0; }
