// Elementwise functions of one operand. To add one: a line in `apply`.
#include <cmath>

#include "backend/cuda/activation.h"
#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

constexpr int kOps = static_cast<int>(UnaryOp::Pow) + 1;

constexpr bool takes_integers(UnaryOp op) {
  return op <= UnaryOp::Sign || op == UnaryOp::Relu || op == UnaryOp::Clamp || op == UnaryOp::LogicalNot;
}

template <typename T>
__device__ __forceinline__ T power(T x, T exponent) {
  if (exponent == 2) return x * x;
  if (exponent == T(0.5)) return std::sqrt(x + 0);  // the power of -0 is 0
  if (exponent == -1) return 1 / x;
  return std::pow(x, exponent);
}

// x as n half turns and a rest in [-1/2, 1/2] of one, reduced in float64: the library's own reduction of any x needs a
// stack frame. Good to the last digits of a float32 up to |x| = 1e8.
struct HalfTurns {
  bool odd;
  double rest;
  __device__ __forceinline__ explicit HalfTurns(double x) {
    constexpr double kPi = 3.141592653589793116, kPiRest = 1.2246467991473532e-16,
                     kInverse = 0.31830988618379067154;
    const double n = std::rint(x * kInverse);
    odd = n != 2 * std::rint(n / 2);
    rest = std::fma(-n, kPiRest, std::fma(-n, kPi, x)) * kInverse;
  }
};

template <typename T>
__device__ __forceinline__ T sine(T x) {
  const HalfTurns turns(x);
#ifdef __CUDA_ARCH__
  const T y = ::sinpi(static_cast<T>(turns.rest));
#else
  const T y = static_cast<T>(std::sin(turns.rest * 3.141592653589793116));
#endif
  return turns.odd ? -y : y;
}

template <typename T>
__device__ __forceinline__ T cosine(T x) {
  const HalfTurns turns(x);
#ifdef __CUDA_ARCH__
  const T y = ::cospi(static_cast<T>(turns.rest));
#else
  const T y = static_cast<T>(std::cos(turns.rest * 3.141592653589793116));
#endif
  return turns.odd ? -y : y;
}

// a and b are the op's parameters. Comparisons are such that NaN stays NaN.
template <UnaryOp op, typename T>
__device__ __forceinline__ T apply(T x, T a, T b) {
  using std::exp;
  // clang-format off
  if constexpr (op == UnaryOp::Neg) return -x;
  if constexpr (op == UnaryOp::Abs) return std::abs(x);
  if constexpr (op == UnaryOp::Sign) return x > 0 ? T(1) : x < 0 ? T(-1) : x;
  if constexpr (op == UnaryOp::Exp) return exp(x);
  if constexpr (op == UnaryOp::Log) return std::log(x);
  if constexpr (op == UnaryOp::Sqrt) return std::sqrt(x);
  if constexpr (op == UnaryOp::Rsqrt) return 1 / std::sqrt(x);
  if constexpr (op == UnaryOp::Tanh) return std::tanh(x);
  if constexpr (op == UnaryOp::Sigmoid) return 1 / (1 + exp(-x));
  if constexpr (op == UnaryOp::Relu) return relu(x);
  if constexpr (op == UnaryOp::Gelu) return gelu(x);
  if constexpr (op == UnaryOp::GeluTanh) return gelu_tanh(x);
  if constexpr (op == UnaryOp::Silu) return silu(x);
  if constexpr (op == UnaryOp::Sin) return sine(x);
  if constexpr (op == UnaryOp::Cos) return cosine(x);
  if constexpr (op == UnaryOp::Erf) return std::erf(x);
  if constexpr (op == UnaryOp::Clamp) return x < a ? a : x > b ? b : x;
  if constexpr (op == UnaryOp::Pow) return power(x, a);
  // clang-format on
}

template <typename T>
__device__ __forceinline__ bool is_negative(T x) {
  if constexpr (std::is_signed_v<T>) return x < 0;
  return false;
}

template <UnaryOp op, typename T>
__device__ __forceinline__ T apply_integer(T x, T a, T b) {
  using U = std::make_unsigned_t<T>;  // wraps around instead of overflowing
  // clang-format off
  if constexpr (op == UnaryOp::Neg) return static_cast<T>(U(0) - static_cast<U>(x));
  if constexpr (op == UnaryOp::Abs) return is_negative(x) ? static_cast<T>(U(0) - static_cast<U>(x)) : x;
  if constexpr (op == UnaryOp::Sign) return static_cast<T>(is_negative(x) ? -1 : x != T(0));
  if constexpr (op == UnaryOp::Relu) return is_negative(x) ? T(0) : x;
  if constexpr (op == UnaryOp::Clamp) return x < a ? a : x > b ? b : x;
  if constexpr (op == UnaryOp::LogicalNot) return static_cast<T>(x == T(0));
  // clang-format on
}

template <UnaryOp op, typename T>
struct Function {
  T a, b;
  __device__ __forceinline__ T operator()(T x) const {
    if constexpr (std::is_integral_v<T>) {
      return apply_integer<op, T>(x, a, b);
    } else {
      return apply<op, T>(x, a, b);
    }
  }
};

template <typename S>
void run(const UnaryArgs& args, Queue& queue) {
  using T = Value<S>;
  with_op<kOps>(args.op, [&](auto op) {
    if constexpr (std::is_integral_v<T> ? takes_integers(op.value) : op.value != UnaryOp::LogicalNot) {
      map<S, S, 1>(queue, "unary", args.out, {args.x},
                   Function<op.value, T>{convert<T>(args.a), convert<T>(args.b)});
    } else {
      throw TensorError("unary", code::kKernel,
                        "expected a function of " + std::string(name_of(args.x.dtype)) + ", got op " +
                            std::to_string(static_cast<int>(args.op)));
    }
  });
}

}  // namespace

void unary(const UnaryArgs& args, void* stream) {
  with_type(args.x.dtype == DType::Bool ? DType::UInt8 : args.x.dtype, [&]<typename S>(S) {
    if constexpr (!std::is_same_v<S, Bool>) run<S>(args, queue_of(stream));
  });
}

}  // namespace tenon::cuda
