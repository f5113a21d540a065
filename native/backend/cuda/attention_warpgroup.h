// What attention's kernels on Hopper share: which calls they take, and a warpgroup's rows of sums, which are four times a
// warp's (Sums): warp w of a warpgroup has rows 16 w and on.
#pragma once

#include <cstdlib>
#include <cstring>

#include "backend/cuda/attention.h"
#include "backend/cuda/hopper.h"

namespace tenon::cuda {

constexpr int kGroupRows = 64;  // of a warpgroup's products

// A block whose last warpgroup brings tiles for the others, and what each has of a multiprocessor's registers.
template <int kGroups>
constexpr int kThreadsOf = (kGroups + 1) * kWarpgroup;
template <int kGroups>
constexpr int kMostRegisters = kGroups > 2 ? 160 : 240;
template <int kGroups>
constexpr int kLeastRegisters = kGroups > 2 ? 32 : 24;

__device__ __forceinline__ int min_of(int a, int b) { return a < b ? a : b; }

// A thread's first row in its warpgroup; the other one is 8 further.
__device__ __forceinline__ int first_row_of_thread() {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  return thread / kWarpSize * 16 + thread % kWarpSize / 4;
}

// Writes a warpgroup's sums, times a factor for each of a thread's two rows, to the rows from `first` on. The four lanes
// of a row exchange pairs, so that each writes 8 neighbours.
template <typename S, int kD>
__device__ __forceinline__ void write_rows(const Sums<kD>& sums, const float (&factors)[2],
                                           const Heads<S>& to, int first, int rows, int d) {
  const int lane = static_cast<int>(threadIdx.x) % 4;
  const auto exchange = [&](uint32_t& low, uint32_t& high, int lanes) {
    const bool upper = (lane & lanes) != 0;
    const uint32_t other = __shfl_xor_sync(kFullWarp, upper ? low : high, lanes);
    (upper ? low : high) = other;
  };
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = first + first_row_of_thread() + 8 * r;
#pragma unroll
    for (int n = 0; n < kD / 8; n += 4) {
      uint32_t pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* const pair = sums.at[n + i] + 2 * r;
        pairs[i] = pack_pair<S>(pair[0] * factors[r], pair[1] * factors[r]);
      }
      exchange(pairs[0], pairs[1], 1);
      exchange(pairs[2], pairs[3], 1);
      exchange(pairs[0], pairs[2], 2);
      exchange(pairs[1], pairs[3], 2);
      const int column = 8 * (n + lane);
      if (row < rows && column < d) {
        *reinterpret_cast<Pack<uint32_t, 4>*>(to.at(row) + column) = {pairs[0], pairs[1], pairs[2], pairs[3]};
      }
    }
  }
}

// ---- host side -----------------------------------------------------------------------------------------------------

// Whether rows can be written 16 bytes at a time.
inline bool takes_writes(const View& x) { return takes_map(x) && x.size(3) % 8 == 0; }

// Whether this GPU is one of Hopper's, and its kernels are wanted.
inline bool on_hopper(const char* op) {
  const char* const wanted = std::getenv("TENON_CUDA_HOPPER");
  return (wanted == nullptr || std::strcmp(wanted, "0") != 0) && compute_capability(op) == 90;
}

// Args: AttentionArgs or its backward. What all kernels ask of a call; each asks more of what it writes.
template <typename Args>
bool suits_hopper(const char* op, const Args& args) {
  return !args.bias && !args.mask && args.dropout == 0 && args.scale > 0 && args.q.size(3) <= 128 &&
         takes_map(args.q) && takes_map(args.k) && takes_map(args.v) && on_hopper(op);
}

// Calls f(S()) with the 16-bit type.
template <typename F>
void with_16_bit_type(DType dtype, F&& f) {
  if (dtype == DType::BFloat16) return f(bfloat16());
  f(float16());
}

}  // namespace tenon::cuda
