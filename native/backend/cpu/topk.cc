// The k largest or smallest of each row, sorted; NaN counts as the largest, and of equals the first comes first.
#include <algorithm>
#include <vector>

#include "backend/cpu/convert.h"
#include "backend/cpu/iterate.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace tenon::cpu {

namespace {

// A total order on values: a before b.
template <typename T>
bool larger(T a, T b) {
  if (a != a) return b == b;
  return a > b;
}
template <typename T>
bool smaller(T a, T b) {
  if (b != b) return a == a;
  return a < b;
}

}  // namespace

void topk(const TopkArgs& args) {
  const View& x = args.x;
  const int last = x.ndim() - 1;
  const int64_t n = x.shape.back(), k = args.values.shape.back();
  Shape shape = x.shape;
  std::array<Shape, 3> strides = {args.values.strides, args.indices.strides, x.strides};
  shape.erase(last);
  for (Shape& s : strides) s.erase(last);
  const Nest<3> rows(shape, strides);
  with_type(x.dtype, [&](auto zero) {
    using Stored = decltype(zero);
    using T = std::conditional_t<kIsHalf<Stored>, float,
                                 std::conditional_t<std::is_same_v<Stored, Bool>, uint8_t, Stored>>;
    struct Entry {
      T value;
      int64_t index;
    };
    const auto before = [largest = args.largest](const Entry& a, const Entry& b) {
      if (largest ? larger(a.value, b.value) : smaller(a.value, b.value)) return true;
      if (largest ? larger(b.value, a.value) : smaller(b.value, a.value)) return false;
      return a.index < b.index;
    };
    parallel_for(rows.count(), std::max<int64_t>(1, 4096 / std::max<int64_t>(1, n)),
                 [&](int64_t begin, int64_t end) {
                   std::vector<Entry> entries(static_cast<size_t>(n));
                   const auto row = [&](int64_t value_at, int64_t index_at, int64_t x_at) {
                     for (int64_t i = 0; i < n; ++i) {
                       entries[static_cast<size_t>(i)] = {
                           convert<T>(x.as<const Stored>()[x_at + i * x.stride(last)]), i};
                     }
                     std::partial_sort(entries.begin(), entries.begin() + k, entries.end(), before);
                     for (int64_t i = 0; i < k; ++i) {
                       args.values.as<Stored>()[value_at + i * args.values.stride(last)] =
                           convert<Stored>(entries[static_cast<size_t>(i)].value);
                       args.indices.as<int64_t>()[index_at + i * args.indices.stride(last)] =
                           entries[static_cast<size_t>(i)].index;
                     }
                   };
                   rows.tiles(begin, end, rows.count(), [&](const auto& at, int64_t height, int64_t width) {
                     for (int64_t r = 0; r < height; ++r) {
                       for (int64_t c = 0; c < width; ++c) {
                         row(at[0] + r * rows.row_stride(0) + c * rows.column_stride(0),
                             at[1] + r * rows.row_stride(1) + c * rows.column_stride(1),
                             at[2] + r * rows.row_stride(2) + c * rows.column_stride(2));
                       }
                     }
                   });
                 });
  });
}

}  // namespace tenon::cpu
