// Running sums along a dimension, lines side by side. 16-bit and 32-bit floats are accumulated in float64.
#include <vector>

#include "backend/cpu/convert.h"
#include "backend/cpu/iterate.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace tenon::cpu {

void cumsum(const CumsumArgs& args) {
  const View& x = args.x;
  const View& out = args.out;
  Shape shape = x.shape, x_strides = x.strides, out_strides = out.strides;
  shape.erase(args.dim);
  x_strides.erase(args.dim);
  out_strides.erase(args.dim);
  const Nest<2> lines(shape, {out_strides, x_strides});
  const int64_t n = x.size(args.dim), x_step = x.stride(args.dim), out_step = out.stride(args.dim);
  constexpr int64_t kSide = 64;  // lines at a time
  with_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using Total = std::conditional_t<std::is_floating_point_v<T> || kIsHalf<T>, double, uint64_t>;
    const int64_t grain = std::max<int64_t>(1, kElementwiseGrain / std::max<int64_t>(1, n));
    parallel_for(lines.count(), grain, [&](int64_t begin, int64_t end) {
      lines.tiles(begin, end, kSide, [&](const auto& at, int64_t rows, int64_t columns) {
        for (int64_t r = 0; r < rows; ++r) {
          Total totals[kSide] = {};
          for (int64_t i = 0; i < n; ++i) {
            const int64_t place = args.reverse ? n - 1 - i : i;
            const T* from = x.as<const T>() + at[1] + r * lines.row_stride(1) + place * x_step;
            T* to = out.as<T>() + at[0] + r * lines.row_stride(0) + place * out_step;
            for (int64_t c = 0; c < columns; ++c) {
              totals[c] += convert<Total>(from[c * lines.column_stride(1)]);
              to[c * lines.column_stride(0)] = convert<T>(totals[c]);
            }
          }
        }
      });
    });
  });
}

}  // namespace tenon::cpu
