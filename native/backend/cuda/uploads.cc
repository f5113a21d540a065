#include "backend/cuda/uploads.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace tenon::cuda {

Uploads::Slot& Uploads::next_slot(size_t bytes) {
  Slot& slot = slots_[next_ % kSlots];
  check(cudaEventSynchronize(slot.free.get()), "upload");
  if (slot.capacity < bytes) {
    slot.capacity = 0;
    slot.host.reset();
    slot.device.reset();
    const size_t capacity = std::bit_ceil(std::max(bytes, size_t{1} << 16));
    slot.host = make_pinned_memory(capacity);
    slot.device = make_buffer(capacity);
    slot.capacity = capacity;
  }
  ++next_;
  return slot;
}

DeviceMemory Uploads::make_buffer(size_t bytes) {
  try {
    return make_device_memory(bytes);
  } catch (const TensorError& error) {
    if (error.code() != code::kMemory) throw;
  }
  make_room_();
  return make_device_memory(bytes);
}

void Uploads::copy(cudaStream_t compute, void* target, const void* source, size_t bytes) {
  auto* to = static_cast<char*>(target);
  const auto* from = static_cast<const char*>(source);
  while (bytes > 0) {
    const size_t part = std::min(bytes, kMost);
    Slot& slot = next_slot(part);
    std::memcpy(slot.host.get(), from, part);
    check(cudaMemcpyAsync(slot.device.get(), slot.host.get(), part, cudaMemcpyHostToDevice, stream_.get()),
          "upload");
    check(cudaEventRecord(slot.arrived.get(), stream_.get()), "upload");
    check(cudaStreamWaitEvent(compute, slot.arrived.get(), 0), "upload");
    check(cudaMemcpyAsync(to, slot.device.get(), part, cudaMemcpyDeviceToDevice, compute), "upload");
    check(cudaEventRecord(slot.free.get(), compute), "upload");
    to += part;
    from += part;
    bytes -= part;
  }
}

}  // namespace tenon::cuda
