// What CANN accepts: the rules of harness/devices/contract.csv, held before an operator computes.
// contract.py has the grammar of a limit and says the same in Python.
#include <algorithm>
#include <mutex>
#include <sstream>
#include <unordered_map>

#include "common.h"

namespace emulator {
namespace {

struct Rule {
  std::string argument, limit, source;
  std::vector<std::string> dtypes;         // by torch's names; empty: any
  int64_t least_rank = 0, most_rank = -1;  // -1: any
  int code = 0;
};
std::mutex mutex;
std::unordered_map<std::string, std::vector<Rule>> rules;

std::vector<std::string> parts(const std::string& text, char separator) {
  std::vector<std::string> found;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) found.push_back(part);
  return found;
}

const char* dtype_name(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return "float32";
    case at::kHalf: return "float16";
    case at::kBFloat16: return "bfloat16";
    case at::kDouble: return "float64";
    case at::kChar: return "int8";
    case at::kShort: return "int16";
    case at::kInt: return "int32";
    case at::kLong: return "int64";
    case at::kByte: return "uint8";
    case at::kBool: return "bool";
    case at::kComplexFloat: return "complex64";
    case at::kComplexDouble: return "complex128";
    default: return "another dtype";
  }
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// An argument as a rule sees it: tensors, or numbers; neither where it is null, has no name, or is
// nothing that a rule speaks of.
struct Argument {
  std::string name;
  std::vector<at::Tensor> tensors;
  std::vector<int64_t> numbers;
};

Argument seen(const Passed& passed) {
  const std::string text = passed.declared;
  const auto space = text.rfind(' ');
  Argument argument{space == std::string::npos ? "" : text.substr(space + 1), {}, {}};
  const auto add = [&](T tensor) {
    if (tensor != nullptr && tensor->problem.empty()) argument.tensors.push_back(tensor->value);
  };
  if (passed.kind == Passed::kNumber) argument.numbers.push_back(passed.number);
  if (passed.handle == nullptr) return argument;
  if (passed.kind == Passed::kTensor) add(static_cast<T>(passed.handle));
  if (passed.kind == Passed::kArray) argument.numbers = static_cast<Ints>(passed.handle)->values;
  if (passed.kind == Passed::kList)  // an undefined index arrives as a tensor without elements
    for (const T item : static_cast<List>(passed.handle)->items)
      if (item != nullptr && item->value.numel() > 0) add(item);
  return argument;
}

const Argument* argument(const std::vector<Argument>& arguments, const std::string& name) {
  for (const auto& one : arguments)
    if (one.name == name) return &one;
  return nullptr;
}

// One number that has to lie in "1..", "0..255"; "" when it does.
std::string outside(const std::string& range, int64_t number, const char* what) {
  const auto dots = range.find("..");
  const std::string most = range.substr(dots + 2);
  if (number >= std::stoll(range) && (most.empty() || number <= std::stoll(most))) return "";
  return std::string(what) + " " + std::to_string(number) + " is not in " + range;
}

bool broadcasts(at::IntArrayRef one, at::IntArrayRef other) {
  for (size_t i = 1; i <= std::min(one.size(), other.size()); ++i) {
    const int64_t a = one[one.size() - i], b = other[other.size() - i];
    if (a != b && a != 1 && b != 1) return false;
  }
  return true;
}

// Why a limit of a rule does not hold for an argument (a tensor or numbers); "" when it does.
std::string against_limit(const std::string& limit, const at::Tensor* tensor,
                          const std::vector<int64_t>& numbers,
                          const std::vector<Argument>& arguments) {
  const auto last = [&](const char* prefix) { return limit.substr(std::string(prefix).size()); };
  const auto starts = [&](const char* prefix) { return limit.rfind(prefix, 0) == 0; };
  std::string problem;
  if (starts("each ")) {
    for (const int64_t number : numbers)
      if (problem.empty()) problem = outside(last("each "), number, "the value");
  } else if (starts("sizes ") && tensor != nullptr) {
    for (const int64_t size : tensor->sizes())
      if (problem.empty()) problem = outside(last("sizes "), size, "the size");
  } else if (starts("same dtype as ") && tensor != nullptr) {
    const auto* other = argument(arguments, last("same dtype as "));
    if (other != nullptr && !other->tensors.empty() &&
        other->tensors[0].scalar_type() != tensor->scalar_type())
      problem = std::string(dtype_name(tensor->scalar_type())) + " is not the dtype of " +
                other->name + ", " + dtype_name(other->tensors[0].scalar_type());
  } else if (starts("dtype or float32 of ") && tensor != nullptr) {
    const auto* other = argument(arguments, last("dtype or float32 of "));
    if (other != nullptr && !other->tensors.empty() && tensor->scalar_type() != at::kFloat &&
        other->tensors[0].scalar_type() != tensor->scalar_type())
      problem = std::string(dtype_name(tensor->scalar_type())) +
                " is neither float32 nor the dtype of " + other->name + ", " +
                dtype_name(other->tensors[0].scalar_type());
  } else if (starts("broadcasts with ") && tensor != nullptr) {
    const auto* other = argument(arguments, last("broadcasts with "));
    if (other != nullptr && !other->tensors.empty() &&
        !broadcasts(tensor->sizes(), other->tensors[0].sizes()))
      problem = "its shape does not broadcast with that of " + other->name;
  } else if (starts("at most half of ") || starts("at most ") || starts("same value as ")) {
    const bool half = starts("at most half of "), same = starts("same value as ");
    const std::string name = last(half ? "at most half of " : same ? "same value as " : "at most ");
    const auto* other = argument(arguments, name);
    for (size_t i = 0; other != nullptr && !other->numbers.empty() && i < numbers.size(); ++i) {
      const int64_t bound = other->numbers[std::min(i, other->numbers.size() - 1)];
      if (same ? numbers[i] != bound : numbers[i] > (half ? bound / 2 : bound))
        return "the value " + std::to_string(numbers[i]) + " is not " +
               (half   ? "at most half of "
                : same ? "the same as "
                       : "at most ") +
               name + ", " + std::to_string(bound);
    }
  }
  return problem;
}

std::string against(const Rule& rule, const Argument& given,
                    const std::vector<Argument>& arguments) {
  for (const auto& tensor : given.tensors) {
    const std::string dtype = dtype_name(tensor.scalar_type());
    if (!rule.dtypes.empty() &&
        std::find(rule.dtypes.begin(), rule.dtypes.end(), dtype) == rule.dtypes.end())
      return dtype + " is none of " + listed(rule.dtypes);
    if (rule.most_rank >= 0 && (tensor.dim() < rule.least_rank || tensor.dim() > rule.most_rank))
      return std::to_string(tensor.dim()) + " dimensions are not in " +
             std::to_string(rule.least_rank) + ".." + std::to_string(rule.most_rank);
    const auto problem = against_limit(rule.limit, &tensor, {}, arguments);
    if (!problem.empty()) return problem;
  }
  return against_limit(rule.limit, nullptr, given.numbers, arguments);
}

}  // namespace

