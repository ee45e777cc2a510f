// Options, error text, operator counters, and the plain C functions that Python calls.
#include "control.h"

#include <fnmatch.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <sstream>

#include "acl/acl.h"

namespace emulator {
namespace {

std::mutex mutex;
Options current_options;
std::string current_kernels = "aten", current_mistake, current_module;
std::vector<std::pair<std::string, int64_t>> counts;  // in the order of first execution
std::map<std::string, size_t> count_position;
std::vector<std::string> missing;
std::atomic<bool> listing_outputs{false};
std::map<std::string, int64_t> listed_outputs;

struct PlannedFault {
  std::shared_ptr<const Fault> fault;
  int64_t seen = 0;
  int64_t marked = 0;       // `seen` when the calls were marked
  uint64_t executions = 0;  // as `seen`, but never put back
  int64_t applied = 0;
};
std::vector<PlannedFault> plan;

thread_local std::string last_error;
thread_local std::string reply;  // keeps the text alive that a query returned to Python

bool is_due(const Fault& fault, int64_t call) {
  if (call < fault.first || (fault.last >= 0 && call > fault.last)) return false;
  return (call - fault.first) % fault.every == 0;
}

// Whether a fault that comes and goes acts in an execution: splitmix64 as a uniform number.
bool strikes(const Fault& fault, uint64_t execution) {
  if (fault.probability >= 1) return true;
  uint64_t bits = fault.seed + (execution + 1) * 0x9E3779B97F4A7C15ull;
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ull;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBull;
  bits ^= bits >> 31;
  return static_cast<double>(bits >> 11) * 0x1.0p-53 < fault.probability;
}

// Whether the module that runs, or one that it lies in, is the one that a fault names.
bool is_in(const std::string& pattern) {
  if (pattern.empty()) return true;
  for (size_t end = 0; end < current_module.size();) {
    end = std::min(current_module.find('.', end + 1), current_module.size());
    if (fnmatch(pattern.c_str(), current_module.substr(0, end).c_str(), 0) == 0) return true;
  }
  return false;
}

// Of this kind only calls that the contract refuses are counted.
const char* const kWaiver = "waive_contract";

// "Malloc" is the pseudo-operator of device allocations: "*" means real operators only.
bool concerns(const Fault& fault, const std::string& name) {
  return (fault.op == name || (fault.op == "*" && name != "Malloc")) && is_in(fault.module);
}

// Counts a call of a fault's operator; whether the fault acts in it.
bool acts(PlannedFault& planned) {
  const int64_t call = ++planned.seen;
  const uint64_t execution = ++planned.executions;
  return is_due(*planned.fault, call) && strikes(*planned.fault, execution);
}

// One line a fault: key=value fields separated by tabs.  False on an unknown key.
bool parse_fault(const std::string& line, Fault& fault) {
  std::istringstream fields(line);
  std::string field;
  while (std::getline(fields, field, '\t')) {
    const auto split = field.find('=');
    if (split == std::string::npos) return false;
    const std::string key = field.substr(0, split), value = field.substr(split + 1);
    if (key == "kind") fault.kind = value;
    else if (key == "op") fault.op = value;
    else if (key == "module") fault.module = value;
    else if (key == "first") fault.first = atoll(value.c_str());
    else if (key == "last") fault.last = atoll(value.c_str());
    else if (key == "every") fault.every = std::max<int64_t>(1, atoll(value.c_str()));
    else if (key == "magnitude") fault.magnitude = atof(value.c_str());
    else if (key == "index") fault.index = atoll(value.c_str());
    else if (key == "probability") fault.probability = atof(value.c_str());
    else if (key == "seed") fault.seed = strtoull(value.c_str(), nullptr, 10);
    else if (key == "bit") fault.bit = atoll(value.c_str());
    else if (key == "batch_over") fault.batch_over = atoll(value.c_str());
    else if (key == "code") fault.code = atoll(value.c_str());
    else return false;
  }
  return !fault.kind.empty() && !fault.op.empty();
}

}  // namespace

const Options& options() { return current_options; }
const std::string& kernel_set() { return current_kernels; }
const std::string& kernel_mistake() { return current_mistake; }
void set_error(const std::string& text) { last_error = text; }

std::vector<Hit> begin_operator(const std::string& name) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto entry = count_position.emplace(name, counts.size());
  if (entry.second) counts.emplace_back(name, 0);
  ++counts[entry.first->second].second;
  std::vector<Hit> hits;
  for (size_t i = 0; i < plan.size(); ++i) {
    auto& planned = plan[i];
    if (planned.fault->kind == kWaiver || !concerns(*planned.fault, name)) continue;
    if (acts(planned)) hits.push_back({planned.fault, i, planned.seen});
  }
  return hits;
}

