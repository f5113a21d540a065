#include "binding/capture.h"

#include <set>
#include <string>
#include <utility>

#include "binding/instance.h"
#include "core/error.h"

namespace tenon::binding {

void Captures::begin(const Tensor& random) {
  Device& device = random.device();
  device.begin_capture(static_cast<const double*>(random.data()));
  device_ = &device;
  record(random);
}

void Captures::record(const Tensor& x) {
  if (&x.device() != device_) {
    const TensorError error("capture", code::kDevice,
                            "expected tensors of " + device_->name() +
                                " alone in a captured step, got one of " + x.device().name());
    if (!error_) error_ = std::make_exception_ptr(error);
    throw error;
  }
  if (Allocator::pool_of(x.storage()->block()) == device_->allocator().private_pool()) return;
  outsides_.try_emplace(x.storage().get(), Outside{x.storage(), x.storage()->written()});
}

size_t Captures::left_alive(const std::vector<Tensor>& kept) const {
  const Allocator::Pool* const pool = device_->allocator().private_pool();
  std::set<const Storage*> expected;
  for (const Tensor& x : kept) {
    if (Allocator::pool_of(x.storage()->block()) == pool) expected.insert(x.storage().get());
  }
  return Allocator::live(pool) - expected.size();
}

uint32_t Captures::end(TensorTable& tensors, const std::vector<Tensor>& kept) {
  if (const size_t left = left_alive(kept); left > 0 && !error_) {
    error_ = std::make_exception_ptr(TensorError(
        "capture", code::kMemory,
        "expected a step that leaves no tensors but what it returns, got " + std::to_string(left) +
            " more: gradients (call zeroGrad() in the step), or tensors that it keeps"));
  }
  if (error_) {
    const std::exception_ptr error = error_;
    abandon(tensors);
    std::rethrow_exception(error);
  }
  Outsides outsides = std::exchange(outsides_, {});
  Step step{std::exchange(device_, nullptr)->end_capture(), std::move(outsides)};
  for (auto& [storage, outside] : step.outsides)
    outside.is_written = storage->written() != outside.written_before;
  steps_.emplace(next_, std::move(step));
  return next_++;
}

void Captures::abandon(TensorTable& tensors) {
  if (device_ == nullptr) return;
  tensors.remove_in(device_->allocator().private_pool());
  Device* const device = std::exchange(device_, nullptr);
  outsides_.clear();
  error_ = nullptr;
  try {
    device->end_capture();
  } catch (const TensorError&) {
    return;  // whoever abandons it has an error already
  }
}

void Captures::mark_writes(uint32_t id) {
  for (auto& [storage, outside] : steps_.at(id).outsides)
    if (outside.is_written) outside.storage->mark_written();
}

void Captures::launch(uint32_t id) { steps_.at(id).graph->launch(); }

}  // namespace tenon::binding
