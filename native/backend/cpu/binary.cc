// Elementwise functions of two operands, and `where`. To add one: a line in float_kernel (and in integer_kernel,
// where it makes sense for integers).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/binary.cc"
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

template <typename T, typename Out>
using Kernel = void (*)(const T* a, const T* b, Out* out, int64_t n);

template <typename T, typename F>
Kernel<T, T> vectors(F) {
  return [](const T* a, const T* b, T* out, int64_t n) { map_vectors(out, n, F{}, a, b); };
}

// Plain loops, which compilers vectorise: comparisons and integers.
template <typename T, typename Out, typename F>
Kernel<T, Out> scalars(F) {
  return [](const T* a, const T* b, Out* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<Out>(F{}(a[i], b[i]));
  };
}

// A NaN in either operand wins.
template <typename V>
HWY_INLINE V maximum(V a, V b) {
  return hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(a)), a, b);
}

template <typename V>
HWY_INLINE V minimum(V a, V b) {
  return hn::IfThenElse(hn::Or(hn::Lt(a, b), hn::IsNaN(a)), a, b);
}

template <typename D, typename V>
HWY_INLINE V power(D d, V a, V b) {
  using T = hn::TFromD<D>;
  HWY_ALIGN T exponents[HWY_MAX_BYTES / sizeof(T)];
  hn::Store(b, d, exponents);
  const T* next = exponents;
  return per_lane(d, a, [&next](T base) { return std::pow(base, *next++); });
}

template <typename T>
Kernel<T, T> float_kernel(BinaryOp op) {
  switch (op) {
    case BinaryOp::Add:
      return vectors<T>([](auto, auto a, auto b) { return hn::Add(a, b); });
    case BinaryOp::Sub:
      return vectors<T>([](auto, auto a, auto b) { return hn::Sub(a, b); });
    case BinaryOp::Mul:
      return vectors<T>([](auto, auto a, auto b) { return hn::Mul(a, b); });
    case BinaryOp::Div:
      return vectors<T>([](auto, auto a, auto b) { return hn::Div(a, b); });
    case BinaryOp::Pow:
      return vectors<T>([](auto d, auto a, auto b) { return power(d, a, b); });
    case BinaryOp::Maximum:
      return vectors<T>([](auto, auto a, auto b) { return maximum(a, b); });
    case BinaryOp::Minimum:
      return vectors<T>([](auto, auto a, auto b) { return minimum(a, b); });
    case BinaryOp::ReluBackward:
      return vectors<T>(
          [](auto d, auto dy, auto x) { return hn::IfThenZeroElse(hn::Le(x, hn::Zero(d)), dy); });
    case BinaryOp::GeluBackward:
      return vectors<T>([](auto d, auto dy, auto x) { return hn::Mul(dy, gelu_at(d, x).slope); });
    case BinaryOp::GeluTanhBackward:
      return vectors<T>([](auto d, auto dy, auto x) { return hn::Mul(dy, gelu_tanh_at(d, x).slope); });
    case BinaryOp::SiluBackward:
      return vectors<T>([](auto d, auto dy, auto x) { return hn::Mul(dy, silu_at(d, x).slope); });
    case BinaryOp::TanhBackward:
      return vectors<T>(
          [](auto d, auto dy, auto y) { return hn::Mul(dy, hn::NegMulAdd(y, y, hn::Set(d, T(1)))); });
    case BinaryOp::SigmoidBackward:
      return vectors<T>(
          [](auto d, auto dy, auto y) { return hn::Mul(dy, hn::Mul(y, hn::Sub(hn::Set(d, T(1)), y))); });
    case BinaryOp::AbsBackward:
      return vectors<T>([](auto d, auto dy, auto x) {
        return hn::IfThenElseZero(hn::Gt(hn::Abs(x), hn::Zero(d)), hn::CopySign(dy, hn::Xor(dy, x)));
      });
    default:
      return nullptr;
  }
}

