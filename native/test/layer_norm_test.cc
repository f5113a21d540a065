// layer_norm and layer_norm_backward against float64 sums, on the harness's backend.
#include "test/kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::relative_error;

DType statistics_dtype(DType dtype) { return dtype == DType::Float64 ? DType::Float64 : DType::Float32; }

// The largest relative error that a result of `dtype` may have after sums of a few thousand terms.
double allowed(DType dtype) { return dtype == DType::Float64 ? 1e-13 : testing::tolerance(dtype); }

struct Case {
  int64_t rows, C;
};
const std::vector<Case>& cases() {
  static const std::vector<Case> few = {{1, 1},   {3, 7},   {50, 16},  {65, 96},
                                        {9, 192}, {9, 385}, {3, 1000}, {2, 1160}};
  static const std::vector<Case> many = {{1, 1},    {3, 7},    {50, 16},  {65, 96},
                                         {37, 192}, {33, 385}, {9, 1000}, {7, 1160}};
  return testing::emulated() ? few : many;
}

struct Operands {
  Operands(DType dtype, int64_t rows, int64_t C)
      : x(dtype, {rows, C}),
        residual(dtype, {rows, C}),
        gamma(dtype, {C}),
        beta(dtype, {C}),
        sum(dtype, {rows, C}),
        y(dtype, {rows, C}),
        mean(statistics_dtype(dtype), {rows}),
        rstd(statistics_dtype(dtype), {rows}) {
    x.fill_normal(1, 2);
    residual.fill_normal(2);
    gamma.fill_normal(3);
    beta.fill_normal(4);
  }
  // y of x alone: without residual, gamma or beta.
  LayerNormArgs forward() const {
    LayerNormArgs args;
    args.x = x.view();
    args.y = y.view();
    args.mean = mean.view();
    args.rstd = rstd.view();
    return args;
  }
  Buffer x, residual, gamma, beta, sum, y, mean, rstd;
};

std::string describe(DType dtype, const Case& c, int options) {
  return std::string(name_of(dtype)) + " [" + std::to_string(c.rows) + ", " + std::to_string(c.C) +
         "] options " + std::to_string(options);
}

struct Normalised {
  std::vector<double> y, mean, rstd;
};

Normalised reference(const std::vector<double>& s, const Buffer* gamma, const Buffer* beta, int64_t rows,
                     int64_t C, double eps) {
  const std::vector<double> g =
      gamma != nullptr ? gamma->values() : std::vector<double>(static_cast<size_t>(C), 1.0);
  const std::vector<double> b =
      beta != nullptr ? beta->values() : std::vector<double>(static_cast<size_t>(C), 0.0);
  Normalised out;
  const auto width = static_cast<size_t>(C);
  for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < width; ++i) mean += s[r * width + i] / static_cast<double>(C);
    for (size_t i = 0; i < width; ++i)
      variance += std::pow(s[r * width + i] - mean, 2) / static_cast<double>(C);
    const double rstd = 1 / std::sqrt(variance + eps);
    out.mean.push_back(mean);
    out.rstd.push_back(rstd);
    for (size_t i = 0; i < width; ++i) out.y.push_back((s[r * width + i] - mean) * rstd * g[i] + b[i]);
  }
  return out;
}

// On the emulator, all combinations of the 3 options in float32, none and all in bfloat16, and all in the others.
bool skipped(DType dtype, int options) {
  if (!testing::emulated() || dtype == DType::Float32 || options == 7) return false;
  return dtype != DType::BFloat16 || options != 0;
}

TEST(LayerNorm, Normalises) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const Case& c : cases()) {
      for (int options = 0; options < 8; ++options) {
        if (skipped(dtype, options)) continue;
        Operands o(dtype, c.rows, c.C);
        const bool with_residual = (options & 1) != 0, with_gamma = (options & 2) != 0,
                   with_beta = (options & 4) != 0;
        LayerNormArgs args = o.forward();
        args.eps = 1e-3;
        if (with_residual) {
          args.residual = o.residual.view();
          args.sum = o.sum.view();
        }
        if (with_gamma) args.gamma = o.gamma.view();
        if (with_beta) args.beta = o.beta.view();
        testing::run(&Kernels::layer_norm, args);
        const std::string what = describe(dtype, c, options);

        std::vector<double> s = o.x.values();
        if (with_residual) {
          const std::vector<double> r = o.residual.values();
          for (size_t i = 0; i < s.size(); ++i) s[i] += r[i];
          EXPECT_LE(relative_error(o.sum.values(), s), allowed(dtype)) << what;
          s = o.sum.values();
        }
        const Normalised expected = reference(s, with_gamma ? &o.gamma : nullptr,
                                              with_beta ? &o.beta : nullptr, c.rows, c.C, args.eps);
        EXPECT_LE(relative_error(o.y.values(), expected.y), allowed(dtype)) << what;
        EXPECT_LE(relative_error(o.mean.values(), expected.mean), allowed(statistics_dtype(dtype))) << what;
        EXPECT_LE(relative_error(o.rstd.values(), expected.rstd), allowed(statistics_dtype(dtype))) << what;
        EXPECT_TRUE(o.y.intact() && o.sum.intact() && o.mean.intact() && o.rstd.intact()) << what;
      }
    }
  }
}

