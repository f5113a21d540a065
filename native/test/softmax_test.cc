// softmax, softmax_backward and logsumexp against float64 sums.
#include "test/kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::relative_error;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Calls f(positions) for every line of a contiguous tensor along dim: the row-major indices of its elements.
template <typename F>
void for_each_line(const Shape& shape, int dim, F&& f) {
  const int d = dim < 0 ? dim + shape.ndim() : dim;
  const Shape strides = contiguous_strides(shape);
  const auto n = static_cast<size_t>(shape[d]), step = static_cast<size_t>(strides[d]);
  for (size_t i = 0; i < static_cast<size_t>(shape.numel()); ++i) {
    if (i / step % n != 0) continue;
    std::vector<size_t> line;
    for (size_t j = 0; j < n; ++j) line.push_back(i + j * step);
    f(line);
  }
}

double log_sum_exp(const std::vector<double>& x, const std::vector<size_t>& line) {
  double largest = -kInfinity, sum = 0;
  for (const size_t i : line) largest = std::max(largest, x[i]);
  for (const size_t i : line) sum += std::exp(x[i] - largest);
  return largest + std::log(sum);
}

std::vector<double> softmax(const std::vector<double>& x, const Shape& shape, int dim, bool log) {
  std::vector<double> out(x.size());
  for_each_line(shape, dim, [&](const std::vector<size_t>& line) {
    const double total = log_sum_exp(x, line);
    for (const size_t i : line) out[i] = log ? x[i] - total : std::exp(x[i] - total);
  });
  return out;
}

struct Case {
  Shape shape, strides;
  int dim;
};
const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {{5, 16}, {16, 1}, -1},
      {{3, 1000}, {1000, 1}, -1},
      {{7, 13}, {20, 1}, 1},
      {{7, 13}, {1, 9}, 1},
      {{7, 13}, {13, 1}, 0},
      {{4, 10, 37}, {370, 37, 1}, 1},
      {{4, 10, 37}, {1, 4, 40}, 2},
      {{2, 3, 4, 5}, {60, 20, 5, 1}, 0},
      {{19}, {1}, 0},
      {{19}, {3}, -1},
      {{6, 1}, {1, 1}, 1},
      {{3, 8}, {8, -1}, 1},
      {{testing::emulated() ? 9 : 40, 197}, {197, 1}, -1},
      {{2, 3, 264}, {2048, 512, 1}, -1},
      {{2, 1100}, {1100, 1}, -1},
  };
  return all;
}

std::string describe(DType dtype, const Case& c, bool log) {
  return std::string(name_of(dtype)) + " " + to_string(c.shape) + " strides " + to_string(c.strides) +
         " dim " + std::to_string(c.dim) + (log ? " log" : "");
}

TEST(Softmax, MatchesItsDefinition) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const Case& c : cases()) {
      for (const bool log : {false, true}) {
        Buffer x(dtype, c.shape, c.strides), contiguous(dtype, c.shape), strided(dtype, c.shape, c.strides);
        x.fill_normal(1, 4);
        for (Buffer* out : {&contiguous, &strided}) {
          if (testing::emulated() && dtype != DType::Float32 && out == &contiguous) continue;
          testing::run(&Kernels::softmax, SoftmaxArgs{x.view(), out->view(), c.dim, log});
          EXPECT_LE(relative_error(out->values(), softmax(x.values(), c.shape, c.dim, log)),
                    testing::tolerance(dtype))
              << describe(dtype, c, log);
          EXPECT_TRUE(out->intact()) << describe(dtype, c, log);
        }
      }
    }
  }
}

TEST(Softmax, GivesGradients) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const Case& c : cases()) {
      for (const bool log : {false, true}) {
        Buffer y(dtype, c.shape, c.strides), dy(dtype, c.shape), dx(dtype, c.shape, c.strides);
        Buffer x(DType::Float64, c.shape);
        x.fill_normal(1, 2);
        y.fill(softmax(x.values(), c.shape, c.dim, log));
        dy.fill_normal(2);
        testing::run(&Kernels::softmax_backward,
                     SoftmaxBackwardArgs{y.view(), dy.view(), dx.view(), c.dim, log});
        const std::vector<double> value = y.values(), grad = dy.values();
        std::vector<double> expected(value.size());
        double scale = 0;
        for_each_line(c.shape, c.dim, [&](const std::vector<size_t>& line) {
          double sum = 0;
          for (const size_t i : line) sum += log ? grad[i] : value[i] * grad[i];
          for (const size_t i : line) {
            expected[i] = log ? grad[i] - std::exp(value[i]) * sum : value[i] * (grad[i] - sum);
            scale += std::pow(log ? grad[i] : value[i] * grad[i], 2);
          }
        });
        const std::vector<double> actual = dx.values();
        double difference = 0;
        for (size_t i = 0; i < actual.size(); ++i) difference += std::pow(actual[i] - expected[i], 2);
        EXPECT_LE(std::sqrt(difference / scale), testing::tolerance(dtype)) << describe(dtype, c, log);
        EXPECT_TRUE(dx.intact()) << describe(dtype, c, log);
      }
    }
  }
}

