// The k largest or smallest of each row, sorted; NaN counts as the largest, and of equals the first comes first.
//
// A block takes a row and finds its best k times: the best of those that come after the last one found. That reads the
// row k times, from the cache after the first; k is small where this op is used (a handful of 1000 classes).
#include <bit>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

template <typename T>
struct Entry {
  T value;
  int64_t index;  // -1: none
};

template <typename T>
__device__ __forceinline__ bool precedes(T a, T b, bool largest) {
  if (a != a || b != b) return largest ? a != a && b == b : b != b && a == a;
  return largest ? a > b : a < b;
}

// A total order: no two entries of a row are equal in it.
template <typename T>
__device__ __forceinline__ bool comes_before(const Entry<T>& a, const Entry<T>& b, bool largest) {
  if (precedes(a.value, b.value, largest)) return true;
  return !precedes(b.value, a.value, largest) && a.index < b.index;
}

template <typename S>
struct Topk {
  const S* x;
  S* values;
  int64_t* indices;
  Loops<3> rows;  // of values, indices and x
  int64_t n, k, x_step, value_step, index_step;
  bool largest;
};

template <typename S>
__global__ void __launch_bounds__(kThreads) topk_kernel(const Topk<S> t, int64_t first_row) {
  using E = Entry<Value<S>>;
  E* const entries = shared_memory<E>();
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const Offsets<3> at = locate(t.rows, first_row + blockIdx.x);
  E last{Value<S>(0), -1};
  for (int64_t found = 0; found < t.k; ++found) {
    E best{Value<S>(0), -1};
    for (int64_t i = thread; i < t.n; i += threads) {
      const E next{value_of(t.x[at.at[2] + i * t.x_step]), i};
      if (found > 0 && !comes_before(last, next, t.largest)) continue;
      if (best.index < 0 || comes_before(next, best, t.largest)) best = next;
    }
    entries[thread] = best;
    for (int half = threads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (thread >= half) continue;
      const E other = entries[thread + half];
      E& own = entries[thread];
      if (other.index >= 0 && (own.index < 0 || comes_before(other, own, t.largest))) own = other;
    }
    __syncthreads();
    last = entries[0];
    __syncthreads();
    if (thread == 0) {
      t.values[at.at[0] + found * t.value_step] = convert<S>(last.value);
      t.indices[at.at[1] + found * t.index_step] = last.index;
    }
  }
}

}  // namespace

void topk(const TopkArgs& args, void* stream) {
  if (args.values.numel() == 0) return;
  Shape shape = args.x.shape;
  std::array<Shape, 3> strides = {args.values.strides, args.indices.strides, args.x.strides};
  const int dim = args.x.ndim() - 1;
  shape.erase(dim);
  for (Shape& s : strides) s.erase(dim);
  with_type(args.x.dtype, [&]<typename S>(S) {
    if constexpr (!std::is_same_v<S, Bool>) {
      const Topk<S> t{
          args.x.as<const S>(),    args.values.as<S>(),  args.indices.as<int64_t>(), Loops<3>(shape, strides),
          args.x.size(-1),         args.values.size(-1), args.x.stride(-1),          args.values.stride(-1),
          args.indices.stride(-1), args.largest};
      const auto threads = static_cast<unsigned>(
          std::clamp<uint64_t>(std::bit_ceil(static_cast<uint64_t>(t.n)), kWarpSize, kThreads));
      for_grids(t.rows.count, [&](int64_t first, int64_t blocks) {
        launch(queue_of(stream), "topk", &topk_kernel<S>, blocks, threads, threads * sizeof(Entry<Value<S>>),
               t, first);
      });
    }
  });
}

}  // namespace tenon::cuda
