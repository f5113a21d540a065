// out = activation(a b + bias) + residual: the product by cuBLASLt, with as much of the rest in its epilogue as the library
// has: bias, ReLU, GELU's tanh form, and a residual where nothing follows it. What it lacks (the exact GELU, SiLU, a
// residual behind an activation, all of it in float64) follows in place (epilogue.h).
//
// float32 is multiplied in float32; with TENON_TF32=1 in the environment, in TF32. 16-bit types accumulate in float32. An
// activation that follows alone sees the biased sum rounded to 16 bits; a bias or a residual, which may cancel the
// product, is added to it in float32.
#include <memory>

#include "backend/cuda/epilogue.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/matmul_plans.h"

namespace tenon::cuda {
namespace {

constexpr const char* kOp = "matmul";

struct Plan {
  Product product;
  bool bias_left, activation_left, residual_left, sums_left;
  bool widens = false;  // the product is in float32
  bool finishes() const { return bias_left || activation_left || residual_left; }
};

// With as much as possible in the library's epilogue, or without one.
Plan plan_for(const MatmulArgs& args, bool with_epilogue) {
  Plan plan{{args.a, args.b, args.out, args.out, {}},
            static_cast<bool>(args.bias),
            args.activation != Activation::None,
            static_cast<bool>(args.residual),
            static_cast<bool>(args.a_sums)};
  Product& p = plan.product;
  if (args.accumulate) p.beta = 1;
  if (with_epilogue && args.out.dtype != DType::Float64) {
    if (plan.bias_left && args.bias.stride(0) == 1) {
      p.epilogue = lt::kBias;
      p.vector = args.bias;
      plan.bias_left = false;
    }
    if (!plan.bias_left && (args.activation == Activation::Relu || args.activation == Activation::GeluTanh)) {
      const uint32_t function = args.activation == Activation::Relu ? lt::kRelu : lt::kGeluTanh;
      p.epilogue = p.epilogue == lt::kBias ? function | lt::kBias : function;
      plan.activation_left = false;
    }
  }
  if (with_epilogue && plan.sums_left && p.epilogue == lt::kNoEpilogue &&
      args.a_sums.dtype == args.out.dtype && args.out.dtype != DType::Float64) {
    p.epilogue = lt::kSumsOfB;
    p.vector = args.a_sums;
    plan.sums_left = false;
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

void sum_rows(const MatmulArgs& args, void* stream) {
  const View& sums = args.a_sums;
  reduce({ReduceOp::Sum, args.a, {sums.data, sums.dtype, Shape{args.a.size(0), 1}, Shape{sums.stride(0), 1}}},
         stream);
}

}  // namespace

void matmul(const MatmulArgs& args, void* stream) {
  Queue& queue = queue_of(stream);
  if (args.out.numel() == 0 || args.a.size(-1) == 0) {
    if (args.a_sums) sum_rows(args, stream);
  }
  if (args.out.numel() == 0) return;
  if (args.a.size(-1) == 0) {
    if (!args.accumulate) finish(queue, kOp, {{}, args.bias, args.residual, args.out, args.activation});
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
    const MatmulPlan* const prepared = plans.plan(p);
    if (prepared == nullptr) continue;

    const size_t a_bytes = copies_a ? scratch_bytes(p.a) : 0, b_bytes = copies_b ? scratch_bytes(p.b) : 0;
    const size_t d_bytes = apart ? scratch_bytes(p.d) : 0;
    auto* scratch =
        static_cast<unsigned char*>(queue.scratch(a_bytes + b_bytes + d_bytes + prepared->workspace));
    if (copies_a) {
      p.a.data = scratch;
      copy({args.a, p.a}, stream);
    }
    if (copies_b) {
      p.b.data = scratch + a_bytes;
      copy({args.b, p.b}, stream);
    }
    if (apart) p.c.data = p.d.data = scratch + a_bytes + b_bytes;
    plans.multiply(p, *prepared, scratch + a_bytes + b_bytes + d_bytes, queue.stream());
    if (plan.sums_left) sum_rows(args, stream);
    if (plan.finishes()) {
      finish(queue, kOp,
             {p.d, plan.bias_left ? args.bias : View{}, plan.residual_left ? args.residual : View{}, args.out,
              plan.activation_left ? args.activation : Activation::None});
    }
    return;
  }
  throw TensorError(kOp, code::kKernel,
                    "cuBLASLt has no algorithm for " + to_string(args.a.shape) + " by " +
                        to_string(args.b.shape) + " in " + std::string(name_of(args.out.dtype)));
}

}  // namespace tenon::cuda
