// out = activation(a b + bias) + residual: the product by cuBLASLt, with as much of the rest in its epilogue as the library
// has: bias, ReLU, in 16 bits GELU's tanh form with what goes into it or with its slope, a residual where nothing follows it,
// the sums of a's rows. What it lacks (the exact GELU, SiLU, a residual behind an activation, all of it in float64) follows in
// place (epilogue.h). What the fusions save is in docs/adr/0009.
//
// The first call of its kind times what the library proposes, with the whole epilogue, with the bias alone and with none,
// and with all that follows: fusion does not always win. The choice stands, see tuning.h. Nothing is timed while launches
// are recorded for a graph: what is first seen then has the library's first proposal, for the life of the process.
//
// float32 is multiplied in float32; with TENON_TF32=1 in the environment, in TF32. 16-bit types accumulate in float32. An
// activation that follows alone sees the biased sum rounded to 16 bits; a bias or a residual, which may cancel the
// product, is added to it in float32: in an epilogue only where the library does not round the product first (fuses_unrounded).
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

// A product, or the way back through one and the activation before it: out is then dbefore.
struct Call : MatmulArgs {
  bool backward = false;
  View after = {};
};

// ---- the steps of a call -------------------------------------------------------------------------------------------

// What the library does, and what is left. Operands that go to scratch memory have no data yet.
struct Steps {
  Product product;
  bool bias_left, activation_left, residual_left, sums_left;
  bool copies_a = false, copies_b = false;  // the library can't read them
  bool apart = false;                       // the product goes to scratch memory

  size_t a_bytes() const { return copies_a ? scratch_bytes(product.a) : 0; }
  size_t b_bytes() const { return copies_b ? scratch_bytes(product.b) : 0; }
  size_t d_bytes() const { return apart ? scratch_bytes(product.d) : 0; }
};

// Whether the library takes an epilogue's second matrix as it lies.
bool fits_aux(const View& x) {
  const auto matrix = matrix_of(x);
  return matrix && !matrix->transposed && matrix->ld % 8 == 0;
}

// Whether a matrix lies at multiples of 16 bytes.
bool takes_16_bytes(const View& x) {
  const auto matrix = matrix_of(x);
  const auto divides = [&](int64_t elements) {
    return elements * static_cast<int64_t>(size_of(x.dtype)) % 16 == 0;
  };
  return matrix && alignment_of(x.data) >= 16 && divides(matrix->ld) && divides(matrix->batch_stride);
}

// For 16-bit matrices that do not all lie so, the library has no kernel with an epilogue: it would do what is asked in a second
// pass, which reads the product rounded.
bool fuses_unrounded(const Call& call, const Product& p) {
  const auto fits = [](const View& x) { return !x || takes_16_bytes(x); };
  return size_of(call.out.dtype) != 2 ||
         (fits(p.a) && fits(p.b) && fits(call.out) && fits(call.residual) && fits(call.before));
}

// Not GELU in float32: the library's tanh is good to 11 bits.
void take_activation(const Call& call, Steps& steps) {
  Product& p = steps.product;
  if (call.activation == Activation::GeluTanh && call.out.dtype == DType::Float32) return;
  uint32_t function = call.activation == Activation::GeluTanh ? lt::kGeluTanh : lt::kRelu;
  if (call.before) {
    if (call.activation != Activation::GeluTanh || !fits_aux(call.before)) return;
    function = call.backward ? lt::kGeluTanhSlope : lt::kGeluTanhAux;
    p.aux = call.before;
  } else if (call.activation != Activation::GeluTanh && call.activation != Activation::Relu) {
    return;
  }
  p.epilogue = p.epilogue == lt::kBias ? function | lt::kBias : function;
  steps.activation_left = false;
}

void take_epilogue(const Call& call, Fuses fuses, Steps& steps) {
  Product& p = steps.product;
  const bool fuses_any = fuses_unrounded(call, p);
  if (fuses_any && call.bias && call.bias.stride(0) == 1) {
    p.epilogue = lt::kBias;
    p.vector = call.bias;
    steps.bias_left = false;
  }
  if (fuses == Fuses::Bias) return;
  if (fuses_any && !steps.bias_left && steps.activation_left) take_activation(call, steps);
  if (call.a_sums && p.epilogue == lt::kNoEpilogue && call.a_sums.dtype == call.out.dtype &&
      call.a_sums.stride(0) == 1) {
    p.epilogue = lt::kSumsOfB;
    p.vector = call.a_sums;
    steps.sums_left = false;
  }
}

