// Elementwise functions of one operand. To add one: a line in float_kernel (and in integer_kernel, where it makes
// sense for integers).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/unary.cc"
#include "backend/cpu/activation.h"
//
#include "backend/cpu/block.h"
//
#include "backend/cpu/iterate.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "core/error.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

template <typename T>
using Kernel = void (*)(const T* x, T* out, int64_t n, double a, double b);

// f(d, x, a, b) on vectors, a and b being the op's parameters.
template <typename T, typename F>
Kernel<T> vectors(F) {
  return [](const T* x, T* out, int64_t n, double a, double b) {
    map_vectors(
        out, n, [a, b](auto d, auto v) { return F{}(d, v, static_cast<T>(a), static_cast<T>(b)); }, x);
  };
}

template <typename T, typename F>
Kernel<T> scalars(F) {
  return [](const T* x, T* out, int64_t n, double a, double b) {
    const T lo = convert<T>(a), hi = convert<T>(b);
    for (int64_t i = 0; i < n; ++i) out[i] = F{}(x[i], lo, hi);
  };
}

template <typename D, typename V, typename T>
HWY_INLINE V power(D d, V x, T exponent) {
  if (exponent == 2) return hn::Mul(x, x);
  if (exponent == 0.5) return hn::Sqrt(hn::Add(x, hn::Zero(d)));  // + 0: the power of -0 is 0
  if (exponent == -1) return hn::Div(hn::Set(d, T(1)), x);
  return per_lane(d, x, [exponent](T v) { return std::pow(v, exponent); });
}

// -1, 0 or 1; NaN stays NaN.
template <typename D, typename V>
HWY_INLINE V sign(D d, V x) {
  const V one = hn::CopySign(hn::Set(d, hn::TFromD<D>(1)), x);
  return hn::IfThenElse(hn::Gt(hn::Abs(x), hn::Zero(d)), one, x);
}

template <typename D, typename V, typename T>
HWY_INLINE V clamp(D d, V x, T lo, T hi) {
  const V above = hn::IfThenElse(hn::Lt(x, hn::Set(d, lo)), hn::Set(d, lo), x);
  return hn::IfThenElse(hn::Gt(above, hn::Set(d, hi)), hn::Set(d, hi), above);
}

template <typename T>
Kernel<T> float_kernel(UnaryOp op) {
  switch (op) {
    case UnaryOp::Neg:
      return vectors<T>([](auto, auto x, T, T) { return hn::Neg(x); });
    case UnaryOp::Abs:
      return vectors<T>([](auto, auto x, T, T) { return hn::Abs(x); });
    case UnaryOp::Sign:
      return vectors<T>([](auto d, auto x, T, T) { return sign(d, x); });
    case UnaryOp::Exp:
      return vectors<T>([](auto d, auto x, T, T) { return exp(d, x); });
    case UnaryOp::Log:
      return vectors<T>([](auto d, auto x, T, T) { return log(d, x); });
    case UnaryOp::Sqrt:
      return vectors<T>([](auto, auto x, T, T) { return hn::Sqrt(x); });
    case UnaryOp::Rsqrt:
      return vectors<T>([](auto d, auto x, T, T) { return hn::Div(hn::Set(d, T(1)), hn::Sqrt(x)); });
    case UnaryOp::Tanh:
      return vectors<T>([](auto d, auto x, T, T) { return tanh(d, x); });
    case UnaryOp::Sigmoid:
      return vectors<T>([](auto d, auto x, T, T) { return sigmoid(d, x); });
    case UnaryOp::Relu:
      return vectors<T>([](auto d, auto x, T, T) { return relu_at(d, x).value; });
    case UnaryOp::Gelu:
      return vectors<T>([](auto d, auto x, T, T) { return gelu_at(d, x).value; });
    case UnaryOp::GeluTanh:
      return vectors<T>([](auto d, auto x, T, T) { return gelu_tanh_at(d, x).value; });
    case UnaryOp::Silu:
      return vectors<T>([](auto d, auto x, T, T) { return silu_at(d, x).value; });
    case UnaryOp::Sin:
      return vectors<T>([](auto d, auto x, T, T) { return per_lane(d, x, [](T v) { return std::sin(v); }); });
    case UnaryOp::Cos:
      return vectors<T>([](auto d, auto x, T, T) { return per_lane(d, x, [](T v) { return std::cos(v); }); });
    case UnaryOp::Erf:
      return vectors<T>([](auto d, auto x, T, T) { return erf(d, x); });
    case UnaryOp::Clamp:
      return vectors<T>([](auto d, auto x, T a, T b) { return clamp(d, x, a, b); });
    case UnaryOp::Pow:
      return vectors<T>([](auto d, auto x, T a, T) { return power(d, x, a); });
    case UnaryOp::LogicalNot:
      break;
  }
  return nullptr;
}

