// Reductions over every set of dimensions, against loops in float64.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::run;

// The elements of each result in row-major order: bit d of `dims` says whether dimension d is reduced.
std::vector<std::vector<double>> groups_of(const Buffer& x, unsigned dims) {
  const Shape& shape = x.view().shape;
  Shape out = shape;
  for (int d = 0; d < shape.ndim(); ++d) {
    if ((dims >> d & 1u) != 0) out[d] = 1;
  }
  Shape strides = contiguous_strides(out);
  for (int d = 0; d < shape.ndim(); ++d) {
    if (out[d] == 1) strides[d] = 0;
  }
  std::vector<std::vector<double>> groups(static_cast<size_t>(out.numel()));
  const std::vector<double> values = x.values();
  size_t at = 0;
  testing::for_each_offset(
      shape, strides, [&](int64_t result) { groups[static_cast<size_t>(result)].push_back(values[at++]); });
  return groups;
}

double reference(ReduceOp op, const std::vector<double>& values) {
  double sum = 0, squares = 0;
  const auto n = static_cast<double>(values.size());
  for (const double v : values) sum += v;
  for (const double v : values) squares += (v - sum / n) * (v - sum / n);
  switch (op) {
    case ReduceOp::Sum:
      return sum;
    case ReduceOp::Mean:
      return sum / n;
    case ReduceOp::Var:
      return squares / (n - 1);
    case ReduceOp::Max:
      return *std::max_element(values.begin(), values.end());
    case ReduceOp::Min:
      return *std::min_element(values.begin(), values.end());
    case ReduceOp::ArgMax:
      return static_cast<double>(std::max_element(values.begin(), values.end()) - values.begin());
    case ReduceOp::ArgMin:
      return static_cast<double>(std::min_element(values.begin(), values.end()) - values.begin());
    case ReduceOp::Any:
      return *std::max_element(values.begin(), values.end()) != 0;
    case ReduceOp::All:
      return *std::min_element(values.begin(), values.end()) != 0;
  }
  return NAN;
}

std::vector<double> reference(ReduceOp op, const Buffer& x, unsigned dims) {
  std::vector<double> out;
  for (const auto& group : groups_of(x, dims)) out.push_back(reference(op, group));
  return out;
}

std::vector<double> reduced(ReduceOp op, const Buffer& x, unsigned dims, DType dtype) {
  Shape shape = x.view().shape;
  int dim = -1;
  for (int d = 0; d < shape.ndim(); ++d) {
    if ((dims >> d & 1u) == 0) continue;
    shape[d] = 1;
    dim = d;
  }
  Buffer out(dtype, shape);
  run(&Kernels::reduce, {op, x.view(), out.view(), 1, dim});
  EXPECT_TRUE(out.intact());
  return out.values();
}

const std::vector<ReduceOp> kFloatOps = {ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Var, ReduceOp::Max,
                                         ReduceOp::Min};

TEST(Reduce, OverEverySetOfDimensions) {
  for (const Shape& strides : {Shape{120, 30, 1}, Shape{1, 6, 48}, Shape{240, -30, 1}}) {
    Buffer x(DType::Float32, Shape{5, 4, 24}, strides);
    x.fill_normal(1);
    for (unsigned dims = 0; dims < 8; ++dims) {
      for (const ReduceOp op : kFloatOps) {
        if (op == ReduceOp::Var && dims == 0) continue;  // 0 / 0
        EXPECT_LT(testing::relative_error(reduced(op, x, dims, DType::Float32), reference(op, x, dims)), 2e-6)
            << "op " << static_cast<int>(op) << " dims " << dims << " strides " << to_string(strides);
      }
    }
  }
}

TEST(Reduce, InEveryFloatDType) {
  for (const DType dtype : testing::float_dtypes()) {
    Buffer x(dtype, Shape{6, 40});
    x.fill_normal(2);
    for (const unsigned dims : {1u, 2u, 3u}) {
      for (const ReduceOp op : kFloatOps) {
        EXPECT_LT(testing::relative_error(reduced(op, x, dims, dtype), reference(op, x, dims)),
                  testing::tolerance(dtype))
            << "op " << static_cast<int>(op) << " " << name_of(dtype) << " dims " << dims;
      }
    }
  }
}

