// Optimizer updates against the formulas in float64, over several steps, sizes and dtypes.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "test/kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::relative_error;

// Two tensors: one shorter than a vector, one longer than a chunk.
const std::vector<int64_t> kSizes = {7, testing::emulated() ? 9001 : 20001};

struct Problem {
  explicit Problem(DType dtype) {
    const DType state = dtype == DType::Float64 ? DType::Float64 : DType::Float32;
    for (size_t t = 0; t < kSizes.size(); ++t) {
      const auto seed = static_cast<uint32_t>(t);
      params.push_back(std::make_unique<Buffer>(dtype, Shape{kSizes[t]}));
      params.back()->fill_normal(seed);
      grads.push_back(std::make_unique<Buffer>(dtype, Shape{kSizes[t]}));
      first.push_back(std::make_unique<Buffer>(state, Shape{kSizes[t]}));
      first.back()->fill(0);
      second.push_back(std::make_unique<Buffer>(state, Shape{kSizes[t]}));
      second.back()->fill(0);
    }
  }
  void draw_grads(int step) {
    for (size_t t = 0; t < grads.size(); ++t) grads[t]->fill_normal(static_cast<uint32_t>(100 * step) + t);
  }
  std::vector<OptimizerTensor> list(double lr, double decay, bool two_states) const {
    std::vector<OptimizerTensor> out;
    for (size_t t = 0; t < params.size(); ++t) {
      out.push_back({params[t]->view(), grads[t]->view(), first[t]->view(),
                     two_states ? second[t]->view() : View{}, View{}, lr * static_cast<double>(t + 1),
                     decay});
    }
    return out;
  }
  std::vector<std::unique_ptr<Buffer>> params, grads, first, second;
};

TEST(Adam, MatchesTheFormulas) {
  for (const DType dtype : {DType::Float32, DType::Float64}) {
    for (const bool decoupled : {true, false}) {
      Problem p(dtype);
      std::vector<std::vector<double>> w, m, v;
      for (const auto& x : p.params) {
        w.push_back(x->values());
        m.emplace_back(w.back().size(), 0.0);
        v.emplace_back(w.back().size(), 0.0);
      }
      Buffer norm(DType::Float32, Shape{});
      norm.fill(4.0);
      for (int step = 1; step <= 3; ++step) {
        p.draw_grads(step);
        testing::run(&Kernels::adam,
                     AdamArgs{p.list(0.01, 0.1, true), 0.9, 0.999, 1e-8, step, decoupled, norm.view(), 1.0});
        for (size_t t = 0; t < w.size(); ++t) {
          const std::vector<double> g = p.grads[t]->values();
          const double lr = 0.01 * static_cast<double>(t + 1);
          for (size_t i = 0; i < g.size(); ++i) {
            double d = g[i] * (1.0 / (4.0 + 1e-6));
            if (decoupled) {
              w[t][i] *= 1 - lr * 0.1;
            } else {
              d += 0.1 * w[t][i];
            }
            m[t][i] += 0.1 * (d - m[t][i]);
            v[t][i] = 0.999 * v[t][i] + 0.001 * d * d;
            const double root = std::sqrt(v[t][i]) / std::sqrt(1 - std::pow(0.999, step)) + 1e-8;
            w[t][i] -= lr / (1 - std::pow(0.9, step)) * m[t][i] / root;
          }
        }
      }
      for (size_t t = 0; t < w.size(); ++t) {
        const double limit = dtype == DType::Float64 ? 1e-12 : 2e-6;
        EXPECT_LT(relative_error(p.params[t]->values(), w[t]), limit);
        EXPECT_LT(relative_error(p.first[t]->values(), m[t]), limit);
        EXPECT_LT(relative_error(p.second[t]->values(), v[t]), limit);
        EXPECT_TRUE(p.params[t]->intact() && p.first[t]->intact() && p.second[t]->intact());
      }
    }
  }
}

TEST(Adam, KeepsFloat32StateForSixteenBitParametersAndWritesTheCopy) {
  Problem p(DType::BFloat16);
  p.draw_grads(1);
  std::vector<OptimizerTensor> list = p.list(0.5, 0, true);
  testing::run(&Kernels::adam, AdamArgs{list, 0.9, 0.999, 1e-8, 1, true, {}, 0});
  EXPECT_NEAR(p.first[0]->values()[0], 0.1 * p.grads[0]->values()[0], 1e-7);

  Problem wide(DType::Float32);
  wide.draw_grads(1);
  Buffer copy(DType::BFloat16, Shape{kSizes[1]});
  list = wide.list(0.01, 0, true);
  list[1].copy = copy.view();
  testing::run(&Kernels::adam, AdamArgs{list, 0.9, 0.999, 1e-8, 1, true, {}, 0});
  const std::vector<double> full = wide.params[1]->values(), half = copy.values();
  for (size_t i = 0; i < full.size(); ++i) {
    ASSERT_EQ(half[i], static_cast<float>(bfloat16(static_cast<float>(full[i]))));
  }
}

