// Reductions over any set of dimensions, in an order that the shapes and the number of multiprocessors fix.
//
// A block is a rectangle of `results` by `lanes`: the lanes of a result take its elements in turns, and then come
// together pair by pair in shared memory. Where x's fastest dimension is reduced, neighbouring threads are lanes and
// read along it, in 16-byte accesses where that is possible; where it is kept, they are results. Where the results
// are too few to fill the device, `parts` blocks share one, and a second kernel brings the parts together.
//
// x is read once (twice by Var: first for the means), everything else is small. Sums of floating-point numbers are
// float64: one addition an element leaves memory the limit.
#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

// ---- what is accumulated -------------------------------------------------------------------------------------------

template <typename T>
using Total = std::conditional_t<std::is_floating_point_v<T>, double, int64_t>;

template <typename T>
struct Sum {
  using State = Total<T>;
  static __device__ State start() { return 0; }
  static __device__ void take(State& total, T x, int64_t, double) { merge(total, static_cast<State>(x)); }
  static __device__ void merge(State& total, State part) {
    if constexpr (std::is_same_v<State, int64_t>) {  // wraps around
      total = static_cast<int64_t>(static_cast<uint64_t>(total) + static_cast<uint64_t>(part));
    } else {
      total += part;
    }
  }
};

template <typename T>
struct SquaredDeviations : Sum<T> {
  static __device__ void take(double& total, T x, int64_t, double mean) {
    total += (static_cast<double>(x) - mean) * (static_cast<double>(x) - mean);
  }
};

template <typename T>
constexpr T kLeast = std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity()
                                                 : std::numeric_limits<T>::min();
template <typename T>
constexpr T kMost = std::is_floating_point_v<T> ? std::numeric_limits<T>::infinity()
                                                : std::numeric_limits<T>::max();

// NaN beats everything. Of bytes, the largest tells whether any is not 0, the smallest whether all are.
template <bool kMax, typename T>
__device__ __forceinline__ bool beats(T x, T best) {
  return (kMax ? x > best : x < best) || (x != x && best == best);
}

template <bool kMax, typename T>
struct Extreme {
  using State = T;
  static __device__ State start() { return kMax ? kLeast<T> : kMost<T>; }
  static __device__ void take(State& best, T x, int64_t, double) { merge(best, x); }
  static __device__ void merge(State& best, State x) {
    if (beats<kMax>(x, best)) best = x;
  }
};

template <bool kMax, typename T>
struct ArgExtreme {
  struct State {
    T value;
    int64_t place;  // -1: none yet
  };
  static __device__ State start() { return {T(0), -1}; }
  static __device__ void take(State& best, T x, int64_t place, double) { merge(best, {x, place}); }
  static __device__ void merge(State& best, State x) {
    if (x.place < 0) return;
    const bool wins = best.place < 0 || beats<kMax>(x.value, best.value) ||
                      (!beats<kMax>(best.value, x.value) && x.place < best.place);
    if (wins) best = x;
  }
};

// ---- the kernels ---------------------------------------------------------------------------------------------------

template <typename Op, typename S, typename Out>
struct Reduce {
  const S* x;
  Out* out;
  Loops<2> kept;                          // of x and out
  Loops<1> reduced;                       // of packs of x
  typename Op::State* partial = nullptr;  // [parts, results], where there are several parts
  const double* means = nullptr;          // [results]
  bool numbered = false;                  // out is [results], in the order of the loops
  bool across = false;                    // neighbouring threads are results
  int lanes = 1;
  int parts = 1;
  double divisor = 1;
};

template <typename Op, typename S, typename Out>
__device__ __forceinline__ void finish(const Reduce<Op, S, Out>& r, int64_t result,
                                       const typename Op::State& total) {
  Out& out = r.out[r.numbered ? result : locate(r.kept, result).at[1]];
  if constexpr (std::is_same_v<typename Op::State, double>) {
    out = convert<Out>(total / r.divisor);
  } else if constexpr (std::is_class_v<typename Op::State>) {
    out = total.place;
  } else {
    out = convert<Out>(total);
  }
}

