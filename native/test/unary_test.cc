// Elementwise functions of one operand, against the C library in float64.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::run;

struct Case {
  UnaryOp op;
  std::function<double(double)> reference;
  bool positive = false;  // the domain
  double a = 0, b = 0;
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {UnaryOp::Neg, [](double x) { return -x; }},
      {UnaryOp::Abs, [](double x) { return std::abs(x); }},
      {UnaryOp::Sign, [](double x) { return x > 0   ? 1.0
                                            : x < 0 ? -1.0
                                                    : 0.0; }},
      {UnaryOp::Exp, [](double x) { return std::exp(x); }},
      {UnaryOp::Log, [](double x) { return std::log(x); }, true},
      {UnaryOp::Sqrt, [](double x) { return std::sqrt(x); }, true},
      {UnaryOp::Rsqrt, [](double x) { return 1 / std::sqrt(x); }, true},
      {UnaryOp::Tanh, [](double x) { return std::tanh(x); }},
      {UnaryOp::Sigmoid, sigmoid},
      {UnaryOp::Relu, [](double x) { return x > 0 ? x : 0; }},
      {UnaryOp::Gelu, [](double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2)); }},
      {UnaryOp::GeluTanh, gelu_tanh},
      {UnaryOp::Silu, [](double x) { return x * sigmoid(x); }},
      {UnaryOp::Sin, [](double x) { return std::sin(x); }},
      {UnaryOp::Cos, [](double x) { return std::cos(x); }},
      {UnaryOp::Erf, [](double x) { return std::erf(x); }},
      {UnaryOp::Clamp, [](double x) { return std::min(std::max(x, -0.5), 0.75); }, false, -0.5, 0.75},
      {UnaryOp::Pow, [](double x) { return x * x; }, false, 2},
      {UnaryOp::Pow, [](double x) { return x * x * x; }, false, 3},
      {UnaryOp::Pow, [](double x) { return std::sqrt(x); }, true, 0.5},
      {UnaryOp::Pow, [](double x) { return 1 / x; }, true, -1},
      {UnaryOp::Pow, [](double x) { return std::pow(x, 0.3); }, true, 0.3},
  };
  return all;
}

void set_normal(Buffer& x, bool positive) {
  x.fill_normal(7, 2);
  if (!positive) return;
  std::vector<double> values = x.values();
  for (double& v : values) v = std::abs(v) + 0.125;
  x.fill(values);
}

TEST(Unary, AgreesWithFloat64) {
  for (const auto& c : cases()) {
    for (const DType dtype : testing::float_dtypes()) {
      Buffer x(dtype, Shape{45}), out(dtype, Shape{45});
      set_normal(x, c.positive);
      std::vector<double> expected = x.values();
      for (double& v : expected) v = c.reference(v);
      run(&Kernels::unary, {c.op, x.view(), out.view(), c.a, c.b});
      EXPECT_LT(testing::relative_error(out.values(), expected), testing::tolerance(dtype))
          << "op " << static_cast<int>(c.op) << " " << name_of(dtype);
      EXPECT_TRUE(out.intact());
    }
  }
}

// Far from zero, where the multiple of pi to take away is large.
TEST(Unary, SineAndCosineOfManyTurns) {
  for (const DType dtype : {DType::Float32, DType::Float64}) {
    Buffer x(dtype, Shape{5}), out(dtype, Shape{5});
    x.fill({31.4159265, -100.5, 1e4, 123456, -7});
    for (const auto& [op, f] :
         {std::pair<UnaryOp, double (*)(double)>{UnaryOp::Sin, std::sin}, {UnaryOp::Cos, std::cos}}) {
      std::vector<double> expected = x.values();
      for (double& v : expected) v = f(v);
      run(&Kernels::unary, {op, x.view(), out.view()});
      EXPECT_LT(testing::relative_error(out.values(), expected), dtype == DType::Float64 ? 1e-14 : 1e-6);
    }
  }
}

