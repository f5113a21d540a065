// Our own GEMM, which takes over where oneDNN has no kernel, through the tests of matmul.
#include <omp.h>

#include "backend/cpu/gemm.h"
#include "test/matmul_testing.h"

namespace tenon::testing::matmul {
namespace {

INSTANTIATE_TEST_SUITE_P(Gemm, Matmul, ::testing::Values(Kernel{"gemm", cpu::gemm}));

TEST(CpuMatmul, GeluOfAFloat32ProductIsRightToTheProductsRounding) {
  const auto gelu_of = [](const std::vector<double>& values) {  // x times 1
    const auto n = static_cast<int64_t>(values.size());
    Buffer x(DType::Float32, {n, 1}), one(DType::Float32, {1, 1}), out(DType::Float32, {n, 1});
    x.fill(values);
    one.fill(1);
    MatmulArgs args{x.view(), one.view(), out.view(), {}, {}};
    args.activation = Activation::Gelu;
    testing::run(&Kernels::matmul, args);
    return std::pair(x.values(), out.values());
  };
  std::vector<double> inputs;
  for (int64_t i = -12000; i <= 12000; ++i) inputs.push_back(static_cast<double>(i) / 1000);
  const auto [x, y] = gelu_of(inputs);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    worst =
        std::max(worst, std::abs(y[i] - activate(Activation::Gelu, x[i])) / std::max(1.0, std::abs(x[i])));
  }
  EXPECT_LT(worst, 3e-7);

  const double infinity = std::numeric_limits<double>::infinity();
  const auto special = gelu_of({infinity, -infinity, std::nan(""), 1e-30, -1e-30}).second;
  EXPECT_EQ(special[0], infinity);
  EXPECT_NEAR(special[1], 0, 1e-15);
  EXPECT_TRUE(std::isnan(special[2]));
  EXPECT_NEAR(special[3], 5e-31, 1e-36);
  EXPECT_NEAR(special[4], -5e-31, 1e-36);
}

// Which side is read and which is copied, and by whose product, depends on the widths.
TEST(CpuMatmul, WeightGradientsOverManyRowsAreRightAtAnyWidth) {
  struct Widths {
    int64_t dy, x;
  };
  constexpr int64_t rows = 1030;
  for (const auto [m, n] :
       {Widths{200, 100}, {100, 200}, {197, 33}, {33, 197}, {192, 192}, {48, 20}, {7, 250}}) {
    for (const bool accumulate : {false, true}) {
      Buffer dy(DType::Float32, {rows, m}), x(DType::Float32, {rows, n}), out(DType::Float32, {m, n});
      dy.fill_normal(1);
      x.fill_normal(2);
      out.fill_normal(3);
      MatmulArgs args{cpu::transposed(dy.view()), x.view(), out.view(), {}, {}};
      args.accumulate = accumulate;
      const std::vector<double> expected = reference(args);
      testing::run(&Kernels::matmul, args);
      expect_values(out, expected, describe({m, rows, n}, DType::Float32));
    }
  }
}

TEST(CpuGemm, DoesNotDependOnTheThreadCount) {
  const int threads = omp_get_max_threads();
  Buffer a(DType::Float32, {150, 900}), b(DType::Float32, {900, 130}), out(DType::Float32, {150, 130});
  a.fill_normal(1);
  b.fill_normal(2);
  std::vector<double> first;
  for (const int n : {1, 2, 3, 7}) {
    omp_set_num_threads(n);
    out.fill(NAN);
    cpu::gemm({a.view(), b.view(), out.view(), {}, {}});
    if (first.empty()) first = out.values();
    EXPECT_EQ(out.values(), first) << n << " threads";
  }
  omp_set_num_threads(threads);
}

// Sums over several blocks of K grow in out, or in scratch where out still holds a term or is not their type.
TEST(CpuGemm, KeepsSumsOverSeveralBlocksOfKApartFromOut) {
  enum class Term { None, Residual, InPlace, Accumulate };
  const Size s{1700, 800, 37};
  for (const DType dtype : {DType::Float32, DType::BFloat16}) {
    Buffer a(dtype, {s.m, s.k}), b(dtype, {s.k, s.n}), bias(dtype, {s.n}), residual(dtype, {s.m, s.n});
    a.fill_normal(1);
    b.fill_normal(2);
    bias.fill_normal(3);
    residual.fill_normal(4);
    for (const Activation activation : {Activation::None, Activation::Silu}) {
      for (const Term term : {Term::None, Term::Residual, Term::InPlace, Term::Accumulate}) {
        Buffer out(dtype, {s.m, s.n});
        out.fill_normal(5);
        MatmulArgs args{a.view(), b.view(), out.view(), bias.view(), {}};
        args.activation = activation;
        args.accumulate = term == Term::Accumulate;
        if (term == Term::Residual) args.residual = residual.view();
        if (term == Term::InPlace) args.residual = out.view();
        const std::vector<double> expected = reference(args);
        cpu::gemm(args);
        expect_values(out, expected, describe(s, dtype) + " term " + std::to_string(static_cast<int>(term)));
      }
    }
  }
}

}  // namespace
}  // namespace tenon::testing::matmul
