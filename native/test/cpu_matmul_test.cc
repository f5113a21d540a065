// Our own GEMM, which takes over where oneDNN has no kernel, through the tests of matmul.
#include <omp.h>

#include "backend/cpu/matmul.h"
#include "backend/cpu/onednn.h"
#include "test/matmul_testing.h"
#include "test/sparse.h"

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

// Rows that the tiles read where they are, and rows whole pages apart, which are packed; more columns than a block has.
TEST(CpuGemm, ReadsRowsInPlaceOrPacked) {
  for (const DType dtype : {DType::Float32, DType::Float64}) {
    for (const Size& s : {Size{25, 70, 33}, Size{12, 401, 64}, Size{205, 1024, 40}, Size{14, 30, 1600}}) {
      for (const int64_t stride : {s.k, s.k + 1, int64_t{1024}}) {
        if (stride < s.k) continue;
        Buffer a(dtype, {s.m, s.k}, {stride, 1}), b(dtype, {s.k, s.n}), out(dtype, {s.m, s.n});
        a.fill_normal(1);
        b.fill_normal(2);
        const MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
        const std::vector<double> expected = reference(args);
        cpu::gemm(args);
        expect_values(out, expected, describe(s, dtype) + " stride " + std::to_string(stride));
      }
    }
  }
}

// A weight [n, k], of which a product keeps a copy.
struct Weight {
  Weight(DType dtype, const Size& s) : values(dtype, {s.k, s.n}, {1, s.k}) {}
  Prepared& room(size_t bytes) {
    memory.resize(bytes + 64);
    prepared.data = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64);
    prepared.bytes = bytes;
    return prepared;
  }
  Buffer values;
  std::vector<char> memory;
  Prepared prepared;
};

TEST(CpuMatmul, FindsTheCopyOfAWeightThatItMade) {
  for (const DType dtype : {DType::Float32, DType::BFloat16}) {
    const Size s{0, 77, 130};
    Weight w(dtype, s);
    w.values.fill_normal(2);
    bool is_first = true;
    for (const int64_t rows : {50, 16, 197, 16}) {  // one copy serves products of any number of rows
      Buffer a(dtype, {rows, s.k}), bias(dtype, {s.n}), residual(dtype, {rows, s.n}), out(dtype, {rows, s.n});
      a.fill_normal(1);
      bias.fill_normal(3);
      residual.fill_normal(4);
      for (const bool layer : {false, true}) {
        MatmulArgs args{a.view(), w.values.view(), out.view(), {}, {}};
        if (layer) {
          args.bias = bias.view();
          args.residual = residual.view();
          args.activation = Activation::Gelu;
        }
        const size_t bytes = cpu::prepared_bytes(args);
        if (bytes == 0) continue;  // no AVX-512, or no bfloat16 in pairs
        if (is_first) args.prepared_b = &w.room(bytes);
        is_first = false;
        args.prepared_b = &w.prepared;
        EXPECT_LE(bytes, w.prepared.bytes);
        testing::run(&Kernels::matmul, args);
        EXPECT_TRUE(w.prepared.layout.has_value());
        expect_values(out, reference(args), describe({rows, s.k, s.n}, dtype));
      }
    }
    if (is_first) continue;
    // Nobody has said that the weight was written: the copy goes on to count.
    Buffer a(dtype, {20, s.k}), before(dtype, {20, s.n}), after(dtype, {20, s.n});
    a.fill_normal(1);
    MatmulArgs args{a.view(), w.values.view(), before.view(), {}, {}};
    args.prepared_b = &w.prepared;
    testing::run(&Kernels::matmul, args);
    w.values.fill(0);
    args.out = after.view();
    testing::run(&Kernels::matmul, args);
    EXPECT_EQ(after.values(), before.values());
    // Too little room is as none.
    w.prepared.bytes = 64;
    testing::run(&Kernels::matmul, args);
    EXPECT_EQ(after.values(), std::vector<double>(static_cast<size_t>(20 * s.n), 0.0));
  }
}

// oneDNN 2.6 counts bytes within a tile in 32 bits. It crashed on the first two, and left half of the third one out.
TEST(CpuMatmul, LeavesToGemmWhatOnednnCountsIn32Bits) {
  const int64_t far = (int64_t{1} << 29) + 64;
  for (const Size& s : {Size{2, far, 2}, Size{3, 1, far / 2}, Size{1, 2, far}, Size{64, far / 32, 64}}) {
    const Sparse a(DType::Float32, {s.m, s.k}), b(DType::Float32, {s.k, s.n}),
        out(DType::Float32, {s.m, s.n});
    EXPECT_FALSE(cpu::onednn_matmul({a.view(), b.view(), out.view(), {}, {}})) << describe(s, DType::Float32);
  }
}

TEST(CpuMatmul, TakesRowsAndColumnsThatAreFarApart) {
  const Size s{52, 40, 36};
  const Shape rows{(int64_t{1} << 31) + 5, 1}, columns{1, (int64_t{1} << 31) + 5};
  for (const DType dtype : {DType::Float32, DType::BFloat16}) {
    Buffer a(dtype, {s.m, s.k}), b(dtype, {s.k, s.n}), out(dtype, {s.m, s.n});
    a.fill_normal(1);
    b.fill_normal(2);
    const std::vector<double> expected = reference(MatmulArgs{a.view(), b.view(), out.view(), {}, {}});
    for (const bool turned : {false, true}) {
      Sparse far_a(dtype, {s.m, s.k}, turned ? columns : rows),
          far_b(dtype, {s.k, s.n}, turned ? rows : columns), far_out(dtype, {s.m, s.n}, rows);
      far_a.fill(a.view());
      far_b.fill(b.view());
      const MatmulArgs args{far_a.view(), far_b.view(), far_out.view(), {}, {}};
      testing::run(&Kernels::matmul, args);
      out.fill(far_out.values());
      expect_values(out, expected, describe(s, dtype) + (turned ? " turned" : ""));
    }
  }
}

