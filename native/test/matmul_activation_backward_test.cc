// A product, an activation and its gradient, against the C library in float64.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::run;

struct Case {
  Activation activation;
  double (*f)(double);
};

const Case kCases[] = {
    {Activation::Relu, [](double x) { return std::max(x, 0.0); }},
    {Activation::Gelu, [](double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2)); }},
    {Activation::GeluTanh,
     [](double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }},
    {Activation::Silu, [](double x) { return x / (1 + std::exp(-x)); }},
};

TEST(MatmulActivationBackward, AgreesWithFloat64) {
  struct Size {
    int64_t m, k, n;
  };
  // Rows of whole packs, and others; no rows, no columns, no terms.
  std::vector<Size> sizes = {{4, 8, 16}, {4, 7, 16}, {9, 8, 5}, {1, 1, 1}, {0, 3, 8}, {3, 4, 0}, {3, 0, 8}};
  if (!testing::emulated()) sizes.push_back({520, 9, 40});  // enough rows for our own GEMM
  for (const auto& c : kCases) {
    for (const DType dtype : testing::float_dtypes()) {
      for (const Size& s : sizes) {
        for (const bool needs_after : {true, false}) {
          Buffer a(dtype, {s.m, s.k}), b(dtype, {s.k, s.n}), before(dtype, {s.m, s.n}),
              after(dtype, {s.m, s.n}), dbefore(dtype, {s.m, s.n});
          a.fill_normal(1);
          b.fill_normal(2);
          before.fill_normal(3);
          std::vector<double> inputs = before.values();
          for (double& x : inputs)
            x = std::abs(x) < 1e-3 ? 1e-3 : x;  // finite differences do not meet ReLU's bend
          before.fill(inputs);
          const std::vector<double> x = before.values(), factors = a.values(), weights = b.values();
          std::vector<double> y, dx;
          for (int64_t i = 0; i < s.m * s.n; ++i) {
            double dy = 0;
            for (int64_t k = 0; k < s.k; ++k)
              dy += factors.at(i / s.n * s.k + k) * weights.at(k * s.n + i % s.n);
            const double at = x.at(i);
            y.push_back(c.f(at));
            dx.push_back(dy * (c.f(at + 1e-4) - c.f(at - 1e-4)) / 2e-4);
          }
          run(&Kernels::matmul_activation_backward, {c.activation, a.view(), b.view(), before.view(),
                                                     needs_after ? after.view() : View{}, dbefore.view()});
          const double tolerance = std::max(1e-6, 2 * testing::tolerance(dtype));
          const std::string what = std::string(name_of(dtype)) + ' ' + to_string(dbefore.view().shape);
          if (needs_after) {
            EXPECT_LT(testing::relative_error(after.values(), y), tolerance) << what;
          }
          EXPECT_LT(testing::relative_error(dbefore.values(), dx), tolerance) << what;
          EXPECT_TRUE(after.intact() && dbefore.intact()) << what;
        }
      }
    }
  }
}

// As in PyTorch: ReLU lets the gradient pass where its input is NaN, the others give NaN.
TEST(MatmulActivationBackward, NaNIsNotSilenced) {
  for (const auto& c : kCases) {
    Buffer a(DType::Float32, {1, 1}), b(DType::Float32, {1, 1}), before(DType::Float32, {1, 1}),
        dbefore(DType::Float32, {1, 1});
    a.fill(2);
    b.fill(3);
    before.fill(std::nan(""));
    run(&Kernels::matmul_activation_backward,
        {c.activation, a.view(), b.view(), before.view(), View{}, dbefore.view()});
    const double got = dbefore.values()[0];
    EXPECT_TRUE(c.activation == Activation::Relu ? got == 6 : std::isnan(got)) << got;
  }
}

}  // namespace
}  // namespace tenon