template <int kWidth, typename Op, typename S, typename Out>
__global__ void __launch_bounds__(kThreads) reduce_kernel(const Reduce<Op, S, Out> r) {
  using State = typename Op::State;
  const int thread = static_cast<int>(threadIdx.x), results = static_cast<int>(blockDim.x) / r.lanes;
  const int lane = r.across ? thread / results : thread % r.lanes;
  const int64_t result =
      static_cast<int64_t>(blockIdx.x) * results + (r.across ? thread % results : thread / r.lanes);
  const int64_t part = blockIdx.y;
  const bool inside = result < r.kept.count;
  State total = Op::start();
  if (inside) {
    const S* const x = r.x + locate(r.kept, result).at[0];
    const double mean = r.means == nullptr ? 0 : r.means[result];
    const int64_t end = r.reduced.count * (part + 1) / r.parts;
#pragma unroll 4
    for (int64_t i = r.reduced.count * part / r.parts + lane; i < end; i += r.lanes) {
      const auto pack = *reinterpret_cast<const Pack<S, kWidth>*>(x + locate(r.reduced, i).at[0]);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) Op::take(total, value_of(pack.elements[j]), i * kWidth + j, mean);
    }
  }
  State* const totals = shared_memory<State>();
  totals[thread] = total;
  for (int lanes = r.lanes / 2; lanes > 0; lanes /= 2) {
    __syncthreads();
    if (lane < lanes) Op::merge(totals[thread], totals[thread + lanes * (r.across ? results : 1)]);
  }
  if (!inside || lane != 0) return;
  if (r.parts == 1) {
    finish(r, result, totals[thread]);
  } else {
    r.partial[part * r.kept.count + result] = totals[thread];
  }
}

template <typename Op, typename S, typename Out>
__global__ void __launch_bounds__(kThreads) merge_kernel(const Reduce<Op, S, Out> r) {
  for (int64_t result = thread_of_grid(); result < r.kept.count; result += threads_of_grid()) {
    typename Op::State total = Op::start();
    for (int64_t part = 0; part < r.parts; ++part) Op::merge(total, r.partial[part * r.kept.count + result]);
    finish(r, result, total);
  }
}

// ---- host side -----------------------------------------------------------------------------------------------------

int power_of_two(int64_t at_least, int most) {
  int n = 1;
  while (n < most && n < at_least) n *= 2;
  return n;
}

// The loops over what is kept and what is reduced, and how the threads share them.
struct Plan {
  Loops<2> kept{{}, {}};
  Loops<1> reduced{{}, {}};
  bool across, packs;
  int lanes, results, parts;

  Plan(const Queue& queue, const ReduceArgs& args, int width) {
    Shape kept_sizes, kept_x, kept_out, sizes, strides;
    for (int d = 0; d < args.x.ndim(); ++d) {
      const bool keep = args.out.size(d) == args.x.size(d);
      (keep ? kept_sizes : sizes).push_back(args.x.size(d));
      (keep ? kept_x : strides).push_back(args.x.stride(d));
      if (keep) kept_out.push_back(args.out.stride(d));
    }
    kept = Loops<2>(kept_sizes, {kept_x, kept_out});
    reduced = Loops<1>(sizes, {strides});
    across = kept.count > 1 && std::abs(kept.strides[0][0]) < std::abs(reduced.strides[0][0]);
    packs = reduced.ndim == 1 && reduced.strides[0][0] == 1 && reduced.count % width == 0 &&
            reinterpret_cast<uintptr_t>(args.x.data) % 16 == 0;
    for (int d = 0; d < kept.ndim; ++d) packs = packs && kept.strides[d][0] % width == 0;
    const int64_t steps = packs ? reduced.count / width : reduced.count;
    lanes = across ? power_of_two(steps, 8) : power_of_two((steps + 3) / 4, kThreads);
    results = power_of_two(kept.count, kThreads / lanes);
    while (lanes * results < kWarpSize) results *= 2;
    const int64_t blocks = std::max<int64_t>(1, (kept.count + results - 1) / results);
    const int64_t wanted = 4 * queue.multiprocessors() / blocks;
    parts = static_cast<int>(std::clamp<int64_t>(std::min(wanted, steps / (8 * lanes)), 1, 1024));
  }
};

template <typename Op, typename S, typename Out>
Reduce<Op, S, Out> reduction(const Plan& plan, const View& x, void* out, double divisor = 1) {
  Reduce<Op, S, Out> r{x.as<const S>(), static_cast<Out*>(out), plan.kept, plan.reduced};
  r.across = plan.across;
  r.lanes = plan.lanes;
  r.parts = plan.parts;
  r.divisor = divisor;
  return r;
}

