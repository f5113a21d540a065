// Tiles of strided tensors as contiguous blocks of a computing type: float for float32 and the 16-bit dtypes, else
// the dtype's own type. Kernels work on blocks; a tile that is contiguous and of the right type is its own block,
// any other goes through scratch that stays in the first-level cache. Read again for every instruction set.

#include "backend/cpu/convert.h"
#include "backend/cpu/simd.h"
#include "core/view.h"

#if defined(TENON_BLOCK_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_BLOCK_H
#undef TENON_BLOCK_H
#else
#define TENON_BLOCK_H
#endif

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {

constexpr int64_t kBlock = 1024;  // elements

template <typename To, typename From>
HWY_INLINE void convert_run(const From* from, int64_t from_stride, To* to, int64_t to_stride, int64_t n) {
  if (from_stride == 1 && to_stride == 1) {
    if constexpr ((std::is_same_v<To, float> && kIsHalf<From>) ||
                  (std::is_same_v<From, float> && kIsHalf<To>)) {
      const hn::ScalableTag<float> d;
      const auto lanes = static_cast<int64_t>(hn::Lanes(d));
      int64_t i = 0;
      for (; i + lanes <= n; i += lanes) store_f32(d, load_f32(d, from + i), to + i);
      for (; i < n; ++i) to[i] = convert<To>(from[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) to[i] = convert<To>(from[i]);
    }
  } else if (to_stride == 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = convert<To>(from[i * from_stride]);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i * to_stride] = convert<To>(from[i * from_stride]);
  }
}

// A tile's place in memory.
struct Tile {
  void* data;  // of the tensor
  DType dtype;
  int64_t offset, rows, columns, row_stride, column_stride;

  template <typename T>
  T* at() const {
    return static_cast<T*>(data) + offset;
  }
  bool contiguous() const { return column_stride == 1 && (rows == 1 || row_stride == columns); }
  int64_t size() const { return rows * columns; }
};

// Which dtype T stands for when it computes on its own memory. Bool's bytes are computed on as uint8.
template <typename T>
HWY_INLINE bool is_own(DType dtype) {
  if constexpr (std::is_same_v<T, float>) return dtype == DType::Float32;
  if constexpr (std::is_same_v<T, double>) return dtype == DType::Float64;
  if constexpr (std::is_same_v<T, int32_t>) return dtype == DType::Int32;
  if constexpr (std::is_same_v<T, int64_t>) return dtype == DType::Int64;
  if constexpr (std::is_same_v<T, uint8_t>) return dtype == DType::UInt8 || dtype == DType::Bool;
}

// Calls f with the tile's element pointer in the type it is stored in. A computing type of float may stand for
// three dtypes; every other one stands for itself alone.
template <typename T, typename F>
HWY_INLINE void with_stored(const Tile& tile, F&& f) {
  if constexpr (std::is_same_v<T, float>) {
    if (tile.dtype == DType::BFloat16) return f(tile.at<bfloat16>());
    if (tile.dtype == DType::Float16) return f(tile.at<float16>());
  }
  f(tile.at<T>());
}

// The tile as a block: its own memory, or scratch (kBlock elements) filled from it.
template <typename T>
HWY_INLINE const T* read_block(const Tile& tile, T* scratch) {
  if (tile.contiguous() && is_own<T>(tile.dtype)) return tile.at<T>();
  with_stored<T>(tile, [&](const auto* data) {
    if (tile.contiguous()) return convert_run(data, 1, scratch, 1, tile.size());
    for (int64_t r = 0; r < tile.rows; ++r) {
      convert_run(data + r * tile.row_stride, tile.column_stride, scratch + r * tile.columns, 1,
                  tile.columns);
    }
  });
  return scratch;
}

// Where to compute the tile: its own memory, or scratch, from which write_block stores it.
template <typename T>
HWY_INLINE T* block_of(const Tile& tile, T* scratch) {
  return tile.contiguous() && is_own<T>(tile.dtype) ? tile.at<T>() : scratch;
}

template <typename T>
HWY_INLINE void write_block(const T* block, const Tile& tile) {
  if (tile.contiguous() && is_own<T>(tile.dtype)) return;
  with_stored<T>(tile, [&](auto* data) {
    if (tile.contiguous()) return convert_run(block, 1, data, 1, tile.size());
    for (int64_t r = 0; r < tile.rows; ++r) {
      convert_run(block + r * tile.columns, 1, data + r * tile.row_stride, tile.column_stride, tile.columns);
    }
  });
}

// out[i] = f(d, x[i]...) over contiguous arrays of float or double, a vector at a time. The last, partial vector is
// padded with ones, on which every function is defined.
template <typename T, typename F, typename... Xs>
HWY_INLINE void map_vectors(T* out, int64_t n, F&& f, const Xs*... xs) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(d, hn::LoadU(d, xs + i)...), d, out + i);
  if (i == n) return;
  const size_t bytes = static_cast<size_t>(n - i) * sizeof(T);
  const auto padded = [&](const T* x) {
    HWY_ALIGN T tail[HWY_MAX_BYTES / sizeof(T)];
    hn::Store(hn::Set(d, T(1)), d, tail);
    std::memcpy(tail, x + i, bytes);
    return hn::Load(d, tail);
  };
  HWY_ALIGN T tail[HWY_MAX_BYTES / sizeof(T)];
  hn::Store(f(d, padded(xs)...), d, tail);
  std::memcpy(out + i, tail, bytes);
}

}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_BLOCK_H
