// CUDA's kernels on the emulator as the backend under test. Threads and blocks take their turns in a new order at each
// launch, so that a test which repeats a call and compares bits also shows that no result hangs on the order.
#include <cstring>
#include <memory>

#include "backend/cuda/data_error.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/launch.h"
#include "test/kernel_testing.h"

namespace tenon::testing {

namespace {

class EmulatedQueue : public cuda::Queue {
 public:
  EmulatedQueue() { emulator::set_order(emulator::Order::Shuffled); }
  cudaStream_t stream() override { return nullptr; }
  int multiprocessors() const override { return 3; }
  void* scratch(size_t bytes) override {
    scratch_ = std::make_unique<unsigned char[]>(bytes);  // the exact size: its end is guarded
    std::memset(scratch_.get(), 0xff, bytes);
    return scratch_.get();
  }
  cuda::DataError* data_error() override { return &data_error_; }

 private:
  std::unique_ptr<unsigned char[]> scratch_;
  cuda::DataError data_error_{};
};

EmulatedQueue& queue() {
  static EmulatedQueue instance;
  return instance;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels k;
    k.attention = &cuda::attention;
    k.attention_backward = &cuda::attention_backward;
    k.attention_rows = &cuda::attention_rows;
    k.fill = &cuda::fill;
    k.arange = &cuda::arange;
    k.copy = &cuda::copy;
    k.unary = &cuda::unary;
    k.binary = &cuda::binary;
    k.where = &cuda::where;
    k.reduce = &cuda::reduce;
    k.cumsum = &cuda::cumsum;
    k.topk = &cuda::topk;
    k.index_select = &cuda::index_select;
    k.index_add = &cuda::index_add;
    k.gather = &cuda::gather;
    k.scatter_add = &cuda::scatter_add;
    k.one_hot = &cuda::one_hot;
    k.layer_norm = &cuda::layer_norm;
    k.layer_norm_backward = &cuda::layer_norm_backward;
    k.cross_entropy = &cuda::cross_entropy;
    k.logsumexp = &cuda::logsumexp;
    k.adam = &cuda::adam;
    k.clip = &cuda::clip;
    k.global_norm = &cuda::global_norm;
    k.lerp = &cuda::lerp;
    k.sgd = &cuda::sgd;
    k.softmax = &cuda::softmax;
    k.softmax_backward = &cuda::softmax_backward;
    return k;
  }();
  return table;
}

void* stream() { return static_cast<cuda::Queue*>(&queue()); }
void wait() { queue().data_error()->raise(); }

bool emulated() { return true; }

}  // namespace tenon::testing