TEST(LayerNorm, StaysAccurateFarFromZero) {
  const int64_t rows = 4, C = 768;
  Operands o(DType::Float32, rows, C);
  std::vector<double> x = o.x.values();
  for (double& v : x) v = static_cast<float>(1e4 + v);
  o.x.fill(x);
  const LayerNormArgs args = o.forward();
  testing::run(&Kernels::layer_norm, args);
  // The mean itself is known to 1 ulp, 1e-3 of a standard deviation of 2; E[x^2] - E[x]^2 would lose everything.
  EXPECT_LE(relative_error(o.y.values(), reference(x, nullptr, nullptr, rows, C, args.eps).y), 1e-3);
}

TEST(LayerNorm, GivesGradients) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const Case& c : cases()) {
      for (int options = 0; options < 8; ++options) {
        if (skipped(dtype, options)) continue;
        Operands o(dtype, c.rows, c.C);
        const bool with_gamma = (options & 1) != 0, with_dsum = (options & 2) != 0,
                   with_sums = (options & 4) != 0;
        Buffer dy(dtype, {c.rows, c.C}), dsum(dtype, {c.rows, c.C}), dx(dtype, {c.rows, c.C});
        Buffer dgamma(dtype, {c.C}), dbeta(dtype, {c.C});
        dy.fill_normal(5);
        dsum.fill_normal(6);
        const std::vector<double> s = o.x.values(), grad = dy.values(), direct = dsum.values();
        const Normalised forward = reference(s, nullptr, nullptr, c.rows, c.C, 1e-3);
        o.mean.fill(forward.mean);
        o.rstd.fill(forward.rstd);
        LayerNormBackwardArgs args;
        args.dy = dy.view();
        args.s = o.x.view();
        args.mean = o.mean.view();
        args.rstd = o.rstd.view();
        args.dx = dx.view();
        if (with_gamma) args.gamma = o.gamma.view();
        if (with_dsum) args.dsum = dsum.view();
        if (with_sums) {
          args.dgamma = dgamma.view();
          args.dbeta = dbeta.view();
        }
        testing::run(&Kernels::layer_norm_backward, args);

        const auto width = static_cast<size_t>(c.C);
        const std::vector<double> gamma = with_gamma ? o.gamma.values() : std::vector<double>(width, 1.0);
        std::vector<double> expected(s.size()), gammas(width), betas(width);
        for (size_t r = 0; r < static_cast<size_t>(c.rows); ++r) {
          double mean_g = 0, mean_gn = 0;
          for (size_t i = 0; i < width; ++i) {
            const double g = grad[r * width + i] * gamma[i], n = forward.y[r * width + i];
            mean_g += g / static_cast<double>(c.C);
            mean_gn += g * n / static_cast<double>(c.C);
            gammas[i] += grad[r * width + i] * n;
            betas[i] += grad[r * width + i];
          }
          for (size_t i = 0; i < width; ++i) {
            const size_t at = r * width + i;
            expected[at] = forward.rstd[r] * (grad[at] * gamma[i] - mean_g - forward.y[at] * mean_gn);
            if (with_dsum) expected[at] += direct[at];
          }
        }
        const std::string what = describe(dtype, c, options);
        if (c.C > 1 || with_dsum) {
          EXPECT_LE(relative_error(dx.values(), expected), 2 * allowed(dtype)) << what;
        } else {  // a row of one element does not matter: rounding errors of zero
          for (const double v : dx.values()) EXPECT_NEAR(v, 0, 1e-5) << what;
        }
        EXPECT_TRUE(dx.intact() && dgamma.intact() && dbeta.intact()) << what;
        if (!with_sums) continue;
        if (c.C > 1) {
          EXPECT_LE(relative_error(dgamma.values(), gammas), allowed(dtype)) << what;
        }
        EXPECT_LE(relative_error(dbeta.values(), betas), allowed(dtype)) << what;
      }
    }
  }
}

