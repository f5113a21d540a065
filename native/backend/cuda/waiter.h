// A thread that waits for the device, so that no other does.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backend/cuda/handles.h"

namespace tenon::cuda {

// Pinned memory to copy to, kept for reuse: taking it from the system stops the device.
class PinnedPool {
 public:
  struct Block {
    PinnedMemory data;
    size_t capacity = 0;
  };
  Block take(size_t bytes);
  void give_back(Block block);

 private:
  static constexpr size_t kMostKept = size_t{256} << 20;  // bytes

  std::mutex mutex_;
  std::vector<Block> blocks_;
  size_t kept_ = 0;
};

class Waiter {
 public:
  using Done = std::function<void(std::exception_ptr)>;

  Waiter(int device, std::string name);
  ~Waiter();  // settles what is queued, then joins
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  // Has `bytes` from `source`, and the report of `data_error` (which starts anew), copied behind what `stream` has, and
  // calls done when they have arrived at `target`: with null, or with the error of one of `ops`, those queued since the
  // last wait.
  void wait(cudaStream_t stream, DataError* data_error, std::vector<const char*> ops, void* target,
            const void* source, size_t bytes, Done done);

  // The error of a device that a kernel has broken: one of `ops`, unless an earlier wait finds that it was one of its own.
  std::exception_ptr fault(cudaError_t status, const std::vector<const char*>& ops);

 private:
  struct Wait {
    EventHandle event;
    PinnedPool::Block staged;  // a DataError, then the bytes
    std::vector<const char*> ops;
    void* target;
    size_t bytes;
    Done done;
  };

  void run();
  std::exception_ptr finish(Wait& wait);
  std::exception_ptr first_fault(cudaError_t status, const std::vector<const char*>& ops);
  EventHandle take_event();

  const int device_;
  const std::string name_;
  PinnedPool pinned_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable settled_;
  std::deque<Wait> queue_;
  bool busy_ = false;
  std::vector<EventHandle> events_;  // to use again
  std::exception_ptr fault_;         // the first
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace tenon::cuda