TEST(Reduce, InEveryIntegerDType) {
  for (const DType dtype : {DType::Int32, DType::Int64, DType::UInt8}) {
    Buffer x(dtype, Shape{7, 50});
    std::vector<double> values(350);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<double>((i * 97) % 201) - (dtype == DType::UInt8 ? 0 : 100);
    }
    x.fill(values);
    for (const unsigned dims : {1u, 2u, 3u}) {
      EXPECT_EQ(reduced(ReduceOp::Sum, x, dims, DType::Int64), reference(ReduceOp::Sum, x, dims));
      EXPECT_EQ(reduced(ReduceOp::Max, x, dims, dtype), reference(ReduceOp::Max, x, dims));
      EXPECT_EQ(reduced(ReduceOp::Min, x, dims, dtype), reference(ReduceOp::Min, x, dims));
    }
  }
}

// Long enough that several blocks share a result.
TEST(Reduce, SumsMillionthsApart) {
  const std::vector<std::pair<Shape, unsigned>> cases = {
      {{1, 9001}, 2}, {{3000, 3}, 1}, {{3, 3000}, 2}, {{90, 90}, 3}};
  for (const auto& [shape, dims] : cases) {
    Buffer x(DType::Float32, shape);
    x.fill_normal(3);
    for (const ReduceOp op : kFloatOps) {
      const std::vector<double> once = reduced(op, x, dims, DType::Float32);
      EXPECT_LT(testing::relative_error(once, reference(op, x, dims)), 1e-6)
          << "op " << static_cast<int>(op) << " of " << to_string(shape);
      EXPECT_EQ(once, reduced(op, x, dims, DType::Float32));
    }
  }
}

TEST(Reduce, ArgMaxTakesTheFirstOfEquals) {
  for (const DType dtype : {DType::Float32, DType::BFloat16, DType::Float64, DType::Int32, DType::UInt8}) {
    Buffer x(dtype, Shape{6, 700});
    std::vector<double> values(4200);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>((i * 31) % 8);
    x.fill(values);
    for (const unsigned dims : {1u, 2u}) {
      for (const ReduceOp op : {ReduceOp::ArgMax, ReduceOp::ArgMin}) {
        EXPECT_EQ(reduced(op, x, dims, DType::Int64), reference(op, x, dims))
            << name_of(dtype) << " dims " << dims;
      }
    }
  }
}

TEST(Reduce, NaNWins) {
  Buffer x(DType::Float32, Shape{2, 300});
  std::vector<double> values(600, 1.0);
  values[77] = values[200] = NAN;
  values[100] = INFINITY;
  x.fill(values);
  for (const ReduceOp op : {ReduceOp::Max, ReduceOp::Min, ReduceOp::Sum}) {
    const std::vector<double> y = reduced(op, x, 2, DType::Float32);
    EXPECT_TRUE(std::isnan(y[0]));
    EXPECT_EQ(y[1], op == ReduceOp::Sum ? 300 : 1);
  }
  for (const ReduceOp op : {ReduceOp::ArgMax, ReduceOp::ArgMin}) {
    EXPECT_EQ(reduced(op, x, 2, DType::Int64), (std::vector<double>{77, 0}));
  }
}

TEST(Reduce, AnyAndAllOfBools) {
  Buffer x(DType::Bool, Shape{3, 70});
  std::vector<double> values(210, 0.0);
  values[69] = 1;
  std::fill(values.begin() + 140, values.end(), 1.0);
  x.fill(values);
  for (const unsigned dims : {1u, 2u, 3u}) {
    EXPECT_EQ(reduced(ReduceOp::Any, x, dims, DType::Bool), reference(ReduceOp::Any, x, dims));
    EXPECT_EQ(reduced(ReduceOp::All, x, dims, DType::Bool), reference(ReduceOp::All, x, dims));
  }
}

TEST(Reduce, NoElementsAtAll) {
  const Buffer x(DType::Float32, Shape{2, 0}), bools(DType::Bool, Shape{2, 0});
  EXPECT_EQ(reduced(ReduceOp::Sum, x, 2, DType::Float32), (std::vector<double>{0, 0}));
  EXPECT_TRUE(std::isnan(reduced(ReduceOp::Mean, x, 2, DType::Float32)[1]));
  EXPECT_TRUE(std::isnan(reduced(ReduceOp::Var, x, 2, DType::Float32)[0]));
  EXPECT_EQ(reduced(ReduceOp::Any, bools, 2, DType::Bool), (std::vector<double>{0, 0}));
  EXPECT_EQ(reduced(ReduceOp::All, bools, 2, DType::Bool), (std::vector<double>{1, 1}));
  EXPECT_EQ(reduced(ReduceOp::Sum, x, 1, DType::Float32), std::vector<double>());
}

}  // namespace
}  // namespace tenon
