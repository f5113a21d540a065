// Selecting and scattering by index. Where two indices may name the same place of the output, sums run in the
// order of the source: threads share out the other dimensions, never the indexed one.
#include <cstring>
#include <string>
#include <vector>

#include "backend/cpu/convert.h"
#include "backend/cpu/iterate.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "core/error.h"

namespace tenon::cpu {

namespace {

int64_t index_at(const View& index, int64_t offset) {
  return index.dtype == DType::Int32 ? index.as<const int32_t>()[offset] : index.as<const int64_t>()[offset];
}

int64_t checked(const char* op, const View& index, int64_t offset, int64_t size) {
  const int64_t i = index_at(index, offset);
  if (i < 0 || i >= size) {
    throw TensorError(
        op, code::kIndex,
        "expected indices from 0 to " + std::to_string(size - 1) + ", got " + std::to_string(i));
  }
  return i;
}

std::vector<int64_t> read_indices(const char* op, const View& index, int64_t size) {
  std::vector<int64_t> indices(static_cast<size_t>(index.numel()));
  for (size_t i = 0; i < indices.size(); ++i) {
    indices[i] = checked(op, index, static_cast<int64_t>(i) * index.stride(0), size);
  }
  return indices;
}

Shape without(const Shape& shape, int dim) {
  Shape rest = shape;
  rest.erase(dim);
  return rest;
}

// What sums of a T are made in.
template <typename T>
using Sum = std::conditional_t<kIsHalf<T>, float, T>;

// a + factor b; the factor is for floats.
template <typename T>
T sum(T a, T b, Sum<T> factor = Sum<T>{1}) {
  if constexpr (kIsHalf<T>) {
    return T(static_cast<float>(a) + factor * static_cast<float>(b));
  } else if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  } else if constexpr (std::is_same_v<T, Bool>) {
    return Bool{static_cast<uint8_t>(a.byte | b.byte)};
  } else {
    return a + factor * b;
  }
}

// Calls line(offsets) for every element of `shape` less dimension dim.
template <size_t N, typename Line>
void for_each_line(const Shape& shape, int dim, const std::array<Shape, N>& strides, Line&& line) {
  std::array<Shape, N> rest;
  for (size_t k = 0; k < N; ++k) rest[k] = without(strides[k], dim);
  const Nest<N> nest(without(shape, dim), rest);
  const int64_t grain = std::max<int64_t>(1, kElementwiseGrain / std::max<int64_t>(1, shape[dim]));
  parallel_for(nest.count(), grain, [&](int64_t begin, int64_t end) {
    nest.tiles(begin, end, nest.count(), [&](auto at, int64_t rows, int64_t columns) {
      for (int64_t r = 0; r < rows; ++r) {
        auto place = at;
        for (size_t k = 0; k < N; ++k) place[k] += r * nest.row_stride(k);
        for (int64_t c = 0; c < columns; ++c) {
          line(place);
          for (size_t k = 0; k < N; ++k) place[k] += nest.column_stride(k);
        }
      }
    });
  });
}

}  // namespace

void index_select(const IndexSelectArgs& args) {
  const View& x = args.x;
  const View& out = args.out;
  const std::vector<int64_t> indices = read_indices("index_select", args.index, x.size(args.dim));
  const Shape out_strides = without(out.strides, args.dim), x_strides = without(x.strides, args.dim);
  const Nest<2> slice(without(out.shape, args.dim), {out_strides, x_strides});
  if (slice.count() == 0) return;
  with_bits(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    // Positions in the order (index, element of the slice).
    const int64_t total = static_cast<int64_t>(indices.size()) * slice.count();
    parallel_for(total, kElementwiseGrain, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end;) {
        const int64_t i = p / slice.count(), from = p % slice.count();
        const int64_t to = std::min(slice.count(), from + (end - p));
        const T* source = x.as<const T>() + indices[static_cast<size_t>(i)] * x.stride(args.dim);
        T* target = out.as<T>() + i * out.stride(args.dim);
        slice.tiles(from, to, slice.count(), [&](const auto& at, int64_t rows, int64_t columns) {
          const int64_t out_step = slice.column_stride(0), x_step = slice.column_stride(1);
          for (int64_t r = 0; r < rows; ++r) {
            T* t = target + at[0] + r * slice.row_stride(0);
            const T* s = source + at[1] + r * slice.row_stride(1);
            if (out_step == 1 && x_step == 1) {
              std::memcpy(t, s, static_cast<size_t>(columns) * sizeof(T));
            } else {
              for (int64_t c = 0; c < columns; ++c) t[c * out_step] = s[c * x_step];
            }
          }
        });
        p += to - from;
      }
    });
  });
}

