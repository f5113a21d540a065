// softmax, log-softmax and log-sum-exp along a dimension of tensors of any strides, with softmax's backward pass.
//
// Bound by memory: forward reads x and writes y, backward reads y and dy and writes dx, log-sum-exp reads x. A line is the
// elements along the dimension. Lines of up to 1024 elements that lie side by side in memory, aligned to 16 bytes, live in
// the registers of one warp (rows.h) and are read once. All others take a block each, which reads them again from the
// cache: along other dimensions than the fastest, whose neighbouring elements share no sector, so does every access.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/rows.h"

namespace tenon::cuda {
namespace {

constexpr int kWarps = 4;  // lines that a block of line warps works on at once
constexpr int kWideThreads = 256;

// The lines of N operands, the output being the first.
template <typename S, int N>
struct Lines {
  S* data[N];
  int64_t steps[N];  // from an element of a line to the next
  int64_t length;
  Loops<N> lines;
};

// ---- softmax ---------------------------------------------------------------------------------------------------------

// A NaN shows in the sum. A line of minus infinities gives NaN, as in PyTorch: the maximum is subtracted from itself.
template <typename S, int kPacks>
__global__ void __launch_bounds__(kWarps* kWarpSize) softmax_in_registers(const Lines<S, 2> a, bool log) {
  using T = Compute<S>;
  using R = Row<S, kPacks>;
  constexpr int kCount = kPacks * R::kWidth;
  constexpr T kLeast = -std::numeric_limits<T>::infinity();
  const auto length = static_cast<int>(a.length);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t line = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize; line < a.lines.count;
       line += step) {
    const Offsets<2> at = locate(a.lines, line);
    R x;
    x.load(a.data[1] + at.at[1], length, kLeast);
    T largest = kLeast;
#pragma unroll
    for (int i = 0; i < kCount; ++i) largest = std::fmax(largest, x.values[i]);
    const T shift = max_over_warp(largest);
    T sum = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      x.values[i] -= shift;
      const T e = std::exp(x.values[i]);
      sum += e;
      if (!log) x.values[i] = e;
    }
    sum = sum_over_warp(sum);
    const T factor = log ? T(1) : 1 / sum, term = log ? std::log(sum) : T(0);
#pragma unroll
    for (int i = 0; i < kCount; ++i) x.values[i] = x.values[i] * factor - term;
    x.store(a.data[0] + at.at[0], length);
  }
}

template <typename S>
__global__ void __launch_bounds__(kWideThreads) softmax_wide(const Lines<S, 2> a, bool log) {
  using T = Compute<S>;
  T* const warps = shared_memory<T>();
  for (int64_t line = blockIdx.x; line < a.lines.count; line += gridDim.x) {
    const Offsets<2> at = locate(a.lines, line);
    S* const out = a.data[0] + at.at[0];
    const S* const in = a.data[1] + at.at[1];
    const auto x = [&](int64_t i) { return widen(in[i * a.steps[1]]); };
    const auto first = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    T largest = -std::numeric_limits<T>::infinity();
    for (int64_t i = first; i < a.length; i += threads) largest = std::fmax(largest, x(i));
    const T shift = max_over_block(largest, warps);
    T sum = 0;
    for (int64_t i = first; i < a.length; i += threads) sum += std::exp(x(i) - shift);
    sum = sum_over_block(sum, warps);
    const T factor = log ? T(1) : 1 / sum, term = log ? std::log(sum) : T(0);
#pragma unroll 1
    for (int64_t i = first; i < a.length; i += threads) {
      const T shifted = x(i) - shift;
      out[i * a.steps[0]] = narrow<S>((log ? shifted : std::exp(shifted)) * factor - term);
    }
  }
}

// ---- backward: dx = y (dy - sum(y dy)), or for log-softmax dx = dy - exp(y) sum(dy) --------------------------------------

template <typename T>
__device__ __forceinline__ T softmax_gradient(T y, T dy, T sum, bool log) {
  return log ? dy - std::exp(y) * sum : y * (dy - sum);
}

