// Scratch that kernels keep from call to call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "hwy/aligned_allocator.h"

namespace tenon::cpu {

// Memory that only grows, at the start of a cache line. Each thread has its own.
class ScratchBuffer {
 public:
  template <typename T>
  T* reserve(int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    if (bytes > size_) {
      size_ = 0;
      memory_ = hwy::AllocateAligned<char>(bytes);
      if (!memory_) throw std::bad_alloc();
      size_ = bytes;
    }
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  hwy::AlignedFreeUniquePtr<char[]> memory_;
  size_t size_ = 0;
};

}  // namespace tenon::cpu
