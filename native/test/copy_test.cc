// fill, arange and copy: every pair of dtypes, strides of every kind, and nothing written beside the output.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::run;

const std::vector<DType> kDTypes = {DType::Float32, DType::BFloat16, DType::Float16, DType::Float64,
                                    DType::Int32,   DType::Int64,    DType::UInt8,   DType::Bool};

// What a value becomes in a dtype; the values of the tests are exact in every float.
double converted(DType dtype, double x) {
  const auto saturated = [&](double low, double high) {
    return std::isnan(x) ? 0 : std::clamp(std::trunc(x), low, high);
  };
  switch (dtype) {
    case DType::Int32:
      return saturated(std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max());
    case DType::Int64:
      return saturated(-0x1p63, 0x1p63);
    case DType::UInt8:
      return saturated(0, 255);
    case DType::Bool:
      return x != 0;
    default:
      return x;
  }
}

std::vector<double> whole_numbers(int64_t count) {
  std::vector<double> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>((i * 37 + 11) % 251);
  return values;
}

TEST(Fill, WritesItsValueInEveryDTypeAndLength) {
  for (const DType dtype : kDTypes) {
    for (const int64_t n : {0, 1, 3, 16, 33, 100}) {
      Buffer out(dtype, Shape{n});
      run(&Kernels::fill, {out.view(), 1.5});
      EXPECT_EQ(out.values(), std::vector<double>(static_cast<size_t>(n), converted(dtype, 1.5)))
          << name_of(dtype);
      EXPECT_TRUE(out.intact()) << name_of(dtype);
    }
  }
}

TEST(Fill, LeavesWhatLiesBetweenStrides) {
  for (const Shape& strides : {Shape{40, 2}, Shape{1, 5}, Shape{-20, 3}}) {
    Buffer out(DType::Float32, Shape{5, 7}, strides);
    run(&Kernels::fill, {out.view(), -2});
    EXPECT_EQ(out.values(), std::vector<double>(35, -2.0));
    EXPECT_TRUE(out.intact());
  }
}

TEST(Arange, CountsFromStartByStep) {
  for (const DType dtype : kDTypes) {
    for (const int64_t stride : {1, 3}) {
      Buffer out(dtype, Shape{50}, Shape{stride});
      run(&Kernels::arange, {out.view(), 2, 3});
      std::vector<double> expected(50);
      for (size_t i = 0; i < 50; ++i) expected[i] = converted(dtype, 2.0 + 3.0 * static_cast<double>(i));
      EXPECT_EQ(out.values(), expected) << name_of(dtype);
      EXPECT_TRUE(out.intact());
    }
  }
}

TEST(Copy, ConvertsBetweenAllDTypes) {
  for (const DType from : kDTypes) {
    for (const DType to : kDTypes) {
      Buffer x(from, Shape{37}), out(to, Shape{37});
      std::vector<double> values = whole_numbers(37);
      if (is_floating(from)) {
        std::transform(values.begin(), values.end(), values.begin(), [](double v) { return v / 2 - 40; });
      }
      values[5] = 0;
      if (from == DType::Bool) {
        for (double& v : values) v = v > 100;
      }
      x.fill(values);
      run(&Kernels::copy, {x.view(), out.view()});
      for (double& v : values) v = converted(to, v);
      EXPECT_EQ(out.values(), values) << name_of(from) << " to " << name_of(to);
      EXPECT_TRUE(out.intact());
    }
  }
}

TEST(Copy, FloatsBeyondAnIntegerSaturateAndNaNGivesZero) {
  const std::vector<double> values = {1e30, -1e30, INFINITY, -INFINITY, NAN};
  for (const DType from : {DType::Float32, DType::Float64, DType::BFloat16}) {
    for (const DType to : {DType::Int32, DType::Int64, DType::UInt8}) {
      Buffer x(from, Shape{5}), out(to, Shape{5});
      x.fill(values);
      run(&Kernels::copy, {x.view(), out.view()});
      std::vector<double> expected;
      for (const double v : values) expected.push_back(converted(to, v));
      EXPECT_EQ(out.values(), expected) << name_of(from) << " to " << name_of(to);
    }
  }
}

