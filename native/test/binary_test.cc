// Elementwise functions of two operands, against the C library in float64, and `where`.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::run;
using Function = std::function<double(double, double)>;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2)); }
double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

// dy * f'(x) by a central difference.
Function derivative(double (*f)(double)) {
  return [f](double dy, double x) { return dy * (f(x + 1e-4) - f(x - 1e-4)) / 2e-4; };
}

struct Case {
  BinaryOp op;
  Function reference;
  double slack = 0;  // the reference's own error
};

const std::vector<Case>& float_cases() {
  static const std::vector<Case> all = {
      {BinaryOp::Add, [](double a, double b) { return a + b; }},
      {BinaryOp::Sub, [](double a, double b) { return a - b; }},
      {BinaryOp::Mul, [](double a, double b) { return a * b; }},
      {BinaryOp::Div, [](double a, double b) { return a / b; }},
      {BinaryOp::Maximum, [](double a, double b) { return std::max(a, b); }},
      {BinaryOp::Minimum, [](double a, double b) { return std::min(a, b); }},
      {BinaryOp::ReluBackward, [](double dy, double x) { return x > 0 ? dy : 0; }},
      {BinaryOp::GeluBackward, derivative(gelu), 1e-7},
      {BinaryOp::GeluTanhBackward, derivative(gelu_tanh), 1e-7},
      {BinaryOp::SiluBackward, derivative([](double x) { return x * sigmoid(x); }), 1e-7},
      {BinaryOp::TanhBackward, [](double dy, double y) { return dy * (1 - y * y); }},
      {BinaryOp::SigmoidBackward, [](double dy, double y) { return dy * y * (1 - y); }},
      {BinaryOp::AbsBackward, [](double dy, double x) { return x > 0   ? dy
                                                               : x < 0 ? -dy
                                                                       : 0; }},
  };
  return all;
}

const std::vector<Case>& truth_cases() {
  static const std::vector<Case> all = {
      {BinaryOp::Equal, [](double a, double b) { return a == b; }},
      {BinaryOp::NotEqual, [](double a, double b) { return a != b; }},
      {BinaryOp::Less, [](double a, double b) { return a < b; }},
      {BinaryOp::LessEqual, [](double a, double b) { return a <= b; }},
      {BinaryOp::Greater, [](double a, double b) { return a > b; }},
      {BinaryOp::GreaterEqual, [](double a, double b) { return a >= b; }},
  };
  return all;
}

std::vector<double> apply(const Function& f, const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> out(a.size());
  for (size_t i = 0; i < a.size(); ++i) out[i] = f(a[i], b[i]);
  return out;
}

TEST(Binary, AgreesWithFloat64) {
  for (const auto& c : float_cases()) {
    for (const DType dtype : testing::float_dtypes()) {
      Buffer a(dtype, Shape{45}), b(dtype, Shape{45}), out(dtype, Shape{45});
      a.fill_normal(1);
      b.fill_normal(2);
      run(&Kernels::binary, {c.op, a.view(), b.view(), out.view()});
      EXPECT_LT(testing::relative_error(out.values(), apply(c.reference, a.values(), b.values())),
                testing::tolerance(dtype) + c.slack)
          << "op " << static_cast<int>(c.op) << " " << name_of(dtype);
      EXPECT_TRUE(out.intact());
    }
  }
}

TEST(Binary, RaisesToAPower) {
  Buffer a(DType::Float32, Shape{4}), b(DType::Float32, Shape{4});
  a.fill({2, 0.5, 3, -2});
  b.fill({10, -2, 0, 3});
  run(&Kernels::binary, {BinaryOp::Pow, a.view(), b.view(), a.view()});
  EXPECT_LT(testing::relative_error(a.values(), {1024, 4, 1, -8}), 1e-6);
}

