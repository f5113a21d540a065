// An activation and its gradient in one pass, against the C library in float64.
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

TEST(ActivationBackward, AgreesWithFloat64) {
  for (const auto& c : kCases) {
    for (const DType dtype : testing::float_dtypes()) {
      for (const int64_t n : {64, 45, 1, 0}) {  // whole packs, and a rest
        Buffer before(dtype, Shape{n}), gradient(dtype, Shape{n}), after(dtype, Shape{n}),
            in_place(dtype, Shape{n});
        before.fill_normal(1);
        gradient.fill_normal(2);
        const std::vector<double> x = before.values(), dy = gradient.values();
        std::vector<double> y, dx;
        for (size_t i = 0; i < x.size(); ++i) {
          y.push_back(c.f(x[i]));
          dx.push_back(dy[i] * (c.f(x[i] + 1e-4) - c.f(x[i] - 1e-4)) / 2e-4);
        }
        run(&Kernels::activation_backward,
            {c.activation, before.view(), gradient.view(), after.view(), gradient.view()});
        const double tolerance = std::max(1e-6, testing::tolerance(dtype));
        EXPECT_LT(testing::relative_error(after.values(), y), tolerance) << name_of(dtype) << ' ' << n;
        EXPECT_LT(testing::relative_error(gradient.values(), dx), tolerance) << name_of(dtype) << ' ' << n;
        EXPECT_TRUE(after.intact() && gradient.intact());
      }
    }
  }
}

}  // namespace
}  // namespace tenon
