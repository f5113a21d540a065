// One kernel for all functions of elements: out = f(x[0], ..., x[N - 1]) over any strides.
//
// Bound by memory: every operand is read once and the output written once. Where the innermost dimension allows it, a
// thread takes kWidth neighbours, the widest type in one 16-byte access; neighbouring threads take neighbouring packs.
// The position of a pack costs a division for each dimension but one: contiguous operands have one dimension.
#pragma once

#include <algorithm>
#include <array>

#include "backend/cuda/convert.h"
#include "core/loops.h"
#include "core/view.h"

namespace tenon::cuda {

constexpr int kThreads = 256;

// Offsets of N operands, in elements.
template <int N>
struct Offsets {
  int64_t at[N];
};

template <typename Index, int N>
__device__ __forceinline__ Offsets<N> locate_by(const Loops<N>& loops, Index i) {
  Offsets<N> offsets{};
#pragma unroll 1
  for (int d = 0; d + 1 < loops.ndim; ++d) {
    const Index rest = i / static_cast<Index>(loops.sizes[d]);
    const auto index = static_cast<int64_t>(i - rest * static_cast<Index>(loops.sizes[d]));
    for (int k = 0; k < N; ++k) offsets.at[k] += index * loops.strides[d][k];
    i = rest;
  }
  for (int k = 0; k < N; ++k) offsets.at[k] += static_cast<int64_t>(i) * loops.strides[loops.ndim - 1][k];
  return offsets;
}

// Where element i of the iteration order lies. 32-bit divisions take a fraction of the time of 64-bit ones.
template <int N>
__device__ __forceinline__ Offsets<N> locate(const Loops<N>& loops, int64_t i) {
  if (loops.count <= std::numeric_limits<uint32_t>::max()) {
    return locate_by<uint32_t>(loops, static_cast<uint32_t>(i));
  }
  return locate_by<uint64_t>(loops, static_cast<uint64_t>(i));
}

__device__ __forceinline__ int64_t thread_of_grid() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t threads_of_grid() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

// An input: its elements, or where there is none one value for all.
template <typename S>
struct Operand {
  const S* data = nullptr;
  Value<S> value{};
  bool repeats = false;  // the innermost stride is 0
};

template <typename S>
Operand<S> operand(const View& view, double scalar = 0) {
  return {view.as<const S>(), view ? Value<S>{} : convert<Value<S>>(scalar)};
}

template <int kWidth, typename S>
__device__ __forceinline__ void load(Value<S> (&x)[kWidth], const Operand<S>& from, int64_t at) {
  if (from.data == nullptr || from.repeats || kWidth == 1) {
    const Value<S> value = from.data == nullptr ? from.value : value_of(from.data[at]);
    for (int i = 0; i < kWidth; ++i) x[i] = value;
    return;
  }
  const auto pack = *reinterpret_cast<const Pack<S, kWidth>*>(from.data + at);
  for (int i = 0; i < kWidth; ++i) x[i] = value_of(pack.elements[i]);
}

template <typename F, typename Out, typename In, int N>
struct Map {
  F f;
  Out* out;
  std::array<Operand<In>, N> in;
  Loops<N + 1> loops;  // of packs
  int64_t tail = 0;    // elements behind the last whole pack; then there is one dimension
};

template <int kWidth, typename F, typename Out, typename In, int N>
__device__ __forceinline__ void map_pack(const Map<F, Out, In, N>& m, const Offsets<N + 1>& at) {
  Value<In> x[N][kWidth];
#pragma unroll
  for (int k = 0; k < N; ++k) load<kWidth>(x[k], m.in[static_cast<size_t>(k)], at.at[k + 1]);
  Pack<Out, kWidth> result;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    if constexpr (N == 1) {
      result.elements[i] = convert<Out>(m.f(x[0][i]));
    } else {
      result.elements[i] = convert<Out>(m.f(x[0][i], x[1][i]));
    }
  }
  *reinterpret_cast<Pack<Out, kWidth>*>(m.out + at.at[0]) = result;
}

// Calls body(width, offsets) for the packs that are this thread's, and for the elements behind the last whole one.
template <int kWidth, int N, typename Body>
__device__ __forceinline__ void for_packs(const Loops<N>& loops, int64_t tail, Body&& body) {
#pragma unroll 1
  for (int64_t pack = thread_of_grid(); pack < loops.count; pack += threads_of_grid()) {
    body(std::integral_constant<int, kWidth>{}, locate(loops, pack));
  }
  if constexpr (kWidth > 1) {
    const int64_t rest = thread_of_grid();
    if (rest >= tail) return;
    Offsets<N> at;
    for (int k = 0; k < N; ++k) at.at[k] = (loops.count * kWidth + rest) * (loops.strides[0][k] / kWidth);
    body(std::integral_constant<int, 1>{}, at);
  }
}

