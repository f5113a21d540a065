// Copies from the host that overlap with kernels: through pinned memory on a stream of their own.
//
// Target memory may be in use by kernels that are queued (the allocator hands blocks out in program order), so the copy
// stream cannot write there. It fills a staging buffer on the device, and the compute stream moves that to the target in
// its turn, at the bandwidth of the device's memory.
#pragma once

#include <array>
#include <functional>
#include <utility>

#include "backend/cuda/handles.h"

namespace tenon::cuda {

class Uploads {
 public:
  // `make_room` gives back what nobody uses of the device's memory: called where there is none for a buffer.
  explicit Uploads(std::function<void()> make_room) : make_room_(std::move(make_room)) {}

  // In the order of `compute`. Returns when `source` has been read; waits only where all slots are on their way.
  void copy(cudaStream_t compute, void* target, const void* source, size_t bytes);

 private:
  struct Slot {
    PinnedMemory host;
    DeviceMemory device;
    size_t capacity = 0;
    EventHandle arrived = make_event();  // on the device
    EventHandle free = make_event();     // for the next upload
  };
  static constexpr size_t kSlots = 4;
  static constexpr size_t kMost = size_t{64} << 20;  // bytes in a slot

  Slot& next_slot(size_t bytes);
  DeviceMemory make_buffer(size_t bytes);

  std::function<void()> make_room_;
  StreamHandle stream_ = make_stream();
  std::array<Slot, kSlots> slots_;
  size_t next_ = 0;
};

}  // namespace tenon::cuda
