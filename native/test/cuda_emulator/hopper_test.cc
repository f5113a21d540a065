// The instructions of backend/cuda/hopper.h: layouts of descriptors, swizzles and fragments as the PTX ISA tells them
// (9.7.15.5.1, wgmma's register fragments and shared memory layout), phases of mbarriers, boxes of tensor maps, and the
// errors of programs that break the rules.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "backend/cuda/hopper.h"

namespace tenon::cuda {
namespace {

using emulator::Order;

// Element n of a matrix, small enough to be exact in both 16-bit types.
int number(int n) { return (n * 7 + 3) % 31 - 15; }

class Hopper : public ::testing::TestWithParam<Order> {
 protected:
  void SetUp() override { emulator::set_order(GetParam()); }
  void TearDown() override { emulator::set_order(Order::Shuffled); }
};

std::string name_of(const ::testing::TestParamInfo<Order>& info) {
  const char* const names[] = {"Late", "AtOnce", "Shuffled"};
  return names[static_cast<size_t>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(Work, Hopper, ::testing::Values(Order::Forward, Order::Reverse, Order::Shuffled),
                         name_of);

template <typename F>
std::string error_of(F&& thread, unsigned threads = kWarpgroup, size_t shared_bytes = 32768) {
  try {
    emulator::launch("kernel", 1, threads, shared_bytes, thread);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "none";
}

#define EXPECT_SAYS(error, part) EXPECT_NE((error).find(part), std::string::npos) << (error)

// ---- products ------------------------------------------------------------------------------------------------------

// A layout is where the byte of an element lies.
using Layout = std::function<unsigned(unsigned i, unsigned k)>;

constexpr unsigned kColumns = 128;

// Multiplies a [64, 16] and b [128, 16] of number(), each laid out from a byte of shared memory on, whose descriptors are
// given without the start.
template <typename S>
void check_layout(uint64_t a, const Layout& a_layout, bool a_transposed, uint64_t b, const Layout& b_layout,
                  bool b_transposed) {
  constexpr unsigned kB = 8192;
  std::vector<float> c(size_t{64} * kColumns, NAN);
  emulator::launch("kernel", 1, kWarpgroup, 32768, [&] {
    unsigned char* const shared = swizzled_shared_memory();
    const auto put = [&](unsigned at, int value) {
      *reinterpret_cast<S*>(shared + at) = S(static_cast<float>(value));
    };
    const int thread = static_cast<int>(threadIdx.x);
    for (int n = thread; n < 64 * 16; n += kWarpgroup) {
      put(a_layout(static_cast<unsigned>(n) / 16, static_cast<unsigned>(n) % 16), number(n));
    }
    for (int n = thread; n < static_cast<int>(kColumns) * 16; n += kWarpgroup) {
      put(kB + b_layout(static_cast<unsigned>(n) / 16, static_cast<unsigned>(n) % 16), number(3 * n + 1));
    }
    fence_async_proxy();
    __syncthreads();
    float sums[kColumns / 8][4];
    fence_products();
    emulator::multiply_on_warpgroup({.sums = sums[0],
                                     .columns = kColumns,
                                     .a = a,
                                     .b = b + (kB >> 4),
                                     .transposed_a = a_transposed,
                                     .transposed_b = b_transposed,
                                     .accumulates = false,
                                     .widen = widen_bits<S>},
                                    emulator::Where::current());
    commit_products();
    wait_for_products<0>();
    // The accumulator's layout: warp w has rows 16 w on.
    for (int n = 0; n < static_cast<int>(kColumns) / 8; ++n) {
      for (int e = 0; e < 4; ++e) {
        const int row = thread / 32 * 16 + thread % 32 / 4 + e / 2 * 8,
                  column = 8 * n + thread % 4 * 2 + e % 2;
        c[static_cast<size_t>(row) * kColumns + static_cast<size_t>(column)] = sums[n][e];
      }
    }
  });
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < static_cast<int>(kColumns); ++j) {
      int expected = 0;
      for (int k = 0; k < 16; ++k) expected += number(16 * i + k) * number(3 * (16 * j + k) + 1);
      ASSERT_EQ(c[static_cast<size_t>(i) * kColumns + static_cast<size_t>(j)], static_cast<float>(expected))
          << i << ' ' << j;
    }
  }
}

uint64_t descriptor(unsigned leading, unsigned stride, unsigned mode) {
  return static_cast<uint64_t>(leading >> 4) << 16 | static_cast<uint64_t>(stride >> 4) << 32 |
         static_cast<uint64_t>(mode) << 62;
}

// Swizzle<bits, 4, 3> of CuTe.
unsigned swizzle(unsigned address, unsigned bits) {
  return address ^ ((address >> 7 & ((1u << bits) - 1)) << 4);
}

// K-major: 8 rows of 16, 32, 64 or 128 bytes are an atom, and the next 8 rows one more.
TEST_P(Hopper, ReadsKMajorMatricesInEverySwizzle) {
  const auto layout = [](unsigned bits) -> Layout {
    return [=](unsigned i, unsigned k) {
      const unsigned row = 16u << bits;
      return swizzle(i / 8 * 8 * row + i % 8 * row + k * 2, bits);
    };
  };
  // Without a swizzle the two halves of 8 elements are 4096 bytes apart, the groups of 8 rows 128.
  const Layout plain = [](unsigned i, unsigned k) { return k / 8 * 4096 + i * 16 + k % 8 * 2; };
  check_layout<bfloat16>(descriptor(4096, 128, 0), plain, false, descriptor(4096, 128, 0), plain, false);
  check_layout<bfloat16>(descriptor(16, 256, 3), layout(1), false, descriptor(16, 256, 3), layout(1), false);
  check_layout<float16>(descriptor(16, 512, 2), layout(2), false, descriptor(16, 512, 2), layout(2), false);
  check_layout<float16>(descriptor(16, 1024, 1), layout(3), false, descriptor(16, 1024, 1), layout(3), false);
}

// MN-major: atoms of 8 rows along K, each of 16, 32, 64 or 128 bytes along M or N.
TEST_P(Hopper, ReadsMnMajorMatricesInEverySwizzle) {
  // The atoms of 8 k lie side by side along M or N, then those of the next 8 k.
  const auto layout = [](unsigned bits, unsigned size) -> Layout {
    return [=](unsigned i, unsigned k) {
      const unsigned row = 16u << bits, width = row / 2, atom = 8 * row;
      return swizzle(i / width * atom + k / 8 * (size / width) * atom + k % 8 * row + i % width * 2, bits);
    };
  };
  // Leading: to the next atom along M or N, or, without a swizzle, along K; stride: the other one.
  const auto both = [&]<typename S>(S, unsigned bits, unsigned mode) {
    const unsigned atom = 128u << bits;
    const auto bytes = [&](unsigned size) { return size / (8u << bits) * atom; };
    const auto of = [&](unsigned size) {
      return mode == 0 ? descriptor(bytes(size), atom, mode) : descriptor(atom, bytes(size), mode);
    };
    check_layout<S>(of(64), layout(bits, 64), true, of(kColumns), layout(bits, kColumns), true);
  };
  both(bfloat16(), 0, 0);
  both(float16(), 1, 3);
  both(float16(), 2, 2);
  both(bfloat16(), 3, 1);
}

// sums (+)= a b^T, then (+)= c d with c in registers, over several steps: what attention's kernels do.
template <typename S, int kRows, int kD>
void check_tiles() {
  constexpr int kBytes = Tile<64, kD>::kBytes + Tile<kRows, kD>::kBytes;
  std::vector<S> a(64 * kD), b(kRows * kD);
  for (int n = 0; n < 64 * kD; ++n) a[static_cast<size_t>(n)] = S(static_cast<float>(number(n) % 3));
  for (int n = 0; n < kRows * kD; ++n)
    b[static_cast<size_t>(n)] = S(static_cast<float>(number(5 * n + 2) % 3));
  std::vector<float> scores(size_t{64} * kRows, NAN), products(size_t{64} * kD, NAN);
  const auto view = [](std::vector<S>& x, int rows) {
    return View{x.data(), std::is_same_v<S, bfloat16> ? DType::BFloat16 : DType::Float16,
                Shape{1, 1, rows, kD}, Shape{rows * kD, rows * kD, kD, 1}};
  };
  const TensorMap map_a = make_map("kernel", view(a, 64), 64),
                  map_b = make_map("kernel", view(b, kRows), kRows);
  emulator::launch("kernel", 1, kWarpgroup, kBytes + sizeof(Mbarrier), [&] {
    const Tile<64, kD> tile_a{swizzled_shared_memory()};
    const Tile<kRows, kD> tile_b{tile_a.data + tile_a.kBytes};
    auto& barrier = *reinterpret_cast<Mbarrier*>(tile_b.data + tile_b.kBytes);
    if (threadIdx.x == 0) {
      barrier.init(1);
      fence_async_proxy();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      barrier.arrive_and_expect(kBytes);
      tile_a.load(map_a, 0, 0, 0, barrier);
      tile_b.load(map_b, 0, 0, 0, barrier);
    }
    barrier.wait(0);
    float s[kRows / 8][4], p[kD / 8][4];
    fence_products();
    for (int k = 0; k < kD / 16; ++k) multiply_tiles<S>(s, tile_a.rows(0, k), tile_b.rows(0, k), k > 0);
    commit_products();
    wait_for_products<0>();
    fence_products();
    for (int k = 0; k < kRows / 16; ++k) {
      uint32_t left[4];  // scores modulo 3
      for (int i = 0; i < 4; ++i) {
        const float* const pair = s[2 * k + i / 2] + i % 2 * 2;
        left[i] = pack_pair<S>(std::fmod(pair[0], 3.0f), std::fmod(pair[1], 3.0f));
      }
      multiply_registers<S>(p, left, tile_b.columns(k), k > 0);
    }
    commit_products();
    wait_for_products<0>();
    const int thread = static_cast<int>(threadIdx.x), row = thread / 32 * 16 + thread % 32 / 4,
              pair = thread % 4 * 2;
    const auto put = [&](std::vector<float>& to, int columns, const auto& sums) {
      for (int n = 0; n < columns / 8; ++n) {
        for (int e = 0; e < 4; ++e) {
          to[static_cast<size_t>((row + e / 2 * 8) * columns + 8 * n + pair + e % 2)] = sums[n][e];
        }
      }
    };
    put(scores, kRows, s);
    put(products, kD, p);
  });
  std::vector<int> expected(size_t{64} * kRows);
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < kRows; ++j) {
      int& sum = expected[static_cast<size_t>(i * kRows + j)];
      for (int k = 0; k < kD; ++k) sum += number(i * kD + k) % 3 * (number(5 * (j * kD + k) + 2) % 3);
      ASSERT_EQ(scores[static_cast<size_t>(i * kRows + j)], static_cast<float>(sum)) << i << ' ' << j;
    }
    for (int c = 0; c < kD; ++c) {
      int sum = 0;
      for (int j = 0; j < kRows; ++j) {
        sum += expected[static_cast<size_t>(i * kRows + j)] % 3 * (number(5 * (j * kD + c) + 2) % 3);
      }
      ASSERT_EQ(products[static_cast<size_t>(i * kD + c)], static_cast<float>(sum)) << i << ' ' << c;
    }
  }
}

TEST_P(Hopper, MultipliesTilesThatTheCopyEngineBrought) {
  check_tiles<bfloat16, 208, 64>();
  check_tiles<float16, 32, 64>();
  check_tiles<bfloat16, 64, 128>();
  check_tiles<float16, 128, 128>();
}

// What a warpgroup's product begins with.
void multiply_zeros(float (&sums)[8][4], bool accumulates = false) {
  const Tile<64, 64> tile{swizzled_shared_memory()};
  multiply_tiles<bfloat16>(sums, tile.rows(0, 0), tile.rows(0, 0), accumulates);
}

void clear_shared_memory() {
  for (int n = static_cast<int>(threadIdx.x); n < 8192; n += kWarpgroup) swizzled_shared_memory()[n] = 0;
  fence_async_proxy();
  __syncthreads();
}

TEST_P(Hopper, SumsAreNaNUntilTheirGroupIsWaitedFor) {
  std::vector<float> before(kWarpgroup), between(kWarpgroup), after(kWarpgroup);
  const std::string error = error_of([&] {
    clear_shared_memory();
    float first[8][4], second[8][4] = {{5}};
    fence_products();
    multiply_zeros(first);
    commit_products();
    multiply_zeros(second, true);
    commit_products();
    before[threadIdx.x] = first[0][0];
    wait_for_products<1>();
    between[threadIdx.x] = first[0][0] + second[0][0];
    after[threadIdx.x] = first[0][0];
    wait_for_products<0>();
    after[threadIdx.x] += second[0][0];
  });
  EXPECT_EQ(error, "none");
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_TRUE(std::isnan(before[i]));
    EXPECT_TRUE(std::isnan(between[i]));
    EXPECT_EQ(after[i], 5);
  }
}

