// A tensor: a strided view on reference-counted storage. Copying a Tensor copies the handle, never the data.
// Tensors live on the thread that calls the ops; kernels see Views.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "core/allocator.h"
#include "core/tasks.h"
#include "core/view.h"

namespace tenon {

class Device;     // backend/device.h
struct Prepared;  // backend/backend.h

class Storage {
 public:
  Storage(Device& device, Allocator& allocator, size_t bytes)
      : device_(device), allocator_(allocator), block_(allocator.allocate(bytes)), bytes_(bytes) {}
  ~Storage() { allocator_.free(block_); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device& device() const { return device_; }
  char* data() const { return static_cast<char*>(Allocator::data(block_)); }
  size_t bytes() const { return bytes_; }
  const Allocator::Block* block() const { return block_; }

  // When it was last written in place, by a clock that every such write moves on: what was computed from the storage before
  // is out of date.
  int64_t written() const { return written_; }
  void mark_written() {
    written_ = ++clock_;
    copy_.reset();
  }
  static int64_t clock() { return clock_; }

  // A copy of what `of` shows, which kernels keep in a layout of their own for as long as nothing is written. Those that are queued
  // hold on to `prepared` alone: its memory goes back in program order, like any other.
  struct Copy {
    View of;
    std::shared_ptr<Prepared> prepared;
    std::unique_ptr<Storage> memory;
  };
  const Copy* copy() const { return copy_.get(); }
  void keep_copy(Copy copy) { copy_ = std::make_unique<Copy>(std::move(copy)); }

  // The tasks that the contents depend on.
  Tasks tasks() const { return tasks_; }
  void depend_on(Tasks tasks) { tasks_ = tasks_.with(tasks); }

 private:
  Device& device_;
  Allocator& allocator_;
  Allocator::Block* block_;
  size_t bytes_;
  int64_t written_ = 0;
  std::unique_ptr<Copy> copy_;
  Tasks tasks_;
  static inline thread_local int64_t clock_ = 0;  // a storage never leaves its thread
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<Storage> storage, DType dtype, const Shape& shape, const Shape& strides,
         int64_t offset)
      : storage_(std::move(storage)), shape_(shape), strides_(strides), offset_(offset), dtype_(dtype) {
    shape.numel();  // throws where there are too many: every tensor's elements can be counted
  }

  explicit operator bool() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  const Shape& strides() const { return strides_; }
  int ndim() const { return shape_.ndim(); }
  int64_t size(int dim) const { return shape_[dim < 0 ? dim + shape_.ndim() : dim]; }
  int64_t stride(int dim) const { return strides_[dim < 0 ? dim + strides_.ndim() : dim]; }
  int64_t numel() const { return shape_.numel(); }
  int64_t offset() const { return offset_; }  // of the first element, in elements
  DType dtype() const { return dtype_; }
  Device& device() const { return storage_->device(); }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  void* data() const { return storage_->data() + offset_ * static_cast<int64_t>(size_of(dtype_)); }
  bool is_contiguous() const { return view().is_contiguous(); }

  View view() const { return storage_ ? View{data(), dtype_, shape_, strides_} : View{}; }

  // The same storage seen with another shape and other strides.
  Tensor with(const Shape& shape, const Shape& strides, int64_t offset) const {
    return {storage_, dtype_, shape, strides, offset};
  }

 private:
  std::shared_ptr<Storage> storage_;
  Shape shape_;
  Shape strides_;
  int64_t offset_ = 0;
  DType dtype_ = DType::Float32;
};

}  // namespace tenon
