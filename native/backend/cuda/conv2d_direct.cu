// A pixel or an input gradient is one thread's, which walks over the taps that reach it; its neighbours make the next
// channels of the same pixel, so that the image is read and written in runs, and the weight through the cache. An element
// of the weight's gradient is a sum over all pixels: a block takes 32 output channels of one tap, 8 pixels of a row at a
// time. Every sum has a fixed order.
//
// Simple on purpose: float64 is for checking gradients, and what cuDNN declines is rare.
#include "backend/cuda/conv2d_direct.h"

#include "backend/cuda/elementwise.h"
#include "backend/cuda/image.h"

namespace tenon::cuda {
namespace {

constexpr int kStrip = kWarpSize;  // output channels of a block
constexpr int kLanes = 8;          // pixels that it reads at once

struct Geometry {
  int64_t B, C, H, W, O, h, w;
  int64_t inputs, outputs;  // channels of a group
  Window window;

  explicit Geometry(const Convolution& c)
      : B(c.x.size(0)),
        C(c.x.size(1)),
        H(c.x.size(2)),
        W(c.x.size(3)),
        O(c.y.size(1)),
        h(c.y.size(2)),
        w(c.y.size(3)),
        inputs(C / c.groups),
        outputs(O / c.groups),
        window(c.window) {}

  __device__ __forceinline__ int64_t taps() const { return window.kernel[0] * window.kernel[1]; }
  // The row (dim 0) or column that tap k of output o reads; -1 beyond the image.
  __device__ __forceinline__ int64_t input(int dim, int64_t o, int64_t k) const {
    const int64_t i = o * window.stride[dim] - window.padding[dim] + k * window.dilation[dim];
    return i < 0 || i >= (dim == 0 ? H : W) ? -1 : i;
  }
  // The output whose tap k reads i; -1 where there is none.
  __device__ __forceinline__ int64_t output(int dim, int64_t i, int64_t k) const {
    const int64_t from = i + window.padding[dim] - k * window.dilation[dim];
    const int64_t o = from / window.stride[dim];
    return from < 0 || o * window.stride[dim] != from || o >= (dim == 0 ? h : w) ? -1 : o;
  }
};

template <typename S>
__global__ void __launch_bounds__(kThreads)
    forward(const Geometry g, const S* x, const S* weight, S* y, int64_t count) {
  for (int64_t at = thread_of_grid(); at < count; at += threads_of_grid()) {
    const Place to = place_of(at, g.h, g.w, g.O);
    const int64_t first = to.c / g.outputs * g.inputs;
    Compute<S> sum = 0;
    for (int64_t a = 0; a < g.window.kernel[0]; ++a) {
      const int64_t row = g.input(0, to.i, a);
      if (row < 0) continue;
      for (int64_t b = 0; b < g.window.kernel[1]; ++b) {
        const int64_t column = g.input(1, to.j, b);
        if (column < 0) continue;
        const S* const pixel = x + ((to.image * g.H + row) * g.W + column) * g.C + first;
        const S* const tap = weight + to.c * g.inputs * g.taps() + a * g.window.kernel[1] + b;
        for (int64_t c = 0; c < g.inputs; ++c) sum += widen(pixel[c]) * widen(tap[c * g.taps()]);
      }
    }
    y[at] = narrow<S>(sum);
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads)
    input_gradient(const Geometry g, const S* dy, const S* weight, S* dx, int64_t count) {
  for (int64_t at = thread_of_grid(); at < count; at += threads_of_grid()) {
    const Place to = place_of(at, g.H, g.W, g.C);
    const int64_t group = to.c / g.inputs, first = group * g.outputs;
    Compute<S> sum = 0;
    for (int64_t a = 0; a < g.window.kernel[0]; ++a) {
      const int64_t i = g.output(0, to.i, a);
      if (i < 0) continue;
      for (int64_t b = 0; b < g.window.kernel[1]; ++b) {
        const int64_t j = g.output(1, to.j, b);
        if (j < 0) continue;
        const S* const pixel = dy + ((to.image * g.h + i) * g.w + j) * g.O + first;
        const S* const tap =
            weight + (first * g.inputs + to.c - group * g.inputs) * g.taps() + a * g.window.kernel[1] + b;
        for (int64_t o = 0; o < g.outputs; ++o) {
          sum += widen(pixel[o]) * widen(tap[o * g.inputs * g.taps()]);
        }
      }
    }
    dx[at] = narrow<S>(sum);
  }
}

// A block is kStrip x kLanes threads; blockIdx.x counts strips of output channels, then taps, then input channels.
template <typename S>
__global__ void __launch_bounds__(kStrip* kLanes)
    weight_gradient(const Geometry g, const S* dy, const S* x, S* dweight, int64_t strips) {
  using T = Compute<S>;
  T* const shared = shared_memory<T>();  // [kLanes, kStrip]
  const int channel = static_cast<int>(threadIdx.x), lane = static_cast<int>(threadIdx.y);
  const int64_t term = blockIdx.x / strips, o = (blockIdx.x - term * strips) * kStrip + channel;
  const int64_t c = term / g.taps(), tap = term - c * g.taps();
  const int64_t a = tap / g.window.kernel[1], b = tap - a * g.window.kernel[1];
  T total = 0;
  for (int64_t row_of_all = 0; o < g.O && row_of_all < g.B * g.h; ++row_of_all) {
    const int64_t image = row_of_all / g.h, row = g.input(0, row_of_all - image * g.h, a);
    if (row < 0) continue;
    const S* const from = x + (image * g.H + row) * g.W * g.C + o / g.outputs * g.inputs + c;
    T sum = 0;  // sums in two levels stay accurate over many images
    for (int64_t j = lane; j < g.w; j += kLanes) {
      const int64_t column = g.input(1, j, b);
      if (column >= 0) sum += widen(dy[(row_of_all * g.w + j) * g.O + o]) * widen(from[column * g.C]);
    }
    total += sum;
  }
  shared[lane * kStrip + channel] = total;
  __syncthreads();
  if (lane > 0 || o >= g.O) return;
  for (int i = 1; i < kLanes; ++i) total += shared[i * kStrip + channel];
  dweight[(o * g.inputs + c) * g.taps() + tap] = narrow<S>(total);
}

}  // namespace

void conv2d_direct(Queue& queue, const char* op, const Convolution& c) {
  const Geometry g(c);
  with_float_type(c.x.dtype, [&]<typename S>(S) {
    switch (c.pass) {
      case Conv2dPass::Forward:
        return launch_over(queue, op, &forward<S>, c.y.numel(), g, c.x.as<const S>(), c.weight.as<const S>(),
                           c.y.as<S>(), c.y.numel());
      case Conv2dPass::InputGradient:
        return launch_over(queue, op, &input_gradient<S>, c.x.numel(), g, c.y.as<const S>(),
                           c.weight.as<const S>(), c.x.as<S>(), c.x.numel());
      case Conv2dPass::WeightGradient: {
        const int64_t strips = blocks_for(g.O, kStrip), terms = c.weight.numel() / g.O;
        return launch(queue, op, &weight_gradient<S>, strips * terms, dim3(kStrip, kLanes),
                      kStrip * kLanes * sizeof(Compute<S>), g, c.y.as<const S>(), c.x.as<const S>(),
                      c.weight.as<S>(), strips);
      }
    }
  });
}

}  // namespace tenon::cuda