TEST_P(Hopper, RefusesSumsThatAreWrittenBeforeTheWait) {
  const std::string error = error_of([] {
    clear_shared_memory();
    float sums[8][4];
    fence_products();
    multiply_zeros(sums);
    commit_products();
    sums[3][1] = 0;
    wait_for_products<0>();
  });
  EXPECT_SAYS(error,
              "emulator: kernel: sums were written between a product and the wait for it at hopper_test.cc:");
}

TEST_P(Hopper, RefusesAProductWithoutAFence) {
  const std::string error = error_of([] {
    clear_shared_memory();
    float sums[8][4];
    fence_products();
    multiply_zeros(sums);
    commit_products();
    wait_for_products<0>();
    multiply_zeros(sums, true);
  });
  EXPECT_SAYS(
      error, "a product whose registers may have been touched since the last wgmma.fence at hopper_test.cc:");
}

TEST_P(Hopper, RefusesAProductThatNobodyWaitsFor) {
  const std::string error = error_of([] {
    clear_shared_memory();
    float sums[8][4];
    fence_products();
    multiply_zeros(sums);
    wait_for_products<0>();  // of no group
  });
  EXPECT_SAYS(error, "a block ends before a product that it issued at hopper_test.cc:");
}

TEST_P(Hopper, RefusesAProductThatAWarpOfTheWarpgroupLacks) {
  const std::string error = error_of([] {
    clear_shared_memory();
    if (threadIdx.x / 32 == 2) return;
    float sums[8][4];
    fence_products();
    multiply_zeros(sums);
    commit_products();
    wait_for_products<0>();
  });
  EXPECT_SAYS(error, "warp 2 lacks the product of its warpgroup at hopper_test.cc:");
}

