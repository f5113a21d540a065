// Elementwise functions of two operands, and `where`. To add one: a line in `apply`.
#include <cmath>

#include "backend/cuda/activation.h"
#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

constexpr int kOps = static_cast<int>(BinaryOp::AbsBackward) + 1;

constexpr bool is_truth(BinaryOp op) { return op >= BinaryOp::Equal && op <= BinaryOp::LogicalOr; }
constexpr bool takes_integers(BinaryOp op) {
  return op <= BinaryOp::Mul || op == BinaryOp::Maximum || op == BinaryOp::Minimum;
}

template <BinaryOp op, typename T>
__device__ __forceinline__ bool compare(T a, T b) {
  // clang-format off
  if constexpr (op == BinaryOp::Equal) return a == b;
  if constexpr (op == BinaryOp::NotEqual) return a != b;
  if constexpr (op == BinaryOp::Less) return a < b;
  if constexpr (op == BinaryOp::LessEqual) return a <= b;
  if constexpr (op == BinaryOp::Greater) return a > b;
  if constexpr (op == BinaryOp::GreaterEqual) return a >= b;
  if constexpr (op == BinaryOp::LogicalAnd) return a != T(0) && b != T(0);
  if constexpr (op == BinaryOp::LogicalOr) return a != T(0) || b != T(0);
  // clang-format on
}

// A NaN in either operand wins Maximum and Minimum. In derivatives a is the gradient.
template <BinaryOp op, typename T>
__device__ __forceinline__ T apply(T a, T b) {
  // clang-format off
  if constexpr (op == BinaryOp::Add) return a + b;
  if constexpr (op == BinaryOp::Sub) return a - b;
  if constexpr (op == BinaryOp::Mul) return a * b;
  if constexpr (op == BinaryOp::Div) return a / b;
  if constexpr (op == BinaryOp::Pow) return std::pow(a, b);
  if constexpr (op == BinaryOp::Maximum) return a > b || a != a ? a : b;
  if constexpr (op == BinaryOp::Minimum) return a < b || a != a ? a : b;
  if constexpr (op == BinaryOp::ReluBackward) return b <= 0 ? T(0) : a;
  if constexpr (op == BinaryOp::GeluBackward) return a * gelu_slope(b);
  if constexpr (op == BinaryOp::GeluTanhBackward) return a * gelu_tanh_slope(b);
  if constexpr (op == BinaryOp::SiluBackward) return a * silu_slope(b);
  if constexpr (op == BinaryOp::TanhBackward) return a * (1 - b * b);
  if constexpr (op == BinaryOp::SigmoidBackward) return a * (b * (1 - b));
  if constexpr (op == BinaryOp::AbsBackward) return b > 0 ? a : b < 0 ? -a : T(0);
  // clang-format on
}

template <BinaryOp op, typename T>
__device__ __forceinline__ T apply_integer(T a, T b) {
  using U = std::make_unsigned_t<T>;  // wraps around instead of overflowing
  // clang-format off
  if constexpr (op == BinaryOp::Add) return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  if constexpr (op == BinaryOp::Sub) return static_cast<T>(static_cast<U>(a) - static_cast<U>(b));
  if constexpr (op == BinaryOp::Mul) return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
  if constexpr (op == BinaryOp::Maximum) return a > b ? a : b;
  if constexpr (op == BinaryOp::Minimum) return a < b ? a : b;
  // clang-format on
}

template <BinaryOp op, typename T>
struct Function {
  __device__ __forceinline__ auto operator()(T a, T b) const {
    if constexpr (is_truth(op)) {
      return compare<op, T>(a, b);
    } else if constexpr (std::is_integral_v<T>) {
      return apply_integer<op, T>(a, b);
    } else {
      return apply<op, T>(a, b);
    }
  }
};

template <typename S>
void run(const BinaryArgs& args, Queue& queue) {
  using T = Value<S>;
  with_op<kOps>(args.op, [&](auto op) {
    if constexpr (is_truth(op.value)) {
      map<Bool, S, 2>(queue, "binary", args.out, {args.a, args.b}, Function<op.value, T>{}, args.scalar);
    } else if constexpr (!std::is_integral_v<T> || takes_integers(op.value)) {
      map<S, S, 2>(queue, "binary", args.out, {args.a, args.b}, Function<op.value, T>{}, args.scalar);
    } else {
      throw TensorError("binary", code::kKernel,
                        "expected a function of " + std::string(name_of((args.a ? args.a : args.b).dtype)) +
                            ", got op " + std::to_string(static_cast<int>(args.op)));
    }
  });
}

// ---- where: works on the bits, whatever the dtype ------------------------------------------------------------------

template <typename T>
struct Where {
  T* out;
  Operand<uint8_t> condition;
  Operand<T> a, b;
  Loops<4> loops;    // of packs
  int64_t tail = 0;  // as in Map
};

template <int kWidth, typename T>
__device__ __forceinline__ void where_pack(const Where<T>& w, const Offsets<4>& at) {
  uint8_t condition[kWidth];
  T a[kWidth], b[kWidth];
  load<kWidth>(condition, w.condition, at.at[1]);
  load<kWidth>(a, w.a, at.at[2]);
  load<kWidth>(b, w.b, at.at[3]);
  Pack<T, kWidth> result;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) result.elements[i] = condition[i] != 0 ? a[i] : b[i];
  *reinterpret_cast<Pack<T, kWidth>*>(w.out + at.at[0]) = result;
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads) where_kernel(const Where<T> w) {
  for_packs<kWidth>(w.loops, w.tail,
                    [&](auto width, const Offsets<4>& at) { where_pack<width.value>(w, at); });
}

template <typename T>
void run_where(const WhereArgs& args, Queue& queue) {
  const Shape& shape = args.out.shape;
  const DType dtype = args.out.dtype;
  Where<T> w{args.out.as<T>(),
             operand<uint8_t>(args.condition),
             {args.a.as<const T>(), bits_of<T>(dtype, args.a_scalar)},
             {args.b.as<const T>(), bits_of<T>(dtype, args.b_scalar)},
             Loops<4>(shape, {args.out.strides, args.condition.strides, strides_of(args.a, shape),
                              strides_of(args.b, shape)})};
  constexpr int kWidth = 16 / static_cast<int>(sizeof(T));
  const bool packs = rows_take_packs<kWidth>(w.loops, w.out) &&
                     takes_packs_of<kWidth>(w.loops, 1, w.condition) &&
                     takes_packs_of<kWidth>(w.loops, 2, w.a) && takes_packs_of<kWidth>(w.loops, 3, w.b);
  if (packs) {
    w.tail = take_packs<kWidth>(w.loops);
    launch_over(queue, "where", &where_kernel<kWidth, T>, std::max(w.loops.count, w.tail), w);
  } else {
    launch_over(queue, "where", &where_kernel<1, T>, w.loops.count, w);
  }
}

}  // namespace

void binary(const BinaryArgs& args, void* stream) {
  const DType dtype = (args.a ? args.a : args.b).dtype;
  with_type(dtype == DType::Bool ? DType::UInt8 : dtype, [&]<typename S>(S) {
    if constexpr (!std::is_same_v<S, Bool>) run<S>(args, queue_of(stream));
  });
}

void where(const WhereArgs& args, void* stream) {
  if (args.out.numel() == 0) return;
  with_bits(args.out.dtype, [&]<typename T>(T) { run_where<T>(args, queue_of(stream)); });
}

}  // namespace tenon::cuda