TEST(Binary, ComparesInEveryDType) {
  for (const auto& c : truth_cases()) {
    for (const DType dtype :
         {DType::Float32, DType::BFloat16, DType::Float64, DType::Int32, DType::Int64, DType::UInt8}) {
      Buffer a(dtype, Shape{20}), b(dtype, Shape{20}), out(DType::Bool, Shape{20});
      std::vector<double> x(20), y(20);
      for (size_t i = 0; i < 20; ++i) {
        x[i] = static_cast<double>(i % 3);
        y[i] = static_cast<double>(i % 4);
      }
      a.fill(x);
      b.fill(y);
      run(&Kernels::binary, {c.op, a.view(), b.view(), out.view()});
      EXPECT_EQ(out.values(), apply(c.reference, x, y))
          << "op " << static_cast<int>(c.op) << " " << name_of(dtype);
      EXPECT_TRUE(out.intact());
    }
  }
}

TEST(Binary, CombinesBools) {
  Buffer a(DType::Bool, Shape{4}), b(DType::Bool, Shape{4}), out(DType::Bool, Shape{4});
  a.fill({0, 0, 1, 1});
  b.fill({0, 1, 0, 1});
  run(&Kernels::binary, {BinaryOp::LogicalAnd, a.view(), b.view(), out.view()});
  EXPECT_EQ(out.values(), (std::vector<double>{0, 0, 0, 1}));
  run(&Kernels::binary, {BinaryOp::LogicalOr, a.view(), b.view(), out.view()});
  EXPECT_EQ(out.values(), (std::vector<double>{0, 1, 1, 1}));
}

TEST(Binary, IntegersWrapAround) {
  const auto of = [](DType dtype, BinaryOp op, double x, double y) {
    Buffer a(dtype, Shape{1}), b(dtype, Shape{1});
    a.fill(x);
    b.fill(y);
    run(&Kernels::binary, {op, a.view(), b.view(), a.view()});
    return a.values()[0];
  };
  EXPECT_EQ(of(DType::Int32, BinaryOp::Add, 0x1p31 - 1, 1), -0x1p31);
  EXPECT_EQ(of(DType::Int64, BinaryOp::Sub, -0x1p62, 0x1p62), -0x1p63);
  EXPECT_EQ(of(DType::Int32, BinaryOp::Mul, 0x1p16, 0x1p16), 0);
  EXPECT_EQ(of(DType::UInt8, BinaryOp::Add, 250, 10), 4);
  EXPECT_EQ(of(DType::Int64, BinaryOp::Maximum, -7, 3), 3);
  EXPECT_EQ(of(DType::Int32, BinaryOp::Minimum, -7, 3), -7);
}

TEST(Binary, NaNWinsMaximumAndMinimum) {
  for (const BinaryOp op : {BinaryOp::Maximum, BinaryOp::Minimum}) {
    Buffer a(DType::Float32, Shape{3}), b(DType::Float32, Shape{3}), out(DType::Float32, Shape{3});
    a.fill({NAN, 1, NAN});
    b.fill({1, NAN, NAN});
    run(&Kernels::binary, {op, a.view(), b.view(), out.view()});
    for (const double v : out.values()) EXPECT_TRUE(std::isnan(v));
  }
}

TEST(Binary, ReluBackwardPassesWhereTheResultIsNaN) {
  Buffer dy(DType::Float32, Shape{4}), y(DType::Float32, Shape{4});
  dy.fill(3);
  y.fill({NAN, -1, 0, 2});
  run(&Kernels::binary, {BinaryOp::ReluBackward, dy.view(), y.view(), dy.view()});
  EXPECT_EQ(dy.values(), (std::vector<double>{3, 0, 0, 3}));
}

TEST(Binary, GeluBackwardIsZeroOrOneAtInfinity) {
  Buffer dy(DType::Float32, Shape{2}), x(DType::Float32, Shape{2});
  dy.fill(3);
  x.fill({INFINITY, -INFINITY});
  run(&Kernels::binary, {BinaryOp::GeluBackward, dy.view(), x.view(), dy.view()});
  EXPECT_LT(testing::relative_error(dy.values(), {3, 0}), 1e-30);
}

