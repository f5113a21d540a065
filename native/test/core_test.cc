// dtypes, shapes, the allocator, the stream and the random numbers.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "core/allocator.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/random.h"
#include "core/shape.h"
#include "core/stream.h"

namespace tenon {
namespace {

// ---- dtypes

TEST(Float16, ConvertsEveryBitPatternThereAndBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    float16 half;
    half.bits = static_cast<uint16_t>(bits);
    const auto wide = static_cast<float>(half);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(float16(wide))));
    } else {
      EXPECT_EQ(float16(wide).bits, bits) << wide;
    }
  }
}

TEST(Float16, RoundsToNearestEven) {
  EXPECT_EQ(float16(1.0f + 0x1p-11f).bits, float16(1.0f).bits);          // a tie goes to the even one
  EXPECT_EQ(float16(1.0f + 3 * 0x1p-11f).bits, float16(1.0f).bits + 2);  // and here up
  EXPECT_EQ(float16(65519.0f).bits, 0x7bff);                             // the largest finite value
  EXPECT_EQ(float16(65520.0f).bits, 0x7c00);                             // infinity
  EXPECT_EQ(float16(0x1p-24f).bits, 1);                                  // the smallest subnormal
  EXPECT_EQ(float16(0x1p-25f).bits, 0);                                  // a tie with zero
}

