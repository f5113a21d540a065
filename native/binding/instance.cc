#include "binding/instance.h"

#include <cstdlib>
#include <utility>

#include "backend/cpu/device.h"
#include "core/error.h"

namespace tenon::binding {

// ---- TensorTable

uint32_t TensorTable::add(Tensor tensor) {
  uint32_t index = 0;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    index = static_cast<uint32_t>(slots_.size());
    if (index >> kSlotBits != 0) {
      throw TensorError("tensor", code::kMemory,
                        "more than a million live tensors; dispose of what is not needed");
    }
    slots_.emplace_back();
  }
  slots_[index].tensor = std::move(tensor);
  ++live_;
  return (slots_[index].generation << kSlotBits) | index;
}

const TensorTable::Slot* TensorTable::find(uint32_t id) const {
  const uint32_t index = id & ((1u << kSlotBits) - 1);
  if (index >= slots_.size()) return nullptr;
  const Slot& slot = slots_[index];
  return slot.tensor && slot.generation == id >> kSlotBits ? &slot : nullptr;
}

const Tensor& TensorTable::get(uint32_t id) const {
  const Slot* slot = find(id);
  if (slot == nullptr)
    throw TensorError("tensor", code::kDisposed, "expected a live tensor, got a disposed one");
  return slot->tensor;
}

void TensorTable::remove(uint32_t id) {
  if (find(id) != nullptr) clear(id & ((1u << kSlotBits) - 1));
}

void TensorTable::remove_in(const Allocator::Pool* pool) {
  for (uint32_t index = 0; index < slots_.size(); ++index) {
    const Tensor& x = slots_[index].tensor;
    if (x && Allocator::pool_of(x.storage()->block()) == pool) clear(index);
  }
}

void TensorTable::clear(uint32_t index) {
  slots_[index].tensor = Tensor();
  slots_[index].generation = (slots_[index].generation + 1) % kGenerations;
  free_.push_back(index);
  --live_;
}

// ---- Waiter

struct Waiter::Pending {
  Napi::Promise::Deferred deferred;
  Napi::ObjectReference value;
  std::exception_ptr error;
};

Waiter::Waiter(Napi::Env env) : env_(env) {
  const Napi::String name = Napi::String::New(env, "tenon");
  const napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr,
                                                             nullptr, this, &Waiter::settle, &function_);
  if (status != napi_ok) throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, function_);  // an idle Tenon does not keep the process alive
}

void Waiter::close() {
  if (function_ != nullptr) napi_release_threadsafe_function(function_, napi_tsfn_abort);
  function_ = nullptr;
}

std::pair<Napi::Promise, std::function<void(std::exception_ptr)>> Waiter::promise(Napi::Env env,
                                                                                  Napi::Object value) {
  auto* pending = new Pending{Napi::Promise::Deferred::New(env), {}, nullptr};
  if (!value.IsEmpty()) pending->value = Napi::Persistent(value);
  if (pending_++ == 0) napi_ref_threadsafe_function(env, function_);
  const Napi::Promise promise = pending->deferred.Promise();
  return {promise, [this, pending](std::exception_ptr error) {
            pending->error = std::move(error);
            napi_call_threadsafe_function(function_, pending, napi_tsfn_nonblocking);
          }};
}

void Waiter::settle(napi_env raw, napi_value, void* context, void* data) {
  const std::unique_ptr<Pending> pending(static_cast<Pending*>(data));
  if (raw == nullptr) return;  // the environment is going away
  auto* self = static_cast<Waiter*>(context);
  const Napi::Env env(raw);
  const Napi::HandleScope scope(env);
  if (--self->pending_ == 0) napi_unref_threadsafe_function(env, self->function_);
  if (pending->error) {
    pending->deferred.Reject(Instance::of(env).to_js_error(env, pending->error));
  } else {
    pending->deferred.Resolve(pending->value.IsEmpty() ? env.Undefined()
                                                       : Napi::Value(pending->value.Value()));
  }
}

// ---- Instance

Instance::Instance(Napi::Env env) : waiter_(env) {
  devices_.resize(1);
  Napi::Float64Array mailbox = Napi::Float64Array::New(env, kMailbox);
  mailbox_ = mailbox.Data();
  mailbox_reference_ = Napi::Persistent(mailbox);
}

Instance::~Instance() {
  // Streams finish and join first: their last tasks may still settle promises.
  tensors_ = TensorTable();
  captures_.clear();
  devices_.clear();
  waiter_.close();
}

Instance& Instance::of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<Instance*>(data);
}

const OpenedPlugin& Instance::cuda() {
  if (!cuda_) {
    cuda_ = open_plugin(cuda_path_);
    devices_.resize(1 + static_cast<size_t>(cuda_->devices));
  }
  return *cuda_;
}

Device& Instance::device(uint32_t index) {
  if (index >= devices_.size()) cuda();
  if (index >= devices_.size()) {
    throw TensorError("device", code::kDevice,
                      "expected a loaded device, got number " + std::to_string(index));
  }
  std::unique_ptr<Device>& device = devices_[index];
  if (!device && index == 0) device = cpu::make_device(0);
  if (!device) device.reset(cuda_->plugin->make_device(static_cast<int>(index) - 1));
  return *device;
}

uint32_t Instance::index_of(const Device& device) const {
  uint32_t index = 0;
  while (devices_[index].get() != &device) ++index;
  return index;
}

void Instance::settle() {
  for (const std::unique_ptr<Device>& device : devices_) {
    try {
      if (device) device->synchronize();
    } catch (const std::exception&) {  // its results were never asked for, and now nobody is left to ask
    }
  }
}

Napi::Value Instance::mailbox_array(Napi::Env) { return mailbox_reference_.Value(); }

Napi::Value Instance::to_js_error(Napi::Env env, std::exception_ptr error, const char* called) {
  std::string message, op = "native", code = code::kKernel;
  try {
    std::rethrow_exception(std::move(error));
  } catch (const TensorError& e) {
    message = e.what();
    op = e.op();
    code = e.code();
    if (op.empty()) {
      op = camel_case(called);
      message = op + ": " + message;
    }
  } catch (const std::bad_alloc&) {
    message = "native: out of memory";
    code = code::kMemory;
  } catch (const std::exception& e) {
    message = std::string("native: ") + e.what();
  }
  if (error_class_.IsEmpty()) return Napi::Error::New(env, message).Value();
  return error_class_.New(
      {Napi::String::New(env, message), Napi::String::New(env, op), Napi::String::New(env, code)});
}

void Instance::report_memory(napi_env env) {
  constexpr int64_t kLump = int64_t{8} << 20;
  int64_t current = 0;
  for (const auto& device : devices_) {
    if (device) current += static_cast<int64_t>(device->allocator().stats().current);
  }
  if (std::abs(current - reported_) < kLump) return;
  int64_t total = 0;
  napi_adjust_external_memory(env, current - reported_, &total);
  reported_ = current;
}

}  // namespace tenon::binding
