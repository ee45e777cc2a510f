// The fault kinds that concern no tensor.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "acl/acl.h"
#include "control.h"

namespace emulator {

int act_on_control_faults(const std::vector<Hit>& hits, const std::string& name) {
  for (const Hit& hit : hits) {
    const Fault& fault = *hit.fault;
    if (fault.kind == "slow") {
      mark_applied(hit);
      std::this_thread::sleep_for(std::chrono::duration<double>(fault.magnitude));
    } else if (fault.kind == "hang") {
      mark_applied(hit);
      for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
    } else if (fault.kind == "abort") {
      fprintf(stderr, "EMULATED NPU: planned abort in operator %s\n", name.c_str());
      std::abort();
    } else if (fault.kind == "error_code") {
      mark_applied(hit);
      set_error("EZ9999: Inner Error! EMULATED: planned device error " +
                std::to_string(fault.code) + " in operator " + name);
      return static_cast<int>(fault.code);
    } else if (fault.kind == "out_of_memory") {
      mark_applied(hit);
      set_error("EL0004: Failed to allocate memory. EMULATED: planned out of memory in operator " +
                name);
      return ACL_ERROR_RT_MEMORY_ALLOCATION;
    }
  }
  return ACL_SUCCESS;
}

}  // namespace emulator
