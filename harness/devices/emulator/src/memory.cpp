// Device memory: anonymous mappings of the host, accounted per device, with every address that a
// copy or an operator uses checked against the live allocations.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <sstream>

#include "acl/acl.h"
#include "control.h"
#include "runtime.h"

namespace emulator {
namespace {

struct Block {
  size_t bytes = 0;   // as asked for: the limit of what may be touched
  size_t mapped = 0;  // as mapped and accounted
  int device = 0;
};
struct Usage {
  size_t used = 0;
  size_t peak = 0;
};

std::mutex mutex;
std::map<uintptr_t, Block> live;
std::map<uintptr_t, size_t> freed;  // start -> bytes, of ranges that were not handed out again
std::map<uintptr_t, size_t> host_blocks;
Usage usage[kMaxDevices];

// CANN rounds device allocations up; a page is what a mapping has to be anyway.
constexpr size_t kGranule = 4096;

size_t rounded(size_t bytes) {
  return std::max(kGranule, (bytes + kGranule - 1) / kGranule * kGranule);
}

// Takes a piece of a freed range, or new address space; nullptr when the host has none.
void* take_range(size_t bytes) {
  for (auto it = freed.begin(); it != freed.end(); ++it) {
    if (it->second < bytes) continue;
    const auto [start, length] = *it;
    auto* piece = reinterpret_cast<void*>(start);
    if (mprotect(piece, bytes, PROT_READ | PROT_WRITE) != 0) return nullptr;
    freed.erase(it);
    if (length > bytes) freed[start + bytes] = length - bytes;
    return piece;
  }
  void* piece = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return piece == MAP_FAILED ? nullptr : piece;
}

// Gives the pages back and keeps the addresses: the host never gets an address that once was the
// device's, and an access that escaped the checks is a fault and not a silent reading.
void give_back_range(uintptr_t start, size_t bytes) {
  mmap(reinterpret_cast<void*>(start), bytes, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  freed[start] = bytes;
}

std::string hex(const void* address) {
  std::ostringstream text;
  text << address;
  return text.str();
}

std::string range_problem_locked(const void* address, size_t bytes) {
  if (bytes == 0) return "";
  const auto start = reinterpret_cast<uintptr_t>(address);
  auto it = live.upper_bound(start);
  if (it != live.begin()) {
    --it;
    const size_t offset = start - it->first;
    if (offset < std::max<size_t>(it->second.mapped, 1)) {
      if (offset + bytes <= it->second.bytes) return "";
      return "access beyond the buffer: " + std::to_string(bytes) + " bytes at offset " +
             std::to_string(offset) + " of an allocation of " + std::to_string(it->second.bytes) +
             " bytes";
    }
  }
  auto gone = freed.upper_bound(start);
  if (gone != freed.begin()) {
    --gone;
    if (start < gone->first + gone->second) return "use after free: " + hex(address);
  }
  return "not device memory: " + hex(address);
}

aclError fail(aclError code, const std::string& text) {
  set_error("EMULATED NPU: " + text);
  return code;
}

aclError allocate(void** pointer, size_t bytes) {
  if (pointer == nullptr) return fail(ACL_ERROR_RT_PARAM_INVALID, "aclrtMalloc without a pointer");
  *pointer = nullptr;
  const int device = current_device();
  if (device < 0) return fail(ACL_ERROR_RT_CONTEXT_NULL, "aclrtMalloc before aclrtSetDevice");
  if (const int code = act_on_control_faults(begin_operator("Malloc"), "Malloc")) return code;
  const size_t mapped = rounded(bytes);
  std::lock_guard<std::mutex> lock(mutex);
  if (mapped > options().memory_bytes - usage[device].used) {
    return fail(ACL_ERROR_RT_MEMORY_ALLOCATION,
                "EL0004: device " + std::to_string(device) +
                    " is out of memory: " + std::to_string(bytes) + " bytes asked for, " +
                    std::to_string(options().memory_bytes - usage[device].used) + " of " +
                    std::to_string(options().memory_bytes) + " free");
  }
  void* memory = take_range(mapped);
  if (memory == nullptr) return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "the host is out of memory");
  const auto start = reinterpret_cast<uintptr_t>(memory);
  live[start] = Block{bytes, mapped, device};
  usage[device].used += mapped;
  usage[device].peak = std::max(usage[device].peak, usage[device].used);
  *pointer = memory;
  return ACL_SUCCESS;
}

aclError copy(void* to, size_t capacity, const void* from, size_t bytes, aclrtMemcpyKind kind) {
  if (bytes == 0) return ACL_SUCCESS;
  if (to == nullptr || from == nullptr) return fail(ACL_ERROR_RT_PARAM_INVALID, "copy of nullptr");
  if (bytes > capacity)
    return fail(
        ACL_ERROR_RT_PARAM_INVALID,
        "copy of " + std::to_string(bytes) + " bytes into a buffer of " + std::to_string(capacity));
  const bool device_target =
      kind == ACL_MEMCPY_HOST_TO_DEVICE || kind == ACL_MEMCPY_DEVICE_TO_DEVICE;
  const bool device_source =
      kind == ACL_MEMCPY_DEVICE_TO_HOST || kind == ACL_MEMCPY_DEVICE_TO_DEVICE;
  if (device_target) {
    const auto problem = device_range_problem(to, bytes);
    if (!problem.empty()) return fail(ACL_ERROR_RT_PARAM_INVALID, "copy target: " + problem);
  }
  if (device_source) {
    const auto problem = device_range_problem(from, bytes);
    if (!problem.empty()) return fail(ACL_ERROR_RT_PARAM_INVALID, "copy source: " + problem);
  }
  memmove(to, from, bytes);
  return ACL_SUCCESS;
}

aclError fill(void* target, size_t capacity, int32_t value, size_t bytes) {
  if (bytes > capacity)
    return fail(ACL_ERROR_RT_PARAM_INVALID, "memset of " + std::to_string(bytes) +
                                                " bytes into a buffer of " +
                                                std::to_string(capacity));
  const auto problem = device_range_problem(target, bytes);
  if (!problem.empty()) return fail(ACL_ERROR_RT_PARAM_INVALID, "memset: " + problem);
  memset(target, value, bytes);
  return ACL_SUCCESS;
}

aclError check_stream(aclrtStream stream) {
  if (stream_is_live(stream)) return ACL_SUCCESS;
  return fail(ACL_ERROR_RT_PARAM_INVALID, "unknown or destroyed stream");
}

}  // namespace

std::string device_range_problem(const void* address, size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex);
  return range_problem_locked(address, bytes);
}

}  // namespace emulator

