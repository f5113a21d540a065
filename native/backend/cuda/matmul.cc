// out = activation(a b + bias) + residual: the product by cuBLASLt, with as much of the rest in its epilogue as the library
// has: bias, ReLU, GELU's tanh form, a residual where nothing follows it, the sums of a's rows. What it lacks (the exact
// GELU, SiLU, a residual behind an activation, all of it in float64) follows in place (epilogue.h).
//
// The first call of its kind times what the library proposes, with an epilogue and without, and with all that follows:
// fusion does not always win. The choice stands, see tuning.h. Nothing is timed while launches are recorded for a graph:
// what is first seen then has the library's first proposal, for the life of the process.
//
// float32 is multiplied in float32; with TENON_TF32=1 in the environment, in TF32. 16-bit types accumulate in float32. An
// activation that follows alone sees the biased sum rounded to 16 bits; a bias or a residual, which may cancel the
// product, is added to it in float32.
#include <algorithm>
#include <iomanip>
#include <limits>
#include <memory>
#include <sstream>

#include "backend/cuda/epilogue.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/matmul_plans.h"

namespace tenon::cuda {
namespace {

constexpr const char* kOp = "matmul";

// ---- the steps of a call -------------------------------------------------------------------------------------------

// What the library does, and what is left. Operands that go to scratch memory have no data yet.
struct Steps {
  Product product;
  bool bias_left, activation_left, residual_left, sums_left;
  bool copies_a = false, copies_b = false;  // the library can't read them
  bool apart = false;                       // the product is not written to out