template <typename S, int kPacks>
__global__ void __launch_bounds__(kWarps* kWarpSize) backward_in_registers(const Lines<S, 3> a, bool log) {
  using T = Compute<S>;
  using R = Row<S, kPacks>;
  constexpr int kCount = kPacks * R::kWidth;
  const auto length = static_cast<int>(a.length);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t line = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize; line < a.lines.count;
       line += step) {
    const Offsets<3> at = locate(a.lines, line);
    R y, dy;
    y.load(a.data[1] + at.at[1], length, T(0));
    dy.load(a.data[2] + at.at[2], length, T(0));
    T sum = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum += log ? dy.values[i] : y.values[i] * dy.values[i];
    sum = sum_over_warp(sum);
#pragma unroll
    for (int i = 0; i < kCount; ++i) dy.values[i] = softmax_gradient(y.values[i], dy.values[i], sum, log);
    dy.store(a.data[0] + at.at[0], length);
  }
}

template <typename S>
__global__ void __launch_bounds__(kWideThreads) backward_wide(const Lines<S, 3> a, bool log) {
  using T = Compute<S>;
  T* const warps = shared_memory<T>();
  for (int64_t line = blockIdx.x; line < a.lines.count; line += gridDim.x) {
    const Offsets<3> at = locate(a.lines, line);
    const auto y = [&](int64_t i) { return widen(a.data[1][at.at[1] + i * a.steps[1]]); };
    const auto dy = [&](int64_t i) { return widen(a.data[2][at.at[2] + i * a.steps[2]]); };
    const auto first = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    T sum = 0;
#pragma unroll 1
    for (int64_t i = first; i < a.length; i += threads) sum += log ? dy(i) : y(i) * dy(i);
    sum = sum_over_block(sum, warps);
#pragma unroll 1
    for (int64_t i = first; i < a.length; i += threads) {
      a.data[0][at.at[0] + i * a.steps[0]] = narrow<S>(softmax_gradient(y(i), dy(i), sum, log));
    }
  }
}

// ---- log-sum-exp -------------------------------------------------------------------------------------------------------

// An infinite maximum cannot be subtracted; without it the sum becomes infinite, or 0, as it should.
template <typename T>
__device__ __forceinline__ T shift_of(T largest) {
  return largest - largest == 0 ? largest : T(0);
}

template <typename S, int kPacks>
__global__ void __launch_bounds__(kWarps* kWarpSize) logsumexp_in_registers(const Lines<S, 2> a) {
  using T = Compute<S>;
  using R = Row<S, kPacks>;
  constexpr int kCount = kPacks * R::kWidth;
  constexpr T kLeast = -std::numeric_limits<T>::infinity();
  const auto length = static_cast<int>(a.length);
  const int64_t step = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t line = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize; line < a.lines.count;
       line += step) {
    const Offsets<2> at = locate(a.lines, line);
    R x;
    x.load(a.data[1] + at.at[1], length, kLeast);
    T largest = kLeast;
#pragma unroll
    for (int i = 0; i < kCount; ++i) largest = std::fmax(largest, x.values[i]);
    const T shift = shift_of(max_over_warp(largest));
    T sum = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum += std::exp(x.values[i] - shift);
    sum = sum_over_warp(sum);
    if (threadIdx.x % kWarpSize == 0) a.data[0][at.at[0]] = narrow<S>(shift + std::log(sum));
  }
}

template <typename S>
__global__ void __launch_bounds__(kWideThreads) logsumexp_wide(const Lines<S, 2> a) {
  using T = Compute<S>;
  T* const warps = shared_memory<T>();
  for (int64_t line = blockIdx.x; line < a.lines.count; line += gridDim.x) {
    const Offsets<2> at = locate(a.lines, line);
    const auto x = [&](int64_t i) { return widen(a.data[1][at.at[1] + i * a.steps[1]]); };
    const auto first = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    T largest = -std::numeric_limits<T>::infinity();
    for (int64_t i = first; i < a.length; i += threads) largest = std::fmax(largest, x(i));
    const T shift = shift_of(max_over_block(largest, warps));
    T sum = 0;
    for (int64_t i = first; i < a.length; i += threads) sum += std::exp(x(i) - shift);
    sum = sum_over_block(sum, warps);
    if (first == 0) a.data[0][at.at[0]] = narrow<S>(shift + std::log(sum));
  }
}

// ---- host side -----------------------------------------------------------------------------------------------------