Steps steps_of(const Call& call, Fuses fuses) {
  Steps steps{{call.a, call.b, call.out, call.out, {}, {}, call.accumulate ? 1.0 : 0.0},
              static_cast<bool>(call.bias),
              call.activation != Activation::None,
              static_cast<bool>(call.residual),
              static_cast<bool>(call.a_sums)};
  Product& p = steps.product;
  const auto contiguous_like = [](const View& x) {
    return View{nullptr, x.dtype, x.shape, contiguous_strides(x.shape)};
  };
  steps.copies_a = !matrix_of(p.a);
  steps.copies_b = !matrix_of(p.b);
  if (steps.copies_a) p.a = contiguous_like(p.a);
  if (steps.copies_b) p.b = contiguous_like(p.b);
  if (fuses != Fuses::Nothing && call.out.dtype != DType::Float64) take_epilogue(call, fuses, steps);
  if (steps.residual_left && call.activation == Activation::None && !steps.bias_left) {
    const auto matrix = matrix_of(call.residual);
    if (matrix && !matrix->transposed) {
      p.c = call.residual;
      p.beta = 1;
      steps.residual_left = false;
    }
  }
  const bool widens = size_of(call.out.dtype) == 2 && (steps.bias_left || steps.residual_left);
  // d is float32 then, and so would be sums in its epilogue.
  if (widens && p.epilogue != lt::kNoEpilogue) return steps_of(call, Fuses::Nothing);
  if (call.before && !call.backward && steps.activation_left) p.c = p.d = call.before;
  steps.apart = widens || (steps.residual_left && call.residual.data == call.out.data);
  if (steps.apart) {
    p.d = contiguous_like(p.d);
    if (widens) p.d.dtype = DType::Float32;
    p.c = p.d;
  }
  return steps;
}

// Of the way back, behind its product.
MatmulActivationBackwardArgs rest_of(const Call& call) {
  return {call.activation, {}, {}, call.before, call.after, call.out};
}

// What the library has left.
void finish_call(Queue& queue, const Call& call, const Steps& steps) {
  if (steps.sums_left) reduce(row_sums(call), &queue);
  if (call.backward) {
    if (steps.activation_left) return finish_backward(queue, kOp, rest_of(call));
    if (call.after) unary({unary_op(call.activation), call.before, call.after}, &queue);
  } else if (steps.bias_left || steps.activation_left || steps.residual_left) {
    const View& product = steps.product.d;
    const bool writes_before = steps.bias_left || product.data != call.before.data;
    finish(queue, kOp,
           {product, steps.bias_left ? call.bias : View{}, steps.residual_left ? call.residual : View{},
            call.out, steps.activation_left ? call.activation : Activation::None, false,
            writes_before ? call.before : View{}});
  }
}

size_t scratch_of(const Steps& steps, const MatmulPlan& plan) {
  return steps.a_bytes() + steps.b_bytes() + steps.d_bytes() + plan.workspace;
}

// `scratch` has what scratch_of says.
lt::Status run(Queue& queue, const MatmulPlans& plans, const MatmulPlan& plan, const Call& call, Steps steps,
               unsigned char* scratch) {
  Product& p = steps.product;
  if (steps.copies_a) {
    p.a.data = scratch;
    copy({call.a, p.a}, &queue);
  }
  scratch += steps.a_bytes();
  if (steps.copies_b) {
    p.b.data = scratch;
    copy({call.b, p.b}, &queue);
  }
  scratch += steps.b_bytes();
  if (steps.apart) p.c.data = p.d.data = scratch;
  const lt::Status status = plans.multiply(p, plan, scratch + steps.d_bytes(), queue.stream());
  if (status == lt::kSuccess) finish_call(queue, call, steps);
  return status;
}

// ---- the choice of a plan ------------------------------------------------------------------------------------------