TEST(Binary, BroadcastsByStrides) {
  struct Broadcast {
    Shape shape, a, b, out;
  };
  const std::vector<Broadcast> all = {
      {{3, 16}, {16, 1}, {0, 1}, {16, 1}},  // a row for all, in packs
      {{3, 16}, {16, 1}, {1, 0}, {16, 1}},  // an element for each row, in packs
      {{3, 7}, {7, 1}, {0, 1}, {7, 1}},     // rows that packs do not divide
      {{3, 16}, {1, 3}, {0, 0}, {20, 1}},   // a transposed operand
      {{2, 3, 4, 5}, {60, 20, 5, 1}, {0, 5, 0, 1}, {60, 20, 5, 1}},
      {{0, 4}, {4, 1}, {0, 1}, {4, 1}},
      {{}, {}, {}, {}},
  };
  for (const auto& [shape, as, bs, os] : all) {
    for (const DType dtype : {DType::Float32, DType::BFloat16}) {
      Buffer a(dtype, shape, as), b(dtype, shape, bs), out(dtype, shape, os);
      a.fill_normal(1);
      b.fill_normal(2);
      run(&Kernels::binary, {BinaryOp::Maximum, a.view(), b.view(), out.view()});
      EXPECT_EQ(out.values(),
                apply([](double x, double y) { return std::max(x, y); }, a.values(), b.values()))
          << to_string(shape) << to_string(bs);
      EXPECT_TRUE(out.intact());
    }
  }
}

TEST(Binary, AnAbsentOperandIsTheScalar) {
  for (const DType dtype : {DType::Float32, DType::Float16, DType::Float64, DType::Int32, DType::UInt8}) {
    Buffer x(dtype, Shape{2, 9}, Shape{10, 1}), out(dtype, Shape{2, 9});
    x.fill(5);
    run(&Kernels::binary, {BinaryOp::Sub, x.view(), View{}, out.view(), 2});
    EXPECT_EQ(out.values(), std::vector<double>(18, 3.0)) << name_of(dtype);
    run(&Kernels::binary, {BinaryOp::Sub, View{}, x.view(), out.view(), 7});
    EXPECT_EQ(out.values(), std::vector<double>(18, 2.0)) << name_of(dtype);
  }
}

// More elements than the grid has threads.
TEST(Binary, CoversManyElements) {
  const int64_t n = 100003;
  Buffer a(DType::UInt8, Shape{n});
  a.fill(7);
  run(&Kernels::binary, {BinaryOp::Add, a.view(), View{}, a.view(), 3});
  EXPECT_EQ(a.values(), std::vector<double>(static_cast<size_t>(n), 10.0));
  Buffer x(DType::Float32, Shape{20011}), out(DType::Float32, Shape{20011}, Shape{2});
  x.fill_normal(1);
  run(&Kernels::binary, {BinaryOp::Mul, x.view(), View{}, out.view(), -1});
  EXPECT_EQ(out.values(), apply([](double v, double) { return -v; }, x.values(), x.values()));
  EXPECT_TRUE(out.intact());
}

TEST(Where, ChoosesInEveryDTypeAndByStrides) {
  struct Choice {
    Shape shape, condition, a, b;
  };
  const std::vector<Choice> all = {
      {{37}, {1}, {1}, {1}},
      {{4, 16}, {16, 1}, {0, 1}, {1, 0}},
      {{4, 16}, {0, 1}, {16, 1}, {1, 4}},
      {{4, 16}, {1, 0}, {16, 1}, {0, 0}},
      {{4, 5}, {5, 1}, {5, 1}, {7, 1}},
      {{0}, {1}, {1}, {1}},
  };
  for (const auto& [shape, cs, as, bs] : all) {
    for (const DType dtype : {DType::Float32, DType::Float16, DType::Int64, DType::Bool}) {
      Buffer condition(DType::Bool, shape, cs), a(dtype, shape, as), b(dtype, shape, bs), out(dtype, shape);
      std::vector<double> truth(static_cast<size_t>(shape.numel()));
      for (size_t i = 0; i < truth.size(); ++i) truth[i] = i % 3 == 0;
      condition.fill(truth);
      a.fill(1);
      b.fill(0);
      run(&Kernels::where, {condition.view(), a.view(), b.view(), out.view()});
      EXPECT_EQ(out.values(), condition.values()) << to_string(shape) << to_string(cs) << name_of(dtype);
      run(&Kernels::where, {condition.view(), View{}, View{}, out.view(), 0, 1});
      EXPECT_EQ(out.values(), apply([](double c, double) { return 1 - c; }, condition.values(), truth));
      EXPECT_TRUE(out.intact());
    }
  }
}

}  // namespace
}  // namespace tenon
