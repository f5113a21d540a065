#include "backend/cuda/waiter.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace tenon::cuda {

namespace {

constexpr size_t kHeader = 64;  // bytes before the payload: a DataError, and the payload stays aligned
static_assert(sizeof(DataError) <= kHeader);

}  // namespace

// ---- PinnedPool

PinnedPool::Block PinnedPool::take(size_t bytes) {
  const size_t capacity = std::bit_ceil(std::max(bytes, size_t{4096}));
  {
    const std::scoped_lock lock(mutex_);
    const auto fits = [&](const Block& block) { return block.capacity == capacity; };
    if (const auto found = std::find_if(blocks_.begin(), blocks_.end(), fits); found != blocks_.end()) {
      Block block = std::move(*found);
      blocks_.erase(found);
      kept_ -= capacity;
      return block;
    }
  }
  return {make_pinned_memory(capacity), capacity};
}

void PinnedPool::give_back(Block block) {
  const std::scoped_lock lock(mutex_);
  if (kept_ + block.capacity > kMostKept) return;
  kept_ += block.capacity;
  blocks_.push_back(std::move(block));
}

// ---- Waiter

Waiter::Waiter(int device, std::string name)
    : device_(device), name_(std::move(name)), thread_([this] { run(); }) {}

Waiter::~Waiter() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  work_.notify_one();
  thread_.join();
}

EventHandle Waiter::take_event() {
  const std::scoped_lock lock(mutex_);
  if (events_.empty()) return make_event();
  EventHandle event = std::move(events_.back());
  events_.pop_back();
  return event;
}

void Waiter::wait(cudaStream_t stream, DataError* data_error, std::vector<const char*> ops, void* target,
                  const void* source, size_t bytes, Done done) {
  Wait wait{take_event(), pinned_.take(kHeader + bytes), std::move(ops), target, bytes, {}};
  auto* staged = static_cast<char*>(wait.staged.data.get());
  const auto fetch = [stream](void* to, const void* from, size_t count) {
    check(cudaMemcpyAsync(to, from, count, cudaMemcpyDeviceToHost, stream), "download");
  };
  if (bytes > 0) fetch(staged + kHeader, source, bytes);
  fetch(staged, data_error, sizeof(DataError));
  check(cudaMemsetAsync(data_error, 0, sizeof(DataError), stream), "download");
  check(cudaEventRecord(wait.event.get(), stream), "download");
  wait.done = std::move(done);
  {
    const std::scoped_lock lock(mutex_);
    queue_.push_back(std::move(wait));
  }
  work_.notify_one();
}

void Waiter::run() {
  static_cast<void>(cudaSetDevice(device_));
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Wait wait = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    const std::exception_ptr error = finish(wait);
    pinned_.give_back(std::move(wait.staged));
    wait.done(error);
    wait.done = nullptr;  // what it captured goes before the lock is taken again
    lock.lock();
    busy_ = false;
    events_.push_back(std::move(wait.event));
    if (queue_.empty()) settled_.notify_all();
  }
}

std::exception_ptr Waiter::finish(Wait& wait) {
  const cudaError_t status = cudaEventSynchronize(wait.event.get());
  if (status != cudaSuccess) return first_fault(status, wait.ops);
  const auto* staged = static_cast<const char*>(wait.staged.data.get());
  DataError report{};
  std::memcpy(&report, staged, sizeof report);
  try {
    report.raise();
  } catch (...) {
    return std::current_exception();
  }
  if (wait.bytes > 0) std::memcpy(wait.target, staged + kHeader, wait.bytes);
  return nullptr;
}

std::exception_ptr Waiter::fault(cudaError_t status, const std::vector<const char*>& ops) {
  {
    std::unique_lock lock(mutex_);
    settled_.wait(lock, [this] { return queue_.empty() && !busy_; });
  }
  return first_fault(status, ops);
}

std::exception_ptr Waiter::first_fault(cudaError_t status, const std::vector<const char*>& ops) {
  const std::scoped_lock lock(mutex_);
  if (fault_) return fault_;
  std::string text = cudaGetErrorString(status);
  text += " on " + name_;
  for (size_t i = 0; ops.size() > 1 && i < ops.size(); ++i) {
    text += (i == 0 ? " in one of " : ", ") + camel_case(ops[i]);
  }
  if (ops.size() > 1) text += " (TENON_CUDA_SYNC=1 finds out which)";
  text += "; the device is lost to this process";
  fault_ = std::make_exception_ptr(TensorError(ops.size() == 1 ? ops[0] : "CUDA", code::kKernel, text));
  return fault_;
}

}  // namespace tenon::cuda
