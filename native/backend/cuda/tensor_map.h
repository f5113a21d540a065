// Maps of tensors in device memory, by which Hopper's copy engine (TMA) finds its boxes. A kernel takes one as
// `const __grid_constant__ TensorMap`.
#pragma once

#include <cuda.h>

#include "backend/cuda/queue.h"
#include "core/view.h"

namespace tenon::cuda {

using TensorMap = CUtensorMap;

// Features that a box holds: 128 bytes, which are swizzled together.
constexpr int kBoxColumns = 64;

// Whether the copy engine reads x [B, H, N, d] of a 16-bit type: nothing is empty, rows are dense, what lies between rows,
// heads and batches, and the first element's address, are multiples of 16 bytes, and int has every coordinate.
bool takes_map(const View& x);

// Of boxes of `rows` rows and kBoxColumns columns, which are zero beyond N and d. Coordinates are {column, row, head,
// batch}. @throws TensorError where the driver has no tensor maps
TensorMap make_map(const char* op, const View& x, int rows);

}  // namespace tenon::cuda
