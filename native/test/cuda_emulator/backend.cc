// CUDA's kernels on the emulator as the backend under test. Threads and blocks take their turns in a new order at each
// launch, so that a test which repeats a call and compares bits also shows that no result hangs on the order.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "backend/cuda/data_error.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/launch.h"
#include "test/kernel_testing.h"

namespace tenon::testing {

namespace {

// But for the tests of tuning, products take the library's first proposal: emulated ones are slow to time.
[[maybe_unused]] const int untuned = setenv("TENON_CUDA_TUNE", "0", 1);

// The tests that both backends share are for the kernels of every GPU; attention_hopper_test.cc is for Hopper's.
[[maybe_unused]] const int everywhere = setenv("TENON_CUDA_HOPPER", "0", 1);

class EmulatedQueue : public cuda::Queue {
 public:
  EmulatedQueue() { emulator::set_order(emulator::Order::Shuffled); }
  cudaStream_t stream() override { return nullptr; }
  int multiprocessors() const override { return 3; }
  bool capturing() const override { return false; }
  const double* random() const override { return nullptr; }
  void* scratch(size_t bytes) override {
    scratch_.emplace_back(new (kAlignment) unsigned char[bytes]);  // the exact size: its end is guarded
    std::memset(scratch_.back().get(), 0xff, bytes);
    return scratch_.back().get();
  }
  void free_scratch() { scratch_.clear(); }
  cuda::DataError* data_error() override { return &data_error_; }

 private:
  static constexpr std::align_val_t kAlignment{256};
  struct Free {
    void operator()(unsigned char* bytes) const { ::operator delete[](bytes, kAlignment); }
  };
  std::vector<std::unique_ptr<unsigned char[], Free>> scratch_;
  cuda::DataError data_error_{};
};

EmulatedQueue& queue() {
  static EmulatedQueue instance;
  return instance;
}

}  // namespace

const Kernels& kernels() { return cuda::kernels(); }
void* stream() { return static_cast<cuda::Queue*>(&queue()); }
void wait() {
  queue().free_scratch();
  queue().data_error()->raise();
}

bool emulated() { return true; }
void in_every_way(DType, const std::function<void()>& body) { body(); }

}  // namespace tenon::testing