using namespace emulator;

EMULATOR_API aclError aclrtMalloc(void** pointer, size_t bytes, aclrtMemMallocPolicy) {
  return allocate(pointer, bytes);
}
EMULATOR_API aclError aclrtMallocAlign32(void** pointer, size_t bytes, aclrtMemMallocPolicy) {
  return allocate(pointer, bytes);
}
EMULATOR_API aclError aclrtFree(void* pointer) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto start = reinterpret_cast<uintptr_t>(pointer);
  const auto it = live.find(start);
  if (it == live.end()) {
    const bool twice = freed.count(start) != 0;
    return fail(
        ACL_ERROR_RT_PARAM_INVALID,
        (twice ? "double free: " : "free of an address that was not allocated: ") + hex(pointer));
  }
  usage[it->second.device].used -= it->second.mapped;
  give_back_range(start, it->second.mapped);
  live.erase(it);
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtMallocHost(void** pointer, size_t bytes) {
  if (pointer == nullptr) return ACL_ERROR_RT_PARAM_INVALID;
  if (posix_memalign(pointer, 512, std::max<size_t>(bytes, 512)) != 0)
    return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "the host is out of memory");
  std::lock_guard<std::mutex> lock(mutex);
  host_blocks[reinterpret_cast<uintptr_t>(*pointer)] = bytes;
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtFreeHost(void* pointer) {
  std::lock_guard<std::mutex> lock(mutex);
  if (host_blocks.erase(reinterpret_cast<uintptr_t>(pointer)) == 0)
    return fail(ACL_ERROR_RT_PARAM_INVALID,
                "aclrtFreeHost of an address that is not host memory of CANN: " + hex(pointer));
  free(pointer);
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtGetMemInfo(aclrtMemAttr, size_t* free_bytes, size_t* total) {
  const int device = current_device();
  if (device < 0) return ACL_ERROR_RT_CONTEXT_NULL;
  std::lock_guard<std::mutex> lock(mutex);
  *total = options().memory_bytes;
  *free_bytes = options().memory_bytes - usage[device].used;
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtMemcpy(void* to, size_t capacity, const void* from, size_t bytes,
                                  aclrtMemcpyKind kind) {
  return copy(to, capacity, from, bytes, kind);
}
EMULATOR_API aclError aclrtMemcpyAsync(void* to, size_t capacity, const void* from, size_t bytes,
                                       aclrtMemcpyKind kind, aclrtStream stream) {
  if (const auto code = check_stream(stream)) return code;
  return copy(to, capacity, from, bytes, kind);
}
EMULATOR_API aclError aclrtMemset(void* target, size_t capacity, int32_t value, size_t bytes) {
  return fill(target, capacity, value, bytes);
}
EMULATOR_API aclError aclrtMemsetAsync(void* target, size_t capacity, int32_t value, size_t bytes,
                                       aclrtStream stream) {
  if (const auto code = check_stream(stream)) return code;
  return fill(target, capacity, value, bytes);
}

EMULATOR_API int harness_emulator_memory(int device, uint64_t* used, uint64_t* peak) {
  if (device < 0 || device >= options().count) return 1;
  std::lock_guard<std::mutex> lock(mutex);
  *used = usage[device].used;
  *peak = usage[device].peak;
  return 0;
}