// All that a choice depends on.
MatmulPlans::Key key_of(const Call& call, bool tf32) {
  MatmulPlans::Key key{};
  size_t at = 0;
  const auto add = [&](int64_t value) { key.at(at++) = value; };
  for (const View* x : {&call.a, &call.b, &call.out, &call.residual, &call.before}) {
    const bool there = static_cast<bool>(*x), is_batch = there && x->ndim() == 3 && x->size(0) > 1;
    add(is_batch ? x->stride(0) : 0);
    add(there ? x->stride(-2) : 0);
    add(there ? x->stride(-1) : 0);
    add(there ? alignment_of(x->data) : 0);
  }
  for (const View* x : {&call.bias, &call.a_sums}) {
    add(*x ? x->stride(0) : 0);
    add(*x ? alignment_of(x->data) : 0);
  }
  add(call.out.ndim() == 3 ? call.out.size(0) : 1);
  for (const int64_t size : {call.out.size(-2), call.a.size(-1), call.out.size(-1)}) add(size);
  add(static_cast<int64_t>(call.a.dtype));
  add(static_cast<int64_t>(call.out.dtype));
  add(static_cast<int64_t>(call.activation));
  add(call.accumulate ? 1 : 0);
  add(call.residual && call.residual.data == call.out.data ? 1 : 0);
  add(tf32 && call.a.dtype == DType::Float32 ? 1 : 0);
  add(call.after ? 2 : call.backward ? 1 : 0);
  return key;
}

// "NVIDIA H100, cuBLASLt 130101: bfloat16 [197, 768] [768, 3072] -> bfloat16: " and the key's numbers.
std::string text_of(const MatmulPlans& plans, const Call& call, const MatmulPlans::Key& key) {
  std::ostringstream text;
  text << machine("cuBLASLt", plans.version()) << ": " << name_of(call.a.dtype) << ' '
       << to_string(call.a.shape) << ' ' << to_string(call.b.shape) << " -> " << name_of(call.out.dtype)
       << ':';
  for (const int64_t value : key) text << ' ' << value;
  return text.str();
}

struct Way {
  Fuses fuses;
  const char* name;
};
// The most that may be in the epilogue comes first.
constexpr Way kWays[] = {{Fuses::All, "fused"}, {Fuses::Bias, "bias"}, {Fuses::Nothing, "apart"}};

// "fused", "bias" or "apart", and the algorithm's words in hexadecimal.
std::string text_of(const Way& way, const lt::Algorithm& algorithm) {
  std::ostringstream text;
  text << way.name << std::hex << std::setfill('0');
  for (const uint64_t word : algorithm.data) text << ' ' << std::setw(16) << word;
  return text.str();
}

// Null where the text makes no sense, or the library has no such algorithm for the product (any more).
std::unique_ptr<MatmulPlan> restore(const MatmulPlans& plans, const Call& call, const std::string& choice) {
  std::istringstream text(choice);
  std::string name;
  lt::Algorithm algorithm{};
  text >> name >> std::hex;
  for (uint64_t& word : algorithm.data) text >> word;
  const auto* const way = std::ranges::find(kWays, name, &Way::name);
  if (!text || !(text >> std::ws).eof() || way == std::end(kWays)) return nullptr;
  const Product product = steps_of(call, way->fuses).product;
  std::unique_ptr<MatmulPlan> plan = plans.describe(product);
  const auto proposal = plans.check_algorithm(*plan, algorithm);
  if (!proposal) return nullptr;
  plan->take(*proposal);
  plan->fuses = way->fuses;
  return plan;
}

// What the library proposes, way by way; each has one plan, which takes an algorithm at a time.
struct Candidates {
  struct Kind {
    const Way& way;
    Steps steps;
    std::unique_ptr<MatmulPlan> plan;
    std::vector<MatmulPlan::Proposal> proposals;
  };
  std::vector<Kind> kinds;

