#include "backend/cuda/device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/kernels.h"
#include "backend/cuda/uploads.h"
#include "backend/cuda/waiter.h"

namespace tenon::cuda {

namespace {

class CudaMemory : public MemorySource {
 public:
  explicit CudaMemory(int device) : device_(device) {}
  void* acquire(size_t bytes) override {
    void* data = nullptr;
    check(cudaSetDevice(device_), "allocate");
    const cudaError_t status = cudaMalloc(&data, bytes);
    if (status == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());  // the next launch must not take it for its own
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
    check(cudaSetDevice(device_), "allocate");
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
                   [this] {
                     if (capturing()) std::rethrow_exception(refusal("releaseCachedMemory", kNoWait));
                     static_cast<void>(cudaStreamSynchronize(stream_.get()));
                   }),
        waiter_(index, name_) {
    check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, index), name_.c_str());
    check(cudaMemsetAsync(data_error_.get(), 0, sizeof(DataError), stream_.get()), name_.c_str());
  }
  ~CudaDevice() override {
    static_cast<void>(cudaSetDevice(index_));
    static_cast<void>(cudaStreamSynchronize(stream_.get()));
    // The libraries' handles have used the stream, and go before it.
    matmul_plans.reset();
    conv2d_plans.reset();
  }

  const std::string& name() const override { return name_; }
  Allocator& allocator() override { return allocator_; }
  const Kernels& kernels() const override { return cuda::kernels(); }

  void enqueue(const char* op, std::function<void(void*)> task) override {
    turn_to();
    if (!capturing()) note(op);
    try {
      task(static_cast<Queue*>(this));
    } catch (...) {
      free_scratch();
      if (capturing() && !refused_) refused_ = std::current_exception();
      throw_lasting_error();
      throw;
    }
    free_scratch();
    if (options_.synchronous) synchronize();
  }

  void upload(void* target, const void* source, size_t bytes) override {
    if (capturing()) {
      std::rethrow_exception(refusal(
          "tensor",
          "expected no values from the host in a captured step; pass the tensor to it as an argument"));
    }
    turn_to();
    note("upload");
    try {
      uploads_.copy(stream_.get(), target, source, bytes);
    } catch (...) {
      throw_lasting_error();
      throw;
    }
  }

  void download(void* target, const void* source, size_t bytes,
                std::function<void(std::exception_ptr)> done) override {
    if (capturing()) {
      return done(bytes == 0 ? refusal("synchronize", kNoWait)
                             : refusal("data",
                                       "expected no values to be read in a captured step; return the tensor, "
                                       "and read it then"));
    }
    const std::vector<const char*> ops = std::exchange(ops_, {});
    try {
      turn_to();
      waiter_.wait(stream_.get(), data_error(), ops, target, source, bytes, done);
    } catch (...) {
      const cudaError_t status = lasting_error();
      done(status == cudaSuccess ? std::current_exception() : waiter_.fault(status, ops));
    }
  }

  // By the other device's stream, as a copy out of it. In between each stream waits for what it needs of the other: that
  // nobody uses the target any more, and that it has arrived.
  bool copy_from(Device& device, void* target, const void* source, size_t bytes) override {
    auto* const other = dynamic_cast<CudaDevice*>(&device);
    if (other == nullptr) return false;
    for (CudaDevice* const side : {this, other}) {
      if (side->capturing())
        std::rethrow_exception(side->refusal(kCopy, "expected no other device in a captured step"));
    }
    if (bytes == 0) return true;
    enqueue(kCopy, [&](void*) { reach(); });
    other->enqueue(kCopy, [&](void*) {
      other->wait_for(*this);
      other->open_way_to(index_);
      check(cudaMemcpyPeerAsync(target, index_, source, other->index_, bytes, other->stream_.get()), kCopy);
      other->reach();
    });
    enqueue(kCopy, [&](void*) { wait_for(*other); });
    return true;
  }

  void synchronize() override { download_now(*this, nullptr, nullptr, 0); }

  // With TENON_CUDA_SYNC=1 each op runs by itself.
  bool captures() const override { return !options_.synchronous; }

