// Initialisation, devices, contexts, streams, events, options and versions.
// Everything runs synchronously: a stream is only a name, an event only a time.
#include "runtime.h"

#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "acl/acl.h"
#include "acl/acl_op_compiler.h"
#include "control.h"

using namespace emulator;

namespace {

using Clock = std::chrono::steady_clock;

struct Context {
  int device = 0;
};
struct Stream {
  int id = 0;
};
struct Event {
  Clock::time_point time;
  bool recorded = false;
};

thread_local int device_of_thread = -1;
Context contexts[kMaxDevices];
std::mutex handles_mutex;
std::set<const void*> streams;
std::set<const void*> events;
std::atomic<int> next_stream_id{1};

aclError fail(const char* text) {
  set_error(std::string("EMULATED NPU: ") + text);
  return ACL_ERROR_RT_PARAM_INVALID;
}

aclError create_stream(aclrtStream* stream) {
  if (stream == nullptr) return fail("aclrtCreateStream without a pointer");
  *stream = new Stream{next_stream_id++};
  std::lock_guard<std::mutex> lock(handles_mutex);
  streams.insert(*stream);
  return ACL_SUCCESS;
}

aclError destroy_stream(aclrtStream stream) {
  {
    std::lock_guard<std::mutex> lock(handles_mutex);
    if (streams.erase(stream) == 0) return fail("unknown or destroyed stream");
  }
  delete static_cast<Stream*>(stream);
  return ACL_SUCCESS;
}

aclError create_event(aclrtEvent* event) {
  if (event == nullptr) return fail("aclrtCreateEvent without a pointer");
  *event = new Event;
  std::lock_guard<std::mutex> lock(handles_mutex);
  events.insert(*event);
  return ACL_SUCCESS;
}

aclError check_stream(aclrtStream stream) {
  return stream_is_live(stream) ? ACL_SUCCESS : fail("unknown or destroyed stream");
}

aclError check_event(aclrtEvent event) {
  std::lock_guard<std::mutex> lock(handles_mutex);
  return events.count(event) ? ACL_SUCCESS : fail("unknown or destroyed event");
}

}  // namespace

namespace emulator {

int current_device() { return device_of_thread; }

bool stream_is_live(const void* stream) {
  if (stream == nullptr) return true;
  std::lock_guard<std::mutex> lock(handles_mutex);
  return streams.count(stream) != 0;
}

}  // namespace emulator

