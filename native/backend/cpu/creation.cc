// fill and arange.
#include <vector>

#include "backend/cpu/convert.h"
#include "backend/cpu/iterate.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace tenon::cpu {

void fill(const FillArgs& args) {
  const View& out = args.out;
  const Nest<1> nest(out.shape, {out.strides});
  with_type(out.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T value = convert<T>(args.value);
    parallel_for(nest.count(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
      nest.tiles(begin, end, nest.count(), [&](const auto& at, int64_t rows, int64_t columns) {
        const int64_t stride = nest.column_stride(0);
        for (int64_t r = 0; r < rows; ++r) {
          T* to = out.as<T>() + at[0] + r * nest.row_stride(0);
          if (stride == 1) {
            std::fill_n(to, columns, value);
          } else {
            for (int64_t i = 0; i < columns; ++i) to[i * stride] = value;
          }
        }
      });
    });
  });
}

void arange(const ArangeArgs& args) {
  const View& out = args.out;
  with_type(out.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* to = out.as<T>();
    parallel_for(out.numel(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        to[i * out.stride(0)] = convert<T>(args.start + static_cast<double>(i) * args.step);
      }
    });
  });
}

}  // namespace tenon::cpu
