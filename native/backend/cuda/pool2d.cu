// Pooling over the windows of channels-last images. A thread makes one element; its neighbours make the next channels of
// the same pixel and read neighbours: all accesses are coalesced, and what windows share comes from the cache. Backward, an
// input gathers from the windows that cover it, in their order: no atomics.
#include "backend/cuda/elementwise.h"
#include "backend/cuda/image.h"
#include "backend/cuda/kernels.h"
#include "backend/pool.h"

namespace tenon::cuda {
namespace {

struct Pool {
  PoolAxis rows, columns;
  int64_t C;
  bool count_padding;
};

Pool pool_of(const View& x, const View& y, const Window& window, bool adaptive, bool count_padding) {
  return {PoolAxis(x.size(2), y.size(2), window, 0, adaptive),
          PoolAxis(x.size(3), y.size(3), window, 1, adaptive), x.size(1), count_padding};
}

// Calls body(i, j, offset) over the pixels of two ranges of an image [height, width, C].
template <typename Body>
__device__ __forceinline__ void for_pixels(const PoolRange& rows, const PoolRange& columns, int64_t start,
                                           int64_t width, int64_t C, Body&& body) {
  for (int64_t i = rows.begin; i < rows.end; i += rows.step) {
    for (int64_t j = columns.begin; j < columns.end; j += columns.step) {
      body(i, j, start + (i * width + j) * C);
    }
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads)
    max_forward(const Pool p, const S* x, S* y, int32_t* index, int64_t count) {
  for (int64_t at = thread_of_grid(); at < count; at += threads_of_grid()) {
    const Place to = place_of(at, p.rows.out, p.columns.out, p.C);
    const PoolRange rows = p.rows.inputs(to.i), columns = p.columns.inputs(to.j);
    Compute<S> best = -std::numeric_limits<Compute<S>>::infinity();
    int64_t chosen = rows.begin * p.columns.in + columns.begin;
    for_pixels(rows, columns, to.image * p.rows.in * p.columns.in * p.C + to.c, p.columns.in, p.C,
               [&](int64_t i, int64_t j, int64_t from) {
                 const Compute<S> value = widen(x[from]);
                 if (!(value > best) && value == value) return;
                 best = value;
                 chosen = i * p.columns.in + j;
               });
    y[at] = narrow<S>(best);
    index[at] = static_cast<int32_t>(chosen);
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads)
    max_backward(const Pool p, const S* dy, const int32_t* index, S* dx, int64_t count) {
  for (int64_t at = thread_of_grid(); at < count; at += threads_of_grid()) {
    const Place to = place_of(at, p.rows.in, p.columns.in, p.C);
    const int64_t own = to.i * p.columns.in + to.j;
    Compute<S> sum = 0;
    for_pixels(p.rows.outputs(to.i), p.columns.outputs(to.j),
               to.image * p.rows.out * p.columns.out * p.C + to.c, p.columns.out, p.C,
               [&](int64_t, int64_t, int64_t from) {
                 if (index[from] == own) sum += widen(dy[from]);
               });
    dx[at] = narrow<S>(sum);
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads) mean_forward(const Pool p, const S* x, S* y, int64_t count) {
  for (int64_t at = thread_of_grid(); at < count; at += threads_of_grid()) {
    const Place to = place_of(at, p.rows.out, p.columns.out, p.C);
    const int64_t start = to.image * p.rows.in * p.columns.in * p.C + to.c;
    const PoolRange rows = p.rows.inputs(to.i), columns = p.columns.inputs(to.j);
    Compute<S> sum = 0;
    for (int64_t i = rows.begin; i < rows.end; ++i) {  // sums in two levels stay accurate over whole images
      Compute<S> row = 0;
      for_pixels({i, i + 1}, columns, start, p.columns.in, p.C,
                 [&](int64_t, int64_t, int64_t from) { row += widen(x[from]); });
      sum += row;
    }
    const int64_t n = p.rows.extent(to.i, p.count_padding) * p.columns.extent(to.j, p.count_padding);
    y[at] = narrow<S>(sum / static_cast<Compute<S>>(n));
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads) mean_backward(const Pool p, const S* dy, S* dx, int64_t count) {
  for (int64_t at = thread_of_grid(); at < count; at += threads_of_grid()) {
    const Place to = place_of(at, p.rows.in, p.columns.in, p.C);
    Compute<S> sum = 0;
    for_pixels(p.rows.outputs(to.i), p.columns.outputs(to.j),
               to.image * p.rows.out * p.columns.out * p.C + to.c, p.columns.out, p.C,
               [&](int64_t i, int64_t j, int64_t from) {
                 const int64_t n = p.rows.extent(i, p.count_padding) * p.columns.extent(j, p.count_padding);
                 sum += widen(dy[from]) / static_cast<Compute<S>>(n);
               });
    dx[at] = narrow<S>(sum);
  }
}

}  // namespace

void max_pool2d(const MaxPool2dArgs& args, void* stream) {
  with_float_type(args.x.dtype, [&]<typename S>(S) {
    const Pool pool = pool_of(args.x, args.y, args.window, false, true);
    launch_over(queue_of(stream), "maxPool2d", &max_forward<S>, args.y.numel(), pool, args.x.as<const S>(),
                args.y.as<S>(), args.index.as<int32_t>(), args.y.numel());
  });
}

void max_pool2d_backward(const MaxPool2dBackwardArgs& args, void* stream) {
  with_float_type(args.dx.dtype, [&]<typename S>(S) {
    const Pool pool = pool_of(args.dx, args.dy, args.window, false, true);
    launch_over(queue_of(stream), "maxPool2dBackward", &max_backward<S>, args.dx.numel(), pool,
                args.dy.as<const S>(), args.index.as<const int32_t>(), args.dx.as<S>(), args.dx.numel());
  });
}

void avg_pool2d(const AvgPool2dArgs& args, void* stream) {
  with_float_type(args.x.dtype, [&]<typename S>(S) {
    const Pool pool = pool_of(args.x, args.y, args.window, args.adaptive, args.count_padding);
    launch_over(queue_of(stream), "avgPool2d", &mean_forward<S>, args.y.numel(), pool, args.x.as<const S>(),
                args.y.as<S>(), args.y.numel());
  });
}

void avg_pool2d_backward(const AvgPool2dBackwardArgs& args, void* stream) {
  with_float_type(args.dx.dtype, [&]<typename S>(S) {
    const Pool pool = pool_of(args.dx, args.dy, args.window, args.adaptive, args.count_padding);
    launch_over(queue_of(stream), "avgPool2dBackward", &mean_backward<S>, args.dx.numel(), pool,
                args.dy.as<const S>(), args.dx.as<S>(), args.dx.numel());
  });
}

}  // namespace tenon::cuda
