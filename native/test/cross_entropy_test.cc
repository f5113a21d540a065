// cross_entropy against its definition in float64.
#include "test/kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::relative_error;

struct Expected {
  std::vector<double> losses, gradient;  // per row; of each row's own loss
  double counted = 0;
};

// t is the target distribution of each row; rows with `ignored` count for nothing.
Expected reference(const std::vector<double>& logits, const std::vector<double>& t,
                   const std::vector<bool>& ignored, size_t K) {
  Expected out;
  for (size_t row = 0; row < ignored.size(); ++row) {
    double largest = -INFINITY, sum = 0, mass = 0, loss = 0;
    for (size_t c = 0; c < K; ++c) largest = std::max(largest, logits[row * K + c]);
    for (size_t c = 0; c < K; ++c) sum += std::exp(logits[row * K + c] - largest);
    for (size_t c = 0; c < K; ++c) {
      mass += t[row * K + c];
      loss -= t[row * K + c] * (logits[row * K + c] - largest - std::log(sum));
    }
    out.losses.push_back(ignored[row] ? 0 : loss);
    out.counted += ignored[row] ? 0 : 1;
    for (size_t c = 0; c < K; ++c) {
      const double p = std::exp(logits[row * K + c] - largest) / sum;
      out.gradient.push_back(ignored[row] ? 0 : p * mass - t[row * K + c]);
    }
  }
  return out;
}

DType loss_dtype(DType dtype) { return dtype == DType::Float64 ? dtype : DType::Float32; }

void expect_all_reductions(CrossEntropyArgs args, const Expected& expected, const std::string& what) {
  const DType dtype = args.logits.dtype;
  const int64_t rows = args.logits.size(0), K = args.logits.size(1);
  for (const Reduction reduction : {Reduction::None, Reduction::Sum, Reduction::Mean}) {
    const double scale = reduction == Reduction::Mean ? 1 / expected.counted : 1;
    std::vector<double> losses = expected.losses, gradient = expected.gradient;
    if (reduction != Reduction::None) {
      double sum = 0;
      for (const double loss : losses) sum += loss;
      losses = {sum * scale};
    }
    for (double& g : gradient) g *= scale;
    for (const bool with_gradient : {false, true}) {
      if (testing::emulated() && !with_gradient && reduction != Reduction::None) continue;
      Buffer loss(loss_dtype(dtype), reduction == Reduction::None ? Shape{rows} : Shape{});
      Buffer dlogits(dtype, {rows, K});
      args.loss = loss.view();
      args.dlogits = with_gradient ? dlogits.view() : View{};
      args.reduction = reduction;
      testing::run(&Kernels::cross_entropy, args);
      const double allowed = dtype == DType::Float64 ? 1e-13 : 2e-6;
      EXPECT_LE(relative_error(loss.values(), losses), allowed) << what;
      EXPECT_TRUE(loss.intact() && dlogits.intact()) << what;
      if (with_gradient) {
        // 16-bit gradients of small probabilities may be subnormal: allow for what they lose.
        EXPECT_LE(relative_error(dlogits.values(), gradient), 2 * testing::tolerance(dtype)) << what;
      }
    }
  }
}

struct Size {
  int64_t rows, K;
};
const std::vector<Size>& sizes() {
  static const std::vector<Size> few = {{5, 3}, {9, 16}, {2, 1000}, {2, 101}, {1, 1100}};
  static const std::vector<Size> many = {{5, 3}, {8, 10}, {33, 16}, {9, 1000}, {40, 101}};
  return testing::emulated() ? few : many;
}

TEST(CrossEntropy, TakesLabelsWithSmoothingAndIgnoredRows) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const DType label_dtype : {DType::Int64, DType::Int32}) {
      if (testing::emulated() && dtype != DType::Float32 && label_dtype == DType::Int32) continue;
      for (const Size& s : sizes()) {
        for (const double smoothing : {0.0, 0.1}) {
          const auto K = static_cast<size_t>(s.K);
          Buffer logits(dtype, {s.rows, s.K}), labels(label_dtype, {s.rows}, {2});
          logits.fill_normal(1, 3);
          std::vector<double> label, t;
          std::vector<bool> ignored;
          for (int64_t row = 0; row < s.rows; ++row) {
            ignored.push_back(row % 5 == 3);
            label.push_back(ignored.back() ? -7 : static_cast<double>(row * 7 % s.K));
            for (size_t c = 0; c < K; ++c) {
              t.push_back((static_cast<double>(c) == label.back() ? 1 - smoothing : 0) +
                          smoothing / static_cast<double>(K));
            }
          }
          labels.fill(label);
          CrossEntropyArgs args;
          args.logits = logits.view();
          args.labels = labels.view();
          args.smoothing = smoothing;
          args.ignore_index = -7;
          expect_all_reductions(args, reference(logits.values(), t, ignored, K),
                                std::string(name_of(dtype)) + " K=" + std::to_string(K));
        }
      }
    }
  }
}

