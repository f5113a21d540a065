// Image resizing by separable filters (backend/taps.h), down the columns and then along the rows, and its transpose.
//
// The taps of both axes are worked out once, into tables that stay in the cache. A thread makes one element; its
// neighbours make and read neighbours. Between the passes lies an image as wide as the input and as high as the output,
// in float32 (float64 for float64). Backward, an input sums over the outputs that read it, which follow one another:
// no atomics, and the order is the CPU's.
#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"
#include "backend/taps.h"

namespace tenon::cuda {
namespace {

// Of output i: `counts[i]` inputs from `firsts[i]` on, with the weights from i * most on.
template <typename T>
struct Table {
  T* weights;
  int *firsts, *counts;
  int inputs, outputs, most;

  __device__ __forceinline__ int clamped(int at) const { return at < 0 ? 0 : at < inputs ? at : inputs - 1; }

  // Of output i at input j, which several of its taps stand for at the border.
  __device__ __forceinline__ T weight_of(int i, int j) const {
    const int k = j - firsts[i];
    const int begin = j == 0 ? 0 : k < 0 ? 0 : k, end = j == inputs - 1 ? counts[i] : k + 1;
    T sum = 0;
    for (int at = begin; at < end && at < counts[i]; ++at) sum += weights[int64_t{i} * most + at];
    return sum;
  }

  // The first output whose last input is j or beyond: the first that reads j, if any does.
  __device__ __forceinline__ int first_reader(int j) const {
    int low = 0, high = outputs;
    while (low < high) {
      const int middle = low + (high - low) / 2;
      if (clamped(firsts[middle] + counts[middle] - 1) < j) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

template <typename T>
__global__ void __launch_bounds__(kThreads) fill_table(const Table<T> table, const Taps taps) {
  for (int64_t i = thread_of_grid(); i < table.outputs; i += threads_of_grid()) {
    const Taps::Range range = taps.range(i);
    double sum = taps.antialias ? 0 : 1;
    if (taps.antialias) {
      for (int64_t k = 0; k < range.count; ++k) sum += taps.weight(range, i, k);
    }
    for (int64_t k = 0; k < range.count; ++k) {
      table.weights[i * table.most + k] = static_cast<T>(taps.weight(range, i, k) / sum);
    }
    table.firsts[i] = static_cast<int>(range.first);
    table.counts[i] = static_cast<int>(range.count);
  }
}

// Along one axis: x [outer, from, inner] -> y [outer, to, inner].
template <typename In, typename Out>
struct Pass {
  using T = Compute<std::conditional_t<(sizeof(In) > sizeof(Out)), In, Out>>;
  const In* x;
  Out* y;
  Table<T> table;
  int from, to;
  int64_t inner, count;  // count: of y
};

template <bool kBackward, typename In, typename Out>
__global__ void __launch_bounds__(kThreads) resample_kernel(const Pass<In, Out> p) {
  using T = typename Pass<In, Out>::T;
  const Table<T>& table = p.table;
  for (int64_t element = thread_of_grid(); element < p.count; element += threads_of_grid()) {
    const int64_t line = element / p.inner, outer = line / p.to;
    const int at = static_cast<int>(line - outer * p.to);
    const In* const x = p.x + outer * p.from * p.inner + (element - line * p.inner);
    T sum = 0;
    if constexpr (kBackward) {
      for (int i = table.first_reader(at); i < table.outputs && table.clamped(table.firsts[i]) <= at; ++i) {
        sum += table.weight_of(i, at) * widen(x[i * p.inner]);
      }
    } else {
      const T* const weights = table.weights + int64_t{at} * table.most;
      for (int k = 0; k < table.counts[at]; ++k) {
        sum += weights[k] * widen(x[table.clamped(table.firsts[at] + k) * p.inner]);
      }
    }
    p.y[element] = narrow<Out>(sum);
  }
}

template <bool kBackward, typename S>
void resample(Queue& queue, const char* op, const View& x, const View& y, Interpolation mode,
              bool antialias) {
  using T = Compute<S>;
  const int64_t planes = x.size(0) * x.size(1);
  if (planes == 0) return;
  const auto taps_of = [&](int dim) {
    return kBackward ? Taps(y.size(dim), x.size(dim), mode, antialias)
                     : Taps(x.size(dim), y.size(dim), mode, antialias);
  };
  const Taps axes[2] = {taps_of(2), taps_of(3)};
  const int64_t between = planes * y.size(2) * x.size(3);
  int64_t numbers = between, integers = 0;
  for (const Taps& taps : axes) {
    to_int(op, "rows or columns", std::max(taps.in, taps.out));
    to_int(op, "taps of a pixel", taps.most());
    numbers += taps.out * taps.most();
    integers += 2 * taps.out;
  }
  T* number = static_cast<T*>(
      queue.scratch(static_cast<size_t>(numbers) * sizeof(T) + static_cast<size_t>(integers) * sizeof(int)));
  int* integer = reinterpret_cast<int*>(number + numbers);
  T* const image = number;
  number += between;
  Table<T> tables[2];
  for (int i = 0; i < 2; ++i) {
    const Taps& taps = axes[i];
    tables[i] = {number,
                 integer,
                 integer + taps.out,
                 static_cast<int>(taps.in),
                 static_cast<int>(taps.out),
                 static_cast<int>(taps.most())};
    number += taps.out * taps.most();
    integer += 2 * taps.out;
    launch_over(queue, op, &fill_table<T>, taps.out, tables[i], taps);
  }
  const auto size = [](const View& v, int dim) { return static_cast<int>(v.size(dim)); };
  const Pass<S, T> down{x.as<const S>(), image, tables[0], size(x, 2), size(y, 2), x.size(3), between};
  launch_over(queue, op, &resample_kernel<kBackward, S, T>, between, down);
  const Pass<T, S> across{image, y.as<S>(), tables[1], size(x, 3), size(y, 3), 1, y.numel()};
  launch_over(queue, op, &resample_kernel<kBackward, T, S>, across.count, across);
}

}  // namespace

void interpolate(const InterpolateArgs& args, void* stream) {
  with_float_type(args.x.dtype, [&]<typename S>(S) {
    resample<false, S>(queue_of(stream), "interpolate", args.x, args.out, args.mode, args.antialias);
  });
}

void interpolate_backward(const InterpolateBackwardArgs& args, void* stream) {
  with_float_type(args.dx.dtype, [&]<typename S>(S) {
    resample<true, S>(queue_of(stream), "interpolateBackward", args.dy, args.dx, args.mode, args.antialias);
  });
}

}  // namespace tenon::cuda
