// What the runtime tells the other parts of libascendcl.
#pragma once

namespace emulator {

constexpr int kMaxDevices = 16;

// The device of the calling thread, -1 before aclrtSetDevice.
int current_device();

}  // namespace emulator
