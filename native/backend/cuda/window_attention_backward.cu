// Gradients of attention inside Swin's windows: attention_backward.h's kernels on the rows of windows, with the windows of
// a head as the group that shares its bias. Two more kernels sum what several windows contribute to, in a fixed order: the
// table, from the bias's gradient by pairs of positions, and the padding, from the gradients of the positions outside.
#include "backend/cuda/attention_backward.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/window_attention.h"

namespace tenon::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarpSize;

// dtable from partial [chunks, heads, n, n]: a warp to an element, its lanes to the pairs of positions at that offset.
template <typename S>
__global__ void __launch_bounds__(kThreads)
    sum_table(const Compute<S>* partial, int chunks, int heads, const Grid windows, S* dtable) {
  const int element = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarpSize;
  if (element >= windows.offsets() * heads) return;  // a whole warp
  const int head = element % heads, offset = element / heads, n = windows.positions();
  const int dy = offset / (2 * windows.width - 1) - windows.height + 1,
            dx = offset % (2 * windows.width - 1) - windows.width + 1;
  const int rows = windows.height - (dy < 0 ? -dy : dy), columns = windows.width - (dx < 0 ? -dx : dx);
  const int first_y = dy < 0 ? -dy : 0, first_x = dx < 0 ? -dx : 0;  // of the keys
  Compute<S> sum = 0;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const Compute<S>* const part = partial + (static_cast<int64_t>(chunk) * heads + head) * n * n;
    for (int pair = static_cast<int>(threadIdx.x) % kWarpSize; pair < rows * columns; pair += kWarpSize) {
      const int y = first_y + pair / columns, x = first_x + pair % columns;
      const int key = y * windows.width + x, query = (y + dy) * windows.width + x + dx;
      sum += part[int64_t{query} * n + key];
    }
  }
  sum = sum_over_warp(sum);
  if (threadIdx.x % kWarpSize == 0) dtable[element] = narrow<S>(sum);
}

// dpadding from rows [rows, columns]: a thread to a column, so that neighbours read neighbours.
template <typename S>
__global__ void __launch_bounds__(kThreads) sum_rows(const S* x, int64_t rows, int columns, S* sums) {
  const int column = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (column >= columns) return;
  Compute<S> sum = 0;
  for (int64_t row = 0; row < rows; ++row) sum += widen(x[row * columns + column]);
  sums[column] = narrow<S>(sum);
}

template <typename S>
void run(const WindowAttentionBackwardArgs& args, Queue& queue) {
  using T = Compute<S>;
  constexpr const char* kOp = "windowAttentionBackward";
  const Grid windows = grid_of(kOp, args.windows);
  const int64_t heads = args.table.size(1), features = args.out.size(3), d = features / heads;
  const int columns = to_int(kOp, "features", 3 * features);
  const int64_t images = args.qkv.size(0), count = images * windows.count(), n = windows.positions();
  const auto plan = backward::make_plan<Windowed, S>(queue, count, heads, n, n, args.dtable ? 1 : 0,
                                                     args.dtable ? heads : 0);
  // First what the plan says, then a row of dqkv for each position outside.
  const int64_t outside_rows = args.dpadding ? images * count_outside(windows) : 0;
  auto* const scratch =
      static_cast<T*>(queue.scratch(static_cast<size_t>(plan.scratch_count()) * sizeof(T) +
                                    static_cast<size_t>(outside_rows * 3 * features) * sizeof(S) + 16));
  const auto up = [](uintptr_t address) { return (address + 15) / 16 * 16; };
  auto* const outside =
      outside_rows == 0
          ? nullptr
          : reinterpret_cast<S*>(up(reinterpret_cast<uintptr_t>(scratch + plan.scratch_count())));

  const auto part = [&](int64_t which) {
    return window_heads<const S>(args.qkv, windows, which * features, d, args.padding.as<const S>());
  };
  const auto gradient = [&](int64_t which) {
    return window_heads<S>(args.dqkv, windows, which * features, d, outside, false);
  };
  backward::Operands<Windowed, S> a{part(0),
                                    part(1),
                                    part(2),
                                    window_heads<const S>(args.out, windows, 0, d),
                                    window_heads<const S>(args.dout, windows, 0, d),
                                    gradient(0),
                                    gradient(1),
                                    gradient(2),
                                    window_lse<const T>(args.lse, windows),
                                    WindowTerms<S>(kOp, args, queue),
                                    static_cast<int>(d)};
  backward::start(queue, kOp, a, plan, scratch);
  if (args.dtable) {
    launch(queue, kOp, &sum_table<S>, blocks_for(args.dtable.numel(), kWarps), kThreads, 0, a.partial,
           static_cast<int>(plan.chunks()), static_cast<int>(heads), windows, args.dtable.as<S>());
  }
  if (args.dpadding) {
    launch(queue, kOp, &sum_rows<S>, blocks_for(columns, kThreads), kThreads, 0,
           static_cast<const S*>(outside), outside_rows, columns, args.dpadding.as<S>());
  }
}

}  // namespace

void window_attention_backward(const WindowAttentionBackwardArgs& args, void* stream) {
  with_float_type(args.qkv.dtype, [&]<typename S>(S) { run<S>(args, queue_of(stream)); });
}

}  // namespace tenon::cuda