TEST(Softmax, LogSumExpMatchesItsDefinition) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const Case& c : cases()) {
      Shape reduced = c.shape;
      reduced[c.dim < 0 ? c.dim + c.shape.ndim() : c.dim] = 1;
      Buffer x(dtype, c.shape, c.strides), out(dtype, reduced);
      x.fill_normal(1, 4);
      testing::run(&Kernels::logsumexp, LogsumexpArgs{x.view(), out.view(), c.dim});
      std::vector<double> expected;
      const std::vector<double> values = x.values();
      for_each_line(c.shape, c.dim,
                    [&](const std::vector<size_t>& line) { expected.push_back(log_sum_exp(values, line)); });
      EXPECT_LE(relative_error(out.values(), expected), testing::tolerance(dtype))
          << describe(dtype, c, false);
      EXPECT_TRUE(out.intact());
    }
  }
}

TEST(Softmax, LargeValuesAreStable) {
  Buffer x(DType::Float32, {1, 3}), y(DType::Float32, {1, 3}), lse(DType::Float32, {1, 1});
  x.fill(std::vector<double>{1e30, 1e30, -1e30});
  testing::run(&Kernels::softmax, SoftmaxArgs{x.view(), y.view(), -1, false});
  EXPECT_EQ(y.values(), (std::vector<double>{0.5, 0.5, 0}));
  testing::run(&Kernels::logsumexp, LogsumexpArgs{x.view(), lse.view(), -1});
  EXPECT_EQ(lse.values()[0], static_cast<float>(1e30));
}

TEST(Softmax, InfinitiesAndNaNBehaveAsInPyTorch) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const int64_t n : {3, 40}) {  // within one vector, and over several
      const auto run = [&](double first, double rest, bool log) {
        Buffer x(dtype, {1, n}), y(dtype, {1, n});
        std::vector<double> values(static_cast<size_t>(n), rest);
        values[1] = first;
        x.fill(values);
        testing::run(&Kernels::softmax, SoftmaxArgs{x.view(), y.view(), -1, log});
        return y.values();
      };
      const auto lse = [&](double first, double rest) {
        Buffer x(dtype, {1, n}), y(dtype, {1, 1});
        std::vector<double> values(static_cast<size_t>(n), rest);
        values[1] = first;
        x.fill(values);
        testing::run(&Kernels::logsumexp, LogsumexpArgs{x.view(), y.view(), -1});
        return y.values()[0];
      };
      for (const double v : run(-kInfinity, -kInfinity, false)) EXPECT_TRUE(std::isnan(v));
      for (const double v : run(kInfinity, 1, false)) EXPECT_TRUE(std::isnan(v) || v == 0);
      for (const double v : run(NAN, 1, false)) EXPECT_TRUE(std::isnan(v));
      for (const double v : run(NAN, 1, true)) EXPECT_TRUE(std::isnan(v));
      const std::vector<double> masked = run(2, -kInfinity, false);
      EXPECT_EQ(masked[1], 1);
      EXPECT_EQ(masked[0], 0);
      const std::vector<double> masked_log = run(2, -kInfinity, true);
      EXPECT_EQ(masked_log[1], 0);
      EXPECT_EQ(masked_log[0], -kInfinity);
      EXPECT_EQ(lse(-kInfinity, -kInfinity), -kInfinity);
      EXPECT_EQ(lse(kInfinity, 1), kInfinity);
      EXPECT_EQ(lse(2, -kInfinity), 2);
      EXPECT_TRUE(std::isnan(lse(NAN, 1)));
      EXPECT_TRUE(std::isnan(lse(NAN, kInfinity)));
    }
  }
}

TEST(Softmax, TakesEmptyTensors) {
  Buffer x(DType::Float32, {4, 0}), y(DType::Float32, {4, 0}), lse(DType::Float32, {4, 1});
  testing::run(&Kernels::softmax, SoftmaxArgs{x.view(), y.view(), 1, false});
  testing::run(&Kernels::softmax_backward, SoftmaxBackwardArgs{y.view(), y.view(), x.view(), 1, false});
  testing::run(&Kernels::logsumexp, LogsumexpArgs{x.view(), lse.view(), 1});
  EXPECT_EQ(lse.values(), std::vector<double>(4, -kInfinity));
  Buffer none(DType::Float32, {0, 4}), out(DType::Float32, {0, 4});
  testing::run(&Kernels::softmax, SoftmaxArgs{none.view(), out.view(), 1, false});
  testing::run(&Kernels::softmax, SoftmaxArgs{none.view(), out.view(), 0, false});
  EXPECT_TRUE(out.intact());
  Buffer scalar(DType::Float32, {}), one(DType::Float32, {});
  scalar.fill(3);
  testing::run(&Kernels::softmax, SoftmaxArgs{scalar.view(), one.view(), -1, false});
  EXPECT_EQ(one.values(), std::vector<double>(1, 1.0));
}

}  // namespace
}  // namespace tenon