template <typename T>
Kernel<T> integer_kernel(UnaryOp op) {
  using U = std::make_unsigned_t<T>;  // wraps around instead of overflowing
  switch (op) {
    case UnaryOp::Neg:
      return scalars<T>([](T x, T, T) { return static_cast<T>(U(0) - static_cast<U>(x)); });
    case UnaryOp::Abs:
      return scalars<T>([](T x, T, T) { return x < T(0) ? static_cast<T>(U(0) - static_cast<U>(x)) : x; });
    case UnaryOp::Sign:
      return scalars<T>([](T x, T, T) { return static_cast<T>((x > T(0)) - (x < T(0))); });
    case UnaryOp::Relu:
      return scalars<T>([](T x, T, T) { return x < T(0) ? T(0) : x; });
    case UnaryOp::Clamp:
      return scalars<T>([](T x, T lo, T hi) { return x < lo ? lo : x > hi ? hi : x; });
    case UnaryOp::LogicalNot:
      return scalars<T>([](T x, T, T) { return static_cast<T>(x == T(0)); });
    default:
      return nullptr;
  }
}

template <typename T>
void run(const UnaryArgs& args, Kernel<T> kernel) {
  if (kernel == nullptr) {
    throw TensorError("unary", code::kKernel,
                      "expected a function of " + std::string(name_of(args.x.dtype)) + ", got op " +
                          std::to_string(static_cast<int>(args.op)));
  }
  const View& x = args.x;
  const View& out = args.out;
  const Nest<2> nest(out.shape, {out.strides, x.strides});
  const bool direct = is_own<T>(x.dtype) && nest.column_stride(0) == 1 && nest.column_stride(1) == 1;
  const int64_t most = direct ? std::max(nest.columns(), kBlock) : kBlock;
  parallel_for(nest.count(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    HWY_ALIGN T x_block[kBlock];
    HWY_ALIGN T out_block[kBlock];
    nest.tiles(begin, end, most, [&](const auto& at, int64_t rows, int64_t columns) {
      const Tile from{x.data, x.dtype, at[1], rows, columns, nest.row_stride(1), nest.column_stride(1)};
      const Tile to{out.data, out.dtype, at[0], rows, columns, nest.row_stride(0), nest.column_stride(0)};
      T* result = block_of(to, out_block);
      kernel(read_block(from, x_block), result, to.size(), args.a, args.b);
      write_block(result, to);
    });
  });
}

void unary_dispatch(const UnaryArgs& args) {
  switch (args.x.dtype) {
    case DType::Float64:
      return run<double>(args, float_kernel<double>(args.op));
    case DType::Int32:
      return run<int32_t>(args, integer_kernel<int32_t>(args.op));
    case DType::Int64:
      return run<int64_t>(args, integer_kernel<int64_t>(args.op));
    case DType::UInt8:
    case DType::Bool:
      return run<uint8_t>(args, integer_kernel<uint8_t>(args.op));
    default:
      return run<float>(args, float_kernel<float>(args.op));
  }
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(unary_dispatch);

void unary(const UnaryArgs& args) { HWY_DYNAMIC_DISPATCH(unary_dispatch)(args); }

}  // namespace tenon::cpu
#endif
