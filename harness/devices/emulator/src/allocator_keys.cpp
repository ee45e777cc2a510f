// Lets libtorch_npu load beside a CUDA build of torch.  libc10 keeps the names of the allocator
// settings that devices have registered, and refuses a name that comes twice.  A CUDA build
// registers its names when it loads; a libtorch_npu that registers its own
// (registerDeviceConfigParserHook) shares some of them, and the process aborts.  Without the
// names of CUDA, whose allocator nothing uses here, there is nothing to clash with.
#include <dlfcn.h>

#include <string>
#include <unordered_set>

#include "control.h"

#define GET_MUTABLE_KEYS \
  "N3c1016CachingAllocator26AcceleratorAllocatorConfig14getMutableKeysB5cxx11Ev"

// Number of names forgotten; -1 when this libc10 has no such set that can be found.
EMULATOR_API int harness_emulator_forget_allocator_keys() {
  using Keys = std::unordered_set<std::string>;
  void* c10 = dlopen("libc10.so", RTLD_LAZY | RTLD_NOLOAD);
  if (c10 == nullptr) return -1;
  Keys* keys = nullptr;
  if (void* function = dlsym(c10, "_Z" GET_MUTABLE_KEYS)) {
    keys = &reinterpret_cast<Keys& (*)()>(function)();
  } else {  // inline before torch 2.13: its static variable is what the libraries share
    keys = static_cast<Keys*>(dlsym(c10, "_ZZ" GET_MUTABLE_KEYS "E4keys"));
  }
  if (keys == nullptr) return -1;
  const int count = static_cast<int>(keys->size());
  keys->clear();
  return count;
}