int refused(const char* name, std::initializer_list<Passed> passed) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = rules.find(name);
  if (found == rules.end()) return 0;
  std::vector<Argument> arguments;
  for (const auto& one : passed) arguments.push_back(seen(one));
  for (const auto& rule : found->second) {
    const auto* given = argument(arguments, rule.argument);
    if (given == nullptr) continue;
    const std::string problem = against(rule, *given, arguments);
    if (problem.empty() || contract_is_waived(name)) continue;
    set_error("EZ1001: EMULATED NPU: aclnn" + std::string(name) + " refuses " + rule.argument +
              ": " + problem + " (" + rule.source + ")");
    return rule.code;
  }
  return 0;
}

}  // namespace emulator

// Replaces the rules: a line each, fields separated by tabs, as contract.py writes them.  Returns
// 0, or the number (from 1) of the line that was not understood.
EMULATOR_API int harness_emulator_set_contract(const char* text) {
  std::unordered_map<std::string, std::vector<emulator::Rule>> parsed;
  int number = 0;
  for (const auto& line : emulator::parts(text, '\n')) {
    ++number;
    const auto fields = emulator::parts(line, '\t');
    if (fields.size() != 8) return number;
    emulator::Rule rule;
    rule.argument = fields[1];
    rule.dtypes = emulator::parts(fields[2], ' ');
    rule.least_rank = std::stoll(fields[3]);
    rule.most_rank = std::stoll(fields[4]);
    rule.limit = fields[5];
    rule.code = std::stoi(fields[6]);
    rule.source = fields[7];
    parsed[fields[0]].push_back(rule);
  }
  std::lock_guard<std::mutex> lock(emulator::mutex);
  emulator::rules = std::move(parsed);
  return 0;
}