TEST(Sgd, MatchesTheFormulas) {
  for (const bool nesterov : {false, true}) {
    Problem p(DType::Float64);
    std::vector<std::vector<double>> w, b;
    for (const auto& x : p.params) {
      w.push_back(x->values());
      b.emplace_back(w.back().size(), 0.0);
    }
    for (int step = 1; step <= 3; ++step) {
      p.draw_grads(step);
      testing::run(&Kernels::sgd, SgdArgs{p.list(0.1, 1e-2, false), 0.9, nesterov, step == 1, {}, 0});
      for (size_t t = 0; t < w.size(); ++t) {
        const std::vector<double> g = p.grads[t]->values();
        for (size_t i = 0; i < g.size(); ++i) {
          const double d = g[i] + 1e-2 * w[t][i];
          b[t][i] = step == 1 ? d : 0.9 * b[t][i] + d;
          w[t][i] -= 0.1 * static_cast<double>(t + 1) * (nesterov ? d + 0.9 * b[t][i] : b[t][i]);
        }
      }
    }
    for (size_t t = 0; t < w.size(); ++t) EXPECT_LT(relative_error(p.params[t]->values(), w[t]), 1e-12);
  }
}

TEST(GlobalNorm, SumsInFloat64) {
  for (const DType dtype : testing::float_dtypes()) {
    Problem p(dtype);
    p.draw_grads(1);
    double sum = 0;
    for (const auto& g : p.grads) {
      for (const double x : g->values()) sum += x * x;
    }
    Buffer norm(DType::Float32, Shape{});
    testing::run(&Kernels::global_norm,
                 GlobalNormArgs{{p.grads[0]->view(), p.grads[1]->view()}, norm.view()});
    EXPECT_NEAR(norm.values()[0] / std::sqrt(sum), 1, 1e-7) << name_of(dtype);
  }
}

TEST(GlobalNorm, OfWhatFloat32CannotHold) {
  Buffer x(DType::Float32, Shape{4}), wide(DType::Float64, Shape{4}), norm(DType::Float64, Shape{});
  x.fill(3e38);
  testing::run(&Kernels::global_norm, GlobalNormArgs{{x.view()}, norm.view()});
  EXPECT_NEAR(norm.values()[0] / 6e38, 1, 1e-6);
  wide.fill(1e60);
  testing::run(&Kernels::global_norm, GlobalNormArgs{{x.view(), wide.view()}, norm.view()});
  EXPECT_NEAR(norm.values()[0] / 2e60, 1, 1e-12);
}

TEST(Clip, MakesEverythingNaNWhereTheNormIs) {
  Buffer x(DType::Float32, Shape{5}), norm(DType::Float64, Shape{});
  x.fill(1);
  norm.fill(std::nan(""));
  testing::run(&Kernels::clip, ClipArgs{{x.view()}, norm.view(), 1});
  for (const double value : x.values()) EXPECT_TRUE(std::isnan(value));
}

TEST(Clip, ScalesOnlyAboveTheLimit) {
  Buffer x(DType::Float32, Shape{5}), norm(DType::Float32, Shape{});
  x.fill({1, 2, 3, 4, 5});
  norm.fill(10);
  testing::run(&Kernels::clip, ClipArgs{{x.view()}, norm.view(), 20});
  EXPECT_EQ(x.values(), (std::vector<double>{1, 2, 3, 4, 5}));
  testing::run(&Kernels::clip, ClipArgs{{x.view()}, norm.view(), 5});
  EXPECT_NEAR(x.values()[4], 2.5, 1e-6);
}

TEST(Lerp, MovesTowardsTheSource) {
  Buffer target(DType::Float32, Shape{33}), source(DType::Float32, Shape{33});
  target.fill(2);
  source.fill(4);
  testing::run(&Kernels::lerp, LerpArgs{{target.view()}, {source.view()}, 0.25});
  EXPECT_EQ(target.values(), std::vector<double>(33, 2.5));
}

}  // namespace
}  // namespace tenon