// ---- initialisation, devices and contexts
EMULATOR_API aclError aclInit(const char*) { return ACL_SUCCESS; }
EMULATOR_API aclError aclFinalize() { return ACL_SUCCESS; }
EMULATOR_API const char* aclrtGetSocName() { return options().soc.c_str(); }
EMULATOR_API aclError aclrtGetDeviceCount(uint32_t* count) {
  *count = static_cast<uint32_t>(options().count);
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtGetDevice(int32_t* device) {
  if (device_of_thread < 0) return ACL_ERROR_RT_CONTEXT_NULL;
  *device = device_of_thread;
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtSetDevice(int32_t device) {
  if (device < 0 || device >= options().count) return fail("no such device");
  device_of_thread = device;
  contexts[device].device = device;
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtResetDevice(int32_t) { return ACL_SUCCESS; }
EMULATOR_API aclError aclrtGetCurrentContext(aclrtContext* context) {
  if (device_of_thread < 0) return ACL_ERROR_RT_CONTEXT_NULL;
  *context = &contexts[device_of_thread];
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtSetCurrentContext(aclrtContext context) {
  if (context == nullptr) return fail("aclrtSetCurrentContext without a context");
  device_of_thread = static_cast<Context*>(context)->device;
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtGetPrimaryCtxState(int32_t, uint32_t*, int32_t* active) {
  if (active != nullptr) *active = device_of_thread >= 0;
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtSynchronizeDevice() { return ACL_SUCCESS; }
EMULATOR_API aclError aclrtSynchronizeDeviceWithTimeout(int32_t) { return ACL_SUCCESS; }
EMULATOR_API aclError aclGetDeviceCapability(uint32_t, aclDeviceInfo, int64_t* value) {
  *value = 24;  // cores; nothing here computes with it
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtDeviceCanAccessPeer(int32_t* can, int32_t, int32_t) {
  *can = 1;
  return ACL_SUCCESS;
}

// ---- streams
EMULATOR_API aclError aclrtCreateStream(aclrtStream* stream) { return create_stream(stream); }
EMULATOR_API aclError aclrtCreateStreamWithConfig(aclrtStream* stream, uint32_t, uint32_t) {
  return create_stream(stream);
}
EMULATOR_API aclError aclrtDestroyStream(aclrtStream stream) { return destroy_stream(stream); }
EMULATOR_API aclError aclrtDestroyStreamForce(aclrtStream stream) { return destroy_stream(stream); }
EMULATOR_API aclError aclrtSynchronizeStream(aclrtStream stream) { return check_stream(stream); }
EMULATOR_API aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t) {
  return check_stream(stream);
}
EMULATOR_API aclError aclrtStreamQuery(aclrtStream stream, aclrtStreamStatus* status) {
  *status = ACL_STREAM_STATUS_COMPLETE;
  return check_stream(stream);
}
EMULATOR_API aclError aclrtSetStreamFailureMode(aclrtStream stream, uint64_t) {
  return check_stream(stream);
}
EMULATOR_API aclError aclrtStreamGetId(aclrtStream stream, int32_t* id) {
  if (const auto code = check_stream(stream)) return code;
  *id = stream == nullptr ? 0 : static_cast<Stream*>(stream)->id;
  return ACL_SUCCESS;
}

// ---- events
EMULATOR_API aclError aclrtCreateEvent(aclrtEvent* event) { return create_event(event); }
EMULATOR_API aclError aclrtCreateEventWithFlag(aclrtEvent* event, uint32_t) {
  return create_event(event);
}
EMULATOR_API aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t) {
  return create_event(event);
}
EMULATOR_API aclError aclrtDestroyEvent(aclrtEvent event) {
  {
    std::lock_guard<std::mutex> lock(handles_mutex);
    if (events.erase(event) == 0) return fail("unknown or destroyed event");
  }
  delete static_cast<Event*>(event);
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
  if (const auto code = check_event(event)) return code;
  if (const auto code = check_stream(stream)) return code;
  static_cast<Event*>(event)->time = Clock::now();
  static_cast<Event*>(event)->recorded = true;
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtResetEvent(aclrtEvent event, aclrtStream) { return check_event(event); }
EMULATOR_API aclError aclrtSynchronizeEvent(aclrtEvent event) { return check_event(event); }
EMULATOR_API aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) {
  if (const auto code = check_stream(stream)) return code;
  return check_event(event);
}
EMULATOR_API aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus* status) {
  if (const auto code = check_event(event)) return code;
  *status = ACL_EVENT_RECORDED_STATUS_COMPLETE;
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtQueryEventWaitStatus(aclrtEvent event, aclrtEventWaitStatus* status) {
  if (const auto code = check_event(event)) return code;
  *status = ACL_EVENT_WAIT_STATUS_COMPLETE;
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtEventElapsedTime(float* ms, aclrtEvent start, aclrtEvent end) {
  if (const auto code = check_event(start)) return code;
  if (const auto code = check_event(end)) return code;
  const auto *first = static_cast<Event*>(start), *last = static_cast<Event*>(end);
  if (!first->recorded || !last->recorded)
    return fail("elapsed time of an event that was not recorded");
  *ms = std::chrono::duration<float, std::milli>(last->time - first->time).count();
  return ACL_SUCCESS;
}

// ---- modes and options
namespace {
std::mutex options_mutex;
std::map<int, int64_t> system_options;
}  // namespace
EMULATOR_API aclError aclrtSetDeviceSatMode(aclrtFloatOverflowMode) { return ACL_SUCCESS; }
EMULATOR_API aclError aclrtGetDeviceSatMode(aclrtFloatOverflowMode* mode) {
  *mode = ACL_RT_OVERFLOW_MODE_INFNAN;
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtSetOpExecuteTimeOut(uint32_t) { return ACL_SUCCESS; }
EMULATOR_API aclError aclrtSetOpWaitTimeout(uint32_t) { return ACL_SUCCESS; }
EMULATOR_API aclError aclrtCtxSetSysParamOpt(aclSysParamOpt, int64_t) { return ACL_SUCCESS; }
EMULATOR_API aclError aclrtGetSysParamOpt(aclSysParamOpt option, int64_t* value) {
  std::lock_guard<std::mutex> lock(options_mutex);
  *value = system_options[static_cast<int>(option)];
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclrtSetSysParamOpt(aclSysParamOpt option, int64_t value) {
  std::lock_guard<std::mutex> lock(options_mutex);
  system_options[static_cast<int>(option)] = value;
  return ACL_SUCCESS;
}

// ---- versions
EMULATOR_API aclError aclsysGetCANNVersion(aclCANNPackageName, aclCANNPackageVersion* version) {
  if (options().cann_version.empty()) return ACL_ERROR_INVALID_PARAM;
  memset(version, 0, sizeof *version);
  strncpy(version->version, options().cann_version.c_str(), sizeof version->version - 1);
  return ACL_SUCCESS;
}
EMULATOR_API aclError aclsysGetVersionStr(char*, char* text) {
  if (options().cann_version.empty()) return ACL_ERROR_INVALID_PARAM;
  strcpy(text, options().cann_version.c_str());
  return ACL_SUCCESS;
}

// ---- log
// torch_npu logs here, as far as ASCEND_GLOBAL_LOG_LEVEL lets it.  One message is of use: the
// symbol that it looked for and did not find.
EMULATOR_API void aclAppLog(aclLogLevel, const char*, const char*, uint32_t, const char* format,
                            ...) {
  if (format == nullptr || strstr(format, "dlsym") == nullptr) return;
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  const std::string message(text);
  const auto start = message.find("aclnn");
  if (start == std::string::npos || message.find("libopapi.so") == std::string::npos) return;
  std::string name = message.substr(start + 5, message.find_first_of(" ,", start) - start - 5);
  const std::string suffix = "GetWorkspaceSize";
  if (name.size() > suffix.size() &&
      name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0)
    name.resize(name.size() - suffix.size());
  note_missing(name);
}
