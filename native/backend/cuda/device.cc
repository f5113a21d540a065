#include "backend/cuda/device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/kernels.h"
#include "backend/cuda/uploads.h"
#include "backend/cuda/waiter.h"

namespace tenon::cuda {

namespace {

// Forgets the error of the last call, and returns one that stays: a kernel has broken the device.
cudaError_t lasting_error() {
  static_cast<void>(cudaGetLastError());
  return cudaGetLastError();
}

class CudaMemory : public MemorySource {
 public:
  explicit CudaMemory(int device) : device_(device) {}
  void* acquire(size_t bytes) override {
    void* data = nullptr;
    check(cudaSetDevice(device_), "allocate");
    const cudaError_t status = cudaMalloc(&data, bytes);
    if (status == cudaErrorMemoryAllocation) {
      lasting_error();  // the next launch must not take it for its own
      return nullptr;
    }
    check(status, "allocate");
    return data;
  }
  void release(void* data, size_t) override {
    static_cast<void>(cudaSetDevice(device_));
    static_cast<void>(cudaFree(data));
  }
  std::optional<size_t> available() const override {
    size_t available = 0, total = 0;
    check(cudaMemGetInfo(&available, &total), "allocate");
    return available;
  }
  size_t alignment() const override {
    return 256;
  }  // of cudaMalloc, and what cuBLASLt wants of its workspace

 private:
  const int device_;
};

// Ops call it from one thread. Before it calls CUDA's runtime, that thread turns to this device: it may serve others.
class CudaDevice : public Device, private Queue {
 public:
  CudaDevice(int index, DeviceOptions options)
      : index_(index),
        options_(options),
        name_("cuda:" + std::to_string(index)),
        allocator_(std::make_unique<CudaMemory>(index),
                   [this] { static_cast<void>(cudaStreamSynchronize(stream_.get())); }),
        waiter_(index, name_) {
    check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, index), name_.c_str());
    check(cudaMemsetAsync(data_error_.get(), 0, sizeof(DataError), stream_.get()), name_.c_str());
  }
  ~CudaDevice() override {
    static_cast<void>(cudaSetDevice(index_));
    static_cast<void>(cudaStreamSynchronize(stream_.get()));
  }

  const std::string& name() const override { return name_; }
  Allocator& allocator() override { return allocator_; }
  const Kernels& kernels() const override { return cuda::kernels(); }

  void enqueue(const char* op, std::function<void(void*)> task) override {
    turn_to();
    note(op);
    try {
      task(static_cast<Queue*>(this));
    } catch (...) {
      free_scratch();
      // An error that stays is not of this launch, but of a kernel before it.
      if (const cudaError_t status = lasting_error(); status != cudaSuccess) {
        std::rethrow_exception(waiter_.fault(status, ops_));
      }
      throw;
    }
    free_scratch();
    if (options_.synchronous) synchronize();
  }

  void upload(void* target, const void* source, size_t bytes) override {
    turn_to();
    note("upload");
    uploads_.copy(stream_.get(), target, source, bytes);
  }

  void download(void* target, const void* source, size_t bytes,
                std::function<void(std::exception_ptr)> done) override {
    const std::vector<const char*> ops = std::exchange(ops_, {});
    try {
      turn_to();
      waiter_.wait(stream_.get(), data_error(), ops, target, source, bytes, done);
    } catch (...) {
      const cudaError_t status = lasting_error();
      done(status == cudaSuccess ? std::current_exception() : waiter_.fault(status, ops));
    }
  }

  void synchronize() override {
    std::promise<std::exception_ptr> settled;
    download(nullptr, nullptr, 0, [&](std::exception_ptr error) { settled.set_value(std::move(error)); });
    if (const std::exception_ptr error = settled.get_future().get()) std::rethrow_exception(error);
  }

 private:
  cudaStream_t stream() override { return stream_.get(); }
  int multiprocessors() const override { return multiprocessors_; }
  bool capturing() const override { return capturing_; }
  void* scratch(size_t bytes) override {
    scratch_.push_back(allocator_.allocate(bytes));
    return Allocator::data(scratch_.back());
  }
  DataError* data_error() override { return static_cast<DataError*>(data_error_.get()); }

  void turn_to() const { check(cudaSetDevice(index_), name_.c_str()); }

  // What may have failed when the next wait fails: each op once, so that a loop which never waits stays small.
  void note(const char* op) {
    if (std::find(ops_.rbegin(), ops_.rend(), op) == ops_.rend()) ops_.push_back(op);
  }

  // In program order, as all memory: whoever gets the block next is queued behind those that use it.
  void free_scratch() {
    for (Allocator::Block* block : scratch_) allocator_.free(block);
    scratch_.clear();
  }

  const int index_;
  const DeviceOptions options_;
  const std::string name_;
  int multiprocessors_ = 0;
  bool capturing_ = false;
  StreamHandle stream_ = (turn_to(), make_stream());
  DeviceMemory data_error_ = make_device_memory(sizeof(DataError));
  Uploads uploads_;
  Allocator allocator_;
  std::vector<Allocator::Block*> scratch_;
  std::vector<const char*> ops_;  // since the last wait
  Waiter waiter_;                 // last, so that it has settled everything before the memory goes
};

}  // namespace

DeviceOptions default_options() {
  const char* text = std::getenv("TENON_CUDA_SYNC");
  return {.synchronous = text != nullptr && std::strcmp(text, "1") == 0};
}

std::unique_ptr<Device> make_device(int index, DeviceOptions options) {
  return std::make_unique<CudaDevice>(index, options);
}

}  // namespace tenon::cuda
