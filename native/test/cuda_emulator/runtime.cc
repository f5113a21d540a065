#include "test/cuda_emulator/runtime.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/stream.h"

using tenon::emulator::Dim3;

namespace {

constexpr int kMaxDevices = 2;
constexpr int kMajor = 9;  // of the compute capability
constexpr size_t kDeviceBytes = size_t{256} << 20;
constexpr size_t kAlignment = 256;

int from_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}

// Pieces of memory, by their begin.
class Memory {
 public:
  void* acquire(size_t bytes, size_t limit) {
    const std::scoped_lock lock(mutex_);
    if (used_ + bytes > limit) return nullptr;
    void* data = ::operator new(bytes, std::align_val_t(kAlignment));
    std::memset(data, 0xff, bytes);
    pieces_[reinterpret_cast<uintptr_t>(data)] = bytes;
    used_ += bytes;
    return data;
  }
  bool release(void* data) {
    const std::scoped_lock lock(mutex_);
    const auto piece = pieces_.find(reinterpret_cast<uintptr_t>(data));
    if (piece == pieces_.end()) return false;
    used_ -= piece->second;
    pieces_.erase(piece);
    ::operator delete(data, std::align_val_t(kAlignment));
    return true;
  }
  bool holds(const void* data, size_t bytes) {
    const std::scoped_lock lock(mutex_);
    const auto begin = reinterpret_cast<uintptr_t>(data);
    auto piece = pieces_.upper_bound(begin);
    if (piece == pieces_.begin()) return false;
    --piece;
    return begin + bytes <= piece->first + piece->second;
  }
  size_t used() {
    const std::scoped_lock lock(mutex_);
    return used_;
  }

 private:
  std::mutex mutex_;
  std::map<uintptr_t, size_t> pieces_;
  size_t used_ = 0;
};

struct EmulatedDevice {
  Memory memory;
  std::mutex mutex;
  std::set<cudaStream_t> streams;
  std::string fault;  // empty: none
  std::set<int> peers;
};

struct Machine {
  std::array<EmulatedDevice, kMaxDevices> devices;
  Memory pinned;
  std::atomic<bool> slow_copies{false};
  std::atomic<double> clock{0};  // milliseconds
};

// Never destroyed: streams may still run when the process ends.
Machine& machine() {
  static Machine& instance = *new Machine;
  return instance;
}

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

EmulatedDevice& current() { return machine().devices[static_cast<size_t>(current_device)]; }

cudaError_t state_of(EmulatedDevice& device) {
  const std::scoped_lock lock(device.mutex);
  return device.fault.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

cudaError_t failed(cudaError_t error) { return last_error = error; }

using Nodes = std::vector<std::function<void()>>;

struct Capture {
  explicit Capture(cudaStreamCaptureMode requested) : mode(requested) {}
  cudaStreamCaptureMode mode;
  std::thread::id thread = std::this_thread::get_id();
  bool valid = true;
  Nodes nodes;
};

}  // namespace

struct CUgraph_st {
  Nodes nodes;
};
struct CUgraphExec_st {
  Nodes nodes;
};

struct CUstream_st {
  EmulatedDevice& device;
  std::unique_ptr<Capture> capture = {};  // while it captures
  tenon::Stream worker{[] { tenon::emulator::set_order(tenon::emulator::Order::Shuffled); }};

  // Runs `work` in its turn, unless the device is lost by then.
  void push(std::function<void()> work) {
    if (capture) {
      capture->nodes.push_back(std::move(work));
      return;
    }
    worker.push("emulator", [this, work = std::move(work)] {
      if (state_of(device) != cudaSuccess) return;
      try {
        work();
      } catch (const std::exception& error) {
        const std::scoped_lock lock(device.mutex);
        device.fault = error.what();
      }
    });
  }
};

struct CUevent_st {
  struct State {
    std::mutex mutex;
    std::condition_variable reached_more;
    uint64_t recorded = 0;
    uint64_t reached = 0;
    double time = 0;  // when it was reached

    void wait_for(uint64_t generation) {
      std::unique_lock lock(mutex);
      reached_more.wait(lock, [&] { return reached >= generation; });
    }
    uint64_t generation() {
      const std::scoped_lock lock(mutex);
      return recorded;
    }
  };
  EmulatedDevice& device;
  std::shared_ptr<State> state = std::make_shared<State>();  // also of what waits for it on a stream
  bool captured = false;                                     // last recorded by a stream that was capturing
};