TEST(BFloat16, RoundsToNearestEvenAndKeepsNaN) {
  EXPECT_EQ(bfloat16(1.0f + 0x1p-8f).bits, 0x3f80);
  EXPECT_EQ(bfloat16(1.0f + 3 * 0x1p-8f).bits, 0x3f82);
  EXPECT_TRUE(std::isnan(static_cast<float>(bfloat16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isinf(static_cast<float>(bfloat16(std::numeric_limits<float>::max()))));
}

TEST(Shape, StridesAndText) {
  const Shape shape{2, 3, 4};
  EXPECT_EQ(contiguous_strides(shape), (Shape{12, 4, 1}));
  EXPECT_EQ(to_string(shape), "[2, 3, 4]");
  EXPECT_EQ(shape.numel(), 24);
  EXPECT_EQ(Shape{}.numel(), 1);
  Shape full{1, 1, 1, 1, 1, 1, 1, 1};
  EXPECT_THROW(full.push_back(1), TensorError);
}

TEST(Shape, CountsAsFarAsJavaScriptDoes) {
  constexpr int64_t kHalf = int64_t{1} << 32, kMost = int64_t{1} << 53;
  EXPECT_EQ((Shape{kMost}.numel()), kMost);
  EXPECT_EQ((Shape{kHalf, 0}.numel()), 0);
  EXPECT_THROW((Shape{kMost + 1}.numel()), TensorError);
  EXPECT_THROW((Shape{kHalf, kHalf}.numel()), TensorError);            // 2^64 wraps to 0
  EXPECT_THROW((Shape{kHalf, kHalf, 3, kHalf}.numel()), TensorError);  // and so does this
  EXPECT_THROW((Shape{0, kHalf, kHalf}.numel()), TensorError);         // whose strides would wrap
}

TEST(Error, OpsBearTheirTypeScriptNames) {
  const TensorError error("layer_norm", code::kShape, "no");
  EXPECT_EQ(error.op(), "layerNorm");
  EXPECT_STREQ(error.what(), "layerNorm: no");
}

// ---- Philox: the known answers of Random123 (kat_vectors, philox4x32 with 10 rounds)

TEST(Philox, KnownAnswers) {
  EXPECT_EQ(Philox::block(0, 0), (Philox::Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const Philox::Block block = Philox::block(7, 3);
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(Philox::word(7, 12 + i), block[i]);
}

TEST(Philox, UniformIsInHalfOpenInterval) {
  EXPECT_EQ(Philox::uniform(0), 0.0f);
  EXPECT_LT(Philox::uniform(0xffffffffu), 1.0f);
}

// ---- allocator

class CountingMemory : public MemorySource {
 public:
  void* acquire(size_t bytes) override {
    if (held + bytes > capacity) return nullptr;
    held += bytes;
    return std::aligned_alloc(64, bytes);
  }
  void release(void* data, size_t bytes) override {
    held -= bytes;
    std::free(data);
  }
  size_t held = 0;
  size_t capacity = size_t{256} << 20;
};

struct AllocatorTest : testing::Test {
  CountingMemory* memory = new CountingMemory;
  int idles = 0;
  Allocator allocator{std::unique_ptr<MemorySource>(memory), [this] { ++idles; }};
};

TEST_F(AllocatorTest, ReusesAFreedBlockAtOnce) {
  Allocator::Block* a = allocator.allocate(5000);
  void* data = Allocator::data(a);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
  allocator.free(a);
  Allocator::Block* b = allocator.allocate(5000);
  EXPECT_EQ(Allocator::data(b), data);
  EXPECT_EQ(allocator.stats().segments, 1u);
  allocator.free(b);
}

TEST_F(AllocatorTest, SplitsAndCoalesces) {
  std::vector<Allocator::Block*> blocks;
  for (int i = 0; i < 100; ++i) blocks.push_back(allocator.allocate(10000));
  EXPECT_EQ(allocator.stats().segments, 1u);
  EXPECT_EQ(allocator.stats().live, 100u);
  for (size_t i = 0; i < blocks.size(); i += 2) allocator.free(blocks[i]);
  for (size_t i = 1; i < blocks.size(); i += 2) allocator.free(blocks[i]);
  EXPECT_EQ(allocator.stats().current, 0u);
  allocator.release_cached();  // one free block again, so the segment can go
  EXPECT_EQ(memory->held, 0u);
  EXPECT_EQ(idles, 1);
}

TEST_F(AllocatorTest, SaysWhatWasAskedWhenOutOfMemory) {
  allocator.set_limit(size_t{64} << 20);
  Allocator::Block* a = allocator.allocate(size_t{40} << 20);
  try {
    allocator.allocate(size_t{50} << 20);
    FAIL() << "expected an error";
  } catch (const TensorError& error) {
    EXPECT_EQ(error.code(), "MEMORY");
    EXPECT_STREQ(error.what(),
                 "allocate: out of memory: asked for 50 MiB, in use 40 MiB, held 40 MiB, limit 64 MiB");
  }
  allocator.free(a);
  Allocator::Block* b = allocator.allocate(size_t{50} << 20);  // the cached 40 MiB go back first
  EXPECT_EQ(memory->held, size_t{50} << 20);
  allocator.free(b);
}

TEST_F(AllocatorTest, APoolsBlocksAreItsOwnUntilItIsDissolved) {
  Allocator::Block* before = allocator.allocate(5000);
  Allocator::Pool* pool = allocator.begin_pool();
  Allocator::Block* inside = allocator.allocate(5000);
  Allocator::Block* kept = allocator.allocate(5000);
  EXPECT_EQ(Allocator::pool_of(inside), allocator.private_pool());
  allocator.free(before);  // goes where it came from
  allocator.end_pool();
  EXPECT_EQ(Allocator::live(pool), 2u);
  void* const data = Allocator::data(inside);
  allocator.free(inside);
  allocator.free(kept);
  Allocator::Block* after = allocator.allocate(5000);
  EXPECT_NE(Allocator::data(after), data);
  allocator.free(after);
  allocator.release_cached();
  EXPECT_EQ(memory->held, size_t{2} << 20);  // the pool's segment stays
  allocator.dissolve(pool);
  EXPECT_EQ(Allocator::data(kept = allocator.allocate(5000)), data);
  allocator.free(kept);
  allocator.release_cached();
  EXPECT_EQ(memory->held, 0u);
}

TEST_F(AllocatorTest, NothingWaitsForTheDeviceWhileAPoolIsFilled) {
  Allocator::Pool* pool = allocator.begin_pool();
  EXPECT_THROW(allocator.allocate(size_t{300} << 20), TensorError);
  EXPECT_EQ(idles, 0);
  allocator.end_pool();
  allocator.dissolve(pool);
}

TEST_F(AllocatorTest, NeverOverlapsUnderRandomUse) {
  std::mt19937 random(1);
  struct Live {
    Allocator::Block* block;
    size_t size;
    uint8_t mark;
  };
  std::vector<Live> live;
  for (int i = 0; i < 20000; ++i) {
    if (live.size() < 200 && random() % 2 == 0) {
      const size_t size = 1 + random() % (random() % 8 == 0 ? 3000000 : 20000);
      if (allocator.stats().current > (size_t{100} << 20)) continue;
      Live entry{allocator.allocate(size), size, static_cast<uint8_t>(random())};
      auto* data = static_cast<uint8_t*>(Allocator::data(entry.block));
      data[0] = data[size - 1] = entry.mark;
      live.push_back(entry);
    } else if (!live.empty()) {
      const size_t at = random() % live.size();
      const auto* data = static_cast<const uint8_t*>(Allocator::data(live[at].block));
      ASSERT_EQ(data[0], live[at].mark);
      ASSERT_EQ(data[live[at].size - 1], live[at].mark);
      allocator.free(live[at].block);
      live[at] = live.back();
      live.pop_back();
    }
  }
  for (const Live& entry : live) allocator.free(entry.block);
  EXPECT_EQ(allocator.stats().current, 0u);
}

// ---- stream

TEST(Stream, RunsTasksInOrder) {
  std::vector<int> seen;
  Stream stream([] {});
  for (int i = 0; i < 1000; ++i) stream.push("test", [&seen, i] { seen.push_back(i); });
  stream.synchronize();
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
}

TEST(Stream, TheFirstErrorSurfacesOnceAtTheNextWait) {
  Stream stream([] {});
  int after = 0;
  stream.push("first", [] { throw TensorError("gather", code::kIndex, "index 9 is outside [0, 3)"); });
  stream.push("second", [] { throw std::runtime_error("later"); });
  stream.push("third", [&after] { ++after; });
  try {
    stream.synchronize();
    FAIL() << "expected an error";
  } catch (const TensorError& error) {
    EXPECT_EQ(error.code(), "INDEX");
  }
  EXPECT_EQ(after, 1);
  EXPECT_NO_THROW(stream.synchronize());
}

TEST(Stream, AFailureIsThereForWhoeverDependsOnItsTask) {
  Stream stream([] {});
  std::atomic<bool> go = false;
  stream.push("hold", [&go] {
    while (!go) std::this_thread::yield();
  });
  const int64_t begin = stream.pushed();
  stream.push("gather", [] { throw TensorError("gather", code::kIndex, "index 9 is outside [0, 3)"); });
  const int64_t end = stream.pushed();
  stream.push("sum", [] {});
  EXPECT_FALSE(stream.unsettled({end, end + 1}).empty());  // it may still fail
  go = true;
  stream.wait_idle();
  EXPECT_TRUE(stream.take_error());
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(stream.failure({begin, end}));
  EXPECT_FALSE(stream.failure({0, begin}));
  EXPECT_FALSE(stream.failure({end, end + 1}));
  EXPECT_TRUE(stream.unsettled({end, end + 1}).empty());
  EXPECT_EQ(stream.unsettled({0, end}).end, end);
}

TEST(Stream, ALibrarysErrorNamesTheOp) {
  Stream stream([] {});
  stream.push("matmul", [] { throw std::runtime_error("could not create a primitive"); });
  try {
    stream.synchronize();
    FAIL() << "expected an error";
  } catch (const TensorError& error) {
    EXPECT_STREQ(error.what(), "matmul: could not create a primitive");
    EXPECT_EQ(error.code(), "KERNEL");
  }
}

TEST(Stream, StagedBytesAreBounded) {
  Stream stream([] {});
  std::atomic<bool> go = false;
  std::atomic<int> pushed = 0;
  stream.push("hold", [&go] {
    while (!go) std::this_thread::yield();
  });
  std::thread producer([&] {
    for (int i = 0; i < 4; ++i) {
      stream.push(
          "upload", [] {}, size_t{100} << 20);
      ++pushed;
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(pushed, 2);  // 256 MiB at most
  go = true;
  producer.join();
  stream.synchronize();
  EXPECT_EQ(pushed, 4);
}

}  // namespace
}  // namespace tenon
