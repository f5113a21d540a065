// batch_norm and batch_norm_backward against float64 sums, on the harness's backend.
#include "test/kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::relative_error;
using Values = std::vector<double>;

DType statistics_dtype(DType dtype) { return dtype == DType::Float64 ? DType::Float64 : DType::Float32; }

// The largest relative error of a result of `dtype` after sums of a thousand terms or so.
double allowed(DType dtype) { return dtype == DType::Float64 ? 1e-12 : 2 * testing::tolerance(dtype); }

struct Case {
  int64_t rows, C;
};
const Case kCases[] = {{2, 1}, {5, 7}, {70, 16}, {130, 33}, {300, 3}};

constexpr double kEps = 1e-3;

struct Statistics {
  Values mean, rstd, variance;
};

Statistics statistics(const Values& x, int64_t rows, int64_t C) {
  Statistics s;
  for (size_t c = 0; c < static_cast<size_t>(C); ++c) {
    double mean = 0, variance = 0;
    const auto at = [&](size_t r) { return x[r * static_cast<size_t>(C) + c]; };
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) mean += at(r) / static_cast<double>(rows);
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r)
      variance += std::pow(at(r) - mean, 2) / static_cast<double>(rows);
    s.mean.push_back(mean);
    s.variance.push_back(variance);
    s.rstd.push_back(1 / std::sqrt(variance + kEps));
  }
  return s;
}

struct Operands {
  Operands(DType dtype, const Case& c)
      : x(dtype, {c.rows, c.C}),
        residual(dtype, {c.rows, c.C}),
        gamma(dtype, {c.C}),
        beta(dtype, {c.C}),
        running_mean(DType::Float32, {c.C}),
        running_var(DType::Float32, {c.C}),
        y(dtype, {c.rows, c.C}),
        mean(statistics_dtype(dtype), {c.C}),
        rstd(statistics_dtype(dtype), {c.C}) {
    x.fill_normal(1, 2);
    residual.fill_normal(2);
    gamma.fill_normal(3);
    beta.fill_normal(4);
    running_mean.fill(0.25);
    running_var.fill(2);
  }
  Buffer x, residual, gamma, beta, running_mean, running_var, y, mean, rstd;
};

// The options of a case, by the bits of a number.
bool has(int options, int bit) { return (options >> bit & 1) != 0; }

template <typename Check>
void for_each_case(Check&& check) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const Case& c : kCases) {
      for (int options = 0; options < 8; ++options) {
        if (testing::emulated() && dtype != DType::Float32 && options % 7 != 0) continue;
        SCOPED_TRACE(std::string(name_of(dtype)) + " [" + std::to_string(c.rows) + ", " +
                     std::to_string(c.C) + "] options " + std::to_string(options));
        check(dtype, c, options);
      }
    }
  }
}

TEST(BatchNorm, Normalises) {
  for_each_case([](DType dtype, const Case& c, int options) {
    Operands o(dtype, c);
    const bool relu = has(options, 0), with_residual = has(options, 1), affine = has(options, 2);
    BatchNormArgs args;
    args.x = o.x.view();
    args.y = o.y.view();
    args.mean = o.mean.view();
    args.rstd = o.rstd.view();
    args.eps = kEps;
    args.momentum = 0.25;
    args.relu = relu;
    if (with_residual) args.residual = o.residual.view();
    if (affine) {
      args.gamma = o.gamma.view();
      args.beta = o.beta.view();
    }
    const bool tracked = dtype != DType::Float64;  // whose running statistics would be float64
    if (tracked) {
      args.running_mean = o.running_mean.view();
      args.running_var = o.running_var.view();
    }
    testing::run(&Kernels::batch_norm, args);

    const Values x = o.x.values(), residual = o.residual.values(), gamma = o.gamma.values(),
                 beta = o.beta.values();
    const auto check_y = [&](const Values& mean, const Values& rstd) {
      Values y;
      for (size_t i = 0; i < x.size(); ++i) {
        const size_t k = i % static_cast<size_t>(c.C);
        double v = (x[i] - mean[k]) * rstd[k];
        if (affine) v = v * gamma[k] + beta[k];
        if (with_residual) v += residual[i];
        y.push_back(relu ? std::max(v, 0.0) : v);
      }
      EXPECT_LE(relative_error(o.y.values(), y), allowed(dtype));
      EXPECT_LE(relative_error(o.mean.values(), mean), allowed(statistics_dtype(dtype)));
      EXPECT_LE(relative_error(o.rstd.values(), rstd), allowed(statistics_dtype(dtype)));
      EXPECT_TRUE(o.y.intact() && o.mean.intact() && o.rstd.intact());
    };
    const Statistics s = statistics(x, c.rows, c.C);
    check_y(s.mean, s.rstd);
    if (!tracked) return;

    Values running_mean, running_var;
    const auto n = static_cast<double>(c.rows);
    for (size_t k = 0; k < s.mean.size(); ++k) {
      running_mean.push_back(0.75 * 0.25 + 0.25 * s.mean[k]);
      running_var.push_back(0.75 * 2 + 0.25 * s.variance[k] * n / (n - 1));
    }
    EXPECT_LE(relative_error(o.running_mean.values(), running_mean), allowed(DType::Float32));
    EXPECT_LE(relative_error(o.running_var.values(), running_var), allowed(DType::Float32));

    args.training = false;
    testing::run(&Kernels::batch_norm, args);
    running_mean = o.running_mean.values();
    Values rstd;
    for (const double v : o.running_var.values()) rstd.push_back(1 / std::sqrt(v + kEps));
    check_y(running_mean, rstd);
  });
}

