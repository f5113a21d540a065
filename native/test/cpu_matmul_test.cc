// matmul on the CPU, through oneDNN and through our own GEMM, against float64 sums.
#include <omp.h>

#include "backend/cpu/gemm.h"
#include "backend/cpu/kernels.h"
#include "test/kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::relative_error;

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::None:
      return x;
    case Activation::Gelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::GeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::Relu:
      return std::max(x, 0.0);
    case Activation::Silu:
      return x / (1 + std::exp(-x));
  }
  return x;
}

// out = activation(a b + bias) + residual (+ out with accumulate), on views of rank 2 or 3.
std::vector<double> reference(const MatmulArgs& args) {
  const auto at = [](const View& x, int64_t batch, int64_t i, int64_t j) {
    const int64_t offset = x.ndim() == 3 ? batch * x.stride(0) : 0;
    return testing::load(x.dtype, x.data, offset + i * x.stride(-2) + j * x.stride(-1));
  };
  std::vector<double> out;
  const int64_t batch = args.out.ndim() == 3 ? args.out.size(0) : 1;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t i = 0; i < args.out.size(-2); ++i) {
      for (int64_t j = 0; j < args.out.size(-1); ++j) {
        double sum = 0;
        for (int64_t k = 0; k < args.a.size(-1); ++k) sum += at(args.a, b, i, k) * at(args.b, b, k, j);
        if (args.bias) sum += testing::load(args.bias.dtype, args.bias.data, j * args.bias.stride(0));
        sum = activate(args.activation, sum);
        if (args.residual) sum += at(args.residual, b, i, j);
        if (args.accumulate) sum += at(args.out, b, i, j);
        out.push_back(sum);
      }
    }
  }
  return out;
}

using Kernel = void (*)(const MatmulArgs&);
struct Path {
  const char* name;
  Kernel run;
};
const Path kPaths[] = {{"matmul", cpu::matmul}, {"gemm", cpu::gemm}};

void expect_product(const Path& path, const MatmulArgs& args, const Buffer& out, const std::string& what) {
  const std::vector<double> expected = reference(args);
  path.run(args);
  // Rounding errors of a sum of K terms grow with sqrt(K) at most.
  const double wide = args.out.dtype == DType::Float64 ? 1e-14 : 1e-6;
  EXPECT_LE(relative_error(out.values(), expected), std::max(wide, testing::tolerance(args.out.dtype)))
      << path.name << " " << what;
  EXPECT_TRUE(out.intact()) << path.name << " " << what;
}

struct Size {
  int64_t m, k, n;
};
const Size kSizes[] = {{1, 1, 1},       {1, 7, 5},       {5, 1, 3},    {13, 17, 1},
                       {1, 192, 1000},  {7, 33, 65},     {64, 96, 48}, {97, 385, 31},
                       {197, 192, 576}, {130, 801, 770}, {300, 64, 10}};

std::string describe(const Size& s, DType dtype) {
  return std::string(name_of(dtype)) + " M=" + std::to_string(s.m) + " K=" + std::to_string(s.k) +
         " N=" + std::to_string(s.n);
}

TEST(CpuMatmul, MultipliesInAllFourLayouts) {
  for (const Path& path : kPaths) {
    for (const DType dtype : testing::float_dtypes()) {
      for (const Size& s : kSizes) {
        for (int layout = 0; layout < 4; ++layout) {
          const Shape a_strides = (layout & 1) != 0 ? Shape{1, s.m + 3} : Shape{s.k + 2, 1};
          const Shape b_strides = (layout & 2) != 0 ? Shape{1, s.k + 1} : Shape{s.n + 5, 1};
          Buffer a(dtype, {s.m, s.k}, a_strides), b(dtype, {s.k, s.n}, b_strides);
          Buffer out(dtype, {s.m, s.n}, {s.n + 3, 1});
          a.fill_normal(1);
          b.fill_normal(2);
          MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
          expect_product(path, args, out, describe(s, dtype) + " layout " + std::to_string(layout));
        }
      }
    }
  }
}

TEST(CpuMatmul, AppliesTheEpilogue) {
  const Size s{70, 50, 99};
  for (const Path& path : kPaths) {
    for (const DType dtype : testing::float_dtypes()) {
      for (const Activation activation :
           {Activation::None, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu}) {
        for (int epilogue = 0; epilogue < 8; ++epilogue) {
          const bool bias = epilogue % 2 == 1;
          Buffer a(dtype, {s.m, s.k}), b(dtype, {s.k, s.n}, {1, s.k}), v(dtype, {s.n}),
              out(dtype, {s.m, s.n});
          Buffer wide(dtype, {s.m, s.n}, {2 * s.n, 1}), same(dtype, {s.m, s.n});
          a.fill_normal(1, 0.3);
          b.fill_normal(2, 0.3);
          v.fill_normal(3);
          wide.fill_normal(4);
          same.fill_normal(5);
          MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
          args.activation = activation;
          if (bias) args.bias = v.view();
          if (epilogue / 2 == 1) args.residual = same.view();
          if (epilogue / 2 == 2) args.residual = wide.view();
          if (epilogue / 2 == 3) {
            out.fill_normal(6);
            args.residual = out.view();
          }
          expect_product(path, args, out,
                         describe(s, dtype) + " activation " + std::to_string(static_cast<int>(activation)) +
                             " epilogue " + std::to_string(epilogue));
        }
      }
    }
  }
}

