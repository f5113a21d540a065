#include "core/allocator.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace tenon {

namespace {

constexpr size_t kSmall = size_t{1} << 20;  // requests up to 1 MiB share 2 MiB segments
constexpr size_t kSmallSegment = size_t{2} << 20;
constexpr size_t kLargeSegment = size_t{32} << 20;
constexpr size_t kPage = size_t{2} << 20;  // segments are whole huge pages

constexpr size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

std::string mebibytes(size_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

}  // namespace

struct Allocator::Block {
  char* data = nullptr;
  size_t size = 0;
  bool small = false;
  bool free = true;
  Pool* pool = nullptr;
  Block* previous = nullptr;  // neighbours in the segment
  Block* next = nullptr;
};

struct Allocator::Segment {
  void* data = nullptr;
  size_t size = 0;
  Block* first = nullptr;
};

bool Allocator::BySize::operator()(const Block* a, const Block* b) const {
  return a->size != b->size ? a->size < b->size : a->data < b->data;
}

Allocator::Allocator(std::unique_ptr<MemorySource> source, std::function<void()> idle)
    : source_(std::move(source)), alignment_(source_->alignment()), idle_(std::move(idle)) {}

Allocator::~Allocator() {
  for (const auto& segment : segments_) {
    for (Block* block = segment->first; block != nullptr;) {
      std::unique_ptr<Block> owned(block);
      block = owned->next;
    }
    source_->release(segment->data, segment->size);
  }
}

void* Allocator::data(const Block* block) { return block->data; }

Allocator::Block* Allocator::allocate(size_t bytes) {
  const size_t size = round_up(std::max<size_t>(bytes, 1), alignment_);
  const bool small = size <= kSmall;
  Pool::FreeSet& blocks = current_->blocks(small);
  Block wanted;
  wanted.size = size;
  const auto found = blocks.lower_bound(&wanted);
  Block* block = found != blocks.end() ? *found : nullptr;
  if (block != nullptr) {
    blocks.erase(found);
  } else {
    block = add_segment(size, small);
  }
  if (block->size > size) {
    auto rest = std::make_unique<Block>();
    rest->data = block->data + size;
    rest->size = block->size - size;
    rest->small = small;
    rest->pool = current_;
    rest->previous = block;
    rest->next = block->next;
    if (rest->next != nullptr) rest->next->previous = rest.get();
    block->next = rest.get();
    block->size = size;
    blocks.insert(rest.release());
  }
  block->free = false;
  ++block->pool->live_;
  stats_.current += block->size;
  stats_.peak = std::max(stats_.peak, stats_.current);
  ++stats_.live;
  ++stats_.allocations;
  return block;
}

void Allocator::free(Block* block) {
  stats_.current -= block->size;
  --stats_.live;
  block->free = true;
  --block->pool->live_;
  Pool::FreeSet& blocks = block->pool->blocks(block->small);
  if (Block* next = block->next; next != nullptr && next->free) {
    blocks.erase(next);
    std::unique_ptr<Block> merged(next);
    block->size += next->size;
    block->next = next->next;
    if (block->next != nullptr) block->next->previous = block;
  }
  if (Block* previous = block->previous; previous != nullptr && previous->free) {
    blocks.erase(previous);
    std::unique_ptr<Block> merged(block);
    previous->size += block->size;
    previous->next = block->next;
    if (previous->next != nullptr) previous->next->previous = previous;
    block = previous;
  }
  blocks.insert(block);
}

Allocator::Block* Allocator::add_segment(size_t bytes, bool small) {
  const size_t roomy = small ? kSmallSegment : round_up(std::max(bytes, kLargeSegment), kPage);
  const size_t exact = round_up(bytes, kPage);
  size_t size = roomy;
  void* data = acquire(size);
  if (data == nullptr && current_ == &shared_) {
    release_cached();
    data = acquire(size);
  }
  if (data == nullptr && exact < roomy) {
    size = exact;
    data = acquire(size);
  }
  if (data == nullptr) {
    const std::optional<size_t> available = source_->available();
    throw TensorError("allocate", code::kMemory,
                      "out of memory: asked for " + mebibytes(bytes) + ", in use " +
                          mebibytes(stats_.current) + ", held " + mebibytes(stats_.reserved) +
                          (available ? ", free " + mebibytes(*available) : std::string()) +
                          (limit_ > 0 ? ", limit " + mebibytes(limit_) : std::string()));
  }
  auto segment = std::make_unique<Segment>();
  auto block = std::make_unique<Block>();
  block->data = static_cast<char*>(data);
  block->size = size;
  block->small = small;
  block->pool = current_;
  segment->data = data;
  segment->size = size;
  segment->first = block.get();
  segments_.push_back(std::move(segment));
  stats_.reserved += size;
  stats_.reserved_peak = std::max(stats_.reserved_peak, stats_.reserved);
  ++stats_.segments;
  return block.release();
}

void* Allocator::acquire(size_t bytes) {
  if (limit_ > 0 && stats_.reserved + bytes > limit_) return nullptr;
  return source_->acquire(bytes);
}

void Allocator::release_cached() {
  idle_();
  std::erase_if(segments_, [this](const std::unique_ptr<Segment>& segment) {
    Block* block = segment->first;
    if (!block->free || block->next != nullptr || block->pool != &shared_) return false;
    shared_.blocks(block->small).erase(block);
    std::unique_ptr<Block> owned(block);
    stats_.reserved -= segment->size;
    source_->release(segment->data, segment->size);
    return true;
  });
}

Allocator::Pool* Allocator::begin_pool() {
  private_.push_back(std::make_unique<Pool>());
  return current_ = private_.back().get();
}

void Allocator::dissolve(Pool* pool) {
  for (const auto& segment : segments_) {
    if (segment->first->pool != pool) continue;
    for (Block* block = segment->first; block != nullptr; block = block->next) {
      block->pool = &shared_;
      if (block->free) shared_.blocks(block->small).insert(block);
    }
  }
  shared_.live_ += pool->live_;
  std::erase_if(private_, [pool](const std::unique_ptr<Pool>& other) { return other.get() == pool; });
}

const Allocator::Pool* Allocator::pool_of(const Block* block) { return block->pool; }

size_t Allocator::live(const Pool* pool) { return pool->live_; }

}  // namespace tenon
