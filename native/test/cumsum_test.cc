// Running sums along each dimension, in both directions.
#include <gtest/gtest.h>

#include <vector>

#include "kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::run;

// Of x [2, n, 3] along dimension 1.
std::vector<double> reference(const std::vector<double>& x, size_t n, bool reverse) {
  std::vector<double> out(x.size());
  for (const size_t a : {0u, 1u}) {
    for (const size_t b : {0u, 1u, 2u}) {
      double total = 0;
      for (size_t i = 0; i < n; ++i) {
        const size_t at = (a * n + (reverse ? n - 1 - i : i)) * 3 + b;
        out[at] = total += x[at];
      }
    }
  }
  return out;
}

TEST(Cumsum, AlongAnyDimensionAndStrides) {
  for (const int64_t n : {1, 5, 32, 300}) {
    for (const Shape& strides : {Shape{3 * n, 3, 1}, Shape{3 * n, 1, n}}) {
      for (const bool reverse : {false, true}) {
        for (const DType dtype :
             {DType::Float32, DType::BFloat16, DType::Float16, DType::Float64, DType::Int64}) {
          Buffer x(dtype, Shape{2, n, 3}, strides), out(dtype, Shape{2, n, 3});
          x.fill_normal(5, is_floating(dtype) ? 1 : 50);
          run(&Kernels::cumsum, {x.view(), out.view(), 1, reverse});
          EXPECT_LT(
              testing::relative_error(out.values(), reference(x.values(), static_cast<size_t>(n), reverse)),
              testing::tolerance(dtype))
              << name_of(dtype) << " n " << n << " strides " << to_string(strides);
          EXPECT_TRUE(out.intact());
        }
      }
    }
  }
}

TEST(Cumsum, OfNothingIsNothing) {
  Buffer x(DType::Float32, Shape{0, 3}), out(DType::Float32, Shape{0, 3});
  run(&Kernels::cumsum, {x.view(), out.view(), 0, false});
  EXPECT_TRUE(out.values().empty());
}

}  // namespace
}  // namespace tenon