TEST_P(Hopper, RefusesADescriptorThatOneLaneHasAlone) {
  const std::string error = error_of([] {
    clear_shared_memory();
    const Tile<64, 64> tile{swizzled_shared_memory()};
    float sums[8][4];
    fence_products();
    multiply_tiles<bfloat16>(sums, tile.rows(0, threadIdx.x == 5 ? 1 : 0), tile.rows(0, 0), false);
  });
  EXPECT_SAYS(error, "the lanes of a warp give other descriptors to a product at hopper_test.cc:");
}

TEST_P(Hopper, RefusesProductsThatDifferInAWarpgroup) {
  const std::string error = error_of([] {
    clear_shared_memory();
    const Tile<64, 64> tile{swizzled_shared_memory()};
    float sums[8][4];
    fence_products();
    multiply_tiles<bfloat16>(sums, tile.rows(0, 0), tile.rows(0, static_cast<int>(threadIdx.x) / 64), false);
    commit_products();
    wait_for_products<0>();
  });
  EXPECT_SAYS(error, "the warps of a warpgroup issue other products");
}

TEST_P(Hopper, RefusesAWarpgroupThatLacksWarps) {
  const std::string error = error_of(
      [] {
        float sums[8][4];
        fence_products();
        multiply_zeros(sums);
      },
      96);
  EXPECT_SAYS(error, "a product of a warpgroup that lacks warps at hopper_test.cc:");
}

