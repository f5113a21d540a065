// What the emulator promises: CUDA's semantics where they are defined, and an error where a program has none.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/numeric.h"

namespace tenon::emulator {
namespace {

struct Launch {
  Dim3 grid = 1, block = 64;
  size_t shared_bytes = 0;
};

template <typename F>
std::string error_of(const Launch& l, F&& thread) {
  try {
    launch("kernel", l.grid, l.block, l.shared_bytes, thread);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "none";
}

class Emulator : public ::testing::TestWithParam<Order> {
 protected:
  void SetUp() override { set_order(GetParam()); }
  void TearDown() override { set_order(Order::Shuffled); }
};

std::string name_of(const ::testing::TestParamInfo<Order>& info) {
  const char* const names[] = {"Forward", "Reverse", "Shuffled"};
  return names[static_cast<size_t>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(InOrder, Emulator,
                         ::testing::Values(Order::Forward, Order::Reverse, Order::Shuffled), name_of);

TEST_P(Emulator, RunsEveryThreadOnceAtItsPlace) {
  std::vector<int> count(2 * 3 * 4 * 8 * 4 * 2);
  launch("kernel", Dim3(2, 3, 4), Dim3(8, 4, 2), 0, [&] {
    const auto [bx, by, bz] = std::tuple(blockIdx.x, blockIdx.y, blockIdx.z);
    const unsigned block = bx + gridDim.x * (by + gridDim.y * bz);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    ++count[block * 64 + thread];
  });
  EXPECT_EQ(std::count(count.begin(), count.end(), 1), static_cast<int64_t>(count.size()));
}

TEST_P(Emulator, RunsTheEndsOfAGridAsASample) {
  const auto blocks_of = [](Dim3 grid) {
    std::vector<std::pair<unsigned, unsigned>> blocks;
    launch("kernel", grid, 1, 0, [&] { blocks.emplace_back(blockIdx.x, blockIdx.y); });
    std::sort(blocks.begin(), blocks.end());
    return blocks;
  };
  using Places = std::vector<std::pair<unsigned, unsigned>>;
  set_sample(1);
  EXPECT_EQ(blocks_of(Dim3(0x7fffffff, 3)), (Places{{0, 0}, {0x7ffffffe, 2}}));
  EXPECT_EQ(blocks_of(Dim3(2, 1)), (Places{{0, 0}, {1, 0}}));
  set_sample(2);
  EXPECT_EQ(blocks_of(Dim3(3, 1)), (Places{{0, 0}, {1, 0}, {2, 0}}));
  EXPECT_EQ(blocks_of(Dim3(3, 2)), (Places{{0, 0}, {1, 0}, {1, 1}, {2, 1}}));
  set_sample(0);
  EXPECT_EQ(blocks_of(Dim3(3, 2)).size(), 6u);
}

TEST_P(Emulator, BarriersOrderSharedMemory) {
  std::vector<int> out(2 * 256);
  launch("kernel", 2, 256, 256 * sizeof(int), [&] {
    int* shared = cuda::shared_memory<int>();
    const unsigned i = threadIdx.x;
    shared[i] = static_cast<int>(i);
    __syncthreads();
    for (unsigned stride = 128; stride > 0; stride /= 2) {  // rotate, then sum
      const int other = shared[(i + stride) % 256];
      __syncthreads();
      shared[i] += other;
      __syncthreads();
    }
    out[blockIdx.x * 256 + i] = shared[i];
  });
  for (const int v : out) EXPECT_EQ(v, 255 * 128);
}

TEST_P(Emulator, SharedMemoryBeginsAsNaNInEveryBlock) {
  std::vector<float> seen(4);
  launch("kernel", 4, 1, sizeof(float), [&] {
    float* shared = cuda::shared_memory<float>();
    seen[blockIdx.x] = shared[0];
    shared[0] = 1;
  });
  for (const float v : seen) EXPECT_TRUE(std::isnan(v));
}

TEST_P(Emulator, ShufflesAndVotesAreCudas) {
  std::vector<unsigned> xors(64), downs(64), broadcast(64), ballots(64);
  launch("kernel", 1, 64, 0, [&] {
    const unsigned i = threadIdx.x;
    xors[i] = __shfl_xor_sync(0xffffffffu, i, 5);
    downs[i] = __shfl_down_sync(0xffffffffu, i, 3u);
    broadcast[i] = __shfl_sync(0xffffffffu, i, 7);
    ballots[i] = __ballot_sync(0xffffffffu, i % 3 == 0);
  });
  for (unsigned i = 0; i < 64; ++i) {
    EXPECT_EQ(xors[i], i ^ 5u);
    EXPECT_EQ(downs[i], i % 32 + 3 < 32 ? i + 3 : i);
    EXPECT_EQ(broadcast[i], i / 32 * 32 + 7);
    unsigned expected = 0;
    for (unsigned lane = 0; lane < 32; ++lane) expected |= ((i / 32 * 32 + lane) % 3 == 0) << lane;
    EXPECT_EQ(ballots[i], expected);
  }
}

TEST_P(Emulator, ASubsetOfAWarpMeetsByItself) {
  std::vector<unsigned> sums(32);
  launch("kernel", 1, 32, 0, [&] {
    const unsigned i = threadIdx.x;
    if (i % 2 == 0) {
      unsigned sum = i;
      for (int lanes = 16; lanes > 1; lanes /= 2) sum += __shfl_xor_sync(0x55555555u, sum, lanes);
      sums[i] = sum;
    }
  });
  for (unsigned i = 0; i < 32; i += 2) EXPECT_EQ(sums[i], 240u);
}

TEST_P(Emulator, SumsOverWarpsAndBlocksAreTheSameInEveryThread) {
  std::vector<float> sums(96);
  launch("kernel", 1, 96, 3 * sizeof(float), [&] {
    sums[threadIdx.x] =
        cuda::sum_over_block(1.0f / (1.0f + static_cast<float>(threadIdx.x)), cuda::shared_memory<float>());
  });
  for (const float v : sums) EXPECT_EQ(v, sums[0]);
  double expected = 0;
  for (int i = 1; i <= 96; ++i) expected += 1.0 / i;
  EXPECT_NEAR(sums[0], expected, 1e-6);
}

TEST_P(Emulator, ABarrierThatSomeReturnBeforeIsPassedByTheOthers) {
  std::vector<int> passed(64);
  launch("kernel", 1, 64, 0, [&] {
    if (threadIdx.x >= 40) return;
    __syncthreads();
    passed[threadIdx.x] = 1;
  });
  EXPECT_EQ(std::count(passed.begin(), passed.end(), 1), 40);
}

TEST_P(Emulator, BarriersAtTwoPlacesAreAnError) {
  const std::string error = error_of({}, [] {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  });
  EXPECT_NE(error.find("emulator: kernel: thread (0, 0, 0) waits at the barrier of emulator_test.cc:"),
            std::string::npos)
      << error;
}

TEST_P(Emulator, AShuffleThatALaneMissesIsAnError) {
  const std::string error = error_of({.grid = 1, .block = 32}, [] {
    if (threadIdx.x != 9) __shfl_xor_sync(0xffffffffu, 1, 1);
  });
  EXPECT_TRUE(error.find("deadlock in block (0, 0, 0)") != std::string::npos ||
              error.find("the mask names lanes that have returned") != std::string::npos)
      << error;
}

TEST_P(Emulator, ABarrierInsideAShuffleIsAnError) {
  const std::string error = error_of({.grid = 1, .block = 32}, [] {
    if (threadIdx.x == 9) {
      __syncthreads();
    } else {
      __shfl_xor_sync(0xffffffffu, 1, 1);
    }
  });
  EXPECT_NE(error.find("deadlock in block (0, 0, 0): thread ("), std::string::npos) << error;
  EXPECT_NE(error.find("thread (9, 0, 0) at the barrier of emulator_test.cc:"), std::string::npos) << error;
}

TEST_P(Emulator, ALaneOutsideItsMaskIsAnError) {
  const std::string error = error_of({.grid = 1, .block = 32}, [] { __shfl_xor_sync(0xffffu, 1, 1); });
  EXPECT_NE(error.find("a lane is not in the mask that it gives at emulator_test.cc:"), std::string::npos)
      << error;
}

TEST_P(Emulator, AnErrorOfAThreadIsTheLaunchsAndTheNextLaunchRuns) {
  EXPECT_EQ(error_of({},
                     [] {
                       if (threadIdx.x == 3) throw std::runtime_error("thread 3");
                       __syncthreads();
                     }),
            "thread 3");
  EXPECT_EQ(error_of({}, [] { __syncthreads(); }), "none");
}

TEST(EmulatorLaunch, RefusesWhatAGpuWould) {
  EXPECT_EQ(error_of({.grid = 1, .block = 1025}, [] {}),
            "emulator: kernel: expected blocks of 1 to 1024 threads, got (1025, 1, 1)");
  EXPECT_EQ(error_of({.grid = 0u}, [] {}),
            "emulator: kernel: expected a grid of 1 to 2^31 - 1, 65535, 65535 blocks, got (0, 1, 1)");
  EXPECT_EQ(error_of({.grid = 1, .block = 1, .shared_bytes = 232449}, [] {}),
            "emulator: kernel: expected at most 227 KiB of shared memory, got 232449 bytes");
}

}  // namespace
}  // namespace tenon::emulator
