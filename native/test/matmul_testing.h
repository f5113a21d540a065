// What the tests of matmul share. They run on every instance of the suite: the table's kernel on each backend
// (matmul_test.cc), and our own GEMM on the CPU (cpu_matmul_test.cc).
#pragma once

#include "test/kernel_testing.h"

namespace tenon::testing::matmul {

struct Kernel {
  const char* name;
  void (*run)(const MatmulArgs& args);
};
inline void PrintTo(const Kernel& kernel, std::ostream* out) { *out << kernel.name; }

inline double activate(Activation activation, double x) {
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
inline std::vector<double> reference(const MatmulArgs& args) {
  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  const size_t batch = args.out.ndim() == 3 ? size(args.out.size(0)) : 1;
  const size_t M = size(args.out.size(-2)), K = size(args.a.size(-1)), N = size(args.out.size(-1));
  const std::vector<double> a = values(args.a), b = values(args.b);
  std::vector<double> out(batch * M * N);
  for (size_t row = 0; row < batch * M; ++row) {
    double* const to = out.data() + row * N;
    for (size_t k = 0; k < K; ++k) {
      const double factor = a[row * K + k];
      const double* const from = b.data() + (row / M * K + k) * N;
      for (size_t j = 0; j < N; ++j) to[j] += factor * from[j];
    }
  }
  const std::vector<double> bias = args.bias ? values(args.bias) : std::vector<double>(N);
  const std::vector<double> added = args.residual     ? values(args.residual)
                                    : args.accumulate ? values(args.out)
                                                      : std::vector<double>(out.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = activate(args.activation, out[i] + bias[i % N]) + added[i];
  return out;
}

struct Size {
  int64_t m, k, n;
};

inline std::string describe(const Size& s, DType dtype) {
  return std::string(name_of(dtype)) + " M=" + std::to_string(s.m) + " K=" + std::to_string(s.k) +
         " N=" + std::to_string(s.n);
}

inline void expect_values(const Buffer& out, const std::vector<double>& expected, const std::string& what) {
  // Rounding errors of a sum of K terms grow with sqrt(K) at most.
  const DType dtype = out.view().dtype;
  const double wide = dtype == DType::Float64 ? 1e-14 : 1e-6;
  EXPECT_LE(relative_error(out.values(), expected), std::max(wide, tolerance(dtype))) << what;
  EXPECT_TRUE(out.intact()) << what;
}

class Matmul : public ::testing::TestWithParam<Kernel> {
 protected:
  static void run(const MatmulArgs& args) { GetParam().run(args); }
  static void expect_product(const MatmulArgs& args, const Buffer& out, const std::string& what) {
    const std::vector<double> expected = reference(args);  // before out changes
    run(args);
    expect_values(out, expected, what);
  }
};

}  // namespace tenon::testing::matmul
