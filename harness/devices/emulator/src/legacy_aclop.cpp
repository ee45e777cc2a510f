// The old operator interface.  With just-in-time compilation off, torch_npu takes it only for
// operators without an aclnn function and for casts between internal formats; only "Identity" and
// those of ops_legacy.cpp are emulated, everything else is an error that names the operator.
#include <cstring>
#include <string>
#include <vector>

#include "acl/acl.h"
#include "acl/acl_op_compiler.h"
#include "control.h"

using namespace emulator;

struct aclDataBuffer {
  void* address;
  size_t bytes;
};
struct aclTensorDesc {
  aclDataType type;
  std::vector<int64_t> shape;
  aclFormat format;
  std::string name;
};
struct aclopAttr {
  std::map<std::string, std::string> texts;
  std::map<std::string, float> numbers;
};

namespace {
LegacyOperators computed = nullptr;
}  // namespace
void emulator::set_legacy_operators(LegacyOperators operators) { computed = operators; }

EMULATOR_API aclDataBuffer* aclCreateDataBuffer(void* address, size_t bytes) {
  return new aclDataBuffer{address, bytes};
}
EMULATOR_API aclError aclDestroyDataBuffer(const aclDataBuffer* buffer) {
  delete buffer;
  return ACL_SUCCESS;
}
EMULATOR_API aclTensorDesc* aclCreateTensorDesc(aclDataType type, int rank, const int64_t* shape,
                                                aclFormat format) {
  return new aclTensorDesc{type, std::vector<int64_t>(shape, shape + rank), format, ""};
}
EMULATOR_API void aclDestroyTensorDesc(const aclTensorDesc* desc) { delete desc; }
EMULATOR_API size_t aclGetTensorDescNumDims(const aclTensorDesc* desc) {
  return desc->shape.size();
}
EMULATOR_API aclError aclGetTensorDescDimV2(const aclTensorDesc* desc, size_t i, int64_t* size) {
  if (i >= desc->shape.size()) return ACL_ERROR_INVALID_PARAM;
  *size = desc->shape[i];
  return ACL_SUCCESS;
}
EMULATOR_API aclFormat aclGetTensorDescFormat(const aclTensorDesc* desc) { return desc->format; }
EMULATOR_API aclDataType aclGetTensorDescType(const aclTensorDesc* desc) { return desc->type; }
EMULATOR_API void aclSetTensorDescName(aclTensorDesc* desc, const char* name) { desc->name = name; }
EMULATOR_API aclError aclSetTensorFormat(aclTensorDesc*, aclFormat) { return ACL_SUCCESS; }
EMULATOR_API aclError aclSetTensorShape(aclTensorDesc*, int, const int64_t*) { return ACL_SUCCESS; }
EMULATOR_API aclError aclSetTensorPlaceMent(aclTensorDesc*, aclMemType) { return ACL_SUCCESS; }
EMULATOR_API aclopAttr* aclopCreateAttr() { return new aclopAttr; }
EMULATOR_API aclError aclopSetAttrFloat(aclopAttr* attr, const char* name, float value) {
  attr->numbers[name] = value;
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclopSetAttrString(aclopAttr* attr, const char* name, const char* value) {
  attr->texts[name] = value;
  return ACL_SUCCESS;
}
EMULATOR_API void aclopDestroyAttr(const aclopAttr* attr) { delete attr; }

EMULATOR_API aclError aclSetCompileopt(aclCompileOpt, const char*) { return ACL_SUCCESS; }
EMULATOR_API size_t aclGetCompileoptSize(aclCompileOpt) { return 64; }
// "disable" matters: otherwise Module.to() casts weights to internal formats.
EMULATOR_API aclError aclGetCompileopt(aclCompileOpt option, char* value, size_t bytes) {
  strncpy(value, option == ACL_OP_JIT_COMPILE ? "disable" : "", bytes);
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclopSetCompileFlag(aclOpCompileFlag) { return ACL_SUCCESS; }

namespace {
aclError refuse(const std::string& op, int inputs, int outputs) {
  note_missing(op);
  set_error("EMULATED NPU: the legacy operator " + op + " is not emulated (" +
            std::to_string(inputs) + " inputs, " + std::to_string(outputs) + " outputs)");
  return 500002;  // ACL_ERROR_GE_FAILURE
}
}  // namespace

EMULATOR_API aclError aclopCompileAndExecute(const char* name, int inputs,
                                             const aclTensorDesc* const input_descs[],
                                             const aclDataBuffer* const input_buffers[],
                                             int outputs, const aclTensorDesc* const output_descs[],
                                             aclDataBuffer* const output_buffers[],
                                             const aclopAttr* attr, aclopEngineType,
                                             aclopCompileType, const char*, aclrtStream) {
  const std::string op = name;
  const bool is_copy = op == "Identity" && inputs == 1 && outputs == 1 &&
                       input_buffers[0]->bytes == output_buffers[0]->bytes &&
                       input_descs[0]->type == output_descs[0]->type &&
                       input_descs[0]->format == output_descs[0]->format;
  if (is_copy) {
    memmove(output_buffers[0]->address, input_buffers[0]->address, input_buffers[0]->bytes);
  } else {
    const aclopAttr none, &given = attr != nullptr ? *attr : none;
    LegacyCall call{op, {}, {}, given.texts, given.numbers};
    for (int i = 0; i < inputs; ++i)
      call.inputs.push_back(
          {input_descs[i]->type, input_descs[i]->shape, input_buffers[i]->address});
    for (int i = 0; i < outputs; ++i)
      call.outputs.push_back(
          {output_descs[i]->type, output_descs[i]->shape, output_buffers[i]->address});
    if (computed == nullptr || !computed(call)) return refuse(op, inputs, outputs);
  }
  return act_on_control_faults(begin_operator(op), op);
}

// The form for operators whose output shape is found while they run: none is emulated.
EMULATOR_API aclError aclopCompileAndExecuteV2(const char* name, int inputs, aclTensorDesc*[],
                                               aclDataBuffer*[], int outputs, aclTensorDesc*[],
                                               aclDataBuffer*[], aclopAttr*, aclopEngineType,
                                               aclopCompileType, const char*, aclrtStream) {
  return refuse(name, inputs, outputs);
}
