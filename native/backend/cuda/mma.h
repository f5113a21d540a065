// The instructions of sm_80 that matrix products are made of: asynchronous copies to shared memory, loads of matrix
// fragments, and products of fragments on tensor cores. Layouts are those of the PTX ISA; the emulator has them too.
// sm_75 does the same with what it has: copies that are done at once, products of float16 on its smaller tensor cores and
// of bfloat16 on the ordinary units.
#pragma once

#include <cstdint>

#include "backend/cuda/numeric.h"

namespace tenon::cuda {

// Two neighbours of a row in one register, the first in the lower half.
template <typename S>
__device__ __forceinline__ uint32_t pack_pair(float first, float second) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t both;
  if constexpr (std::is_same_v<S, bfloat16>) {
    asm volatile("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  } else {
    asm volatile("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  }
  return both;
#else
  return static_cast<uint32_t>(narrow<S>(first).bits) | static_cast<uint32_t>(narrow<S>(second).bits) << 16;
#endif
}

struct WidePair {
  float first, second;
};
template <typename S>
__device__ __forceinline__ WidePair unpack_pair(uint32_t both) {
  S first, second;
  first.bits = static_cast<uint16_t>(both);
  second.bits = static_cast<uint16_t>(both >> 16);
  return {widen(first), widen(second)};
}

// Where a kernel calls from, for the emulator's errors; hopper.h has it too.
#ifdef __CUDACC__
#define TENON_HERE
#else
#define TENON_HERE , TENON_WHERE
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define TENON_BEFORE_SM_80 1
#else
#define TENON_BEFORE_SM_80 0
#endif

// multiply_16x8x16 on the ordinary units: a lane asks the four lanes that share its rows of a and its two columns of b.
template <typename S>
__device__ __forceinline__ void multiply_by_shuffles(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                     uint32_t b1) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll 1  // kernels hold hundreds of these
  for (int t = 0; t < 4; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto of_a = [&](int i) {
        return unpack_pair<S>(__shfl_sync(kFullWarp, a[i + 2 * half], lane / 4 * 4 + t));
      };
      const auto of_b = [&](int column) {
        return unpack_pair<S>(__shfl_sync(kFullWarp, half == 0 ? b0 : b1, (lane % 4 * 2 + column) * 4 + t));
      };
      const WidePair rows[2] = {of_a(0), of_a(1)}, columns[2] = {of_b(0), of_b(1)};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        c[i] += rows[i / 2].first * columns[i % 2].first;
        c[i] += rows[i / 2].second * columns[i % 2].second;
      }
    }
  }
}

// c += a b, of 16 x 16 and 16 x 8 elements of S. With g = lane / 4 and t = lane % 4, in pairs of neighbours:
//   a[0..3] are a(g, 2t), a(g + 8, 2t), a(g, 2t + 8), a(g + 8, 2t + 8), of one row each,
//   b[0..1] are b(2t, g), b(2t + 8, g), of one column each,
//   c[0..3] are c(g, 2t), c(g, 2t + 1), c(g + 8, 2t), c(g + 8, 2t + 1).
template <typename S>
__device__ __forceinline__ void multiply_16x8x16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                 uint32_t b1 TENON_HERE) {
#if TENON_BEFORE_SM_80
  if constexpr (std::is_same_v<S, bfloat16>) {
    multiply_by_shuffles<S>(c, a, b0, b1);
  } else {
    const auto half = [&](uint32_t upper, uint32_t lower, uint32_t right) {
      asm volatile(
          "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
          "{%0, %1, %2, %3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(upper), "r"(lower), "r"(right));
    };
    half(a[0], a[1], b0);
    half(a[2], a[3], b1);
  }
#elif defined(__CUDACC__)
  if constexpr (std::is_same_v<S, bfloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
#else
  float wide_a[8], wide_b[4];
  const auto widen_pair = [](uint32_t both, float* to) {
    const WidePair pair = unpack_pair<S>(both);
    to[0] = pair.first;
    to[1] = pair.second;
  };
  for (int i = 0; i < 4; ++i) widen_pair(a[i], wide_a + 2 * i);
  widen_pair(b0, wide_b);
  widen_pair(b1, wide_b + 2);
  emulator::multiply_16x8x16(c, wide_a, wide_b, where);
#endif
}

// Four matrices of 8 x 8 16-bit elements. Lane l gives row l % 8 of matrix l / 8, an address in shared memory that 16
// divides, and gets in result[m] the elements (l / 4, 2 (l % 4)) and (l / 4, 2 (l % 4) + 1) of matrix m.
template <typename S>
__device__ __forceinline__ void load_matrices(uint32_t (&result)[4], const S* row TENON_HERE) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  emulator::load_matrices(result, row, false, where);
#endif
}

// The same of the transposed matrices: the elements (2 (l % 4), l / 4) and (2 (l % 4) + 1, l / 4).
template <typename S>
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&result)[4], const S* row TENON_HERE) {
#ifdef __CUDACC__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  emulator::load_matrices(result, row, true, where);
#endif
}

// Starts a copy of 16 bytes to shared memory, both addresses multiples of 16; zeros instead of what `from` holds, which
// is then not read, unless `wanted`.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool wanted TENON_HERE) {
#if TENON_BEFORE_SM_80
  *static_cast<uint4*>(to) = wanted ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
#elif defined(__CUDACC__)
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(wanted ? 16 : 0)
               : "memory");
#else
  emulator::copy_later(to, wanted ? from : nullptr, 16, where);
#endif
}

// Ends a group of the thread's copies.
__device__ __forceinline__ void commit_copies() {
#if !defined(__CUDACC__)
  emulator::commit_copies();
#elif !TENON_BEFORE_SM_80
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until all but the last kGroups groups of the thread's copies are done. Other threads see them after a barrier.
template <int kGroups>
__device__ __forceinline__ void wait_copies() {
#if !defined(__CUDACC__)
  emulator::wait_copies(kGroups);
#elif !TENON_BEFORE_SM_80
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
#endif
}

#undef TENON_BEFORE_SM_80

}  // namespace tenon::cuda