  Candidates(const MatmulPlans& plans, const Call& call, int most) {
    std::vector<uint32_t> seen;
    for (const Way& way : kWays) {
      const Steps steps = steps_of(call, way.fuses);
      const uint32_t epilogue = steps.product.epilogue;
      if (std::ranges::find(seen, epilogue) != seen.end()) continue;
      seen.push_back(epilogue);
      std::unique_ptr<MatmulPlan> plan = plans.describe(steps.product);
      plan->fuses = way.fuses;
      std::vector<MatmulPlan::Proposal> proposals = plans.propose(steps.product, *plan, most);
      if (!proposals.empty()) kinds.push_back({way, steps, std::move(plan), std::move(proposals)});
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
std::string fastest(Queue& queue, const MatmulPlans& plans, Call call) {
  constexpr int kMost = 8;
  const Candidates candidates(plans, call, kMost);
  const size_t out_bytes = extent_bytes(call.out), sum_bytes = call.a_sums ? extent_bytes(call.a_sums) : 0;
  size_t run_bytes = 0;
  for (const auto& [way, steps, plan, proposals] : candidates.kinds) {
    for (const auto& proposal : proposals) {
      plan->take(proposal);
      run_bytes = std::max(run_bytes, scratch_of(steps, *plan));
    }
  }
  unsigned char* const results = spare_memory(queue, out_bytes + sum_bytes + run_bytes);
  if (results == nullptr) return "";
  if (call.residual && call.residual.data == call.out.data) call.residual.data = results;
  call.out.data = results;
  if (call.a_sums) call.a_sums.data = results + out_bytes;

  float best = std::numeric_limits<float>::infinity();
  std::string choice;
  for (const auto& [way, described, plan, proposals] : candidates.kinds) {
    const Steps steps = steps_of(call, way.fuses);
    for (const auto& proposal : proposals) {
      plan->take(proposal);
      lt::Status status = lt::kSuccess;
      const float time = time_of(queue, kOp, [&] {
        if (status != lt::kSuccess) return;
        status = run(queue, plans, *plan, call, steps, results + out_bytes + sum_bytes);
      });
      if (status != lt::kSuccess || time >= best * kClearly) continue;
      best = time;
      choice = text_of(way, proposal.algorithm);
    }
  }
  return choice;
}

std::unique_ptr<MatmulPlan> choose(Queue& queue, MatmulPlans& plans, const Call& call,
                                   const MatmulPlans::Key& key) {
  if (plans.tuning.enabled()) {
    const std::string name = text_of(plans, call, key);
    const auto restores = [&](const std::string& choice) { return restore(plans, call, choice) != nullptr; };
    const auto choice =
        queue.capturing() ? plans.tuning.find(name, restores)
                          : plans.tuning.choose(name, restores, [&] { return fastest(queue, plans, call); });
    if (choice) return restore(plans, call, *choice);
  }
  Candidates candidates(plans, call, 1);
  if (candidates.kinds.empty()) {
    throw TensorError(kOp, code::kKernel,
                      "cuBLASLt has no algorithm for " + to_string(call.a.shape) + " by " +
                          to_string(call.b.shape) + " in " + std::string(name_of(call.out.dtype)));
  }
  Candidates::Kind& first = candidates.kinds[0];
  first.plan->take(first.proposals[0]);
  return std::move(first.plan);
}

// The library takes rows and columns in 64 bits, but has kernels for 32 alone; it counts a batch in 32.
void check_sizes(const Call& call) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  const int64_t batch = call.out.ndim() == 3 ? call.out.size(0) : 1;
  if (std::max({batch, call.out.size(-2), call.out.size(-1), call.a.size(-1)}) <= kMost) return;
  throw TensorError(kOp, code::kShape,
                    "expected fewer than 2^31 rows, columns and matrices, got " + to_string(call.a.shape) +
                        " by " + to_string(call.b.shape));
}

void multiply(const Call& call, Queue& queue) {
  if (call.out.numel() == 0 || call.a.size(-1) == 0) {
    if (call.a_sums) reduce(row_sums(call), &queue);
    if (call.out.numel() == 0 || call.accumulate) return;
    finish(queue, kOp,
           {{},
            call.bias,
            call.residual,
            call.out,
            call.backward ? Activation::None : call.activation,
            false,
            call.backward ? View{} : call.before});
    if (call.backward) finish_backward(queue, kOp, rest_of(call));
    return;
  }
  check_sizes(call);
  if (queue.matmul_plans == nullptr) queue.matmul_plans = std::make_shared<MatmulPlans>();
  MatmulPlans& plans = *queue.matmul_plans;
  const MatmulPlans::Key key = key_of(call, plans.tf32());
  std::unique_ptr<MatmulPlan>& plan = plans.chosen[key];
  if (plan == nullptr) plan = choose(queue, plans, call, key);
  const Steps steps = steps_of(call, plan->fuses);
  auto* const scratch = static_cast<unsigned char*>(queue.scratch(scratch_of(steps, *plan)));
  expect_success(run(queue, plans, *plan, call, steps, scratch));
}

}  // namespace

void matmul(const MatmulArgs& args, void* stream) { multiply({args}, queue_of(stream)); }

void matmul_activation_backward(const MatmulActivationBackwardArgs& args, void* stream) {
  Call call{{args.a, args.b, args.dbefore, {}, {}, args.activation}, true, args.after};
  call.before = args.before;
  multiply(call, queue_of(stream));
}

}  // namespace tenon::cuda