TEST(CrossEntropy, OneClassCostsNothing) {
  Buffer logits(DType::Float32, {2, 1}), labels(DType::Int64, {2}), loss(DType::Float32, {}),
      dlogits(DType::Float32, {2, 1});
  logits.fill(5);
  labels.fill(0);
  testing::run(&Kernels::cross_entropy,
               CrossEntropyArgs{logits.view(), labels.view(), {}, loss.view(), dlogits.view()});
  EXPECT_EQ(loss.values()[0], 0);
  EXPECT_EQ(dlogits.values(), std::vector<double>(2, 0.0));
}

TEST(CrossEntropy, TakesSoftTargets) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const Size& s : sizes()) {
      for (const bool strided : {false, true}) {
        for (const double smoothing : {0.0, 0.2}) {
          if (testing::emulated() && strided == (smoothing > 0)) continue;
          const auto K = static_cast<size_t>(s.K);
          Buffer logits(dtype, {s.rows, s.K});
          Buffer targets(dtype, {s.rows, s.K}, strided ? Shape{1, s.rows} : Shape{s.K, 1});
          logits.fill_normal(1, 3);
          std::vector<double> t = targets.fill_normal(2).values();
          for (size_t row = 0; row < static_cast<size_t>(s.rows); ++row) {  // the last row's mass is not 1
            double sum = 0;
            for (size_t c = 0; c < K; ++c) sum += std::abs(t[row * K + c]);
            for (size_t c = 0; c < K; ++c)
              t[row * K + c] = std::abs(t[row * K + c]) / sum * (row == 0 ? 0.5 : 1);
          }
          t = targets.fill(t).values();
          for (double& v : t) v = v * (1 - smoothing) + smoothing / static_cast<double>(K);
          CrossEntropyArgs args;
          args.logits = logits.view();
          args.targets = targets.view();
          args.smoothing = smoothing;
          expect_all_reductions(
              args, reference(logits.values(), t, std::vector<bool>(static_cast<size_t>(s.rows), false), K),
              std::string(name_of(dtype)) + " K=" + std::to_string(K));
        }
      }
    }
  }
}

TEST(CrossEntropy, NoRowsThatCount) {
  Buffer logits(DType::Float32, {2, 3}), labels(DType::Int64, {2}), loss(DType::Float32, {}),
      dlogits(DType::Float32, {2, 3});
  logits.fill_normal(1);
  labels.fill(-100);
  CrossEntropyArgs args{logits.view(), labels.view(), {}, loss.view(), dlogits.view()};
  testing::run(&Kernels::cross_entropy, args);
  EXPECT_TRUE(std::isnan(loss.values()[0]));
  EXPECT_EQ(dlogits.values(), std::vector<double>(6, 0.0));
  args.reduction = Reduction::Sum;
  testing::run(&Kernels::cross_entropy, args);
  EXPECT_EQ(loss.values()[0], 0);

  Buffer none(DType::Float32, {0, 3}), no_labels(DType::Int64, {0});
  CrossEntropyArgs empty{none.view(), no_labels.view(), {}, loss.view(), {}};
  testing::run(&Kernels::cross_entropy, empty);
  EXPECT_TRUE(std::isnan(loss.values()[0]));
}

// In the registers of a warp, and in a block.
TEST(CrossEntropy, ALabelOutOfRangeIsNamed) {
  for (const int64_t classes : {8, 11}) {
    for (const double bad : {static_cast<double>(classes), -1.0}) {
      Buffer logits(DType::Float32, {3, classes}), labels(DType::Int64, {3}), loss(DType::Float32, {}),
          dlogits(DType::Float32, {3, classes});
      logits.fill_normal(1);
      labels.fill(std::vector<double>{0, -100, bad});
      EXPECT_EQ(testing::error_of(&Kernels::cross_entropy,
                                  {logits.view(), labels.view(), {}, loss.view(), dlogits.view()}),
                "INDEX crossEntropy: expected labels from 0 to " + std::to_string(classes - 1) + ", got " +
                    std::to_string(static_cast<int>(bad)));
    }
  }
}

TEST(CrossEntropy, ExtremeLogits) {
  Buffer logits(DType::Float32, {4, 3}), labels(DType::Int64, {4}), loss(DType::Float32, {4}),
      dlogits(DType::Float32, {4, 3});
  const double inf = INFINITY;
  logits.fill(std::vector<double>{1e20, -1e20, 0, 5, -inf, 5, 1, NAN, 1, -inf, 2, -inf});
  labels.fill(std::vector<double>{0, 0, 0, 0});
  CrossEntropyArgs args{logits.view(), labels.view(), {}, loss.view(), dlogits.view()};
  args.reduction = Reduction::None;
  testing::run(&Kernels::cross_entropy, args);
  const std::vector<double> losses = loss.values();
  EXPECT_EQ(losses[0], 0);
  EXPECT_NEAR(losses[1], std::log(2.0), 1e-6);
  EXPECT_TRUE(std::isnan(losses[2]));
  EXPECT_EQ(losses[3], inf);
}

}  // namespace
}  // namespace tenon
