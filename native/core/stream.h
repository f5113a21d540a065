// The CPU's stream: one executor thread that runs tasks in the order they were pushed. The queue is bounded by tasks
// and by staged bytes, so that a loop that never waits cannot eat memory: a full queue makes push() wait.
//
// A task that throws does not stop the stream (what follows computes garbage, safely); the first error is kept and
// surfaces at the next wait. Tasks are numbered, so that who depends on some of them can ask at any time whether one failed.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "core/tasks.h"

namespace tenon {

class Stream {
 public:
  using Task = std::function<void()>;

  // `start` runs first on the executor thread (thread count, names).
  explicit Stream(Task start);
  ~Stream();  // runs what is queued, then joins
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void push(const char* op, Task task, size_t staged_bytes = 0);
  void wait_idle();                 // blocks until the queue is empty; does not throw
  void synchronize();               // wait_idle, then rethrows the first error, if any
  std::exception_ptr take_error();  // the first error since the last call, or null
  size_t depth();                   // queued tasks

  // How many tasks have been pushed, for the thread that pushes: the number of the next.
  int64_t pushed() const { return pushed_; }
  // Those of the tasks that have failed, or may still; none where all went well.
  Tasks unsettled(Tasks tasks);
  // What the first of the tasks failed by, or null.
  std::exception_ptr failure(Tasks tasks);

 private:
  struct Item {
    const char* op;
    Task task;
    size_t staged_bytes;
  };
  static constexpr size_t kMaxTasks = 16384;
  static constexpr size_t kMaxStagedBytes = size_t{256} << 20;
  static constexpr size_t kMaxFailures = 4096;

  void run();
  void execute(Item& item);

  std::mutex mutex_;
  std::condition_variable work_;   // the executor sleeps on it
  std::condition_variable space_;  // a full queue
  std::condition_variable drained_;
  std::deque<Item> queue_;
  size_t staged_ = 0;
  bool busy_ = false;
  bool stop_ = false;
  std::exception_ptr error_;
  int64_t pushed_ = 0;
  std::atomic<int64_t> run_ = 0;                                 // tasks that have ended
  std::atomic<bool> failed_ = false;                             // one of them, ever
  std::deque<std::pair<int64_t, std::exception_ptr>> failures_;  // the latest
  std::thread executor_;
};

}  // namespace tenon