namespace {

// Streams that capture for this thread, in a mode that forbids unsafe calls.
thread_local std::set<cudaStream_t> strict_captures;

cudaError_t invalidate(cudaStream_t stream, cudaError_t error) {
  if (stream->capture) stream->capture->valid = false;
  return failed(error);
}

// What a call that CUDA calls unsafe begins with.
cudaError_t unsafe_call() {
  if (strict_captures.empty()) return cudaSuccess;
  for (const cudaStream_t stream : strict_captures) invalidate(stream, cudaErrorStreamCaptureUnsupported);
  return failed(cudaErrorStreamCaptureUnsupported);
}

// Whether something can be queued.
cudaError_t usable(cudaStream_t stream) {
  if (const cudaError_t sticky = state_of(stream->device); sticky != cudaSuccess) return failed(sticky);
  if (stream->capture && !stream->capture->valid) return failed(cudaErrorStreamCaptureInvalidated);
  return cudaSuccess;
}

}  // namespace

// ---- devices and errors

cudaError_t cudaDriverGetVersion(int* version) {
  *version = from_environment("TENON_EMULATED_DRIVER", CUDART_VERSION);
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = from_environment("TENON_EMULATED_DEVICES", kMaxDevices);
  return *count == 0 ? failed(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  std::snprintf(properties->name, sizeof properties->name, "Emulated GPU %d", device);
  properties->totalGlobalMem = kDeviceBytes;
  properties->major = kMajor;
  properties->minor = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 3;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = kMajor;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
  }
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= kMaxDevices) return failed(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* possible, int device, int peer) {
  *possible = device == peer ? 0 : 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
  if (peer < 0 || peer >= kMaxDevices || peer == current_device) return failed(cudaErrorInvalidDevice);
  const std::scoped_lock lock(current().mutex);
  return current().peers.insert(peer).second ? cudaSuccess : failed(cudaErrorPeerAccessAlreadyEnabled);
}

// Of the calls of this runtime: a fault that nobody has met yet is not among them.
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorPeerAccessAlreadyEnabled:
      return "peer access is already enabled";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureUnmatched:
      return "stream is not capturing";
    case cudaErrorStreamCaptureIsolation:
      return "dependency created on uncaptured work in another stream";
    case cudaErrorCapturedEvent:
      return "operation not permitted on an event last recorded in a capturing stream";
    case cudaErrorStreamCaptureWrongThread:
      return "attempt to terminate a thread-local capture sequence from another thread";
    default:
      return "unspecified launch failure";
  }
}

// ---- memory