bool contract_is_waived(const std::string& name) {
  std::lock_guard<std::mutex> lock(mutex);
  for (auto& planned : plan) {
    if (planned.fault->kind != kWaiver || !concerns(*planned.fault, name) || !acts(planned))
      continue;
    ++planned.applied;
    return true;
  }
  return false;
}

void mark_applied(const Hit& hit) {
  std::lock_guard<std::mutex> lock(mutex);
  // The plan may have been replaced while an operator ran.
  if (hit.position < plan.size() && plan[hit.position].fault == hit.fault)
    ++plan[hit.position].applied;
}

bool lists_outputs() { return listing_outputs; }

void list_output(const std::string& text) {
  std::lock_guard<std::mutex> lock(mutex);
  ++listed_outputs[text];
}

void note_missing(const std::string& name) {
  std::lock_guard<std::mutex> lock(mutex);
  if (std::find(missing.begin(), missing.end(), name) == missing.end()) missing.push_back(name);
}

}  // namespace emulator

using namespace emulator;

// Whoever finds this symbol in the process knows that "CANN" is the emulator.
EMULATOR_API const int harness_emulator_marker = 1;

EMULATOR_API int harness_emulator_configure(int count, const char* soc, uint64_t memory_bytes,
                                            const char* cann_version) {
  current_options = Options{count, soc, memory_bytes, cann_version};
  return 0;
}

// Takes other kernels; no operator may be under way.  Python knows the names.
EMULATOR_API void harness_emulator_set_kernels(const char* name, const char* mistake) {
  current_kernels = name;
  current_mistake = mistake;
}

// Says which module of a model runs; "" for none.
EMULATOR_API void harness_emulator_set_module(const char* path) {
  std::lock_guard<std::mutex> lock(mutex);
  current_module = path;
}

// Replaces the plan.  Returns 0, or the number (from 1) of the line that was not understood.
EMULATOR_API int harness_emulator_set_faults(const char* text) {
  std::vector<PlannedFault> parsed;
  std::istringstream lines(text);
  std::string line;
  int number = 0;
  while (std::getline(lines, line)) {
    ++number;
    auto fault = std::make_shared<Fault>();
    if (!parse_fault(line, *fault)) return number;
    parsed.push_back({fault});
  }
  std::lock_guard<std::mutex> lock(mutex);
  plan = std::move(parsed);
  return 0;
}

EMULATOR_API void harness_emulator_reset_counters() {
  std::lock_guard<std::mutex> lock(mutex);
  counts.clear();
  count_position.clear();
  missing.clear();
  for (auto& planned : plan) planned = PlannedFault{planned.fault};
}

// Remembers how many calls every fault of the plan has seen, ...
EMULATOR_API void harness_emulator_mark_calls() {
  std::lock_guard<std::mutex> lock(mutex);
  for (auto& planned : plan) planned.marked = planned.seen;
}

// ... and goes back to that: what ran in between was a rehearsal of calls to come.
EMULATOR_API void harness_emulator_rewind_calls() {
  std::lock_guard<std::mutex> lock(mutex);
  for (auto& planned : plan) planned.seen = planned.marked;
}

// Lines "name<tab>count".
EMULATOR_API const char* harness_emulator_operator_counts() {
  std::lock_guard<std::mutex> lock(mutex);
  std::ostringstream text;
  for (const auto& entry : counts)
    if (entry.first != "Malloc") text << entry.first << '\t' << entry.second << '\n';
  reply = text.str();
  return reply.c_str();
}

// Starts an empty list of what operators write (1), or ends it (0).
EMULATOR_API void harness_emulator_list_outputs(int on) {
  std::lock_guard<std::mutex> lock(mutex);
  if (on) listed_outputs.clear();
  listing_outputs = on != 0;
}

EMULATOR_API const char* harness_emulator_outputs() {
  std::lock_guard<std::mutex> lock(mutex);
  std::ostringstream text;
  for (const auto& entry : listed_outputs) text << entry.first << '\t' << entry.second << '\n';
  reply = text.str();
  return reply.c_str();
}

EMULATOR_API const char* harness_emulator_missing_operators() {
  std::lock_guard<std::mutex> lock(mutex);
  std::ostringstream text;
  for (const auto& name : missing) text << name << '\n';
  reply = text.str();
  return reply.c_str();
}

// One number a line and fault of the plan: how often it had an effect.
EMULATOR_API const char* harness_emulator_fault_effects() {
  std::lock_guard<std::mutex> lock(mutex);
  std::ostringstream text;
  for (const auto& planned : plan) text << planned.applied << '\n';
  reply = text.str();
  return reply.c_str();
}

EMULATOR_API const char* aclGetRecentErrMsg() {
  return last_error.empty() ? nullptr : last_error.c_str();
}