TEST(Copy, RoundsToNearestEven) {
  Buffer x(DType::Float32, Shape{4}), out(DType::BFloat16, Shape{4});
  x.fill({1 + 0x1p-8, 1 + 3 * 0x1p-8, -1 - 0x1p-8, 1 + 0x1p-8 + 0x1p-20});
  run(&Kernels::copy, {x.view(), out.view()});
  EXPECT_EQ(out.values(), (std::vector<double>{1, 1 + 0x1p-6, -1, 1 + 0x1p-7}));
}

// Every permutation of three dimensions, and of the bits of every size; sizes that fill tiles in part.
TEST(Copy, PermutesDimensions) {
  const Shape shape{3, 35, 41};
  for (const DType dtype : {DType::UInt8, DType::BFloat16, DType::Float32, DType::Float64}) {
    const std::vector<double> values = whole_numbers(shape.numel());
    std::array<int, 3> order = {0, 1, 2};
    do {
      // out[i, j, k] = x[i, j, k], x's memory in the order of the permutation.
      Shape permuted, strides = shape;
      for (const int d : order) permuted.push_back(shape[d]);
      const Shape dense = contiguous_strides(permuted);
      for (int d = 0; d < 3; ++d) strides[order[static_cast<size_t>(d)]] = dense[d];
      Buffer x(dtype, shape, strides), out(dtype, shape);
      x.fill(values);
      run(&Kernels::copy, {x.view(), out.view()});
      EXPECT_EQ(out.values(), values) << name_of(dtype) << order[0] << order[1] << order[2];
      EXPECT_TRUE(out.intact());
    } while (std::next_permutation(order.begin(), order.end()));
  }
}

struct Strides {
  Shape shape, src, dst;
};

TEST(Copy, TakesAnyStrides) {
  const std::vector<Strides> cases = {
      {{4, 32}, {40, 1}, {32, 1}},                          // rows with gaps, in packs
      {{4, 32}, {41, 1}, {32, 1}},                          // rows that begin anywhere
      {{4, 9}, {9, 1}, {20, 2}},                            // a gap between elements
      {{4, 9}, {0, 1}, {9, 1}},                             // broadcast rows
      {{4, 16}, {1, 0}, {16, 1}},                           // broadcast columns
      {{4, 9}, {-9, -1}, {9, 1}},                           // flipped
      {{2, 1, 3, 1, 2}, {6, 9, 2, 9, 1}, {6, 1, 2, 1, 1}},  // dimensions of one element
      {{2, 2, 2, 2, 2, 2, 2, 2}, {1, 2, 4, 8, 16, 32, 64, 128}, {128, 64, 32, 16, 8, 4, 2, 1}},
      {{3, 0, 2}, {0, 2, 1}, {0, 2, 1}},
      {{}, {}, {}},
  };
  for (const auto& [shape, src, dst] : cases) {
    for (const DType to : {DType::Float32, DType::Float16}) {
      Buffer x(DType::Float32, shape, src), out(to, shape, dst);
      x.fill(whole_numbers(shape.numel()));
      const std::vector<double> values = x.values();
      run(&Kernels::copy, {x.view(), out.view()});
      EXPECT_EQ(out.values(), values) << to_string(shape) << to_string(src);
      EXPECT_TRUE(out.intact());
    }
  }
}

// 16-byte accesses begin at 16 bytes only.
TEST(Copy, TakesAnyAlignment) {
  for (const int64_t skip : {0, 1, 4, 8}) {
    Buffer x(DType::BFloat16, Shape{72}), out(DType::BFloat16, Shape{72});
    x.fill(whole_numbers(72));
    out.fill(0);
    View from = x.view(), to = out.view();
    from.data = from.as<bfloat16>() + skip;
    to.data = to.as<bfloat16>() + skip;
    from.shape = to.shape = Shape{60};
    run(&Kernels::copy, {from, to});
    std::vector<double> expected(72, 0.0);
    const std::vector<double> values = x.values();
    std::copy_n(values.begin() + skip, 60, expected.begin() + skip);
    EXPECT_EQ(out.values(), expected);
  }
}

}  // namespace
}  // namespace tenon
