// What one loading of the addon owns: its devices, its tensors, and the promises that wait for them. Every worker
// thread that loads Tenon has an Instance of its own; nothing is shared between them.
#pragma once

#include <napi.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/device.h"
#include "backend/plugin.h"
#include "binding/capture.h"
#include "core/tensor.h"

namespace tenon::binding {

// JavaScript names a tensor by a small integer: a slot and the slot's generation, so that an identifier that outlived
// its tensor is recognised. (Integers cost V8 nothing; wrapped objects would cost more than most ops' dispatch.)
class TensorTable {
 public:
  uint32_t add(Tensor tensor);
  const Tensor& get(uint32_t id) const;  // throws TensorError DISPOSED
  void remove(uint32_t id);
  void remove_in(const Allocator::Pool* pool);  // those whose memory it is
  size_t size() const { return live_; }

 private:
  static constexpr uint32_t kSlotBits = 20;  // a million live tensors
  static constexpr uint32_t kGenerations = 1u << 10;
  struct Slot {
    Tensor tensor;
    uint32_t generation = 0;
  };
  const Slot* find(uint32_t id) const;
  void clear(uint32_t index);

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  size_t live_ = 0;
};

// Resolves promises from other threads.
class Waiter {
 public:
  explicit Waiter(Napi::Env env);
  // A promise for `value` (undefined when empty), settled when the returned function is called, on any thread, with an
  // error or null.
  std::pair<Napi::Promise, std::function<void(std::exception_ptr)>> promise(Napi::Env env,
                                                                            Napi::Object value);
  void close();

 private:
  struct Pending;
  static void settle(napi_env env, napi_value, void* context, void* data);
  napi_threadsafe_function function_ = nullptr;
  napi_env env_;
  size_t pending_ = 0;
};

// What a bound op needs to know of itself: literals.
struct Definition {
  const char* op;
  std::vector<const char*> parameters;
};

class Instance {
 public:
  explicit Instance(Napi::Env env);
  ~Instance();

  static Instance& of(napi_env env);

  // Number 0 is the CPU, then come CUDA's GPUs. A device is made when it is first asked for.
  Device& device(uint32_t index);
  uint32_t index_of(const Device& device) const;
  void settle();  // waits for all of them
  void set_cuda_path(std::string path) { cuda_path_ = std::move(path); }
  const OpenedPlugin& cuda();  // opened when it is first asked for
  TensorTable& tensors() { return tensors_; }
  // A tensor that an op is given.
  const Tensor& tensor(uint32_t id) {
    const Tensor& x = tensors_.get(id);
    captures_.see(x);
    if (device_ == nullptr) {
      device_ = &x.device();
      first_task_ = device_->pushed();
    }
    if (const Tasks tasks = x.storage()->tasks(); !tasks.empty())
      inputs_ = inputs_.with(x.device().unsettled(tasks));
    return x;
  }
  // A tensor that an op gives: it depends on the tasks of the call, and on what its arguments depend on.
  uint32_t add(const Tensor& x) {
    if (&x.device() == device_) x.storage()->depend_on(inputs_.with({first_task_, device_->pushed()}));
    return tensors_.add(x);
  }
  void begin_call() {
    device_ = nullptr;
    inputs_ = {};
  }
  std::deque<Definition>& definitions() { return definitions_; }
  Captures& captures() { return captures_; }
  Waiter& waiter() { return waiter_; }
  double* mailbox() { return mailbox_; }
  Napi::Value mailbox_array(Napi::Env env);
  void set_error_class(Napi::Function constructor) { error_class_ = Napi::Persistent(constructor); }

  // The JavaScript error for a C++ exception: TypeScript's TensorError(message, op, code). `called` is the op of an error
  // that does not name one.
  Napi::Value to_js_error(Napi::Env env, std::exception_ptr error, const char* called = "native");

  // Tells V8 how many native bytes its handles keep alive, in lumps. Each 64 MB more make V8 collect garbage, on the cores
  // that kernels run on: hence it is called only where garbage can arise, outside scopes.
  void report_memory(napi_env env);

 private:
  static constexpr size_t kMailbox = 3 + 2 * kMaxDims;

  std::string cuda_path_;
  std::optional<OpenedPlugin> cuda_;
  std::vector<std::unique_ptr<Device>> devices_;  // null: nobody has asked for it
  TensorTable tensors_;                           // after the devices: it goes first
  std::deque<Definition> definitions_;            // which stay where they are
  Captures captures_;
  Device* device_ = nullptr;  // of the present call's arguments
  int64_t first_task_ = 0;
  Tasks inputs_;
  Waiter waiter_;
  Napi::FunctionReference error_class_;
  Napi::Reference<Napi::Float64Array> mailbox_reference_;
  double* mailbox_ = nullptr;
  int64_t reported_ = 0;
};

}  // namespace tenon::binding