TEST_P(Hopper, RefusesStoresThatNoFenceHasFollowed) {
  const std::string error = error_of([] {
    clear_shared_memory();
    swizzled_shared_memory()[2 * threadIdx.x] = 1;
    __syncthreads();
    float sums[8][4];
    fence_products();
    multiply_zeros(sums);
    commit_products();
    wait_for_products<0>();
  });
  EXPECT_SAYS(error,
              "a product reads what ordinary stores wrote to shared memory with no fence.proxy.async behind");
}

TEST_P(Hopper, RefusesATileThatBeginsInsideAPattern) {
  const std::string error = error_of([] {
    clear_shared_memory();
    const Tile<64, 64> tile{swizzled_shared_memory() + 256};
    float sums[8][4];
    fence_products();
    multiply_tiles<bfloat16>(sums, tile.rows(0, 0), tile.rows(0, 0), false);
    commit_products();
    wait_for_products<0>();
  });
  EXPECT_SAYS(error, "a matrix that does not begin in the first row of a swizzle's pattern");
}

// ---- copies and mbarriers ------------------------------------------------------------------------------------------

// A box of [B, H, N, d] = [2, 3, 5, 72] with gaps, partly beyond N and d: zeros there, and 16-byte chunks xored with the
// row.
TEST_P(Hopper, CopiesBoxesWithZerosBeyondTheTensor) {
  constexpr int64_t kB = 2, kH = 3, kN = 5, kD = 72, kToken = kH * kD + 8;
  std::vector<bfloat16> x(kB * kN * kToken);
  const auto value = [](int64_t b, int64_t h, int64_t n, int64_t c) {
    return static_cast<float>((b * 61 + h * 17 + n * 5 + c) % 127 + 1);
  };
  for (int64_t b = 0; b < kB; ++b) {
    for (int64_t h = 0; h < kH; ++h) {
      for (int64_t n = 0; n < kN; ++n) {
        for (int64_t c = 0; c < kD; ++c) {
          x[static_cast<size_t>((b * kN + n) * kToken + h * kD + c)] = bfloat16(value(b, h, n, c));
        }
      }
    }
  }
  const View view{x.data(), DType::BFloat16, Shape{kB, kH, kN, kD}, Shape{kN * kToken, kD, kToken, 1}};
  ASSERT_TRUE(takes_map(view));
  const TensorMap map = make_map("kernel", view, 16);
  constexpr int kBytes = 2 * 16 * 128;
  std::vector<bfloat16> seen(kBytes / 2);
  emulator::launch("kernel", 1, 32, kBytes + sizeof(Mbarrier), [&] {
    const Tile<16, 128> tile{swizzled_shared_memory()};
    auto& barrier = *reinterpret_cast<Mbarrier*>(tile.data + kBytes);
    if (threadIdx.x == 0) {
      barrier.init(1);
      fence_async_proxy();
      barrier.arrive_and_expect(kBytes);
      tile.load(map, 2, 1, 1, barrier);  // rows 2 to 17 of head 1, batch 1
    }
    __syncthreads();
    barrier.wait(0);
    if (threadIdx.x == 0) std::copy_n(reinterpret_cast<bfloat16*>(tile.data), seen.size(), seen.begin());
  });
  for (int64_t row = 0; row < 16; ++row) {
    for (int64_t c = 0; c < 128; ++c) {
      const int64_t at = c / 64 * 1024 + row * 64 + (c % 64 / 8 ^ row % 8) * 8 + c % 8;
      const float expected = row + 2 < kN && c < kD ? value(1, 1, row + 2, c) : 0;
      ASSERT_EQ(static_cast<float>(seen[static_cast<size_t>(at)]), expected) << row << ' ' << c;
    }
  }
}