TEST(BatchNorm, StaysAccurateFarFromZero) {
  const Case c{200, 5};
  Operands o(DType::Float32, c);
  Values x = o.x.values();
  for (double& v : x) v = static_cast<float>(1e4 + v);
  o.x.fill(x);
  BatchNormArgs args;
  args.x = o.x.view();
  args.y = o.y.view();
  args.mean = o.mean.view();
  args.rstd = o.rstd.view();
  args.eps = kEps;
  testing::run(&Kernels::batch_norm, args);
  // x itself is known to 1e-3; E[x^2] - E[x]^2 would lose the variance.
  EXPECT_LE(relative_error(o.rstd.values(), statistics(x, c.rows, c.C).rstd), 1e-5);
}

TEST(BatchNorm, GivesGradients) {
  for_each_case([](DType dtype, const Case& c, int options) {
    Operands o(dtype, c);
    const bool relu = has(options, 0), affine = has(options, 1), training = has(options, 2);
    const Statistics s = statistics(o.x.values(), c.rows, c.C);
    o.mean.fill(s.mean);
    o.rstd.fill(s.rstd);
    o.y.fill_normal(7);  // where it is positive, the gradient passes
    Buffer dy(dtype, {c.rows, c.C}), dx(dtype, {c.rows, c.C}), dresidual(dtype, {c.rows, c.C});
    Buffer dgamma(dtype, {c.C}), dbeta(dtype, {c.C});
    dy.fill_normal(5);
    BatchNormBackwardArgs args;
    args.dy = dy.view();
    args.x = o.x.view();
    args.mean = o.mean.view();
    args.rstd = o.rstd.view();
    args.dx = dx.view();
    args.training = training;
    if (relu) {
      args.y = o.y.view();
      args.dresidual = dresidual.view();
    }
    if (affine) {
      args.gamma = o.gamma.view();
      args.dgamma = dgamma.view();
      args.dbeta = dbeta.view();
    }
    testing::run(&Kernels::batch_norm_backward, args);

    Values g = dy.values();
    const Values x = o.x.values(), y = o.y.values(), gamma = o.gamma.values(), mean = o.mean.values(),
                 rstd = o.rstd.values();
    const auto width = static_cast<size_t>(c.C);
    Values sums(width), products(width), expected;
    for (size_t i = 0; i < g.size(); ++i) {
      if (relu && !(y[i] > 0)) g[i] = 0;
      sums[i % width] += g[i];
      products[i % width] += g[i] * (x[i] - mean[i % width]) * rstd[i % width];
    }
    for (size_t i = 0; i < g.size(); ++i) {
      const size_t k = i % width;
      const auto n = static_cast<double>(c.rows);
      const double through = (sums[k] + (x[i] - mean[k]) * rstd[k] * products[k]) / n;
      expected.push_back((affine ? gamma[k] : 1) * rstd[k] * (g[i] - (training ? through : 0)));
    }
    // Two rows a column cancel to nearly nothing: what counts is the error beside the terms.
    double norm = 0, error = 0;
    const Values got = dx.values();
    for (size_t i = 0; i < g.size(); ++i) {
      const size_t k = i % width;
      norm += std::pow((affine ? gamma[k] : 1) * rstd[k] * g[i], 2);
      error += std::pow(got[i] - expected[i], 2);
    }
    EXPECT_LE(std::sqrt(error), 2 * allowed(dtype) * std::sqrt(norm));
    EXPECT_TRUE(dx.intact());
    if (relu) {
      EXPECT_LE(relative_error(dresidual.values(), g), allowed(dtype));
    }
    if (affine) {
      EXPECT_LE(relative_error(dgamma.values(), products), 4 * allowed(dtype));
      EXPECT_LE(relative_error(dbeta.values(), sums), 4 * allowed(dtype));
      EXPECT_TRUE(dgamma.intact() && dbeta.intact());
    }
  });
}

}  // namespace
}  // namespace tenon
