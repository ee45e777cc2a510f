// What the emulator's own libraries share: options, errors, counters, the fault plan and the
// address checks.  libascendcl defines these; libopapi and the Python side use them.  None of it
// is part of CANN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#define EMULATOR_API extern "C" __attribute__((visibility("default")))
#define EMULATOR_SHARED __attribute__((visibility("default")))

namespace emulator {

struct Options {
  int count = 1;
  std::string soc = "Ascend910B3";
  size_t memory_bytes = size_t{64} << 30;
  std::string cann_version = "8.5.0";
};
EMULATOR_SHARED const Options& options();

// Name of the kernels in force, of harness/devices/emulated_kernels.py ("aten": ATen's own), and of
// the mistake in one of them, of broken_kernels.py; "" for none.
EMULATOR_SHARED const std::string& kernel_set();
EMULATOR_SHARED const std::string& kernel_mistake();

// Text that the next aclGetRecentErrMsg of this thread returns.
EMULATOR_SHARED void set_error(const std::string& text);

// Empty when [address, address + bytes) lies in one live device allocation; else what is wrong.
EMULATOR_SHARED std::string device_range_problem(const void* address, size_t bytes);

// True for a stream that was created and not destroyed; the null stream is the default one.
EMULATOR_SHARED bool stream_is_live(const void* stream);

// One entry of the fault plan.  faults.py documents kinds and fields and validates them.
struct Fault {
  std::string kind;
  std::string op;
  std::string module;  // glob over paths of modules; "": wherever
  int64_t first = 1;
  int64_t last = -1;  // -1: no end
  int64_t every = 1;
  double magnitude = 0;
  int64_t index = -1;  // -1: not given
  double probability = 1;
  uint64_t seed = 0;
  int64_t bit = 0;
  int64_t batch_over = 0;
  int64_t code = 0;
};

// A fault that matches the current call, with the number of that call (from 1) among the calls
// that its operator name matches.
struct Hit {
  std::shared_ptr<const Fault> fault;
  size_t position = 0;  // in the plan
  int64_t call = 0;
};

// Counts one call of an operator and returns the faults that apply to it.
EMULATOR_SHARED std::vector<Hit> begin_operator(const std::string& name);
// Counts the effect of a fault: a fault that never had an effect proves nothing.
EMULATOR_SHARED void mark_applied(const Hit& hit);
// Whether the plan has a fault "waive_contract" for a call that CANN refuses; counts such calls.
EMULATOR_SHARED bool contract_is_waived(const std::string& name);
// What operators write, listed ("Add float32[2, 64]") and counted only where that was asked for.
EMULATOR_SHARED bool lists_outputs();
EMULATOR_SHARED void list_output(const std::string& text);
EMULATOR_SHARED void note_missing(const std::string& name);

// A call of the old operator interface; numbers lie without gaps.
struct LegacyTensor {
  int type;  // ACL data type
  std::vector<int64_t> shape;
  void* data;
};
struct LegacyCall {
  std::string op;
  std::vector<LegacyTensor> inputs, outputs;
  std::map<std::string, std::string> texts;  // attributes
  std::map<std::string, float> numbers;
};
// What libopapi computes of that interface: false where it does not.
using LegacyOperators = bool (*)(const LegacyCall& call);
EMULATOR_SHARED void set_legacy_operators(LegacyOperators operators);

// Acts out the kinds that concern no tensor (slow, hang, abort, error_code, out_of_memory).
// Returns the ACL code that the operator has to return, 0 to go on.
EMULATOR_SHARED int act_on_control_faults(const std::vector<Hit>& hits, const std::string& name);

}  // namespace emulator
