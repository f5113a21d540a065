// Copies between strides and dtypes. Memory bound: reads the source and writes the target once.
//
// A permutation that has the source run along another dimension than the target goes through tiles of 32 x 32 elements
// in shared memory: a warp reads along the source's run and writes along the target's. All else is a map.
#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

struct Identity {
  template <typename T>
  __device__ T operator()(T x) const {
    return x;
  }
};

constexpr int kSide = 32;
constexpr int kTileRows = 8;       // rows of a tile that a block moves at a time
constexpr int kPitch = kSide + 1;  // a column of the tile lies in 32 different banks
constexpr int kLeast = 8;          // shorter runs fill too little of a tile

// Dimension 0 of the loops is the target's run, dimension `run` the source's.
template <typename T>
struct Transpose {
  T* dst;
  const T* src;
  Loops<2> outer;  // the other dimensions
  int64_t columns, rows, dst_row, src_column;
  int column_tiles, row_tiles;
};

template <typename T>
__global__ void __launch_bounds__(kSide* kTileRows, 1)  // else sm_75 spills to hold one more
    transpose_kernel(const Transpose<T> t) {
  T* const tile = shared_memory<T>();
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
  const int block = static_cast<int>(blockIdx.x), tiles = t.column_tiles * t.row_tiles;
  const Offsets<2> at = locate(t.outer, block / tiles);
  const int64_t row = int64_t{block % tiles / t.column_tiles} * kSide,
                column = int64_t{block % t.column_tiles} * kSide;
  for (int c = y; c < kSide; c += kTileRows) {
    if (column + c >= t.columns || row + x >= t.rows) continue;
    tile[c * kPitch + x] = t.src[at.at[1] + (column + c) * t.src_column + row + x];
  }
  __syncthreads();
  for (int r = y; r < kSide; r += kTileRows) {
    if (row + r >= t.rows || column + x >= t.columns) continue;
    t.dst[at.at[0] + (row + r) * t.dst_row + column + x] = tile[x * kPitch + r];
  }
}

// The dimension along which the source runs, where that is not the target's: or 0.
int transposed_run(const Loops<2>& loops) {
  if (loops.strides[0][0] != 1 || loops.strides[0][1] == 1 || loops.sizes[0] < kLeast) return 0;
  for (int d = 1; d < loops.ndim; ++d) {
    if (loops.strides[d][1] == 1 && loops.sizes[d] >= kLeast) return d;
  }
  return 0;
}

template <typename T>
void transpose(Queue& queue, const CopyArgs& args, const Loops<2>& loops, int run) {
  Transpose<T> t{args.dst.as<T>(),
                 args.src.as<const T>(),
                 loops,
                 loops.sizes[0],
                 loops.sizes[run],
                 loops.strides[run][0],
                 loops.strides[0][1],
                 0,
                 0};
  // The launch refuses what does not fit in int.
  const int64_t column_tiles = blocks_for(t.columns, kSide), row_tiles = blocks_for(t.rows, kSide);
  t.column_tiles = static_cast<int>(column_tiles);
  t.row_tiles = static_cast<int>(row_tiles);
  Shape sizes, dst, src;
  for (int d = 1; d < loops.ndim; ++d) {
    if (d == run) continue;
    sizes.push_back(loops.sizes[d]);
    dst.push_back(loops.strides[d][0]);
    src.push_back(loops.strides[d][1]);
  }
  t.outer = Loops<2>(sizes, {dst, src});
  launch(queue, "copy", &transpose_kernel<T>, t.outer.count * column_tiles * row_tiles, kSide * kTileRows,
         sizeof(T) * kSide * kPitch, t);
}

}  // namespace

void copy(const CopyArgs& args, void* stream) {
  Queue& queue = queue_of(stream);
  const View &src = args.src, &dst = args.dst;
  if (dst.numel() == 0) return;
  if (src.dtype == dst.dtype) {
    return with_bits(dst.dtype, [&]<typename T>(T) {
      const Loops<2> loops(dst.shape, {dst.strides, src.strides});
      if (const int run = transposed_run(loops)) return transpose<T>(queue, args, loops, run);
      map<T, T, 1>(queue, "copy", dst, {src}, Identity{});
    });
  }
  with_type(dst.dtype, [&]<typename To>(To) {
    // The value of a bool is that of its byte.
    with_type(src.dtype == DType::Bool ? DType::UInt8 : src.dtype, [&]<typename From>(From) {
      if constexpr (!std::is_same_v<From, Bool>) map<To, From, 1>(queue, "copy", dst, {src}, Identity{});
    });
  });
}

}  // namespace tenon::cuda
