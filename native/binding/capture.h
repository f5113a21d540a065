// Captured steps: what JavaScript knows by a number is a device's graph, and the tensors from outside that it works on,
// whose memory stays while the graph may write it.
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <vector>

#include "backend/device.h"
#include "core/tensor.h"

namespace tenon::binding {

class TensorTable;

class Captures {
 public:
  // `random` [2] float64: see Device::begin_capture.
  void begin(const Tensor& random);
  // `kept` are the tensors made since begin that live on. Throws, and abandons the capture, where there are others, or
  // where something could not be captured.
  uint32_t end(TensorTable& tensors, const std::vector<Tensor>& kept);
  // What was made since begin() has never been computed: its identifiers become those of disposed tensors.
  void abandon(TensorTable& tensors);
  void clear() { steps_.clear(); }

  // Every tensor that an op is given. Throws for one of another device while capturing.
  void see(const Tensor& x) {
    if (device_ != nullptr) record(x);
  }

  // A replay writes in place what the step wrote: mark_writes() says so to whoever compares Storage::written().
  void mark_writes(uint32_t id);
  void launch(uint32_t id);
  void release(uint32_t id) { steps_.erase(id); }

 private:
  struct Outside {
    std::shared_ptr<Storage> storage;
    int64_t written_before;
    bool is_written = false;  // by the step
  };
  using Outsides = std::map<const Storage*, Outside>;
  struct Step {
    std::unique_ptr<Graph> graph;
    Outsides outsides;
  };

  void record(const Tensor& x);
  size_t left_alive(const std::vector<Tensor>& kept) const;

  Device* device_ = nullptr;  // that captures now
  Outsides outsides_;
  std::exception_ptr error_;
  std::map<uint32_t, Step> steps_;
  uint32_t next_ = 1;
};

}  // namespace tenon::binding
