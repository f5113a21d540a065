// Running sums along a dimension, in float64 for floating dtypes, in a fixed order. Where the lines lie side by side in
// memory a thread goes down each, and neighbouring threads read neighbours; elsewhere a block takes a line, a strip
// of as many elements as it has threads after the other.
#include <bit>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

template <typename S>
using Total = std::conditional_t<std::is_floating_point_v<Value<S>>, double, uint64_t>;

template <typename S>
struct Cumsum {
  const S* x;
  S* out;
  Loops<2> lines;  // of out and x
  int64_t count, x_step, out_step;
};

template <typename S>
__global__ void __launch_bounds__(kThreads) sum_side_by_side(const Cumsum<S> c) {
  for (int64_t line = thread_of_grid(); line < c.lines.count; line += threads_of_grid()) {
    const Offsets<2> at = locate(c.lines, line);
    Total<S> total = 0;
    for (int64_t i = 0; i < c.count; ++i) {
      total += static_cast<Total<S>>(value_of(c.x[at.at[1] + i * c.x_step]));
      c.out[at.at[0] + i * c.out_step] = convert<S>(total);
    }
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads) sum_strips(const Cumsum<S> c, int64_t first_line) {
  Total<S>* const sums = shared_memory<Total<S>>();
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const Offsets<2> at = locate(c.lines, first_line + blockIdx.x);
  Total<S> before = 0;
  for (int64_t start = 0; start < c.count; start += threads) {
    const int64_t i = start + thread;
    sums[thread] = i < c.count ? static_cast<Total<S>>(value_of(c.x[at.at[1] + i * c.x_step])) : Total<S>(0);
    for (int reach = 1; reach < threads; reach *= 2) {  // each sum takes in the one `reach` places before it
      __syncthreads();
      const Total<S> other = thread >= reach ? sums[thread - reach] : Total<S>(0);
      __syncthreads();
      sums[thread] += other;
    }
    __syncthreads();
    if (i < c.count) c.out[at.at[0] + i * c.out_step] = convert<S>(before + sums[thread]);
    before += sums[threads - 1];
    __syncthreads();
  }
}

}  // namespace

void cumsum(const CumsumArgs& args, void* stream) {
  if (args.x.numel() == 0) return;
  Queue& queue = queue_of(stream);
  const int dim = args.dim;
  const int64_t count = args.x.size(dim);
  Shape shape = args.x.shape, out_strides = args.out.strides, x_strides = args.x.strides;
  for (Shape* s : {&shape, &out_strides, &x_strides}) s->erase(dim);
  const Loops<2> lines(shape, {out_strides, x_strides});
  // Backwards is forwards from the last element.
  const int64_t last = args.reverse ? count - 1 : 0, sign = args.reverse ? -1 : 1;
  with_type(args.x.dtype, [&]<typename S>(S) {
    if constexpr (!std::is_same_v<S, Bool>) {
      const Cumsum<S> c{args.x.as<const S>() + last * args.x.stride(dim),
                        args.out.as<S>() + last * args.out.stride(dim),
                        lines,
                        count,
                        sign * args.x.stride(dim),
                        sign * args.out.stride(dim)};
      if (lines.count > 1 && std::abs(lines.strides[0][1]) < std::abs(args.x.stride(dim))) {
        launch_over(queue, "cumsum", &sum_side_by_side<S>, lines.count, c);
      } else {
        const auto threads = static_cast<unsigned>(
            std::clamp<uint64_t>(std::bit_ceil(static_cast<uint64_t>(count)), kWarpSize, kThreads));
        for_grids(lines.count, [&](int64_t first, int64_t blocks) {
          launch(queue, "cumsum", &sum_strips<S>, blocks, threads, threads * sizeof(Total<S>), c, first);
        });
      }
    }
  });
}

}  // namespace tenon::cuda