template <int kWidth, typename F, typename Out, typename In, int N>
__global__ void __launch_bounds__(kThreads) map_kernel(const Map<F, Out, In, N> m) {
  for_packs<kWidth>(m.loops, m.tail,
                    [&](auto width, const Offsets<N + 1>& at) { map_pack<width.value>(m, at); });
}

// Launches a kernel whose threads take `count` items in turns: at most 16 blocks for each multiprocessor.
template <typename... Parameters, typename... Args>
void launch_over(Queue& queue, const char* op, void (*kernel)(Parameters...), int64_t count,
                 const Args&... args) {
  const int64_t warps = (count + kWarpSize - 1) / kWarpSize, most = kThreads / kWarpSize;
  const int64_t blocks = std::clamp<int64_t>((warps + most - 1) / most, 1, 16 * queue.multiprocessors());
  launch(queue, op, kernel, blocks, static_cast<unsigned>(kWarpSize * std::clamp<int64_t>(warps, 1, most)), 0,
         args...);
}

// The strides of an operand; those of one that is absent are 0.
inline Shape strides_of(const View& view, const Shape& shape) {
  if (view) return view.strides;
  Shape zeros = shape;
  for (int d = 0; d < zeros.ndim(); ++d) zeros[d] = 0;
  return zeros;
}

// Whether packs of kWidth elements from `data` on lie whole in memory, k being the operand's place in the loops.
template <int kWidth, typename S, int N>
bool packs_lie_whole(const Loops<N>& loops, int k, const S* data) {
  if (loops.strides[0][k] != 1 || reinterpret_cast<uintptr_t>(data) % (kWidth * sizeof(S)) != 0) return false;
  for (int d = 1; d < loops.ndim; ++d) {
    if (loops.strides[d][k] % kWidth != 0) return false;
  }
  return true;
}

// Of the output: a row is a whole number of packs, except where all is one row.
template <int kWidth, typename S, int N>
bool rows_take_packs(const Loops<N>& loops, const S* out) {
  return packs_lie_whole<kWidth>(loops, 0, out) && (loops.ndim == 1 || loops.sizes[0] % kWidth == 0);
}

// Of an input, which may also repeat an element along the row.
template <int kWidth, typename S, int N>
bool takes_packs_of(const Loops<N>& loops, int k, Operand<S>& in) {
  in.repeats = loops.strides[0][k] == 0;
  return in.repeats || packs_lie_whole<kWidth>(loops, k, in.data);
}

// Turns loops over elements into loops over packs; returns how many elements are left over.
template <int kWidth, int N>
int64_t take_packs(Loops<N>& loops) {
  const int64_t tail = loops.sizes[0] % kWidth;
  loops.count /= kWidth;
  loops.sizes[0] /= kWidth;
  for (int k = 0; k < N; ++k) loops.strides[0][k] *= kWidth;
  return tail;
}

// out = f(in...), each `in` expanded to out's shape or absent.
template <typename Out, typename In, int N, typename F>
void map(Queue& queue, const char* op, const View& out, const std::array<View, N>& in, F f,
         double scalar = 0) {
  if (out.numel() == 0) return;
  constexpr int kWidth = 16 / static_cast<int>(std::max(sizeof(In), sizeof(Out)));
  std::array<Shape, N + 1> strides{out.strides};
  Map<F, Out, In, N> m{f, out.as<Out>(), {}, Loops<N + 1>({}, {}), 0};
  for (size_t k = 0; k < N; ++k) {
    strides[k + 1] = strides_of(in[k], out.shape);
    m.in[k] = operand<In>(in[k], scalar);
  }
  m.loops = Loops<N + 1>(out.shape, strides);
  bool packs = rows_take_packs<kWidth>(m.loops, m.out);
  for (int k = 0; k < N; ++k) {
    packs = takes_packs_of<kWidth>(m.loops, k + 1, m.in[static_cast<size_t>(k)]) && packs;
  }
  if (packs) {
    m.tail = take_packs<kWidth>(m.loops);
    launch_over(queue, op, &map_kernel<kWidth, F, Out, In, N>, std::max(m.loops.count, m.tail), m);
  } else {
    launch_over(queue, op, &map_kernel<1, F, Out, In, N>, m.loops.count, m);
  }
}

}  // namespace tenon::cuda
