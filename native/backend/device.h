// A device as the ops see it: memory, a table of kernels, and a stream that runs them in program order.
#pragma once

#include <array>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "core/allocator.h"
#include "core/error.h"
#include "core/tasks.h"

namespace tenon {

// Work that a device has captured. It holds a pool of memory, which goes back to everybody with it.
class Graph {
 public:
  virtual ~Graph() = default;
  virtual void launch() = 0;  // in stream order
};

class Device {
 public:
  virtual ~Device() = default;

  virtual const std::string& name() const = 0;  // "cpu", "cuda:0"
  virtual Allocator& allocator() = 0;
  virtual const Kernels& kernels() const = 0;

  // Runs `task` in stream order: on the CPU later, on the executor; on CUDA at once, to enqueue on the stream it gets.
  virtual void enqueue(const char* op, std::function<void(void* stream)> task) = 0;

  // Copies host bytes to device memory in stream order; `source` may be reused when the call returns.
  virtual void upload(void* target, const void* source, size_t bytes) = 0;

  // Copies device memory to the host in stream order, then calls `done` on some other thread with the first error
  // since the last wait, or null. `target` must live until then.
  virtual void download(void* target, const void* source, size_t bytes,
                        std::function<void(std::exception_ptr)> done) = 0;

  // Copies the memory of another device of this backend, in the stream order of both and without waiting: `source` may be
  // written or given back afterwards. False where there is no other way than through the host.
  virtual bool copy_from(Device& other, void* target, const void* source, size_t bytes) {
    static_cast<void>(other), static_cast<void>(target), static_cast<void>(source), static_cast<void>(bytes);
    return false;
  }

  // Bytes of a copy of b, or of the weight (Prepared in backend.h), by which this becomes faster where that stays as it is; 0: none.
  virtual size_t prepared_bytes(const MatmulArgs&) const { return 0; }
  virtual size_t prepared_bytes(const Conv2dArgs&) const { return 0; }

  // Blocks until everything enqueued has run; throws the first error since the last wait.
  virtual void synchronize() = 0;

  // ---- tasks by their numbers, for who asks whether what a tensor depends on has failed. A device that does not number its
  // tasks tells an error at the next wait alone.
  virtual int64_t pushed() const { return 0; }   // the number of the next
  virtual Tasks unsettled(Tasks) { return {}; }  // those that have failed, or may still
  virtual std::exception_ptr failure(Tasks) { return nullptr; }

  // ---- capture: between begin and end, what is enqueued is recorded and does not run, memory comes from a pool of the
  // graph's own, and whatever would wait for the device or copy from the host throws. Where captures() is false, nobody
  // calls the other two.
  virtual bool captures() const { return false; }
  // `random` is {seed, distance} in device memory: kernels that draw random numbers take that seed instead of theirs, and
  // add the distance, a multiple of 4, to their offset.
  virtual void begin_capture(const double* random) { static_cast<void>(random); }
  // Throws what made it impossible to capture something since begin_capture, if anything did.
  virtual std::unique_ptr<Graph> end_capture() { return nullptr; }

  // ---- the kernels of the table that were launched since the last call, by name: what tests say has run on a device.
  std::vector<const char*> take_launched() {
    constexpr const char* kNames[] = {
#define TENON_KERNEL(name, Args) #name,
        TENON_KERNELS(TENON_KERNEL)
#undef TENON_KERNEL
    };
    std::vector<const char*> names;
    for (size_t i = 0; i < launched_.size(); ++i) {
      if (std::exchange(launched_[i], false)) names.push_back(kNames[i]);
    }
    return names;
  }
  template <typename Kernel>
  void note_launch(Kernel Kernels::*kernel) {
    static constexpr Kernels kTable;
    const auto place = reinterpret_cast<uintptr_t>(&(kTable.*kernel)) - reinterpret_cast<uintptr_t>(&kTable);
    launched_[place / sizeof(Kernel)] = true;
  }

 private:
  std::array<bool, sizeof(Kernels) / sizeof(void*)> launched_{};
};

// As Device::download, of values that depend on some tasks: their error comes each time, also where it has been told before.
inline void download(Device& device, void* target, const void* source, size_t bytes, Tasks tasks,
                     std::function<void(std::exception_ptr)> done) {
  device.download(target, source, bytes,
                  [&device, tasks, done = std::move(done)](const std::exception_ptr& error) {
                    const std::exception_ptr failure = tasks.empty() ? nullptr : device.failure(tasks);
                    done(failure ? failure : error);
                  });
}

// The same, but blocks.
inline void download_now(Device& device, void* target, const void* source, size_t bytes, Tasks tasks = {}) {
  std::promise<std::exception_ptr> settled;
  download(device, target, source, bytes, tasks,
           [&](std::exception_ptr error) { settled.set_value(std::move(error)); });
  if (const std::exception_ptr error = settled.get_future().get()) std::rethrow_exception(error);
}

// Enqueues one kernel: launch(device, "softmax", &Kernels::softmax, SoftmaxArgs{...}). `held` lives until it has run.
template <typename Args>
void launch(Device& device, const char* op, void (*Kernels::*kernel)(const Args&, void*), Args args,
            std::shared_ptr<const void> held = nullptr) {
  if (device.kernels().*kernel == nullptr) {
    throw TensorError(op, code::kDevice,
                      device.name() + " has no kernel for this op; run it on another device");
  }
  device.note_launch(kernel);
  device.enqueue(op, [function = device.kernels().*kernel, args = std::move(args),
                      held = std::move(held)](void* stream) { function(args, stream); });
}

}  // namespace tenon
