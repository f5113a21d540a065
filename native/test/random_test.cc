// Random numbers, permutations and dropout against what backend.h says of each Philox word.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/random.h"
#include "kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::run;

constexpr uint64_t kSeed = 0x123456789abcdef;

// The first within a block of Philox, the last where the counter's lower half overflows.
const std::vector<uint64_t> kOffsets = {0, 1, 2, 3, 1000, (uint64_t{1} << 34) - 3};

double word(uint64_t at, uint32_t plane = 0) { return Philox::word(kSeed, at, plane); }

RandomArgs args_of(RandomKind kind, const Buffer& out, uint64_t offset, double a, double b, double c = 0,
                   double d = 0) {
  return {kind, out.view(), a, b, c, d, kSeed, offset};
}

// For sizes and offsets that end and begin within a block: element i of the result is expected(offset + i), within
// `error` relative to 1 + its size.
template <typename Expected>
void expect_elements(RandomKind kind, DType dtype, double a, double b, double c, double d, double error,
                     Expected expected) {
  for (const uint64_t offset : kOffsets) {
    for (const int64_t n : {1, 4, 131}) {
      Buffer out(dtype, Shape{n});
      run(&Kernels::random, args_of(kind, out, offset, a, b, c, d));
      const std::vector<double> values = out.values();
      for (size_t i = 0; i < values.size(); ++i) {
        const double x = expected(offset + i);
        EXPECT_NEAR(values[i], x, error * (1 + std::abs(x)))
            << name_of(dtype) << " offset " << offset << " element " << i;
      }
      EXPECT_TRUE(out.intact());
    }
  }
}

TEST(Random, UniformNumbersFillTheUnitInterval) {
  expect_elements(RandomKind::Uniform, DType::Float32, 0, 1, 0, 0, 0,
                  [](uint64_t j) { return static_cast<double>(Philox::uniform(Philox::word(kSeed, j))); });
  expect_elements(RandomKind::Uniform, DType::Float64, 0, 1, 0, 0, 0, [](uint64_t j) {
    const uint64_t bits = (uint64_t{Philox::word(kSeed, j)} << 21) | (Philox::word(kSeed, j, 1) >> 11);
    return static_cast<double>(bits) * 0x1p-53;
  });
}

TEST(Random, UniformNumbersAreRoundedOnce) {
  expect_elements(RandomKind::Uniform, DType::Float32, -2.5, 7.1, 0, 0, 0, [](uint64_t j) {
    return static_cast<double>(
        std::fma(static_cast<float>(7.1 + 2.5), Philox::uniform(Philox::word(kSeed, j)), -2.5f));
  });
  for (const DType dtype : {DType::BFloat16, DType::Float16}) {
    expect_elements(RandomKind::Uniform, dtype, -2.5, 7.1, 0, 0, testing::tolerance(dtype),
                    [](uint64_t j) { return -2.5 + 9.6 * word(j) * 0x1p-32; });
  }
}

TEST(Random, NormalNumbersComeInPairs) {
  for (const DType dtype : testing::float_dtypes()) {
    expect_elements(RandomKind::Normal, dtype, 0.5, 3, 0, 0, testing::tolerance(dtype), [](uint64_t j) {
      const double radius = std::sqrt(-2 * std::log((word(j & ~uint64_t{1}) + 1) * 0x1p-32));
      const double angle = word(j | 1) * 0x1p-32 * 6.283185307179586;
      return 0.5 + 3 * radius * (j % 2 == 0 ? std::cos(angle) : std::sin(angle));
    });
  }
}

// The distribution function at an element is the point that its word chooses.
TEST(Random, TruncatedNormalNumbersInvertTheDistribution) {
  constexpr double kMean = 0.25, kDeviation = 0.5;
  for (const auto& [low, high] : {std::pair{-2.5, 3.0}, {1.0, 1.5}}) {
    const double from = standard_normal_cdf((low - kMean) / kDeviation),
                 to = standard_normal_cdf((high - kMean) / kDeviation);
    for (const uint64_t offset : kOffsets) {
      Buffer out(DType::Float64, Shape{67});
      run(&Kernels::random, args_of(RandomKind::TruncatedNormal, out, offset, kMean, kDeviation, low, high));
      const std::vector<double> values = out.values();
      for (size_t i = 0; i < values.size(); ++i) {
        const double p = standard_normal_cdf((values[i] - kMean) / kDeviation);
        EXPECT_NEAR(p, from + (to - from) * (word(offset + i) + 0.5) * 0x1p-32, 1e-8);
        EXPECT_GE(values[i], low);
        EXPECT_LE(values[i], high);
      }
    }
  }
}