cudaError_t cudaMalloc(void** data, size_t bytes) {
  if (const cudaError_t error = unsafe_call(); error != cudaSuccess) return error;
  if (const cudaError_t sticky = state_of(current()); sticky != cudaSuccess) return failed(sticky);
  *data = current().memory.acquire(bytes, kDeviceBytes);
  return *data == nullptr ? failed(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  if (const cudaError_t error = unsafe_call(); error != cudaSuccess) return error;
  std::set<cudaStream_t> streams;
  {
    const std::scoped_lock lock(current().mutex);
    streams = current().streams;
  }
  for (const cudaStream_t stream : streams) stream->worker.wait_idle();
  return current().memory.release(data) ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  if (const cudaError_t error = unsafe_call(); error != cudaSuccess) return error;
  *data = machine().pinned.acquire(bytes, kDeviceBytes);
  return *data == nullptr ? failed(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaFreeHost(void* data) {
  if (const cudaError_t error = unsafe_call(); error != cudaSuccess) return error;
  return machine().pinned.release(data) ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  *total = kDeviceBytes;
  *available = kDeviceBytes - current().memory.used();
  return cudaSuccess;
}

namespace {

void linger() {
  if (machine().slow_copies) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (const cudaError_t error = usable(stream); error != cudaSuccess) return error;
  Memory& on_device = stream->device.memory;
  Memory& pinned = machine().pinned;
  Memory& from = kind == cudaMemcpyHostToDevice ? pinned : on_device;
  Memory& to = kind == cudaMemcpyDeviceToHost ? pinned : on_device;
  if (!from.holds(source, bytes) || !to.holds(target, bytes)) return failed(cudaErrorInvalidValue);
  stream->push([=] {
    if (kind == cudaMemcpyHostToDevice) linger();
    std::memmove(target, source, bytes);
  });
  return cudaSuccess;
}

cudaError_t cudaMemcpyPeerAsync(void* target, int target_device, const void* source, int source_device,
                                size_t bytes, cudaStream_t stream) {
  if (const cudaError_t error = usable(stream); error != cudaSuccess) return error;
  const auto holds = [&](int device, const void* data) {
    return device >= 0 && device < kMaxDevices &&
           machine().devices[static_cast<size_t>(device)].memory.holds(data, bytes);
  };
  if (!holds(target_device, target) || !holds(source_device, source)) return failed(cudaErrorInvalidValue);
  stream->push([=] {
    linger();
    std::memmove(target, source, bytes);
  });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t stream) {
  if (const cudaError_t error = usable(stream); error != cudaSuccess) return error;
  if (!stream->device.memory.holds(target, bytes)) return failed(cudaErrorInvalidValue);
  stream->push([=] { std::memset(target, value, bytes); });
  return cudaSuccess;
}

// ---- streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st{current()};
  const std::scoped_lock lock(current().mutex);
  current().streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    const std::scoped_lock lock(stream->device.mutex);
    stream->device.streams.erase(stream);
  }
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->capture) return invalidate(stream, cudaErrorStreamCaptureUnsupported);
  if (const cudaError_t error = unsafe_call(); error != cudaSuccess) return error;
  stream->worker.wait_idle();
  return state_of(stream->device);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (stream->capture) return invalidate(stream, cudaErrorStreamCaptureUnsupported);
  if (const cudaError_t sticky = state_of(stream->device); sticky != cudaSuccess) return failed(sticky);
  return stream->worker.depth() == 0 ? cudaSuccess : failed(cudaErrorNotReady);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if ((stream->capture != nullptr) != event->captured) {
    return invalidate(stream, cudaErrorStreamCaptureIsolation);
  }
  if (event->captured) return cudaSuccess;  // of the stream itself, which is in order
  stream->worker.push("emulator", [state = event->state, generation = event->state->generation()] {
    state->wait_for(generation);
  });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st{current()};
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->captured = stream != nullptr && stream->capture != nullptr;
  if (event->captured) return usable(stream);
  const std::shared_ptr<CUevent_st::State> state = event->state;
  uint64_t generation = 0;
  {
    const std::scoped_lock lock(state->mutex);
    generation = ++state->recorded;
  }
  const auto reach = [state, generation] {
    const std::scoped_lock lock(state->mutex);
    state->reached = std::max(state->reached, generation);
    state->time = machine().clock;
    state->reached_more.notify_all();
  };
  if (stream == nullptr) {
    reach();
  } else {
    stream->worker.push("emulator", reach);
  }
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->captured) return failed(cudaErrorCapturedEvent);
  if (const cudaError_t error = unsafe_call(); error != cudaSuccess) return error;
  event->state->wait_for(event->state->generation());
  return state_of(event->device);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const std::scoped_lock lock(begin->state->mutex, end->state->mutex);
  if (begin->state->reached == 0 || end->state->reached == 0) return failed(cudaErrorInvalidValue);
  *milliseconds = static_cast<float>(end->state->time - begin->state->time);
  return cudaSuccess;
}

// ---- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (const cudaError_t sticky = state_of(stream->device); sticky != cudaSuccess) return failed(sticky);
  if (stream->capture) return failed(cudaErrorInvalidValue);
  stream->capture = std::make_unique<Capture>(mode);
  if (mode != cudaStreamCaptureModeRelaxed) strict_captures.insert(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!stream->capture) return failed(cudaErrorStreamCaptureUnmatched);
  if (stream->capture->mode != cudaStreamCaptureModeRelaxed &&
      stream->capture->thread != std::this_thread::get_id()) {
    return invalidate(stream, cudaErrorStreamCaptureWrongThread);
  }
  const std::unique_ptr<Capture> capture = std::move(stream->capture);
  strict_captures.erase(stream);
  if (!capture->valid) return failed(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(capture->nodes)};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (const cudaError_t error = usable(stream); error != cudaSuccess) return error;
  if (stream->capture) return invalidate(stream, cudaErrorStreamCaptureUnsupported);
  for (const auto& node : exec->nodes) stream->push(node);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

// ---- what CUDA has no function for

namespace tenon::emulator {

void launch(cudaStream_t stream, const char* name, Dim3 grid, Dim3 block, size_t shared_bytes,
            std::function<void()> thread) {
  const auto run = [=, thread = std::move(thread)] {
    spend(0.001);
    launch(name, grid, block, shared_bytes, thread);
  };
  if (stream == nullptr) return run();
  stream->push(run);
}

void spend(double milliseconds) { machine().clock += milliseconds; }

bool is_lost(cudaStream_t stream) { return stream != nullptr && state_of(stream->device) != cudaSuccess; }

bool is_stream(cudaStream_t stream) {
  const auto has = [stream](EmulatedDevice& device) {
    const std::scoped_lock lock(device.mutex);
    return device.streams.contains(stream);
  };
  return stream == nullptr || std::any_of(machine().devices.begin(), machine().devices.end(), has);
}

void forgive(int device) {
  EmulatedDevice& lost = machine().devices.at(static_cast<size_t>(device));
  const std::scoped_lock lock(lost.mutex);
  lost.fault.clear();
}

void slow_copies(bool slow) { machine().slow_copies = slow; }

}  // namespace tenon::emulator