TEST(TensorMaps, TakeWhatTheCopyEngineReads) {
  alignas(16) static bfloat16 memory[1 << 12];
  const auto takes = [&](int offset, const Shape& shape, const Shape& strides,
                         DType dtype = DType::BFloat16) {
    return takes_map({memory + offset, dtype, shape, strides});
  };
  EXPECT_TRUE(takes(0, {2, 3, 5, 64}, {960, 64, 192, 1}));
  EXPECT_TRUE(takes(8, {2, 3, 5, 20}, {240, 80, 24, 1}, DType::Float16));
  EXPECT_FALSE(takes(4, {2, 3, 5, 64}, {960, 64, 192, 1}));
  EXPECT_FALSE(takes(0, {2, 3, 5, 20}, {300, 100, 20, 1}));
  EXPECT_FALSE(takes(0, {2, 3, 5, 64}, {0, 64, 192, 1}));
  EXPECT_FALSE(takes(0, {2, 3, 5, 64}, {-960, 64, 192, 1}));
  EXPECT_FALSE(takes(0, {2, 3, 5, 64}, {960, 320, 1, 5}));
  EXPECT_FALSE(takes(0, {2, 0, 5, 64}, {960, 64, 192, 1}));
  EXPECT_FALSE(takes(0, {2, 3, 5, 64}, {960, 64, 192, 1}, DType::Float32));
  EXPECT_TRUE(takes(0, {1, 1, 5, 64}, {0, 3, 64, 1}));  // nobody goes along a dimension of one
}