// A product in 16 bits reads y as 16 bits, and gives its gradient in them: x, dx and the parameters stay float32.
TEST(LayerNorm, GivesSixteenBitsOfFloat32) {
  for (const DType narrow : {DType::BFloat16, DType::Float16}) {
    for (const Case& c : cases()) {
      Operands o(DType::Float32, c.rows, c.C);
      Buffer y(narrow, {c.rows, c.C});
      LayerNormArgs args = o.forward();
      args.residual = o.residual.view();
      args.sum = o.sum.view();
      args.gamma = o.gamma.view();
      args.beta = o.beta.view();
      args.y = y.view();
      testing::run(&Kernels::layer_norm, args);
      const std::string what = describe(narrow, c, 7);
      const Normalised expected = reference(o.sum.values(), &o.gamma, &o.beta, c.rows, c.C, args.eps);
      EXPECT_LE(relative_error(y.values(), expected.y), allowed(narrow)) << what;
      EXPECT_LE(relative_error(o.mean.values(), expected.mean), allowed(DType::Float32)) << what;
      EXPECT_TRUE(y.intact() && o.sum.intact()) << what;

      // Its gradients are those of the same dy in float32.
      Buffer dy(narrow, {c.rows, c.C}), wide(DType::Float32, {c.rows, c.C});
      wide.fill(dy.fill_normal(5).values());
      Buffer dsum(DType::Float32, {c.rows, c.C});
      dsum.fill_normal(6);
      LayerNormBackwardArgs backward;
      backward.s = o.sum.view();
      backward.gamma = o.gamma.view();
      backward.mean = o.mean.view();
      backward.rstd = o.rstd.view();
      backward.dsum = dsum.view();
      std::vector<std::vector<double>> results;
      for (const Buffer* gradient : {&dy, &wide}) {
        Buffer dx(DType::Float32, {c.rows, c.C}), dgamma(DType::Float32, {c.C}), dbeta(DType::Float32, {c.C});
        backward.dy = gradient->view();
        backward.dx = dx.view();
        backward.dgamma = dgamma.view();
        backward.dbeta = dbeta.view();
        testing::run(&Kernels::layer_norm_backward, backward);
        for (const Buffer* result : {&dx, &dgamma, &dbeta}) {
          EXPECT_TRUE(result->intact()) << what;
          results.push_back(result->values());
        }
      }
      for (size_t i = 0; i < 3; ++i) {
        EXPECT_LE(relative_error(results[i], results[3 + i]), 1e-6) << what << " result " << i;
      }
    }
  }
}

TEST(LayerNorm, SumsManyRowsAccuratelyAndRepeatably) {
  // On the emulator, rows that a warp holds in its registers: 256 threads for each row would take long.
  const int64_t rows = testing::emulated() ? 600 : 20000, C = testing::emulated() ? 36 : 33;
  Operands o(DType::Float32, rows, C);
  Buffer dy(DType::Float32, {rows, C}), dx(DType::Float32, {rows, C});
  Buffer dgamma(DType::Float32, {C}), dbeta(DType::Float32, {C});
  std::vector<double> grad = dy.fill_normal(5).values();
  for (double& v : grad) v += 1;
  grad = dy.fill(grad).values();
  o.mean.fill(0);
  o.rstd.fill(1);
  LayerNormBackwardArgs args;
  args.dy = dy.view();
  args.s = o.x.view();
  args.mean = o.mean.view();
  args.rstd = o.rstd.view();
  args.dx = dx.view();
  args.dgamma = dgamma.view();
  args.dbeta = dbeta.view();
  testing::run(&Kernels::layer_norm_backward, args);
  std::vector<double> betas(static_cast<size_t>(C));
  for (size_t i = 0; i < grad.size(); ++i) betas[i % static_cast<size_t>(C)] += grad[i];
  EXPECT_LE(relative_error(dbeta.values(), betas), 1e-6);
  const std::vector<double> first = dgamma.values();
  for (int i = 0; i < (testing::emulated() ? 2 : 5); ++i) {
    dgamma.fill(NAN);
    testing::run(&Kernels::layer_norm_backward, args);
    EXPECT_EQ(dgamma.values(), first);
  }
}

TEST(LayerNorm, TakesNoRows) {
  Operands o(DType::Float32, 0, 5);
  testing::run(&Kernels::layer_norm, o.forward());
  Buffer dx(DType::Float32, {0, 5}), dgamma(DType::Float32, {5}), dbeta(DType::Float32, {5});
  LayerNormBackwardArgs backward;
  backward.dy = o.y.view();
  backward.s = o.x.view();
  backward.mean = o.mean.view();
  backward.rstd = o.rstd.view();
  backward.dx = dx.view();
  backward.dgamma = dgamma.view();
  backward.dbeta = dbeta.view();
  testing::run(&Kernels::layer_norm_backward, backward);
  EXPECT_EQ(dgamma.values(), std::vector<double>(5, 0.0));
  EXPECT_EQ(dbeta.values(), std::vector<double>(5, 0.0));
}

TEST(LayerNorm, KeepsNaNInItsRow) {
  Operands o(DType::Float32, 2, 20);
  std::vector<double> x = o.x.values();
  x[3] = NAN;
  o.x.fill(x);
  testing::run(&Kernels::layer_norm, o.forward());
  const std::vector<double> y = o.y.values();
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_TRUE(std::isnan(y[i]));
    EXPECT_FALSE(std::isnan(y[20 + i]));
  }
}

}  // namespace
}  // namespace tenon
