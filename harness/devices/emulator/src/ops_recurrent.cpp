// Recurrent layers, forward.
#include "common.h"

using namespace emulator;

namespace {

std::vector<at::Tensor> wide_items(List list) {
  std::vector<at::Tensor> values;
  if (list == nullptr) return values;
  for (const at::Tensor& value : in(list)) values.push_back(wide(value));
  return values;
}

}  // namespace

// What training needs beside the results (the gates of every step) is left unwritten: its own
// backward operator is missing.
OP(LSTM,
   P(T input, List params, List hx, T batch_sizes, bool has_biases, int64_t num_layers, double,
     bool, bool bidirectional, bool batch_first, T output, T hy, T cy, List, List, List, List, List,
     List, List),
   {
     const at::Tensor x = wide(in(input));
     const auto weights = wide_items(params);
     auto states = wide_items(hx);
     if (states.empty()) {  // both are 0
       const int64_t items = batch_sizes != nullptr ? in(batch_sizes).flatten()[0].item<int64_t>()
                                                    : x.size(batch_first ? 0 : 1);
       const int64_t layers = num_layers * (bidirectional ? 2 : 1);
       states.assign(2, at::zeros({layers, items, weights[1].size(1)}, x.options()));
     }
     const auto result = batch_sizes != nullptr
                             ? at::lstm(x, in(batch_sizes).to(at::kLong), states, weights,
                                        has_biases, num_layers, 0, false, bidirectional)
                             : at::lstm(x, states, weights, has_biases, num_layers, 0, false,
                                        bidirectional, batch_first);
     put(output, std::get<0>(result));
     put(hy, std::get<1>(result));
     put(cy, std::get<2>(result));
   })