TEST(Unary, NaNStaysNaN) {
  for (const auto& c : cases()) {
    Buffer x(DType::Float32, Shape{6}), out(DType::Float32, Shape{6});
    x.fill({1, 2, NAN, 1, 1, NAN});
    run(&Kernels::unary, {c.op, x.view(), out.view(), c.a, c.b});
    const std::vector<double> y = out.values();
    for (const size_t i : {2u, 5u}) EXPECT_TRUE(std::isnan(y[i])) << "op " << static_cast<int>(c.op);
    for (const size_t i : {0u, 1u, 3u, 4u}) EXPECT_FALSE(std::isnan(y[i])) << "op " << static_cast<int>(c.op);
  }
}

TEST(Unary, HasItsLimitsAtInfinity) {
  const auto at_infinity = [](UnaryOp op) {
    Buffer x(DType::Float32, Shape{2});
    x.fill({INFINITY, -INFINITY});
    run(&Kernels::unary, {op, x.view(), x.view()});
    return x.values();
  };
  EXPECT_EQ(at_infinity(UnaryOp::Exp), (std::vector<double>{INFINITY, 0}));
  EXPECT_EQ(at_infinity(UnaryOp::Tanh), (std::vector<double>{1, -1}));
  EXPECT_EQ(at_infinity(UnaryOp::Sigmoid), (std::vector<double>{1, 0}));
  EXPECT_EQ(at_infinity(UnaryOp::Gelu), (std::vector<double>{INFINITY, 0}));
  EXPECT_EQ(at_infinity(UnaryOp::Erf), (std::vector<double>{1, -1}));
}

TEST(Unary, TakesAnyStridesAndWritesInPlace) {
  for (const Shape& strides : {Shape{40, 1}, Shape{1, 6}, Shape{33, 2}, Shape{-32, -1}}) {
    Buffer x(DType::Float16, Shape{5, 16}, strides), out(DType::Float16, Shape{5, 16});
    x.fill_normal(3);
    std::vector<double> expected = x.values();
    for (double& v : expected) v = std::abs(v);
    run(&Kernels::unary, {UnaryOp::Abs, x.view(), out.view()});
    run(&Kernels::unary, {UnaryOp::Abs, x.view(), x.view()});
    EXPECT_EQ(out.values(), expected);
    EXPECT_EQ(x.values(), expected);
    EXPECT_TRUE(x.intact());
  }
}

TEST(Unary, ServesIntegers) {
  const auto of = [](DType dtype, UnaryOp op, const std::vector<double>& values, double a = 0, double b = 0) {
    Buffer x(dtype, Shape{static_cast<int64_t>(values.size())});
    x.fill(values);
    run(&Kernels::unary, {op, x.view(), x.view(), a, b});
    return x.values();
  };
  for (const DType dtype : {DType::Int32, DType::Int64}) {
    const std::vector<double> x = {-3, 0, 5, 9, -1};
    EXPECT_EQ(of(dtype, UnaryOp::Neg, x), (std::vector<double>{3, 0, -5, -9, 1}));
    EXPECT_EQ(of(dtype, UnaryOp::Abs, x), (std::vector<double>{3, 0, 5, 9, 1}));
    EXPECT_EQ(of(dtype, UnaryOp::Sign, x), (std::vector<double>{-1, 0, 1, 1, -1}));
    EXPECT_EQ(of(dtype, UnaryOp::Relu, x), (std::vector<double>{0, 0, 5, 9, 0}));
    EXPECT_EQ(of(dtype, UnaryOp::Clamp, x, -2, 6), (std::vector<double>{-2, 0, 5, 6, -1}));
    EXPECT_EQ(of(dtype, UnaryOp::Clamp, x, 1, INFINITY), (std::vector<double>{1, 1, 5, 9, 1}));
  }
  EXPECT_EQ(of(DType::Int32, UnaryOp::Neg, {-0x1p31}), std::vector<double>{-0x1p31});  // wraps around
  EXPECT_EQ(of(DType::Bool, UnaryOp::LogicalNot, {0, 1, 1}), (std::vector<double>{1, 0, 0}));
}

TEST(Unary, AFunctionThatADTypeLacksIsAnError) {
  Buffer x(DType::Int32, Shape{2});
  try {
    run(&Kernels::unary, {UnaryOp::Exp, x.view(), x.view()});
    FAIL() << "expected an error";
  } catch (const TensorError& error) {
    EXPECT_STREQ(error.what(), "unary: expected a function of int32, got op 3");
  }
}

}  // namespace
}  // namespace tenon