TEST(CpuMatmul, Accumulates) {
  for (const Path& path : kPaths) {
    for (const DType dtype : testing::float_dtypes()) {
      for (const Size& s : {Size{192, 500, 96}, Size{3, 5, 2}, Size{40, 0, 30}}) {
        Buffer a(dtype, {s.m, s.k}, {1, s.m}), b(dtype, {s.k, s.n}), out(dtype, {s.m, s.n});
        a.fill_normal(1);
        b.fill_normal(2);
        out.fill_normal(3);
        MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
        args.accumulate = true;
        expect_product(path, args, out, describe(s, dtype));
      }
    }
  }
}

TEST(CpuMatmul, MultipliesBatchesAndBroadcastsThem) {
  const int64_t batch = 5, m = 33, k = 20, n = 41;
  for (const Path& path : kPaths) {
    for (const DType dtype : testing::float_dtypes()) {
      for (int broadcast = 0; broadcast < 4; ++broadcast) {
        const bool one_a = (broadcast & 1) != 0, one_b = (broadcast & 2) != 0;
        Buffer a(dtype, {batch, m, k}, {one_a ? 0 : m * k + 7, k, 1});
        Buffer b(dtype, {batch, k, n}, {one_b ? 0 : k * n, 1, k});
        Buffer bias(dtype, {n}), residual(dtype, {batch, m, n}), out(dtype, {batch, m, n});
        a.fill_normal(1);
        b.fill_normal(2);
        bias.fill_normal(3);
        residual.fill_normal(4);
        MatmulArgs args{a.view(), b.view(), out.view(), bias.view(), residual.view()};
        args.activation = Activation::Gelu;
        expect_product(path, args, out,
                       describe({m, k, n}, dtype) + " broadcast " + std::to_string(broadcast));
      }
    }
  }
}

TEST(CpuMatmul, GeluOfAFloat32ProductIsRightToTheProductsRounding) {
  const auto gelu_of = [](const std::vector<double>& values) {  // x times 1
    const auto n = static_cast<int64_t>(values.size());
    Buffer x(DType::Float32, {n, 1}), one(DType::Float32, {1, 1}), out(DType::Float32, {n, 1});
    x.fill(values);
    one.fill(1);
    MatmulArgs args{x.view(), one.view(), out.view(), {}, {}};
    args.activation = Activation::Gelu;
    cpu::matmul(args);
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

TEST(CpuMatmul, TakesRepeatedAndReversedRows) {
  for (const Path& path : kPaths) {
    for (const DType dtype : testing::float_dtypes()) {
      Buffer a(dtype, {6, 9}, {0, 1}), b(dtype, {9, 4}, {-4, 1}), bias(dtype, {4}, {3}), out(dtype, {6, 4});
      a.fill_normal(1);
      b.fill_normal(2);
      bias.fill_normal(3);
      const MatmulArgs args{a.view(), b.view(), out.view(), bias.view(), {}};
      expect_product(path, args, out, describe({6, 9, 4}, dtype));
    }
  }
}

TEST(CpuMatmul, EmptyProductsAreZeroOrNothing) {
  for (const Path& path : kPaths) {
    for (const DType dtype : testing::float_dtypes()) {
      Buffer a(dtype, {3, 0}), b(dtype, {0, 4}), out(dtype, {3, 4}), bias(dtype, {4}),
          residual(dtype, {3, 4});
      bias.fill_normal(1);
      residual.fill_normal(2);
      MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
      path.run(args);
      EXPECT_EQ(out.values(), std::vector<double>(12, 0.0));
      args.bias = bias.view();
      args.residual = residual.view();
      args.activation = Activation::Relu;
      expect_product(path, args, out, "K=0");

      Buffer none(dtype, {0, 4}), x(dtype, {4, 5}), no_rows(dtype, {0, 5});
      x.fill(1);
      path.run({none.view(), x.view(), no_rows.view(), {}, {}});
      EXPECT_TRUE(no_rows.intact());
      Buffer y(dtype, {4, 0}), no_columns(dtype, {4, 0}), square(dtype, {4, 4});
      square.fill(1);
      path.run({square.view(), y.view(), no_columns.view(), {}, {}});
      EXPECT_TRUE(no_columns.intact());
    }
  }
}

TEST(CpuMatmul, KeepsNaNAndInfinity) {
  for (const Path& path : kPaths) {
    for (const DType dtype : testing::float_dtypes()) {
      Buffer a(dtype, {2, 2}), b(dtype, {2, 2}), out(dtype, {2, 2});
      a.fill(std::vector<double>{NAN, 1, INFINITY, 1});
      b.fill(std::vector<double>{1, 0, 1, 1});
      path.run({a.view(), b.view(), out.view(), {}, {}});
      const std::vector<double> values = out.values();
      EXPECT_TRUE(std::isnan(values[0]) && std::isnan(values[1])) << path.name;
      EXPECT_EQ(values[2], INFINITY) << path.name;
      EXPECT_TRUE(std::isnan(values[3])) << path.name;  // inf * 0
    }
  }
}

TEST(CpuMatmul, RepeatsBitByBit) {
  for (const Path& path : kPaths) {
    for (const DType dtype : testing::float_dtypes()) {
      for (const Size& s : {Size{192, 3152, 192}, Size{1000, 96, 288}}) {
        Buffer a(dtype, {s.m, s.k}, {1, s.m}), b(dtype, {s.k, s.n}), out(dtype, {s.m, s.n});
        a.fill_normal(1);
        b.fill_normal(2);
        const MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
        path.run(args);
        const std::vector<double> first = out.values();
        for (int i = 0; i < 5; ++i) {
          out.fill(NAN);
          path.run(args);
          EXPECT_EQ(out.values(), first) << path.name << " " << describe(s, dtype);
        }
      }
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

}  // namespace
}  // namespace tenon