TEST(CpuGemm, FinishesEachElementOnceAndWhenItIsFinal) {
  for (const Size& s : {Size{205, 900, 70}, Size{30, 10, 1700}, Size{1, 1, 1}, Size{5, 0, 3}}) {
    for (const DType dtype : {DType::Float32, DType::BFloat16}) {
      Buffer a(dtype, {s.m, s.k}), b(dtype, {s.k, s.n}), out(dtype, {s.m, s.n});
      a.fill_normal(1);
      b.fill_normal(2);
      out.fill(NAN);
      const MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
      const std::vector<double> expected = reference(args);
      std::vector<double> seen(expected.size());
      std::vector<int> times(expected.size());
      cpu::gemm(args, [&](int64_t row, int64_t column, int64_t n) {  // no two calls share elements
        for (int64_t j = column; j < column + n; ++j) {
          const auto at = static_cast<size_t>(row * s.n + j);
          seen[at] = testing::load(dtype, out.view().data, static_cast<int64_t>(at));
          ++times[at];
        }
      });
      EXPECT_EQ(times, std::vector<int>(expected.size(), 1)) << describe(s, dtype);
      EXPECT_EQ(seen, out.values()) << describe(s, dtype);
      expect_values(out, expected, describe(s, dtype));
    }
  }
}

// Which side is read and which is copied, and by whose product, depends on the widths.
TEST(CpuMatmul, WeightGradientsOverManyRowsAreRightAtAnyWidth) {
  struct Layer {
    int64_t rows, dy, x;
  };
  for (const auto [rows, m, n] : {Layer{1030, 200, 100},
                                  {1030, 100, 200},
                                  {1030, 197, 33},
                                  {1030, 33, 197},
                                  {1030, 192, 192},
                                  {1030, 48, 20},
                                  {1030, 7, 250},
                                  {2050, 100, 200},
                                  {2050, 192, 100},
                                  {15001, 96, 48},
                                  {15001, 50, 97}}) {
    for (const bool accumulate : {false, true}) {
      Buffer dy(DType::Float32, {rows, m}), x(DType::Float32, {rows, n}), out(DType::Float32, {m, n}),
          sums(DType::Float32, {m});
      dy.fill_normal(1);
      x.fill_normal(2);
      out.fill_normal(3);
      MatmulArgs args{cpu::transposed(dy.view()), x.view(), out.view(), {}, {}};
      args.accumulate = accumulate;
      args.a_sums = sums.view();
      const std::vector<double> expected = reference(args), terms = dy.values();
      testing::run(&Kernels::matmul, args);
      expect_values(out, expected, describe({m, rows, n}, DType::Float32));
      std::vector<double> expected_sums(static_cast<size_t>(m));
      for (size_t i = 0; i < terms.size(); ++i) expected_sums[i % static_cast<size_t>(m)] += terms[i];
      EXPECT_LT(relative_error(sums.values(), expected_sums), 3e-7) << m << " x " << n;
    }
  }
}

// Of one row, too, which lies in memory as a row and as columns.
TEST(CpuGemm, SumsTheRowsOfAOfAnyHeight) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const int64_t m : {1, 5, 12, 30}) {
      const int64_t k = 50, n = 3;
      Buffer a(dtype, {k, m}), b(dtype, {k, n}), out(dtype, {m, n}), sums(DType::Float64, {m});
      a.fill_normal(1);
      b.fill_normal(2);
      MatmulArgs args{cpu::transposed(a.view()), b.view(), out.view(), {}, {}};
      args.a_sums = sums.view();
      cpu::gemm(args);
      std::vector<double> expected(static_cast<size_t>(m));
      const std::vector<double> elements = a.values();
      for (size_t i = 0; i < elements.size(); ++i) expected[i % static_cast<size_t>(m)] += elements[i];
      EXPECT_LT(relative_error(sums.values(), expected), 1e-6) << name_of(dtype) << ", " << m << " rows";
      expect_values(out, reference(args), describe({m, k, n}, dtype));
    }
  }
}

// Where K is one share, several, or cut into parts; of any dtype of out.
TEST(CpuGemm, DoesNotDependOnTheThreadCount) {
  const int threads = omp_get_max_threads();
  for (const Size& s : {Size{150, 900, 130}, Size{60, 420, 1600}, Size{61, 7000, 70}, Size{3, 30000, 2}}) {
    for (const DType dtype : {DType::Float32, DType::BFloat16}) {
      Buffer a(dtype, {s.k, s.m}), b(dtype, {s.k, s.n}), out(dtype, {s.m, s.n});
      a.fill_normal(1);
      b.fill_normal(2);
      const MatmulArgs args{cpu::transposed(a.view()), b.view(), out.view(), {}, {}};
      const std::vector<double> expected = reference(args);
      std::vector<double> first;
      for (const int n : {1, 2, 3, 7}) {
        omp_set_num_threads(n);
        out.fill(NAN);
        cpu::gemm(args);
        if (first.empty()) first = out.values();
        EXPECT_EQ(out.values(), first) << describe(s, dtype) << ", " << n << " threads";
      }
      omp_set_num_threads(threads);
      expect_values(out, expected, describe(s, dtype));
    }
  }
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