TEST(Random, TruncatedNormalNumbersReachBothTails) {
  Buffer out(DType::Float32, Shape{2000});
  run(&Kernels::random, args_of(RandomKind::TruncatedNormal, out, 0, 0, 1, -20, 20));
  const std::vector<double> values = out.values();
  for (size_t i = 0; i < values.size(); ++i) {
    const double p = (word(i) + 0.5) * 0x1p-32;
    EXPECT_NEAR(standard_normal_cdf(values[i]) / p, 1, 2e-6 * (1 + values[i] * values[i]));
  }
  EXPECT_LT(*std::min_element(values.begin(), values.end()), -2.5);
  EXPECT_GT(*std::max_element(values.begin(), values.end()), 2.5);
}

TEST(Random, BernoulliDrawsOneBelowTheThreshold) {
  for (const DType dtype : {DType::Bool, DType::UInt8, DType::Int32, DType::Int64, DType::Float32,
                            DType::Float64, DType::BFloat16, DType::Float16}) {
    expect_elements(RandomKind::Bernoulli, dtype, 0.3, 0, 0, 0, 0,
                    [](uint64_t j) { return word(j) < 0.3 * 0x1p32 ? 1 : 0; });
  }
  for (const double p : {0.0, 1.0}) {
    Buffer out(DType::Float32, Shape{300});
    run(&Kernels::random, args_of(RandomKind::Bernoulli, out, 0, p, 0));
    EXPECT_EQ(out.values(), std::vector<double>(300, p));
  }
}

TEST(Random, IntegersScaleTheWord) {
  for (const DType dtype : {DType::UInt8, DType::Int32, DType::Int64, DType::Float32}) {
    expect_elements(RandomKind::RandInt, dtype, 5, 105, 0, 0, 0, [](uint64_t j) {
      return static_cast<double>(5 + ((uint64_t{Philox::word(kSeed, j)} * 100) >> 32));
    });
  }
}

TEST(Random, IntegersOfWideRangesUseBothWords) {
  constexpr double kLow = -0x1p62, kHigh = 0x1p62;  // their distance, 2^63, takes the upper 63 bits
  expect_elements(RandomKind::RandInt, DType::Int64, kLow, kHigh, 0, 0, 0, [](uint64_t j) {
    const uint64_t bits = uint64_t{Philox::word(kSeed, j)} << 32 | Philox::word(kSeed, j, 1);
    return static_cast<double>(static_cast<int64_t>((bits >> 1) - (uint64_t{1} << 62)));
  });
}

TEST(Random, PermutationsSortTheKeys) {
  for (const int64_t n : {1, 2, 3, 100, 2048, 5000}) {
    for (const uint64_t offset : {uint64_t{0}, uint64_t{7}}) {
      Buffer out(DType::Int64, Shape{n}, Shape{2});
      run(&Kernels::permutation, {out.view(), kSeed, offset});
      std::vector<double> order(static_cast<size_t>(n));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](double a, double b) {
        const auto key = [&](double i) {
          const uint64_t at = offset + static_cast<uint64_t>(i);
          return uint64_t{Philox::word(kSeed, at)} << 32 | Philox::word(kSeed, at, 1);
        };
        return key(a) < key(b);
      });
      EXPECT_EQ(out.values(), order) << n;
      EXPECT_TRUE(out.intact());
    }
  }
}

TEST(Random, DropoutKeepsWhatItsWordsSay) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const uint64_t offset : kOffsets) {
      for (const int64_t n : {1, 8, 131}) {
        Buffer x(dtype, Shape{n}), out(dtype, Shape{n});
        x.fill_normal(1);
        run(&Kernels::dropout, {x.view(), out.view(), 0.25, kSeed, offset});
        std::vector<double> expected = x.values();
        for (size_t i = 0; i < expected.size(); ++i) {
          expected[i] *= word(offset + i) >= 0.25 * 0x1p32 ? 1 / 0.75 : 0;
        }
        EXPECT_LT(testing::relative_error(out.values(), expected), testing::tolerance(dtype));
        EXPECT_TRUE(out.intact());
        run(&Kernels::dropout, {x.view(), x.view(), 0.25, kSeed, offset});
        EXPECT_EQ(x.values(), out.values());
      }
    }
  }
}

TEST(Random, DropoutDropsInfinityToo) {
  Buffer x(DType::Float32, Shape{64}), out(DType::Float32, Shape{64});
  x.fill(std::numeric_limits<double>::infinity());
  run(&Kernels::dropout, {x.view(), out.view(), 0.5, kSeed, 0});
  for (size_t i = 0; i < 64; ++i) {
    EXPECT_EQ(out.values()[i], word(i) >= 0x1p31 ? std::numeric_limits<double>::infinity() : 0);
  }
}

TEST(Random, OfNothingIsNothing) {
  Buffer x(DType::Float32, Shape{0}), order(DType::Int64, Shape{0});
  run(&Kernels::random, args_of(RandomKind::Normal, x, 0, 0, 1));
  run(&Kernels::dropout, {x.view(), x.view(), 0.5, kSeed, 0});
  run(&Kernels::permutation, {order.view(), kSeed, 0});
  EXPECT_TRUE(x.intact() && order.intact());
}

}  // namespace
}  // namespace tenon