// `scratch` has room for the parts' states.
template <typename Op, typename S, typename Out>
void run(Queue& queue, const Plan& plan, Reduce<Op, S, Out> r, void* scratch) {
  using State = typename Op::State;
  if (plan.kept.count == 0) return;
  r.partial = static_cast<State*>(scratch);
  const int threads = plan.lanes * plan.results;
  const Blocks blocks(blocks_for(plan.kept.count, plan.results), plan.parts);
  const size_t shared = static_cast<size_t>(threads) * sizeof(State);
  if (plan.packs) {
    take_packs<kFullWidth<S>>(r.reduced);
    launch(queue, "reduce", &reduce_kernel<kFullWidth<S>, Op, S, Out>, blocks, threads, shared, r);
  } else {
    launch(queue, "reduce", &reduce_kernel<1, Op, S, Out>, blocks, threads, shared, r);
  }
  if (plan.parts > 1) launch_over(queue, "reduce", &merge_kernel<Op, S, Out>, plan.kept.count, r);
}

template <typename Op, typename S, typename Out>
void run(Queue& queue, const ReduceArgs& args, double divisor = 1) {
  const Plan plan(queue, args, kFullWidth<S>);
  void* scratch = nullptr;
  if (plan.parts > 1) {
    scratch = queue.scratch(static_cast<size_t>(plan.parts * plan.kept.count) * sizeof(typename Op::State));
  }
  run(queue, plan, reduction<Op, S, Out>(plan, args.x, args.out.data, divisor), scratch);
}

template <typename S>
void variance(Queue& queue, const ReduceArgs& args) {
  using T = Value<S>;
  const Plan plan(queue, args, kFullWidth<S>);
  const auto n = static_cast<double>(plan.reduced.count);
  // The means come first, then the sums of the parts.
  auto* means = static_cast<double*>(
      queue.scratch(static_cast<size_t>((plan.parts + 1) * plan.kept.count) * sizeof(double)));
  auto mean = reduction<Sum<T>, S, double>(plan, args.x, means, n);
  mean.numbered = true;
  run(queue, plan, mean, means + plan.kept.count);
  auto deviations =
      reduction<SquaredDeviations<T>, S, S>(plan, args.x, args.out.data, std::max(0.0, n - args.correction));
  deviations.means = means;
  run(queue, plan, deviations, means + plan.kept.count);
}

template <typename S>
void reduce_as(Queue& queue, const ReduceArgs& args) {
  using T = Value<S>;
  constexpr bool kFloating = std::is_floating_point_v<T>;
  switch (args.op) {
    case ReduceOp::Sum:
      if constexpr (sizeof(S) == 2 && kFloating) {
        if (args.out.dtype == DType::Float32) return run<Sum<T>, S, float>(queue, args);
      }
      return run<Sum<T>, S, std::conditional_t<kFloating, S, int64_t>>(queue, args);
    case ReduceOp::Max:
      return run<Extreme<true, T>, S, S>(queue, args);
    case ReduceOp::Min:
      return run<Extreme<false, T>, S, S>(queue, args);
    case ReduceOp::ArgMax:
      return run<ArgExtreme<true, T>, S, int64_t>(queue, args);
    case ReduceOp::ArgMin:
      return run<ArgExtreme<false, T>, S, int64_t>(queue, args);
    case ReduceOp::Mean:
      if constexpr (kFloating) {
        int64_t count = 1;
        for (int d = 0; d < args.x.ndim(); ++d)
          count *= args.out.size(d) == args.x.size(d) ? 1 : args.x.size(d);
        return run<Sum<T>, S, S>(queue, args, static_cast<double>(count));
      }
      break;
    case ReduceOp::Var:
      if constexpr (kFloating) return variance<S>(queue, args);
      break;
    case ReduceOp::Any:
      if constexpr (std::is_same_v<S, uint8_t>) return run<Extreme<true, T>, S, Bool>(queue, args);
      break;
    case ReduceOp::All:
      if constexpr (std::is_same_v<S, uint8_t>) return run<Extreme<false, T>, S, Bool>(queue, args);
      break;
  }
  throw TensorError("reduce", code::kKernel,
                    "expected a reduction of " + std::string(name_of(args.x.dtype)) + ", got op " +
                        std::to_string(static_cast<int>(args.op)));
}

}  // namespace

void reduce(const ReduceArgs& args, void* stream) {
  with_type(args.x.dtype == DType::Bool ? DType::UInt8 : args.x.dtype, [&]<typename S>(S) {
    if constexpr (!std::is_same_v<S, Bool>) reduce_as<S>(queue_of(stream), args);
  });
}

}  // namespace tenon::cuda
