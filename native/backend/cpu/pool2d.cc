// Pooling over the windows of channels-last images. Every sum is gathered where it is written, in the order of the
// windows: no two threads write one pixel.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/pool2d.cc"
#include "backend/cpu/rows.h"
//
#include <algorithm>
#include <limits>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "backend/pool.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

struct Pool {
  PoolAxis rows, columns;
  int64_t B, C;

  Pool(const View& x, const View& y, const Window& window, bool adaptive)
      : rows(x.size(2), y.size(2), window, 0, adaptive),
        columns(x.size(3), y.size(3), window, 1, adaptive),
        B(x.size(0)),
        C(x.size(1)) {}

  // Calls body(image, i, j) for every pixel of B images of height x width; threads own rows.
  template <typename Body>
  void pixels(int64_t height, int64_t width, int64_t reads, Body&& body) const {
    const int64_t grain = 16384 / std::max<int64_t>(1, width * C * reads) + 1;
    parallel_for(B * height, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t j = 0; j < width; ++j) body(row / height, row % height, j);
      }
    });
  }
  template <typename Body>
  void outputs(Body&& body) const {
    pixels(rows.out, columns.out, std::max<int64_t>(1, rows.in * columns.in / (rows.out * columns.out)),
           body);
  }
  template <typename Body>
  void inputs(Body&& body) const {
    pixels(rows.in, columns.in, 1, body);
  }

  int64_t input(int64_t image, int64_t i, int64_t j) const {
    return ((image * rows.in + i) * columns.in + j) * C;
  }
  int64_t output(int64_t image, int64_t i, int64_t j) const {
    return ((image * rows.out + i) * columns.out + j) * C;
  }
};

// Calls body(i, j) over the pixels of two ranges, row by row.
template <typename Body>
HWY_INLINE void for_pixels(const PoolRange& rows, const PoolRange& columns, Body&& body) {
  for (int64_t i = rows.begin; i < rows.end; i += rows.step) {
    for (int64_t j = columns.begin; j < columns.end; j += columns.step) body(i, j);
  }
}

// The channels of a pixel as Compute<S>: its own memory, or scratch.
template <typename S>
HWY_INLINE const Compute<S>* load(const S* from, Compute<S>* scratch, int64_t n) {
  if constexpr (std::is_same_v<S, Compute<S>>) {
    return from;
  } else {
    convert_run(from, 1, scratch, 1, n);
    return scratch;
  }
}

// Scratch of one thread: lines of channels.
template <typename T>
struct Lines {
  T *sum, *row, *line;
  explicit Lines(int64_t n) {
    static thread_local std::vector<T> storage;
    storage.resize(static_cast<size_t>(3 * n));
    sum = storage.data();
    row = sum + n;
    line = row + n;
  }
};

template <typename S>
void max_forward(const MaxPool2dArgs& args) {
  using T = Compute<S>;
  const Pool pool(args.x, args.y, args.window, false);
  const int64_t C = pool.C;
  pool.outputs([&](int64_t image, int64_t i, int64_t j) {
    const Lines<T> lines(C);
    T* HWY_RESTRICT best = lines.sum;
    int32_t* HWY_RESTRICT index = args.index.as<int32_t>() + pool.output(image, i, j);
    const PoolRange rows = pool.rows.inputs(i), columns = pool.columns.inputs(j);
    std::fill(best, best + C, -std::numeric_limits<T>::infinity());
    std::fill(index, index + C, static_cast<int32_t>(rows.begin * pool.columns.in + columns.begin));
    for_pixels(rows, columns, [&](int64_t r, int64_t c) {
      const T* HWY_RESTRICT x = load(args.x.as<S>() + pool.input(image, r, c), lines.line, C);
      const auto at = static_cast<int32_t>(r * pool.columns.in + c);
      for (int64_t k = 0; k < C; ++k) {
        const bool better = x[k] > best[k] || x[k] != x[k];
        best[k] = better ? x[k] : best[k];
        index[k] = better ? at : index[k];
      }
    });
    convert_run(best, 1, args.y.as<S>() + pool.output(image, i, j), 1, C);
  });
}