// The lines of `views` along `dim`, as many and as long as those of the last view.
template <typename S, int N>
Lines<S, N> lines_along(int dim, const std::array<View, N>& views) {
  Shape shape = views.back().shape;
  std::array<Shape, N> strides;
  for (size_t k = 0; k < N; ++k) strides[k] = views[k].strides;
  Lines<S, N> result{{}, {}, 1, Loops<N>({}, {})};
  const int d = dim < 0 ? dim + shape.ndim() : dim;
  for (size_t k = 0; k < N; ++k) {
    result.data[k] = views[k].template as<S>();
    if (shape.ndim() > 0) {
      result.steps[k] = strides[k][d];
      strides[k].erase(d);
    }
  }
  if (shape.ndim() > 0) {
    result.length = shape[d];
    shape.erase(d);
  }
  result.lines = Loops<N>(shape, strides);
  return result;
}

// Whether warps can hold the lines of operands [first, N).
template <typename S, int N>
bool lines_fit_registers(const Lines<S, N>& a, int first) {
  for (int k = first; k < N; ++k) {
    if (a.steps[k] != 1 || !fits_registers<S>(a.length, {a.data[k]})) return false;
    for (int d = 0; d < a.lines.ndim; ++d) {
      if (a.lines.strides[d][k] % kFullWidth<S> != 0) return false;
    }
  }
  return true;
}

constexpr int64_t kMostBlocks = 1 << 20;

template <typename S, int N, typename Kernel, typename... Args>
void launch_wide(Queue& queue, const char* op, Kernel* kernel, const Lines<S, N>& a, Args... args) {
  const auto warps =
      static_cast<int>(std::clamp<int64_t>(blocks_for(a.length, kWarpSize), 1, kWideThreads / kWarpSize));
  launch(queue, op, kernel, std::min(a.lines.count, kMostBlocks), static_cast<unsigned>(warps * kWarpSize),
         static_cast<size_t>(warps) * sizeof(Compute<S>), a, args...);
}

template <typename S, int N, typename Kernel, typename... Args>
void launch_in_registers(Queue& queue, const char* op, Kernel* kernel, const Lines<S, N>& a, Args... args) {
  const int64_t blocks = std::min(blocks_for(a.lines.count, kWarps), kMostBlocks);
  launch(queue, op, kernel, blocks, kWarps * kWarpSize, 0, a, args...);
}

template <typename S>
void run(const SoftmaxArgs& args, Queue& queue) {
  const auto a = lines_along<S, 2>(args.dim, {args.out, args.x});
  if constexpr (!std::is_same_v<S, double>) {
    if (lines_fit_registers(a, 0)) {
      with_packs<S>(a.length, [&](auto packs) {
        launch_in_registers(queue, "softmax", &softmax_in_registers<S, packs.value>, a, args.log);
      });
      return;
    }
  }
  launch_wide(queue, "softmax", &softmax_wide<S>, a, args.log);
}

template <typename S>
void run(const SoftmaxBackwardArgs& args, Queue& queue) {
  const auto a = lines_along<S, 3>(args.dim, {args.dx, args.y, args.dy});
  if constexpr (!std::is_same_v<S, double>) {
    if (lines_fit_registers(a, 0)) {
      with_packs<S>(a.length, [&](auto packs) {
        launch_in_registers(queue, "softmaxBackward", &backward_in_registers<S, packs.value>, a, args.log);
      });
      return;
    }
  }
  launch_wide(queue, "softmaxBackward", &backward_wide<S>, a, args.log);
}

template <typename S>
void run(const LogsumexpArgs& args, Queue& queue) {
  const auto a = lines_along<S, 2>(args.dim, {args.out, args.x});
  if constexpr (!std::is_same_v<S, double>) {
    if (lines_fit_registers(a, 1)) {
      with_packs<S>(a.length, [&](auto packs) {
        launch_in_registers(queue, "logsumexp", &logsumexp_in_registers<S, packs.value>, a);
      });
      return;
    }
  }
  launch_wide(queue, "logsumexp", &logsumexp_wide<S>, a);
}

}  // namespace

void softmax(const SoftmaxArgs& args, void* stream) {
  if (args.out.numel() == 0) return;
  with_float_type(args.x.dtype, [&]<typename S>(S) { run<S>(args, queue_of(stream)); });
}

void softmax_backward(const SoftmaxBackwardArgs& args, void* stream) {
  if (args.dx.numel() == 0) return;
  with_float_type(args.y.dtype, [&]<typename S>(S) { run<S>(args, queue_of(stream)); });
}

void logsumexp(const LogsumexpArgs& args, void* stream) {
  if (args.out.numel() == 0) return;
  with_float_type(args.x.dtype, [&]<typename S>(S) { run<S>(args, queue_of(stream)); });
}

}  // namespace tenon::cuda