TEST_P(Hopper, PhasesEndWhenAllHaveArrivedAndAllBytesAreThere) {
  // A producer fills a ring of two stages with one number after the other; three consumers sum them.
  constexpr int kTurns = 7;
  alignas(16) static int source[kTurns][4];
  for (int i = 0; i < kTurns; ++i) source[i][0] = 1 << i;
  std::vector<int> sums(4);
  emulator::launch("kernel", 1, 128, 4 * sizeof(Mbarrier) + 32, [&] {
    unsigned char* const stages = swizzled_shared_memory();
    auto* const full = reinterpret_cast<Mbarrier*>(stages + 32);
    Mbarrier* const empty = full + 2;
    if (threadIdx.x == 0) {
      for (int s = 0; s < 2; ++s) {
        full[s].init(1);
        empty[s].init(3);
      }
      fence_async_proxy();
    }
    __syncthreads();
    const int warp = static_cast<int>(threadIdx.x) / 32;
    for (int i = 0; i < kTurns; ++i) {
      const int stage = i % 2, parity = i / 2 % 2;
      if (warp == 0) {
        if (threadIdx.x != 0) continue;
        empty[stage].wait(parity ^ 1);
        full[stage].arrive_and_expect(16);
        load_bytes(stages + 16 * stage, source[i], 16, full[stage]);
      } else {
        full[stage].wait(parity);
        if (threadIdx.x % 32 == 0)
          sums[static_cast<size_t>(warp)] += *reinterpret_cast<int*>(stages + 16 * stage);
        __syncwarp();
        if (threadIdx.x % 32 == 0) empty[stage].arrive();
      }
    }
  });
  EXPECT_EQ(sums, (std::vector<int>{0, 127, 127, 127}));
}