void index_add(const IndexAddArgs& args) {
  const View& src = args.src;
  const View& out = args.out;
  const std::vector<int64_t> indices = read_indices("index_add", args.index, out.size(args.dim));
  const Shape src_strides = without(src.strides, args.dim), out_strides = without(out.strides, args.dim);
  const Nest<2> slice(without(src.shape, args.dim), {out_strides, src_strides});
  const auto n = static_cast<int64_t>(indices.size());
  const int64_t grain = std::max<int64_t>(16, kElementwiseGrain / std::max<int64_t>(1, n));
  with_type(out.dtype, [&](auto zero) {
    using T = decltype(zero);
    Sum<T> factor{1};
    if constexpr (kIsHalf<T> || std::is_floating_point_v<T>) factor = static_cast<Sum<T>>(args.alpha);
    parallel_for(slice.count(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < n; ++i) {
        const T* source = src.as<const T>() + i * src.stride(args.dim);
        T* target = out.as<T>() + indices[static_cast<size_t>(i)] * out.stride(args.dim);
        slice.tiles(begin, end, slice.count(), [&](const auto& at, int64_t rows, int64_t columns) {
          const int64_t out_step = slice.column_stride(0), src_step = slice.column_stride(1);
          for (int64_t r = 0; r < rows; ++r) {
            T* t = target + at[0] + r * slice.row_stride(0);
            const T* s = source + at[1] + r * slice.row_stride(1);
            if (out_step == 1 && src_step == 1) {
              for (int64_t c = 0; c < columns; ++c) t[c] = sum(t[c], s[c], factor);
            } else {
              for (int64_t c = 0; c < columns; ++c) {
                T& place = t[c * out_step];
                place = sum(place, s[c * src_step], factor);
              }
            }
          }
        });
      }
    });
  });
}

void gather(const GatherArgs& args) {
  const View& x = args.x;
  const View& index = args.index;
  const View& out = args.out;
  const int dim = args.dim;
  with_bits(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_each_line<3>(index.shape, dim, {out.strides, index.strides, x.strides}, [&](const auto& at) {
      for (int64_t j = 0; j < index.size(dim); ++j) {
        const int64_t i = checked("gather", index, at[1] + j * index.stride(dim), x.size(dim));
        out.as<T>()[at[0] + j * out.stride(dim)] = x.as<const T>()[at[2] + i * x.stride(dim)];
      }
    });
  });
}

void scatter_add(const ScatterAddArgs& args) {
  const View& index = args.index;
  const View& src = args.src;
  const View& out = args.out;
  const int dim = args.dim;
  with_type(out.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_each_line<3>(index.shape, dim, {out.strides, index.strides, src.strides}, [&](const auto& at) {
      for (int64_t j = 0; j < index.size(dim); ++j) {
        const int64_t i = checked("scatter_add", index, at[1] + j * index.stride(dim), out.size(dim));
        T& target = out.as<T>()[at[0] + i * out.stride(dim)];
        target = sum(target, src.as<const T>()[at[2] + j * src.stride(dim)]);
      }
    });
  });
}

void one_hot(const OneHotArgs& args) {
  const View& out = args.out;
  const int last = out.ndim() - 1;
  const int64_t classes = out.size(last);
  with_type(out.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T one = convert<T>(1.0);
    Shape index_strides = args.index.strides;
    index_strides.push_back(0);
    for_each_line<2>(out.shape, last, {out.strides, index_strides}, [&](const auto& at) {
      T* row = out.as<T>() + at[0];
      const int64_t hot = checked("one_hot", args.index, at[1], classes);
      for (int64_t c = 0; c < classes; ++c) row[c * out.stride(last)] = T();
      row[hot * out.stride(last)] = one;
    });
  });
}

}  // namespace tenon::cpu