  bool finishes() const { return bias_left || activation_left || residual_left; }
  size_t a_bytes() const { return copies_a ? scratch_bytes(product.a) : 0; }
  size_t b_bytes() const { return copies_b ? scratch_bytes(product.b) : 0; }
  size_t d_bytes() const { return apart ? scratch_bytes(product.d) : 0; }
};

void take_epilogue(const MatmulArgs& args, Steps& steps) {
  Product& p = steps.product;
  if (args.bias && args.bias.stride(0) == 1) {
    p.epilogue = lt::kBias;
    p.vector = args.bias;
    steps.bias_left = false;
  }
  if (!steps.bias_left && (args.activation == Activation::Relu || args.activation == Activation::GeluTanh)) {
    const uint32_t function = args.activation == Activation::Relu ? lt::kRelu : lt::kGeluTanh;
    p.epilogue = p.epilogue == lt::kBias ? function | lt::kBias : function;
    steps.activation_left = false;
  }
  if (args.a_sums && p.epilogue == lt::kNoEpilogue && args.a_sums.dtype == args.out.dtype &&
      args.a_sums.stride(0) == 1) {
    p.epilogue = lt::kSumsOfB;
    p.vector = args.a_sums;
    steps.sums_left = false;
  }
}

// With as much as possible in the library's epilogue, or without one.
Steps steps_of(const MatmulArgs& args, bool fuses) {
  Steps steps{{args.a, args.b, args.out, args.out, {}, args.accumulate ? 1.0 : 0.0},
              static_cast<bool>(args.bias),
              args.activation != Activation::None,
              static_cast<bool>(args.residual),
              static_cast<bool>(args.a_sums)};
  Product& p = steps.product;
  if (fuses && args.out.dtype != DType::Float64) take_epilogue(args, steps);
  if (steps.residual_left && args.activation == Activation::None && !steps.bias_left) {
    const auto matrix = matrix_of(args.residual);
    if (matrix && !matrix->transposed) {
      p.c = args.residual;
      p.beta = 1;
      steps.residual_left = false;
    }
  }
  const bool half = size_of(args.out.dtype) == 2;
  if (half && steps.residual_left && p.epilogue != lt::kNoEpilogue) return steps_of(args, false);

  const auto contiguous_like = [](const View& x) {
    return View{nullptr, x.dtype, x.shape, contiguous_strides(x.shape)};
  };
  const bool widens = half && (steps.bias_left || steps.residual_left);
  steps.copies_a = !matrix_of(p.a);
  steps.copies_b = !matrix_of(p.b);
  steps.apart = widens || (steps.residual_left && args.residual.data == args.out.data);
  if (steps.copies_a) p.a = contiguous_like(p.a);
  if (steps.copies_b) p.b = contiguous_like(p.b);
  if (steps.apart) {
    p.d = contiguous_like(p.d);
    if (widens) p.d.dtype = DType::Float32;
    p.c = p.d;
  }
  return steps;
}

void sum_rows(const MatmulArgs& args, void* stream) {
  const View& sums = args.a_sums;
  reduce({ReduceOp::Sum, args.a, {sums.data, sums.dtype, Shape{args.a.size(0), 1}, Shape{sums.stride(0), 1}}},
         stream);
}

size_t scratch_of(const Steps& steps, const MatmulPlan& plan) {
  return steps.a_bytes() + steps.b_bytes() + steps.d_bytes() + plan.workspace;
}

// `scratch` has what scratch_of says.
lt::Status run(Queue& queue, const MatmulPlans& plans, const MatmulPlan& plan, const MatmulArgs& args,
               Steps steps, unsigned char* scratch) {
  Product& p = steps.product;
  if (steps.copies_a) {
    p.a.data = scratch;
    copy({args.a, p.a}, &queue);
  }
  scratch += steps.a_bytes();
  if (steps.copies_b) {
    p.b.data = scratch;
    copy({args.b, p.b}, &queue);
  }
  scratch += steps.b_bytes();
  if (steps.apart) p.c.data = p.d.data = scratch;
  const lt::Status status = plans.multiply(p, plan, scratch + steps.d_bytes(), queue.stream());
  if (status != lt::kSuccess) return status;
  if (steps.sums_left) sum_rows(args, &queue);
  if (steps.finishes()) {
    finish(queue, kOp,
           {p.d, steps.bias_left ? args.bias : View{}, steps.residual_left ? args.residual : View{}, args.out,
            steps.activation_left ? args.activation : Activation::None});
  }
  return status;
}

// ---- the choice of a plan ------------------------------------------------------------------------------------------

// All that a choice depends on.
MatmulPlans::Key key_of(const MatmulArgs& args, bool tf32) {
  MatmulPlans::Key key{};
  size_t at = 0;
  const auto add = [&](int64_t value) { key.at(at++) = value; };
  for (const View* x : {&args.a, &args.b, &args.out, &args.residual}) {
    const bool there = static_cast<bool>(*x), is_batch = there && x->ndim() == 3 && x->size(0) > 1;
    add(is_batch ? x->stride(0) : 0);
    add(there ? x->stride(-2) : 0);
    add(there ? x->stride(-1) : 0);
    add(there ? alignment_of(x->data) : 0);
  }
  for (const View* x : {&args.bias, &args.a_sums}) {
    add(*x ? x->stride(0) : 0);
    add(*x ? alignment_of(x->data) : 0);
  }
  add(args.out.ndim() == 3 ? args.out.size(0) : 1);
  for (const int64_t size : {args.out.size(-2), args.a.size(-1), args.out.size(-1)}) add(size);
  add(static_cast<int64_t>(args.a.dtype));
  add(static_cast<int64_t>(args.out.dtype));
  add(static_cast<int64_t>(args.activation));
  add(args.accumulate ? 1 : 0);
  add(args.residual && args.residual.data == args.out.data ? 1 : 0);
  add(tf32 && args.a.dtype == DType::Float32 ? 1 : 0);
  return key;
}

// "NVIDIA H100, cuBLASLt 130101: bfloat16 [197, 768] [768, 3072] -> bfloat16: " and the key's numbers.
std::string text_of(const MatmulPlans& plans, const MatmulArgs& args, const MatmulPlans::Key& key) {
  std::ostringstream text;
  text << machine("cuBLASLt", plans.version()) << ": " << name_of(args.a.dtype) << ' '
       << to_string(args.a.shape) << ' ' << to_string(args.b.shape) << " -> " << name_of(args.out.dtype)
       << ':';
  for (const int64_t value : key) text << ' ' << value;
  return text.str();
}

// "fused" or "apart", and the algorithm's words in hexadecimal.
std::string text_of(bool fuses, const lt::Algorithm& algorithm) {
  std::ostringstream text;
  text << (fuses ? "fused" : "apart") << std::hex << std::setfill('0');
  for (const uint64_t word : algorithm.data) text << ' ' << std::setw(16) << word;
  return text.str();
}

// Null where the text makes no sense, or the library has no such algorithm for the product (any more).
std::unique_ptr<MatmulPlan> restore(const MatmulPlans& plans, const MatmulArgs& args,
                                    const std::string& choice) {
  std::istringstream text(choice);
  std::string how;
  lt::Algorithm algorithm{};
  text >> how >> std::hex;
  for (uint64_t& word : algorithm.data) text >> word;
  if (!text || !(text >> std::ws).eof() || (how != "fused" && how != "apart")) return nullptr;
  const Product product = steps_of(args, how == "fused").product;
  std::unique_ptr<MatmulPlan> plan = plans.describe(product);
  const auto proposal = plans.check_algorithm(*plan, algorithm);
  if (!proposal) return nullptr;
  plan->take(*proposal);
  plan->fuses = how == "fused";
  return plan;
}

// What the library proposes, with its epilogue first. Both kinds share one plan that takes an algorithm at a time.
struct Candidates {
  struct Kind {
    Steps steps;
    std::unique_ptr<MatmulPlan> plan;
    std::vector<MatmulPlan::Proposal> proposals;
  };
  std::vector<Kind> kinds;