template <typename S>
void max_backward(const MaxPool2dBackwardArgs& args) {
  using T = Compute<S>;
  const Pool pool(args.dx, args.dy, args.window, false);
  const int64_t C = pool.C;
  pool.inputs([&](int64_t image, int64_t i, int64_t j) {
    const Lines<T> lines(C);
    T* HWY_RESTRICT sum = lines.sum;
    std::fill(sum, sum + C, T{0});
    const auto at = static_cast<int32_t>(i * pool.columns.in + j);
    for_pixels(pool.rows.outputs(i), pool.columns.outputs(j), [&](int64_t r, int64_t c) {
      const int32_t* HWY_RESTRICT index = args.index.as<int32_t>() + pool.output(image, r, c);
      const T* HWY_RESTRICT dy = load(args.dy.as<S>() + pool.output(image, r, c), lines.line, C);
      for (int64_t k = 0; k < C; ++k) sum[k] += index[k] == at ? dy[k] : T{0};
    });
    convert_run(sum, 1, args.dx.as<S>() + pool.input(image, i, j), 1, C);
  });
}

template <typename S>
void average_forward(const AvgPool2dArgs& args) {
  using T = Compute<S>;
  const Pool pool(args.x, args.y, args.window, args.adaptive);
  const int64_t C = pool.C;
  pool.outputs([&](int64_t image, int64_t i, int64_t j) {
    const Lines<T> lines(C);
    T* HWY_RESTRICT sum = lines.sum;
    std::fill(sum, sum + C, T{0});
    const PoolRange rows = pool.rows.inputs(i), columns = pool.columns.inputs(j);
    for (int64_t r = rows.begin; r < rows.end; ++r) {  // sums in two levels stay accurate over whole images
      T* HWY_RESTRICT row = lines.row;
      std::fill(row, row + C, T{0});
      for (int64_t c = columns.begin; c < columns.end; ++c) {
        const T* HWY_RESTRICT x = load(args.x.as<S>() + pool.input(image, r, c), lines.line, C);
        for (int64_t k = 0; k < C; ++k) row[k] += x[k];
      }
      for (int64_t k = 0; k < C; ++k) sum[k] += row[k];
    }
    const auto n =
        static_cast<T>(pool.rows.extent(i, args.count_padding) * pool.columns.extent(j, args.count_padding));
    for (int64_t k = 0; k < C; ++k) sum[k] /= n;
    convert_run(sum, 1, args.y.as<S>() + pool.output(image, i, j), 1, C);
  });
}

template <typename S>
void average_backward(const AvgPool2dBackwardArgs& args) {
  using T = Compute<S>;
  const Pool pool(args.dx, args.dy, args.window, args.adaptive);
  const int64_t C = pool.C;
  pool.inputs([&](int64_t image, int64_t i, int64_t j) {
    const Lines<T> lines(C);
    T* HWY_RESTRICT sum = lines.sum;
    std::fill(sum, sum + C, T{0});
    for_pixels(pool.rows.outputs(i), pool.columns.outputs(j), [&](int64_t r, int64_t c) {
      const auto share = T{1} / static_cast<T>(pool.rows.extent(r, args.count_padding) *
                                               pool.columns.extent(c, args.count_padding));
      const T* HWY_RESTRICT dy = load(args.dy.as<S>() + pool.output(image, r, c), lines.line, C);
      for (int64_t k = 0; k < C; ++k) sum[k] += dy[k] * share;
    });
    convert_run(sum, 1, args.dx.as<S>() + pool.input(image, i, j), 1, C);
  });
}

// HWY_EXPORT takes no templates.
#define TENON_RUN(name, Args)                                                    \
  void run_##name(const Args& args) {                                            \
    with_float_type(args.TENON_IN.dtype, [&]<typename S>(S) { name<S>(args); }); \
  }
#define TENON_IN x
TENON_RUN(max_forward, MaxPool2dArgs)
TENON_RUN(average_forward, AvgPool2dArgs)
#undef TENON_IN
#define TENON_IN dx
TENON_RUN(max_backward, MaxPool2dBackwardArgs)
TENON_RUN(average_backward, AvgPool2dBackwardArgs)
#undef TENON_IN
#undef TENON_RUN

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(run_max_forward);
HWY_EXPORT(run_max_backward);
HWY_EXPORT(run_average_forward);
HWY_EXPORT(run_average_backward);

void max_pool2d(const MaxPool2dArgs& args) {
  if (args.y.numel() > 0) HWY_DYNAMIC_DISPATCH(run_max_forward)(args);
}

void max_pool2d_backward(const MaxPool2dBackwardArgs& args) {
  if (args.dx.numel() > 0) HWY_DYNAMIC_DISPATCH(run_max_backward)(args);
}

void avg_pool2d(const AvgPool2dArgs& args) {
  if (args.y.numel() > 0) HWY_DYNAMIC_DISPATCH(run_average_forward)(args);
}

void avg_pool2d_backward(const AvgPool2dBackwardArgs& args) {
  if (args.dx.numel() > 0) HWY_DYNAMIC_DISPATCH(run_average_backward)(args);
}

}  // namespace tenon::cpu
#endif
