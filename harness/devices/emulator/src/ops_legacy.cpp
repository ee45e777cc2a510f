// What torch_npu still asks the old operator interface for: celu in place, and LSTM of several
// layers, two directions or without bias.
#include <ATen/core/grad_mode.h>

#include "common.h"

using namespace emulator;

namespace {

at::Tensor memory_of(const LegacyTensor& tensor) {
  return at::from_blob(tensor.data, tensor.shape, scalar_type(tensor.type));
}

// Inputs: x [steps, items, input size], weight [input size + hidden size, 4 gates], bias, lengths
// (of packed sequences, not emulated), first h and c [1, items, hidden size].  Outputs: result, h
// and c of every step; the gates after them are for the backward operator, which is missing.
bool dynamic_rnn(const LegacyCall& call) {
  if (call.inputs.size() != 6 || call.inputs[3].data != nullptr) return false;
  const at::Tensor x = wide(memory_of(call.inputs[0])), weight = wide(memory_of(call.inputs[1]));
  at::Tensor h = wide(memory_of(call.inputs[4]))[0], c = wide(memory_of(call.inputs[5]))[0];
  const int64_t steps = x.size(0), size = x.size(2), hidden = h.size(1);
  const at::Tensor inner = weight.narrow(0, size, hidden);
  const at::Tensor of_input =
      at::matmul(x, weight.narrow(0, 0, size)) + wide(memory_of(call.inputs[2]));
  const auto order = call.texts.find("gate_order"), direction = call.texts.find("direction");
  const std::string gates = order == call.texts.end() ? "ijfo" : order->second;
  const bool backwards = direction != call.texts.end() && direction->second == "REDIRECTIONAL";
  const at::Tensor outputs[] = {memory_of(call.outputs[0]), memory_of(call.outputs[1]),
                                memory_of(call.outputs[2])};
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t now = backwards ? steps - 1 - step : step;
    const at::Tensor all = of_input[now] + at::matmul(h, inner);
    const auto gate = [&](char name) {
      return all.narrow(1, static_cast<int64_t>(gates.find(name)) * hidden, hidden);
    };
    c = gate('f').sigmoid() * c + gate('i').sigmoid() * gate('j').tanh();
    h = gate('o').sigmoid() * c.tanh();
    outputs[0][now].copy_(h), outputs[1][now].copy_(h), outputs[2][now].copy_(c);
  }
  return true;
}

bool celu(const LegacyCall& call) {
  const auto alpha = call.numbers.find("alpha");
  memory_of(call.outputs[0])
      .copy_(at::celu(wide(memory_of(call.inputs[0])),
                      alpha == call.numbers.end() ? 1.0f : alpha->second));
  return true;
}

const bool is_set = (set_legacy_operators([](const LegacyCall& call) {
                       const at::NoGradGuard no_grad;
                       if (call.op == "CeluV2") return celu(call);
                       return call.op == "DynamicRNN" && dynamic_rnn(call);
                     }),
                     true);

}  // namespace