  Candidates(const MatmulPlans& plans, const MatmulArgs& args, int most) {
    for (const bool fuses : {true, false}) {
      const Steps steps = steps_of(args, fuses);
      if (!fuses && !kinds.empty() && kinds[0].steps.product.epilogue == steps.product.epilogue) break;
      std::unique_ptr<MatmulPlan> plan = plans.describe(steps.product);
      plan->fuses = fuses;
      std::vector<MatmulPlan::Proposal> proposals = plans.propose(steps.product, *plan, most);
      if (!proposals.empty()) kinds.push_back({steps, std::move(plan), std::move(proposals)});
    }
  }
};

// From the first element of a view to its last, as a part of scratch memory.
size_t extent_bytes(const View& x) {
  int64_t last = 0;
  for (int d = 0; d < x.ndim(); ++d) last += (x.size(d) - 1) * x.stride(d);
  return scratch_bytes({nullptr, x.dtype, Shape{last + 1}, Shape{1}});
}

// The fastest, as text; empty where there is none, or no memory to find out. Results go to scratch memory: timing must not
// change what is accumulated to or in place.
std::string fastest(Queue& queue, const MatmulPlans& plans, MatmulArgs args) {
  constexpr int kMost = 8;
  const Candidates candidates(plans, args, kMost);
  const size_t out_bytes = extent_bytes(args.out), sum_bytes = args.a_sums ? extent_bytes(args.a_sums) : 0;
  size_t run_bytes = 0;
  for (const auto& [steps, plan, proposals] : candidates.kinds) {
    for (const auto& proposal : proposals) {
      plan->take(proposal);
      run_bytes = std::max(run_bytes, scratch_of(steps, *plan));
    }
  }
  unsigned char* const results = spare_memory(queue, out_bytes + sum_bytes + run_bytes);
  if (results == nullptr) return "";
  if (args.residual && args.residual.data == args.out.data) args.residual.data = results;
  args.out.data = results;
  if (args.a_sums) args.a_sums.data = results + out_bytes;

  float best = std::numeric_limits<float>::infinity();
  std::string choice;
  for (const auto& [described, plan, proposals] : candidates.kinds) {
    const Steps steps = steps_of(args, plan->fuses);
    for (const auto& proposal : proposals) {
      plan->take(proposal);
      lt::Status status = lt::kSuccess;
      const float time = time_of(queue, kOp, [&] {
        if (status != lt::kSuccess) return;
        status = run(queue, plans, *plan, args, steps, results + out_bytes + sum_bytes);
      });
      if (status != lt::kSuccess || time >= best * kClearly) continue;
      best = time;
      choice = text_of(plan->fuses, proposal.algorithm);
    }
  }
  return choice;
}

std::unique_ptr<MatmulPlan> choose(Queue& queue, MatmulPlans& plans, const MatmulArgs& args,
                                   const MatmulPlans::Key& key) {
  if (plans.tuning.enabled()) {
    const std::string name = text_of(plans, args, key);
    const auto restores = [&](const std::string& choice) { return restore(plans, args, choice) != nullptr; };
    const auto choice =
        queue.capturing() ? plans.tuning.find(name, restores)
                          : plans.tuning.choose(name, restores, [&] { return fastest(queue, plans, args); });
    if (choice) return restore(plans, args, *choice);
  }
  Candidates candidates(plans, args, 1);
  if (candidates.kinds.empty()) {
    throw TensorError(kOp, code::kKernel,
                      "cuBLASLt has no algorithm for " + to_string(args.a.shape) + " by " +
                          to_string(args.b.shape) + " in " + std::string(name_of(args.out.dtype)));
  }
  Candidates::Kind& first = candidates.kinds[0];
  first.plan->take(first.proposals[0]);
  return std::move(first.plan);
}

}  // namespace

void matmul(const MatmulArgs& args, void* stream) {
  Queue& queue = queue_of(stream);
  if (args.out.numel() == 0 || args.a.size(-1) == 0) {
    if (args.a_sums) sum_rows(args, stream);
    if (args.out.numel() > 0 && !args.accumulate)
      finish(queue, kOp, {{}, args.bias, args.residual, args.out, args.activation});
    return;
  }
  if (queue.matmul_plans == nullptr) queue.matmul_plans = std::make_shared<MatmulPlans>();
  MatmulPlans& plans = *queue.matmul_plans;
  const MatmulPlans::Key key = key_of(args, plans.tf32());
  std::unique_ptr<MatmulPlan>& plan = plans.chosen[key];
  if (plan == nullptr) plan = choose(queue, plans, args, key);
  const Steps steps = steps_of(args, plan->fuses);
  auto* const scratch = static_cast<unsigned char*>(queue.scratch(scratch_of(steps, *plan)));
  expect_success(run(queue, plans, *plan, args, steps, scratch));
}

}  // namespace tenon::cuda
