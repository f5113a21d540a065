// The k largest and smallest of rows, against a stable sort.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::run;

TEST(Topk, SortsAndTakesTheFirstOfEquals) {
  const std::vector<DType> dtypes = {DType::Float32, DType::BFloat16, DType::Float64, DType::Int32,
                                     DType::UInt8};
  for (const DType dtype : dtypes) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {10, 10}, {300, 5}, {33, 0}}) {
      for (const bool largest : {true, false}) {
        Buffer x(dtype, Shape{3, n}, Shape{1, 3}), values(dtype, Shape{3, k}),
            indices(DType::Int64, Shape{3, k});
        std::vector<double> numbers(static_cast<size_t>(3 * n));
        for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<double>(i * 29 % 23);
        x.fill(numbers);
        run(&Kernels::topk, {x.view(), values.view(), indices.view(), largest});
        std::vector<double> expected_values, expected_indices;
        for (int64_t row = 0; row < 3; ++row) {
          const double* from = numbers.data() + row * n;
          std::vector<size_t> order(static_cast<size_t>(n));
          std::iota(order.begin(), order.end(), size_t{0});
          std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
            return largest ? from[a] > from[b] : from[a] < from[b];
          });
          for (int64_t i = 0; i < k; ++i) {
            expected_values.push_back(from[order[static_cast<size_t>(i)]]);
            expected_indices.push_back(static_cast<double>(order[static_cast<size_t>(i)]));
          }
        }
        EXPECT_EQ(values.values(), expected_values) << name_of(dtype) << " n " << n;
        EXPECT_EQ(indices.values(), expected_indices) << name_of(dtype) << " n " << n;
        EXPECT_TRUE(values.intact() && indices.intact());
      }
    }
  }
}

TEST(Topk, NaNIsTheLargest) {
  Buffer x(DType::Float32, Shape{5}), values(DType::Float32, Shape{3}), indices(DType::Int64, Shape{3});
  x.fill({1, NAN, INFINITY, NAN, -INFINITY});
  run(&Kernels::topk, {x.view(), values.view(), indices.view(), true});
  EXPECT_EQ(indices.values(), (std::vector<double>{1, 3, 2}));
  run(&Kernels::topk, {x.view(), values.view(), indices.view(), false});
  EXPECT_EQ(indices.values(), (std::vector<double>{4, 0, 2}));
}

}  // namespace
}  // namespace tenon