  void begin_capture(const double* random) override {
    turn_to();
    allocator_.release_cached();  // what the step took before, it takes again from its pool
    // Relaxed: taking memory, and what a library or a module does at its first use, have nothing to do with the graph.
    check_capture(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeRelaxed));
    pool_ = allocator_.begin_pool();
    random_ = random;
  }

  std::unique_ptr<tenon::Graph> end_capture() override {
    turn_to();
    allocator_.end_pool();
    auto graph = std::make_unique<Graph>(*this, std::exchange(pool_, nullptr));
    cudaGraph_t recorded = nullptr;
    const cudaError_t status = cudaStreamEndCapture(stream_.get(), &recorded);
    const GraphHandle handle(recorded);
    if (const std::exception_ptr error = std::exchange(refused_, nullptr)) {
      lasting_error();
      std::rethrow_exception(error);
    }
    check_capture(status);
    graph->instantiate(recorded);
    return graph;
  }

 private:
  class Graph : public tenon::Graph {
   public:
    Graph(CudaDevice& device, Allocator::Pool* pool) : device_(device), pool_(pool) {}
    ~Graph() override { device_.allocator_.dissolve(pool_); }
    void instantiate(cudaGraph_t recorded) {
      cudaGraphExec_t exec = nullptr;
      device_.check_capture(cudaGraphInstantiate(&exec, recorded, 0));
      exec_.reset(exec);
    }
    void launch() override {
      device_.enqueue("a captured step", [this](void*) {
        check(cudaGraphLaunch(exec_.get(), device_.stream_.get()), "capture");
      });
    }

   private:
    CudaDevice& device_;
    Allocator::Pool* const pool_;
    GraphExecHandle exec_;  // where it still runs, CUDA frees it afterwards
  };

  // Forgets the error of the last call, and returns one that stays: a kernel has broken the device. The stream is asked, as a
  // library that met it first has a runtime of its own; while it captures, it must not be.
  cudaError_t lasting_error() const {
    const cudaError_t status = capturing() ? cudaSuccess : cudaStreamQuery(stream_.get());
    static_cast<void>(cudaGetLastError());
    return status == cudaSuccess || status == cudaErrorNotReady ? cudaGetLastError() : status;
  }

  // An error that stays is not of the last call, but of a kernel before it.
  void throw_lasting_error() {
    if (const cudaError_t status = lasting_error(); status != cudaSuccess)
      std::rethrow_exception(waiter_.fault(status, ops_));
  }

  // The next launch must not take an error for its own.
  void check_capture(cudaError_t status) {
    if (status == cudaSuccess) return;
    throw_lasting_error();
    check(status, "capture");
  }

  static constexpr const char* kCopy = "to";

  void reach() { check(cudaEventRecord(reached_.get(), stream_.get()), kCopy); }
  // For what the other had been given when it last reached.
  void wait_for(CudaDevice& other) {
    check(cudaStreamWaitEvent(stream_.get(), other.reached_.get(), 0), kCopy);
  }

  // Has copies to another GPU go straight there, where the machine can; else CUDA takes them through the host.
  void open_way_to(int other) {
    if (!ways_.insert(other).second) return;
    int possible = 0;
    check(cudaDeviceCanAccessPeer(&possible, index_, other), kCopy);
    if (possible == 0) return;
    const cudaError_t status = cudaDeviceEnablePeerAccess(other, 0);
    if (status == cudaErrorPeerAccessAlreadyEnabled) {
      static_cast<void>(cudaGetLastError());  // by another thread of the process
    } else {
      check(status, kCopy);
    }
  }

  static constexpr const char* kNoWait = "expected no waiting for the device in a captured step";

  // What must not be in a graph makes it worthless, even where the step catches the error.
  std::exception_ptr refusal(const char* op, const char* why) {
    const std::exception_ptr error = std::make_exception_ptr(TensorError(op, code::kValue, why));
    if (!refused_) refused_ = error;
    return error;
  }

  cudaStream_t stream() override { return stream_.get(); }
  int multiprocessors() const override { return multiprocessors_; }
  bool capturing() const override { return pool_ != nullptr; }
  const double* random() const override { return capturing() ? random_ : nullptr; }
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
  StreamHandle stream_ = (turn_to(), make_stream());
  EventHandle reached_ = make_event();  // for other devices to wait for
  std::set<int> ways_;                  // to other GPUs, asked for
  DeviceMemory data_error_ = make_device_memory(sizeof(DataError));
  Allocator allocator_;
  Uploads uploads_{[this] { allocator_.release_cached(); }};
  std::vector<Allocator::Block*> scratch_;
  Allocator::Pool* pool_ = nullptr;  // of the graph that is being captured
  const double* random_ = nullptr;
  std::exception_ptr refused_;    // the first since begin_capture
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
