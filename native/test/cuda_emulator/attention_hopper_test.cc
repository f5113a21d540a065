// Attention's kernels for Hopper against float64: all kinds of tiles, tails, strides and orders of asynchronous work.
#include <cstdlib>

#include "test/attention_testing.h"
#include "test/cuda_emulator/emulator.h"

namespace tenon::testing::attention {
namespace {

class AttentionOnHopper : public ::testing::Test {
 protected:
  void SetUp() override { setenv("TENON_CUDA_HOPPER", "1", 1); }
  void TearDown() override { setenv("TENON_CUDA_HOPPER", "0", 1); }
};

Case of(int64_t queries, int64_t keys, int64_t d, DType dtype = DType::BFloat16) {
  return {.batch = 1, .heads = 1, .queries = queries, .keys = keys, .d = d, .dtype = dtype, .gap = 8};
}

// One of each number of keys that scores are compiled for, and the ends of it: 80, 176, 208, 256.
TEST_F(AttentionOnHopper, MatchesTheReferenceForShortSequences) {
  for (const int64_t n : {1, 49, 64, 65, 144, 197, 198, 256}) {
    Case c = of(n, n, n % 2 == 0 ? 64 : 32, n == 198 ? DType::Float16 : DType::BFloat16);
    c.packed = n != 144;
    check(c);
  }
}

TEST_F(AttentionOnHopper, MatchesTheReferenceForLongSequences) {
  check(of(70, 577, 64));
  check(of(130, 257, 64, DType::Float16));
  check(of(17, 577, 128));
  for (const int64_t n : {1, 49, 65, 197}) check(of(n, n, n == 65 ? 128 : 80, DType::Float16));
}

TEST_F(AttentionOnHopper, TakesSeveralHeadsAndCrossAttention) {
  check({.batch = 2, .heads = 3, .queries = 82, .keys = 65, .d = 40, .dtype = DType::BFloat16, .gap = 8});
  check({.batch = 2, .heads = 2, .queries = 65, .keys = 90, .d = 88, .dtype = DType::BFloat16, .gap = 16});
  // Heads enough for a block to each, which then has several tiles of queries.
  check({.batch = 3, .heads = 3, .queries = 130, .keys = 70, .d = 8, .dtype = DType::Float16, .gap = 8});
}

TEST_F(AttentionOnHopper, GivesTheSameBitsInEveryOrderOfWork) {
  for (const Case& c : {of(100, 100, 64), of(70, 300, 64), of(70, 170, 128)}) {
    const auto bits = [&] {
      const Problem x(c);
      x.forward();
      x.backward();
      return x.results();
    };
    emulator::set_order(emulator::Order::Forward);
    const auto late = bits();
    emulator::set_order(emulator::Order::Reverse);
    const auto at_once = bits();
    emulator::set_order(emulator::Order::Shuffled);
    EXPECT_EQ(late, at_once);
    EXPECT_EQ(late, bits());
  }
}

TEST_F(AttentionOnHopper, KeepsLargeScoresFinite) {
  for (const int64_t keys : {70, 300}) {
    const Problem x(of(20, keys, 64));
    for_each_offset(x.q.shape, x.q.strides,
                    [&](int64_t i) { store(x.q.dtype, x.q.data, i, 1e3 * load(x.q.dtype, x.q.data, i)); });
    x.forward();
    const Expected e = reference(x);
    EXPECT_LT(relative_error(values(x.out), e.out), 1e-2);
    EXPECT_LT(relative_error(values(x.lse), e.lse), 1e-5);
  }
}

// All scores are the same, 1.6e6: what later tiles multiply the first one by is 1, whatever a score is rounded by.
TEST_F(AttentionOnHopper, AnUnchangedMaximumChangesNoSum) {
  constexpr int64_t kKeys = 640, kTile = 128;
  const Problem x(of(3, kKeys, 64));
  const auto fill = [](const View& view, auto value) {
    int64_t at = 0;
    for_each_offset(view.shape, view.strides,
                    [&](int64_t i) { store(view.dtype, view.data, i, value(at++ / view.size(3))); });
  };
  fill(x.q, [](int64_t) { return 452.0; });
  fill(x.k, [](int64_t) { return 444.0; });
  fill(x.v, [](int64_t key) { return key < kTile ? 1.0 : 0.0; });
  x.forward();
  for (const double value : values(x.out)) ASSERT_NEAR(value, static_cast<double>(kTile) / kKeys, 1e-3);
}

// A key that fills up a tile has a score of 0, whose probability beside these would be infinite.
TEST_F(AttentionOnHopper, TakesScoresThatAreAllFarBelowZero) {
  for (const int64_t keys : {70, 300}) {
    const Problem x(of(20, keys, 64));
    for (const auto& [view, value] : {std::pair{x.q, -64.0}, {x.k, 64.0}}) {
      for (int64_t i = 0; i < view.size(2); ++i) store(view.dtype, view.data, i * view.stride(2), value);
    }
    x.forward();
    x.backward();
    const Expected e = reference(x);
    EXPECT_LT(relative_error(values(x.out), e.out), 1e-2);
    EXPECT_LT(relative_error(values(x.dv), e.dv), 1e-2);
    for (const View& gradient : {x.dq, x.dk}) {
      for (const double value : values(gradient)) ASSERT_TRUE(std::isfinite(value));
    }
  }
}

TEST_F(AttentionOnHopper, NaNStaysInItsRow) {
  for (const int64_t keys : {20, 300}) {
    const Problem x(of(20, keys, 64));
    store(x.q.dtype, x.q.data, 3 * x.q.stride(2), NAN);
    x.forward();
    for (int64_t i = 0; i < 20; ++i) {
      EXPECT_EQ(std::isnan(load(x.out.dtype, x.out.data, i * x.out.stride(2))), i == 3) << i;
    }
  }
}

// What the copy engine does not read, and what these kernels do not compute, is the other kernels'.
TEST_F(AttentionOnHopper, LeavesTheRestToTheOtherKernels) {
  Case unaligned = of(20, 20, 64);
  unaligned.gap = 3;
  check(unaligned);
  check(of(20, 20, 20));
  check(of(9, 9, 160));
  check(of(9, 9, 64, DType::Float32));
  Case more = of(20, 30, 32);
  more.bias = Broadcast::Batch;
  check(more);
  more.bias = Broadcast::Absent;
  more.mask = Broadcast::Head;
  check(more);
  more.mask = Broadcast::Absent;
  more.dropout = 0.2;
  check(more);
}

}  // namespace
}  // namespace tenon::testing::attention