// A stage that is filled before its readers are done shows where copies happen at once.
TEST(HopperOrder, AStageThatIsFilledTooEarlyShows) {
  emulator::set_order(Order::Reverse);
  alignas(16) static const int source[2][4] = {{1}, {2}};
  int seen = 0;
  emulator::launch("kernel", 1, 1, 32, [&] {
    unsigned char* const stage = swizzled_shared_memory();
    auto& full = *reinterpret_cast<Mbarrier*>(stage + 16);
    full.init(1);
    fence_async_proxy();
    for (const auto& from : source) {
      full.arrive_and_expect(16);
      load_bytes(stage, from, 16, full);
    }
    full.wait(1);
    seen = *reinterpret_cast<int*>(stage);
  });
  emulator::set_order(Order::Shuffled);
  EXPECT_EQ(seen, 2);
}

TEST_P(Hopper, ReportsBytesThatNoCopyBrings) {
  alignas(16) static const int source[4] = {1};
  const std::string error = error_of(
      [] {
        unsigned char* const stage = swizzled_shared_memory();
        auto& full = *reinterpret_cast<Mbarrier*>(stage + 64);
        full.init(2);
        fence_async_proxy();
        full.arrive_and_expect(32);
        load_bytes(stage, source, 16, full);
        full.wait(0);
      },
      1);
  EXPECT_SAYS(error,
              "emulator: kernel: deadlock in block (0, 0, 0), thread (0, 0, 0) waits at hopper_test.cc:");
  EXPECT_SAYS(error, "for the mbarrier at byte 64, which lacks 1 arrivals and 16 bytes");
}

TEST_P(Hopper, RefusesWhatTheCopyEngineWould) {
  alignas(16) static bfloat16 x[64 * 64] = {};
  const TensorMap map =
      make_map("kernel", {x, DType::BFloat16, Shape{1, 1, 64, 64}, Shape{4096, 4096, 64, 1}}, 64);
  const auto load = [&](int offset, bool fenced, const TensorMap& from) {
    return error_of(
        [&, fenced, offset] {
          auto& barrier = *reinterpret_cast<Mbarrier*>(swizzled_shared_memory() + 16384);
          barrier.init(1);
          if (fenced) fence_async_proxy();
          barrier.arrive_and_expect(8192);
          load_box(swizzled_shared_memory() + offset, from, 0, 0, 0, 0, barrier);
          barrier.wait(0);
        },
        1);
  };
  EXPECT_EQ(load(128, true, map), "none");
  EXPECT_SAYS(load(64, true, map), "a copy of a box to an address of shared memory that 128 does not divide");
  EXPECT_SAYS(load(0, false, map),
              "a copy to an mbarrier whose initialisation no fence.proxy.async has followed");
  EXPECT_SAYS(load(32768 - 128, true, map), "a copy beyond the end of shared memory");
  EXPECT_SAYS(load(0, true, TensorMap{}), "a copy by what is no tensor map of 4 dimensions");
  EXPECT_SAYS(error_of([] { reinterpret_cast<Mbarrier*>(swizzled_shared_memory())->wait(0); }, 1),
              "an mbarrier that was not initialised at hopper_test.cc:");
}

TEST_P(Hopper, RefusesABlockThatEndsBeforeItsCopies) {
  if (GetParam() != Order::Forward) return;  // else they are done
  alignas(16) static const int source[4] = {};
  const std::string error = error_of(
      [] {
        auto& barrier = *reinterpret_cast<Mbarrier*>(swizzled_shared_memory() + 16);
        barrier.init(1);
        fence_async_proxy();
        barrier.arrive_and_expect(16);
        load_bytes(swizzled_shared_memory(), source, 16, barrier);
      },
      1);
  EXPECT_SAYS(error, "a block ends before a copy that it issued at hopper_test.cc:");
}

}  // namespace
}  // namespace tenon::cuda
