#include "core/stream.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace tenon {

Stream::Stream(Task start)
    : executor_([this, start = std::move(start)] {
        start();
        run();
      }) {}

Stream::~Stream() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  work_.notify_one();
  executor_.join();
}

void Stream::push(const char* op, Task task, size_t staged_bytes) {
  {
    std::unique_lock lock(mutex_);
    space_.wait(lock, [&] {
      return queue_.size() < kMaxTasks && (staged_ == 0 || staged_ + staged_bytes <= kMaxStagedBytes);
    });
    staged_ += staged_bytes;
    queue_.push_back({op, std::move(task), staged_bytes});
    ++pushed_;
  }
  work_.notify_one();
}

void Stream::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    {
      Item item = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
      lock.unlock();
      execute(item);
      item.task = nullptr;  // what it captured goes before the lock is taken again
      lock.lock();
      busy_ = false;
      ++run_;
      staged_ -= item.staged_bytes;
    }
    space_.notify_one();
    if (queue_.empty()) drained_.notify_all();
  }
}

void Stream::execute(Item& item) {
  std::exception_ptr failure;
  try {
    item.task();
    return;
  } catch (const TensorError&) {
    failure = std::current_exception();
  } catch (const std::exception& e) {
    failure = std::make_exception_ptr(TensorError(item.op, code::kKernel, e.what()));
  } catch (...) {
    failure = std::make_exception_ptr(TensorError(item.op, code::kKernel, "failed with an unknown error"));
  }
  const std::scoped_lock lock(mutex_);
  if (!error_) error_ = failure;
  failures_.emplace_back(run_, failure);
  if (failures_.size() > kMaxFailures) failures_.pop_front();
  failed_ = true;
}

Tasks Stream::unsettled(Tasks tasks) {
  if (tasks.empty() || tasks.end > run_) return tasks;
  return failed_ && failure(tasks) ? tasks : Tasks{};
}

std::exception_ptr Stream::failure(Tasks tasks) {
  const std::scoped_lock lock(mutex_);
  const auto first =
      std::lower_bound(failures_.begin(), failures_.end(), tasks.begin,
                       [](const auto& failure, int64_t begin) { return failure.first < begin; });
  return first != failures_.end() && first->first < tasks.end ? first->second : nullptr;
}

void Stream::wait_idle() {
  std::unique_lock lock(mutex_);
  drained_.wait(lock, [this] { return queue_.empty() && !busy_; });
}

std::exception_ptr Stream::take_error() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(error_, nullptr);
}

void Stream::synchronize() {
  wait_idle();
  if (const std::exception_ptr error = take_error()) std::rethrow_exception(error);
}

size_t Stream::depth() {
  const std::scoped_lock lock(mutex_);
  return queue_.size();
}

}  // namespace tenon
