// What the plans of cuBLASLt and cuDNN share.
#pragma once

#include <cstdlib>
#include <string>

#include "core/view.h"

namespace tenon::cuda {

// Something of a library's that is destroyed by a function of its own.
template <typename T, typename Status>
class Owned {
 public:
  explicit Owned(Status (*destroy)(T)) : destroy_(destroy) {}
  ~Owned() {
    if (value_ != nullptr) destroy_(value_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  T* out() { return &value_; }
  operator T() const { return value_; }

 private:
  T value_ = nullptr;
  Status (*destroy_)(T);
};

// Whether float32 may be multiplied in TF32, which keeps 10 bits of the fraction.
inline bool tf32_allowed() {
  const char* const value = std::getenv("TENON_TF32");
  return value != nullptr && std::string(value) == "1";
}

// What a view takes of scratch memory that is given out in parts.
inline size_t scratch_bytes(const View& x) {
  constexpr size_t kAligned = 256;
  return (static_cast<size_t>(x.numel()) * size_of(x.dtype) + kAligned - 1) / kAligned * kAligned;
}

}  // namespace tenon::cuda