template <typename T>
Kernel<T, uint8_t> truth_kernel(BinaryOp op) {
  switch (op) {
    case BinaryOp::Equal:
      return scalars<T, uint8_t>([](T a, T b) { return a == b; });
    case BinaryOp::NotEqual:
      return scalars<T, uint8_t>([](T a, T b) { return a != b; });
    case BinaryOp::Less:
      return scalars<T, uint8_t>([](T a, T b) { return a < b; });
    case BinaryOp::LessEqual:
      return scalars<T, uint8_t>([](T a, T b) { return a <= b; });
    case BinaryOp::Greater:
      return scalars<T, uint8_t>([](T a, T b) { return a > b; });
    case BinaryOp::GreaterEqual:
      return scalars<T, uint8_t>([](T a, T b) { return a >= b; });
    case BinaryOp::LogicalAnd:
      return scalars<T, uint8_t>([](T a, T b) { return (a != T(0)) & (b != T(0)); });
    case BinaryOp::LogicalOr:
      return scalars<T, uint8_t>([](T a, T b) { return (a != T(0)) | (b != T(0)); });
    default:
      return nullptr;
  }
}

template <typename T>
Kernel<T, T> integer_kernel(BinaryOp op) {
  using U = std::make_unsigned_t<T>;  // wraps around instead of overflowing
  switch (op) {
    case BinaryOp::Add:
      return scalars<T, T>([](T a, T b) { return static_cast<U>(a) + static_cast<U>(b); });
    case BinaryOp::Sub:
      return scalars<T, T>([](T a, T b) { return static_cast<U>(a) - static_cast<U>(b); });
    case BinaryOp::Mul:
      return scalars<T, T>([](T a, T b) { return static_cast<U>(a) * static_cast<U>(b); });
    case BinaryOp::Maximum:
      return scalars<T, T>([](T a, T b) { return a > b ? a : b; });
    case BinaryOp::Minimum:
      return scalars<T, T>([](T a, T b) { return a < b ? a : b; });
    default:
      return nullptr;
  }
}

template <typename T, typename Out>
void run(const BinaryArgs& args, Kernel<T, Out> kernel) {
  const View& out = args.out;
  if (kernel == nullptr) {
    throw TensorError("binary", code::kKernel,
                      "expected a function of " + std::string(name_of((args.a ? args.a : args.b).dtype)) +
                          ", got op " + std::to_string(static_cast<int>(args.op)));
  }
  const Shape& a_strides = args.a ? args.a.strides : out.strides;
  const Shape& b_strides = args.b ? args.b.strides : out.strides;
  const Nest<3> nest(out.shape, {out.strides, a_strides, b_strides});
  const auto direct = [&](const View& v, size_t k) {
    return v && is_own<T>(v.dtype) && nest.column_stride(k) == 1;
  };
  const bool whole =
      is_own<Out>(out.dtype) && nest.column_stride(0) == 1 && direct(args.a, 1) && direct(args.b, 2);
  const int64_t most = whole ? std::max(nest.columns(), kBlock) : kBlock;
  parallel_for(nest.count(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    HWY_ALIGN T blocks[2][kBlock];
    HWY_ALIGN Out out_block[kBlock];
    for (const int k : {0, 1}) {
      if (!(k == 0 ? args.a : args.b)) std::fill_n(blocks[k], kBlock, convert<T>(args.scalar));
    }
    nest.tiles(begin, end, most, [&](const auto& at, int64_t rows, int64_t columns) {
      const auto operand = [&](const View& v, size_t k) -> const T* {
        if (!v) return blocks[k - 1];
        const Tile tile{v.data, v.dtype, at[k], rows, columns, nest.row_stride(k), nest.column_stride(k)};
        return read_block(tile, blocks[k - 1]);
      };
      const Tile to{out.data, out.dtype, at[0], rows, columns, nest.row_stride(0), nest.column_stride(0)};
      const T* a = operand(args.a, 1);
      const T* b = operand(args.b, 2);
      Out* result = block_of(to, out_block);
      kernel(a, b, result, to.size());
      write_block(result, to);
    });
  });
}

