// Copies between strides and dtypes. Four cases, by what the innermost dimension looks like: one run of memory; rows
// that are contiguous on both sides; a transposition, done in square blocks; anything else, element by element.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/copy.cc"
#include "backend/cpu/block.h"
//
#include <type_traits>

#include "backend/cpu/iterate.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// Converts n elements, so many elements apart. The loops below are compiled once and call it through a pointer.
using Convert = void (*)(const void* from, int64_t from_stride, void* to, int64_t to_stride, int64_t n);

template <typename To, typename From>
void convert_some(const void* from, int64_t from_stride, void* to, int64_t to_stride, int64_t n) {
  convert_run(static_cast<const From*>(from), from_stride, static_cast<To*>(to), to_stride, n);
}

Convert converter(DType to, DType from) {
  Convert found = nullptr;
  with_type(to, [&](auto to_zero) {
    with_type(from, [&](auto from_zero) { found = &convert_some<decltype(to_zero), decltype(from_zero)>; });
  });
  return found;
}

void convert_dispatch(const CopyArgs& args) {
  const Convert convert = converter(args.dst.dtype, args.src.dtype);
  const auto to_size = static_cast<int64_t>(size_of(args.dst.dtype)),
             from_size = static_cast<int64_t>(size_of(args.src.dtype));
  const Nest<2> nest(args.dst.shape, {args.dst.strides, args.src.strides});
  parallel_for(nest.count(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    nest.tiles(begin, end, nest.count(), [&](const auto& at, int64_t rows, int64_t columns) {
      for (int64_t r = 0; r < rows; ++r) {
        convert(args.src.as<const char>() + (at[1] + r * nest.row_stride(1)) * from_size,
                nest.column_stride(1), args.dst.as<char>() + (at[0] + r * nest.row_stride(0)) * to_size,
                nest.column_stride(0), columns);
      }
    });
  });
}

// Rows of a few bytes, as patches have, take moves of their size, where a call for each row would take longer than the row.
template <typename T>
HWY_INLINE void copy_rows(const T* from, int64_t from_row, T* to, int64_t to_row, int64_t rows,
                          size_t bytes) {
  const auto copy = [&](auto size) {
    for (int64_t r = 0; r < rows; ++r) std::memcpy(to + r * to_row, from + r * from_row, size);
  };
  switch (bytes) {
    case 8:
      return copy(std::integral_constant<size_t, 8>());
    case 16:
      return copy(std::integral_constant<size_t, 16>());
    case 32:
      return copy(std::integral_constant<size_t, 32>());
    case 64:
      return copy(std::integral_constant<size_t, 64>());
    default:
      return copy(bytes);
  }
}

// T stands for any dtype of its size.
template <typename T>
void copy_bits(const CopyArgs& args) {
  const View& dst = args.dst;
  const View& src = args.src;
  const Nest<2> nest(dst.shape, {dst.strides, src.strides});
  parallel_for(nest.count(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    nest.tiles(begin, end, nest.count(), [&](const auto& at, int64_t rows, int64_t columns) {
      const T* from = src.as<const T>() + at[1];
      T* to = dst.as<T>() + at[0];
      const int64_t to_row = nest.row_stride(0), from_row = nest.row_stride(1);
      const int64_t to_column = nest.column_stride(0), from_column = nest.column_stride(1);
      if (to_column == 1 && from_column == 1) {
        return copy_rows(from, from_row, to, to_row, rows, static_cast<size_t>(columns) * sizeof(T));
      }
      if (rows == 1 || std::abs(from_row) >= std::abs(from_column)) {
        for (int64_t r = 0; r < rows; ++r) {
          convert_run(from + r * from_row, from_column, to + r * to_row, to_column, columns);
        }
        return;
      }
      // The source runs along the rows: blocks of 16 x 16 touch whole cache lines on both sides.
      constexpr int64_t kSide = 16;
      for (int64_t r0 = 0; r0 < rows; r0 += kSide) {
        const int64_t r1 = std::min(rows, r0 + kSide);
        for (int64_t c0 = 0; c0 < columns; c0 += kSide) {
          const int64_t c1 = std::min(columns, c0 + kSide);
          for (int64_t r = r0; r < r1; ++r) {
            for (int64_t c = c0; c < c1; ++c)
              to[r * to_row + c * to_column] = from[r * from_row + c * from_column];
          }
        }
      }
    });
  });
}

void copy_dispatch(const CopyArgs& args) {
  switch (size_of(args.dst.dtype)) {
    case 1:
      return copy_bits<uint8_t>(args);
    case 2:
      return copy_bits<uint16_t>(args);
    case 4:
      return copy_bits<uint32_t>(args);
    default:
      return copy_bits<uint64_t>(args);
  }
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(convert_dispatch);
HWY_EXPORT(copy_dispatch);

void copy(const CopyArgs& args) {
  if (args.src.dtype == args.dst.dtype) {
    HWY_DYNAMIC_DISPATCH(copy_dispatch)(args);
  } else {
    HWY_DYNAMIC_DISPATCH(convert_dispatch)(args);
  }
}

}  // namespace tenon::cpu
#endif
