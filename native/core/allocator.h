// A caching allocator: large segments from the system, best-fit blocks with splitting and coalescing.
//
// Blocks are handed out and taken back in program order on one thread (the one that calls the ops). Because a device
// runs its kernels in that same order, a block that has just been freed can be handed out at once although kernels
// that use it may still be queued: whoever writes it next is queued behind them. Only giving memory back to the
// system needs an idle stream.
//
// A captured graph uses its memory again at each replay. So its blocks come from a private pool, whose free memory nobody
// else gets while the graph lives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

namespace tenon {

// Where segments come from: the system on the CPU, cudaMalloc on CUDA.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual void* acquire(size_t bytes) = 0;  // nullptr when there is no more
  virtual void release(void* data, size_t bytes) = 0;
  virtual std::optional<size_t> available() const {
    return {};
  }                                                // bytes that are free, where the source knows
  virtual size_t alignment() const { return 64; }  // of blocks: a cache line, and a full AVX-512 vector
};

struct MemoryStats {
  size_t current = 0;        // bytes in live blocks
  size_t peak = 0;           // the most `current` has been since reset_peak
  size_t reserved = 0;       // bytes held from the system
  size_t reserved_peak = 0;  // the most `reserved` has been
  size_t live = 0;           // blocks in use
  size_t allocations = 0;    // blocks handed out, ever
  size_t segments = 0;       // segments taken from the system, ever
};

class Allocator {
 public:
  struct Block;

  // `idle` blocks until the device has run everything that was queued; called before memory goes back to the system.
  Allocator(std::unique_ptr<MemorySource> source, std::function<void()> idle);
  ~Allocator();
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;

  // Throws TensorError MEMORY when neither the cache nor the system has `bytes`, or the limit forbids it.
  Block* allocate(size_t bytes);
  void free(Block* block);
  static void* data(const Block* block);

  // From here to end_pool(), blocks come from a new pool, and nothing waits for the device.
  class Pool;
  Pool* begin_pool();
  void end_pool() { current_ = &shared_; }
  const Pool* private_pool() const {
    return current_ == &shared_ ? nullptr : current_;
  }  // the one that has begun
  // Gives a pool's memory to everybody; blocks in use stay.
  void dissolve(Pool* pool);
  static const Pool* pool_of(const Block* block);
  static size_t live(const Pool* pool);  // blocks in use

  void set_limit(size_t bytes) { limit_ = bytes; }  // of `reserved`; 0 means none
  void release_cached();                            // gives wholly free segments back
  void reset_peak() { stats_.peak = stats_.current; }
  const MemoryStats& stats() const { return stats_; }

 private:
  struct BySize {
    bool operator()(const Block* a, const Block* b) const;
  };
  struct Segment;

 public:
  class Pool {
    friend class Allocator;
    using FreeSet = std::set<Block*, BySize>;
    FreeSet& blocks(bool small) { return small ? small_ : large_; }
    FreeSet small_;  // free
    FreeSet large_;
    size_t live_ = 0;
  };

 private:
  Block* add_segment(size_t bytes, bool small);
  void* acquire(size_t bytes);

  std::unique_ptr<MemorySource> source_;
  size_t alignment_;
  std::function<void()> idle_;
  std::vector<std::unique_ptr<Segment>> segments_;
  Pool shared_;
  std::vector<std::unique_ptr<Pool>> private_;
  Pool* current_ = &shared_;
  MemoryStats stats_;
  size_t limit_ = 0;
};

}  // namespace tenon