template <typename T>
void run_integer(const BinaryArgs& args) {
  if (const auto truth = truth_kernel<T>(args.op)) return run<T, uint8_t>(args, truth);
  run<T, T>(args, integer_kernel<T>(args.op));
}

template <typename T>
void run_float(const BinaryArgs& args) {
  if (const auto truth = truth_kernel<T>(args.op)) return run<T, uint8_t>(args, truth);
  run<T, T>(args, float_kernel<T>(args.op));
}

void binary_dispatch(const BinaryArgs& args) {
  switch ((args.a ? args.a : args.b).dtype) {
    case DType::Float64:
      return run_float<double>(args);
    case DType::Int32:
      return run_integer<int32_t>(args);
    case DType::Int64:
      return run_integer<int64_t>(args);
    case DType::UInt8:
    case DType::Bool:
      return run_integer<uint8_t>(args);
    default:
      return run_float<float>(args);
  }
}

// where moves elements and computes nothing: it works on the bits, whatever the dtype.
template <typename T>
void run_where(const WhereArgs& args) {
  const View& out = args.out;
  const View& condition = args.condition;
  const Shape& a_strides = args.a ? args.a.strides : out.strides;
  const Shape& b_strides = args.b ? args.b.strides : out.strides;
  const Nest<4> nest(out.shape, {out.strides, condition.strides, a_strides, b_strides});
  T scalars[2];
  with_type(out.dtype, [&](auto zero) {
    using Stored = decltype(zero);
    if constexpr (sizeof(Stored) == sizeof(T)) {
      const Stored values[2] = {convert<Stored>(args.a_scalar), convert<Stored>(args.b_scalar)};
      std::memcpy(scalars, values, sizeof(scalars));
    }
  });
  parallel_for(nest.count(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    nest.tiles(begin, end, nest.count(), [&](const auto& at, int64_t rows, int64_t columns) {
      const auto* choose = condition.as<const uint8_t>() + at[1];
      const T* a = args.a ? args.a.as<const T>() + at[2] : scalars;
      const T* b = args.b ? args.b.as<const T>() + at[3] : scalars + 1;
      T* to = out.as<T>() + at[0];
      const int64_t os = nest.column_stride(0), cs = nest.column_stride(1);
      const int64_t as = args.a ? nest.column_stride(2) : 0, bs = args.b ? nest.column_stride(3) : 0;
      for (int64_t r = 0; r < rows; ++r) {
        if (os == 1 && cs == 1 && as == 1 && bs == 1) {
          for (int64_t i = 0; i < columns; ++i) to[i] = choose[i] != 0 ? a[i] : b[i];
        } else if (os == 1 && cs == 1 && as == 1 && bs == 0) {
          const T value = *b;
          for (int64_t i = 0; i < columns; ++i) to[i] = choose[i] != 0 ? a[i] : value;
        } else if (os == 1 && cs == 1 && as == 0 && bs == 1) {
          const T value = *a;
          for (int64_t i = 0; i < columns; ++i) to[i] = choose[i] != 0 ? value : b[i];
        } else {
          for (int64_t i = 0; i < columns; ++i) to[i * os] = choose[i * cs] != 0 ? a[i * as] : b[i * bs];
        }
        to += nest.row_stride(0);
        choose += nest.row_stride(1);
        if (args.a) a += nest.row_stride(2);
        if (args.b) b += nest.row_stride(3);
      }
    });
  });
}

void where_dispatch(const WhereArgs& args) {
  switch (size_of(args.out.dtype)) {
    case 1:
      return run_where<uint8_t>(args);
    case 2:
      return run_where<uint16_t>(args);
    case 4:
      return run_where<uint32_t>(args);
    default:
      return run_where<uint64_t>(args);
  }
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(binary_dispatch);
HWY_EXPORT(where_dispatch);

void binary(const BinaryArgs& args) { HWY_DYNAMIC_DISPATCH(binary_dispatch)(args); }
void where(const WhereArgs& args) { HWY_DYNAMIC_DISPATCH(where_dispatch)(args); }

}  // namespace tenon::cpu
#endif
