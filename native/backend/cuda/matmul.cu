// out = activation(a b + bias) + residual: the product by cuBLASLt, with as much of the rest in its epilogue as the library
// has: bias, ReLU, GELU's tanh form, and a residual where nothing follows it. What it lacks (the exact GELU, SiLU, a
// residual behind an activation, all of it in float64) one kernel does in place, which reads and writes out once.
//
// float32 is multiplied in float32; with TENON_TF32=1 in the environment, in TF32. 16-bit types accumulate in float32. An
// activation that follows alone sees the biased sum rounded to 16 bits; a bias or a residual, which may cancel the
// product, is added to it in float32.
#include <limits>
#include <memory>

#include "backend/cuda/activation.h"
#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/matmul_plans.h"

namespace tenon::cuda {
namespace {

constexpr const char* kOp = "matmul";

// ---- what follows the product --------------------------------------------------------------------------------------

// A view of rank 2 as one of rank 3; rows are contiguous.
template <typename S>
struct Rows {
  S* data = nullptr;
  int64_t batch = 0, row = 0;

  Rows() = default;
  explicit Rows(const View& x) : data(x.as<S>()) {
    if (!x) return;
    batch = x.ndim() == 3 ? x.stride(0) : 0;
    row = x.stride(-2);
  }
  bool takes_packs() const {
    constexpr int64_t kWidth = kFullWidth<std::remove_const_t<S>>;
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && batch % kWidth == 0 && row % kWidth == 0;
  }
};

// The product may be in float32 where S has 16 bits.
template <typename S, typename P>
struct Finish {
  Rows<const P> product;  // absent: zero
  Rows<const S> residual;
  Rows<S> out;
  const S* bias;
  int64_t bias_stride, residual_column;
  Activation activation;
  int64_t rows, columns, count;  // of a matrix; count: of packs
};

template <typename T>
__device__ __forceinline__ T activate(Activation activation, T x) {
  switch (activation) {
    case Activation::Gelu:
      return gelu(x);
    case Activation::GeluTanh:
      return gelu_tanh(x);
    case Activation::Relu:
      return relu(x);
    case Activation::Silu:
      return silu(x);
    default:
      return x;
  }
}

// 32-bit divisions take a fraction of the time of 64-bit ones.
__device__ __forceinline__ int64_t divide(int64_t a, int64_t b, bool narrow) {
  return narrow ? static_cast<uint32_t>(a) / static_cast<uint32_t>(b) : a / b;
}

template <int kWidth, typename S, typename P>
__global__ void __launch_bounds__(kThreads) finish_kernel(const Finish<S, P> f) {
  const int64_t packs = f.columns / kWidth;
  const bool narrow_count = f.count <= std::numeric_limits<uint32_t>::max();
  for (int64_t at = thread_of_grid(); at < f.count; at += threads_of_grid()) {
    const int64_t row = divide(at, packs, narrow_count), column = (at - row * packs) * kWidth;
    const int64_t batch = divide(row, f.rows, narrow_count), m = row - batch * f.rows;
    Pack<P, kWidth> x{};
    Pack<S, kWidth> added{}, result{};
    if (f.product.data != nullptr) {
      x = *reinterpret_cast<const Pack<P, kWidth>*>(f.product.data + batch * f.product.batch +
                                                    m * f.product.row + column);
    }
    if (f.residual.data != nullptr) {
      const S* const from = f.residual.data + batch * f.residual.batch + m * f.residual.row;
      added = *reinterpret_cast<const Pack<S, kWidth>*>(from + column * f.residual_column);
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      Compute<S> value = widen(x.elements[i]);
      if (f.bias != nullptr) value += widen(f.bias[(column + i) * f.bias_stride]);
      value = activate(f.activation, value);
      if (f.residual.data != nullptr) value += widen(added.elements[i]);
      result.elements[i] = narrow<S>(value);
    }
    *reinterpret_cast<Pack<S, kWidth>*>(f.out.data + batch * f.out.batch + m * f.out.row + column) = result;
  }
}

template <typename S, typename P>
void finish_as(Queue& queue, const View& product, const View& bias, Activation activation,
               const View& residual, const View& out) {
  constexpr int kWidth = kFullWidth<S>;
  Finish<S, P> f{Rows<const P>(product),
                 Rows<const S>(residual),
                 Rows<S>(out),
                 bias.as<const S>(),
                 bias ? bias.stride(0) : 0,
                 residual ? residual.stride(-1) : 1,
                 activation,
                 out.size(-2),
                 out.size(-1),
                 out.numel()};
  if (f.columns % kWidth == 0 && f.product.takes_packs() && f.residual.takes_packs() && f.out.takes_packs() &&
      f.residual_column == 1) {
    f.count /= kWidth;
    launch_over(queue, kOp, &finish_kernel<kWidth, S, P>, f.count, f);
  } else {
    launch_over(queue, kOp, &finish_kernel<1, S, P>, f.count, f);
  }
}

// out = activation(product + bias) + residual; whatever is absent is left out.
void finish(Queue& queue, const View& product, const View& bias, Activation activation, const View& residual,
            const View& out) {
  with_float_type(out.dtype, [&]<typename S>(S) {
    if constexpr (sizeof(S) == 2) {
      if (product.dtype == DType::Float32) {
        finish_as<S, float>(queue, product, bias, activation, residual, out);
        return;
      }
    }
    finish_as<S, S>(queue, product, bias, activation, residual, out);
  });
}

// ---- the whole ------------------------------------------------------------------------------------------------------

struct Plan {
  Product product;
  bool bias_left, activation_left, residual_left;
  bool widens = false;  // the product is in float32
  bool finishes() const { return bias_left || activation_left || residual_left; }
};

// With as much as possible in the library's epilogue, or without one.
Plan plan_for(const MatmulArgs& args, bool with_epilogue) {
  Plan plan{{args.a, args.b, args.out, args.out, {}},
            static_cast<bool>(args.bias),
            args.activation != Activation::None,
            static_cast<bool>(args.residual)};
  Product& p = plan.product;
  if (args.accumulate) p.beta = 1;
  if (with_epilogue && args.out.dtype != DType::Float64) {
    if (plan.bias_left && args.bias.stride(0) == 1) {
      p.epilogue = lt::kBias;
      p.bias = args.bias;
      plan.bias_left = false;
    }
    if (!plan.bias_left && (args.activation == Activation::Relu || args.activation == Activation::GeluTanh)) {
      const uint32_t function = args.activation == Activation::Relu ? lt::kRelu : lt::kGeluTanh;
      p.epilogue = p.epilogue == lt::kBias ? function | lt::kBias : function;
      plan.activation_left = false;
    }
  }
  if (plan.residual_left && args.activation == Activation::None && !plan.bias_left) {
    const auto matrix = matrix_of(args.residual);
    if (matrix && !matrix->transposed) {
      p.c = args.residual;
      p.beta = 1;
      plan.residual_left = false;
    }
  }
  const bool half = size_of(args.out.dtype) == 2;
  if (half && plan.residual_left && p.epilogue != lt::kNoEpilogue) return plan_for(args, false);
  plan.widens = half && (plan.bias_left || plan.residual_left);
  return plan;
}

View contiguous_like(const View& x, void* data) {
  return {data, x.dtype, x.shape, contiguous_strides(x.shape)};
}

size_t bytes_of(const View& x) {
  constexpr size_t kAligned = 256;
  return (static_cast<size_t>(x.numel()) * size_of(x.dtype) + kAligned - 1) / kAligned * kAligned;
}

}  // namespace

void matmul(const MatmulArgs& args, void* stream) {
  Queue& queue = queue_of(stream);
  if (args.out.numel() == 0) return;
  if (args.a.size(-1) == 0) {
    if (!args.accumulate) finish(queue, {}, args.bias, args.activation, args.residual, args.out);
    return;
  }
  if (queue.matmul_plans == nullptr) queue.matmul_plans = std::make_shared<MatmulPlans>();
  MatmulPlans& plans = *queue.matmul_plans;

  for (const bool with_epilogue : {true, false}) {
    Plan plan = plan_for(args, with_epilogue);
    Product& p = plan.product;
    // Operands that the library can't read are copied; a product that would overwrite the residual goes elsewhere.
    const bool copies_a = !matrix_of(p.a), copies_b = !matrix_of(p.b);
    const bool apart = plan.widens || (plan.residual_left && args.residual.data == args.out.data);
    if (copies_a) p.a = contiguous_like(p.a, nullptr);
    if (copies_b) p.b = contiguous_like(p.b, nullptr);
    if (apart) p.d = contiguous_like(p.d, nullptr);
    if (plan.widens) p.d.dtype = DType::Float32;
    if (apart) p.c = p.d;
    const Choice* const choice = plans.choice(p);
    if (choice == nullptr) continue;

    const size_t a_bytes = copies_a ? bytes_of(p.a) : 0, b_bytes = copies_b ? bytes_of(p.b) : 0;
    const size_t d_bytes = apart ? bytes_of(p.d) : 0;
    auto* scratch =
        static_cast<unsigned char*>(queue.scratch(a_bytes + b_bytes + d_bytes + choice->workspace));
    if (copies_a) {
      p.a.data = scratch;
      copy({args.a, p.a}, stream);
    }
    if (copies_b) {
      p.b.data = scratch + a_bytes;
      copy({args.b, p.b}, stream);
    }
    if (apart) p.c.data = p.d.data = scratch + a_bytes + b_bytes;
    plans.multiply(p, *choice, scratch + a_bytes + b_bytes + d_bytes, queue.stream());
    if (plan.finishes()) {
      finish(queue, p.d, plan.bias_left ? args.bias : View{},
             plan.activation_left ? args.activation : Activation::None,
             plan.residual_left ? args.residual : View{}, args.out);
    }
    return;
  }
  throw TensorError(kOp, code::kKernel,
                    "cuBLASLt has no algorithm for " + to_string(args.a.shape) + " by " +
                        to_string(args.b.shape) + " in " + std::string(name_of(args.out.dtype)));
}

}  // namespace tenon::cuda
