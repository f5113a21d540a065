// The instructions of backend/cuda/mma.h: fragments have the layouts of the PTX ISA, and copies take effect at the wait.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "backend/cuda/mma.h"

namespace tenon::cuda {
namespace {

// Element n of a matrix, small enough to be exact in both 16-bit types.
int number(int n) { return (n * 7 + 3) % 31 - 15; }

using Multiply = void (*)(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <typename S>
void check_product(Multiply multiply) {
  std::vector<S> a(16 * 16), b(16 * 8);
  for (int i = 0; i < 256; ++i) a[static_cast<size_t>(i)] = S(static_cast<float>(number(i)));
  for (int i = 0; i < 128; ++i) b[static_cast<size_t>(i)] = S(static_cast<float>(number(3 * i + 1)));
  std::vector<float> c(16 * 8, NAN);
  emulator::launch("kernel", 1, 32, 0, [&] {
    const int group = static_cast<int>(threadIdx.x) / 4, pair = static_cast<int>(threadIdx.x) % 4 * 2;
    const auto bits = [](const std::vector<S>& m, int at, int next) {
      return uint32_t{m[static_cast<size_t>(at)].bits} | uint32_t{m[static_cast<size_t>(next)].bits} << 16;
    };
    const auto of_a = [&](int i, int k) { return bits(a, 16 * i + k, 16 * i + k + 1); };
    const auto of_b = [&](int k, int j) { return bits(b, 8 * k + j, 8 * (k + 1) + j); };
    const uint32_t fragment[4] = {of_a(group, pair), of_a(group + 8, pair), of_a(group, pair + 8),
                                  of_a(group + 8, pair + 8)};
    float sums[4] = {1, 2, 3, 4};
    multiply(sums, fragment, of_b(pair, group), of_b(pair + 8, group));
    for (int i = 0; i < 4; ++i) {
      c[static_cast<size_t>(8 * (group + i / 2 * 8) + pair + i % 2)] = sums[i] - static_cast<float>(i + 1);
    }
  });
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      int expected = 0;
      for (int k = 0; k < 16; ++k) expected += number(16 * i + k) * number(3 * (8 * k + j) + 1);
      EXPECT_EQ(c[static_cast<size_t>(8 * i + j)], static_cast<float>(expected)) << i << ' ' << j;
    }
  }
}

template <typename S>
void on_tensor_cores(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  multiply_16x8x16<S>(c, a, b0, b1);
}

TEST(Mma, MultipliesFragmentsInTheLayoutOfPtx) {
  check_product<bfloat16>(on_tensor_cores<bfloat16>);
  check_product<float16>(on_tensor_cores<float16>);
}

TEST(Mma, MultipliesTheSameFragmentsWithoutTensorCores) {
  check_product<bfloat16>(multiply_by_shuffles<bfloat16>);
  check_product<float16>(multiply_by_shuffles<float16>);
}

TEST(Mma, LoadsMatricesInTheLayoutOfPtx) {
  constexpr int kStride = 24;  // 48 bytes
  std::vector<uint32_t> plain(4 * 32), transposed(4 * 32);
  emulator::launch("kernel", 1, 32, 32 * kStride * sizeof(uint16_t), [&] {
    auto* shared = shared_memory<uint16_t>();
    const unsigned lane = threadIdx.x;
    for (unsigned j = 0; j < 8; ++j) shared[lane * kStride + j] = static_cast<uint16_t>(100 * lane + j);
    __syncwarp();
    uint32_t result[4];
    load_matrices(result, shared + lane * kStride);
    for (unsigned m = 0; m < 4; ++m) plain[32 * m + lane] = result[m];
    load_matrices_transposed(result, shared + lane * kStride);
    for (unsigned m = 0; m < 4; ++m) transposed[32 * m + lane] = result[m];
  });
  const auto element = [](unsigned m, unsigned i, unsigned j) { return 100 * (8 * m + i) + j; };
  for (unsigned m = 0; m < 4; ++m) {
    for (unsigned l = 0; l < 32; ++l) {
      const unsigned i = l / 4, j = 2 * (l % 4);
      EXPECT_EQ(plain[32 * m + l], element(m, i, j) | element(m, i, j + 1) << 16);
      EXPECT_EQ(transposed[32 * m + l], element(m, j, i) | element(m, j + 1, i) << 16);
    }
  }
}

TEST(Mma, RefusesAMatrixRowThat16DoesNotDivide) {
  std::string error;
  try {
    emulator::launch("kernel", 1, 32, 1024, [] {
      uint32_t result[4];
      load_matrices(result, shared_memory<uint16_t>() + 4);
    });
  } catch (const std::exception& e) {
    error = e.what();
  }
  EXPECT_NE(error.find("emulator: kernel: ldmatrix of an address that 16 does not divide at mma_test.cc:"),
            std::string::npos)
      << error;
}

TEST(Mma, CopiesHappenWhenTheirGroupIsWaitedFor) {
  alignas(16) static const int source[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  std::vector<int> before, between, after;
  emulator::launch("kernel", 1, 1, sizeof source, [&] {
    int* shared = shared_memory<int>();
    const auto seen = [&] { return std::vector<int>(shared, shared + 12); };
    copy_async(shared, source, true);
    copy_async(shared + 4, source + 4, false);
    commit_copies();
    copy_async(shared + 8, source + 8, true);
    commit_copies();
    before = seen();
    wait_copies<1>();
    between = seen();
    wait_copies<0>();
    after = seen();
  });
  EXPECT_EQ(before, std::vector<int>(12, -1));
  EXPECT_EQ(between, (std::vector<int>{1, 2, 3, 4, 0, 0, 0, 0, -1, -1, -1, -1}));
  EXPECT_EQ(after, (std::vector<int>{1, 2, 3, 4, 0, 0, 0, 0, 9, 10, 11, 12}));
}

// In flight at a thread's end, a copy may come after what other threads then write in its place.
TEST(Mma, ACopyThatNobodyWaitsForIsAnError) {
  alignas(16) static const int source[4] = {1, 2, 3, 4};
  for (const bool commits : {false, true}) {
    std::string error;
    try {
      emulator::launch("kernel", 1, 1, sizeof source, [&] {
        copy_async(shared_memory<int>(), source, true);
        if (commits) {
          commit_copies();
        } else {
          wait_copies<0>();  // for groups: it is in none
        }
      });
    } catch (const std::exception& e) {
      error = e.what();
    }
    EXPECT_EQ(error.rfind("emulator: kernel: a thread ends before a copy that it issued at mma_test.cc:", 0),
              0u)
        << error;
  }
}

}  // namespace
}  // namespace tenon::cuda
