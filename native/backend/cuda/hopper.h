// The instructions of Hopper (sm_90a) for products that run beside other work: mbarriers, the copy engine's boxes of
// tensors (TMA), and products of a warpgroup (wgmma). Layouts and rules are those of the PTX ISA; the emulator has them
// too. Kernels that use them are in files named *_hopper.cu, compiled for that architecture alone.
#pragma once

#include "backend/cuda/mma.h"
#include "backend/cuda/tensor_map.h"

namespace tenon::cuda {

// As TENON_HERE, for functions that have no other parameter.
#ifdef __CUDACC__
#define TENON_ONLY_HERE
#else
#define TENON_ONLY_HERE TENON_WHERE
#endif
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#error "compile for sm_90a: -gencode arch=compute_90a,code=sm_90a"
#endif

constexpr int kWarpgroup = 4 * kWarpSize;

// A block's shared memory, as shared_memory(): its swizzles repeat every 1024 bytes of address.
constexpr size_t kSwizzleBytes = 1024;
__device__ __forceinline__ unsigned char* swizzled_shared_memory() {
#ifdef __CUDACC__
  extern __shared__ __align__(1024) unsigned char tenon_swizzled_memory[];
  return tenon_swizzled_memory;
#else
  return static_cast<unsigned char*>(emulator::shared_memory());
#endif
}

#ifdef __CUDACC__
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
#endif

// ---- mbarriers -----------------------------------------------------------------------------------------------------

// In shared memory. A phase ends when so many threads have arrived as init said, and the copies have brought the bytes
// that were announced; then the next begins. Phases are known by their parity, beginning with 0.
struct Mbarrier {
  uint64_t state;

  // By one thread, which then calls fence_async_proxy(), before the block's first __syncthreads().
  __device__ __forceinline__ void init(int arrivals TENON_HERE) {
#ifdef __CUDACC__
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(this)), "r"(arrivals)
                 : "memory");
#else
    emulator::init_mbarrier(this, static_cast<unsigned>(arrivals), where);
#endif
  }
  __device__ __forceinline__ void arrive(TENON_ONLY_HERE) {
#ifdef __CUDACC__
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(this)) : "memory");
#else
    emulator::arrive_at_mbarrier(this, 0, where);
#endif
  }
  // Arrives, and announces bytes that copies bring.
  __device__ __forceinline__ void arrive_and_expect(int bytes TENON_HERE) {
#ifdef __CUDACC__
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)),
                 "r"(bytes)
                 : "memory");
#else
    emulator::arrive_at_mbarrier(this, static_cast<unsigned>(bytes), where);
#endif
  }
  // Until the phase of that parity has ended. Before the first phase has, the one of parity 1 counts as ended.
  __device__ __forceinline__ void wait(int parity TENON_HERE) {
#ifdef __CUDACC__
    uint32_t ended = 0;
    while (ended == 0) {
      asm volatile(
          "{\n.reg .pred p;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
          "selp.u32 %0, 1, 0, p;\n}"
          : "=r"(ended)
          : "r"(shared_address(this)), "r"(parity)
          : "memory");
    }
#else
    emulator::wait_for_mbarrier(this, static_cast<unsigned>(parity), where);
#endif
  }
};

// What the thread wrote to shared memory before, by ordinary stores, is there for copies and products after it.
__device__ __forceinline__ void fence_async_proxy() {
#ifdef __CUDACC__
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
  emulator::fence_async_proxy();
#endif
}

// ---- copies --------------------------------------------------------------------------------------------------------

// Starts to copy a box of a map, which make_map made, to an address that 128 divides, 128 bytes a row, whose bytes
// `barrier` waits for: those beyond the tensor too. By one thread.
__device__ __forceinline__ void load_box(void* to, const TensorMap& map, int column, int row, int head,
                                         int batch, Mbarrier& barrier TENON_HERE) {
#ifdef __CUDACC__
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, "
      "%5, "
      "%6}], [%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(&barrier)), "r"(column), "r"(row), "r"(head), "r"(batch)
      : "memory");
#else
  const int coordinates[] = {column, row, head, batch};
  emulator::load_box(to, &map, coordinates, 4, &barrier, where);
#endif
}

// The same for bytes that lie together. Both addresses and the size are multiples of 16.
__device__ __forceinline__ void load_bytes(void* to, const void* from, int bytes,
                                           Mbarrier& barrier TENON_HERE) {
#ifdef __CUDACC__
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(&barrier))
      : "memory");
#else
  emulator::load_bytes(to, from, static_cast<unsigned>(bytes), &barrier, where);
#endif
}

// ---- matrices in shared memory -------------------------------------------------------------------------------------

// A matrix descriptor of the PTX ISA for boxes that are swizzled by 128 bytes: start, leading and stride byte offsets.
//   K-major   (rows of 64 elements along K): groups of 8 rows are `stride` bytes apart; `leading` is not used.
//   MN-major  (rows of 64 elements along M or N): groups of 8 rows along K are `stride` bytes apart, the next 64 elements of
//             M or N `leading` bytes.
__device__ __forceinline__ uint64_t matrix_descriptor(const void* start, uint32_t leading,
                                                      uint32_t stride TENON_HERE) {
#ifdef __CUDACC__
  const uint32_t address = shared_address(start);
#else
  const uint32_t address = emulator::shared_address(start, where);
#endif
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  const auto encode = [](uint32_t bytes) { return static_cast<uint64_t>((bytes & 0x3ffff) >> 4); };
  return encode(address) | encode(leading) << 16 | encode(stride) << 32 | kSwizzle128;
}

// kRows rows of kD features, as boxes of 64 features one behind the other.
template <int kRows, int kD>
struct Tile {
  static_assert(kD % kBoxColumns == 0 && kRows % 8 == 0);
  static constexpr int kBoxBytes = kRows * kBoxColumns * 2, kBytes = kRows * kD * 2;
  unsigned char* data;

  __device__ __forceinline__ void load(const TensorMap& map, int first_row, int head, int batch,
                                       Mbarrier& barrier TENON_HERE) const {
#pragma unroll
    for (int box = 0; box < kD / kBoxColumns; ++box) {
#ifdef __CUDACC__
      load_box(data + box * kBoxBytes, map, box * kBoxColumns, first_row, head, batch, barrier);
#else
      load_box(data + box * kBoxBytes, map, box * kBoxColumns, first_row, head, batch, barrier, where);
#endif
    }
  }
  // Rows from `first` on (a multiple of 8) by the features 16 k and on, as M or N by K.
  __device__ __forceinline__ uint64_t rows(int first, int k) const {
    return matrix_descriptor(data + k / 4 * kBoxBytes + first * 128 + k % 4 * 32, 16, 1024);
  }
  // All features by the 16 rows from 16 k on, as N by K.
  __device__ __forceinline__ uint64_t columns(int k) const {
    return matrix_descriptor(data + k * 16 * 128, kBoxBytes, 1024);
  }
};

// ---- products of a warpgroup ---------------------------------------------------------------------------------------

// The number of the thread's warpgroup, in a register that the compiler knows to be the same in a warp.
__device__ __forceinline__ int warpgroup_index() {
  return __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
}

// Of the registers that a block's threads have at entry, by __launch_bounds__(threads, 1), those of a warpgroup that only
// brings tiles go to the others: each begins its branch of one if and else with one of these. A multiple of 8.
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
#ifdef __CUDACC__
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}
template <int kRegisters>
__device__ __forceinline__ void leave_registers() {
#ifdef __CUDACC__
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

// Keeps the compiler from moving what it does with sums across this point: it does not know that products write them later.
template <int kEighths>
__device__ __forceinline__ void pin(float (&sums)[kEighths][4]) {
#ifdef __CUDACC__
#pragma unroll
  for (int n = 0; n < kEighths; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) asm volatile("" : "+f"(sums[n][e])::"memory");
  }
#else
  static_cast<void>(sums);
#endif
}

// Before products, after the thread has touched their sums or registers.
__device__ __forceinline__ void fence_products(TENON_ONLY_HERE) {
#ifdef __CUDACC__
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
  emulator::fence_products(where);
#endif
}

// Ends a group of products.
__device__ __forceinline__ void commit_products(TENON_ONLY_HERE) {
#ifdef __CUDACC__
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
  emulator::commit_products(where);
#endif
}

// Waits until all but the last kGroups groups are done. Then pin() their sums.
template <int kGroups>
__device__ __forceinline__ void wait_for_products(TENON_ONLY_HERE) {
#ifdef __CUDACC__
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
#else
  emulator::wait_for_products(kGroups, where);
#endif
}

#ifdef __CUDACC__
// wgmma's operands: registers of sums by their numbers, tens at a time, and by names, 8 columns at a time.
#define TENON_TEN(t) \
  "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9"
#define TENON_FIRST_TEN "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9"
#define TENON_SUMS(n) "+f"(sums[n][0]), "+f"(sums[n][1]), "+f"(sums[n][2]), "+f"(sums[n][3])
#define TENON_SUMS_2(n) TENON_SUMS(n), TENON_SUMS(n + 1)
#define TENON_SUMS_4(n) TENON_SUMS_2(n), TENON_SUMS_2(n + 2)
#define TENON_SUMS_8(n) TENON_SUMS_4(n), TENON_SUMS_4(n + 4)
#define TENON_SUMS_16(n) TENON_SUMS_8(n), TENON_SUMS_8(n + 8)

#define TENON_16 TENON_FIRST_TEN ", %10, %11, %12, %13, %14, %15"
#define TENON_32 TENON_FIRST_TEN ", " TENON_TEN(1) ", " TENON_TEN(2) ", %30, %31"
#define TENON_40 TENON_FIRST_TEN ", " TENON_TEN(1) ", " TENON_TEN(2) ", " TENON_TEN(3)
#define TENON_60 TENON_40 ", " TENON_TEN(4) ", " TENON_TEN(5)
#define TENON_64 TENON_60 ", %60, %61, %62, %63"
#define TENON_80 TENON_60 ", " TENON_TEN(6) ", " TENON_TEN(7)
#define TENON_88 TENON_80 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define TENON_100 TENON_80 ", " TENON_TEN(8) ", " TENON_TEN(9)
#define TENON_104 TENON_100 ", %100, %101, %102, %103"
#define TENON_128 \
  TENON_100 ", " TENON_TEN(10) ", " TENON_TEN(11) ", %120, %121, %122, %123, %124, %125, %126, %127"

// A of shared memory; the numbers of a, b and scale-d.
#define TENON_MULTIPLY_SHARED(type, n, list, a_, b_, d_, ...)                                       \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #d_                                             \
               ", 0;\n"                                                                             \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" list "}, %" #a_ \
               ", %" #b_ ", p, 1, 1, 0, 0;\n}"                                                      \
               : __VA_ARGS__                                                                        \
               : "l"(a), "l"(b), "r"(static_cast<int>(accumulates)))
// A of registers, B N-major; the numbers of a, b and scale-d.
#define TENON_MULTIPLY_REGISTERS(type, n, list, a0_, a1_, a2_, a3_, b_, d_, ...)                      \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #d_                                               \
               ", 0;\n"                                                                               \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" list "}, {%" #a0_ \
               ", %" #a1_ ", %" #a2_ ", %" #a3_ "}, %" #b_ ", p, 1, 1, 1;\n}"                         \
               : __VA_ARGS__                                                                          \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulates)))
#define TENON_OF_TYPE(multiply, ...)             \
  do {                                           \
    if constexpr (std::is_same_v<S, bfloat16>) { \
      multiply("bf16", __VA_ARGS__);             \
    } else {                                     \
      multiply("f16", __VA_ARGS__);              \
    }                                            \
  } while (false)
#else
template <typename S>
float widen_bits(uint16_t bits) {
  S x;
  x.bits = bits;
  return widen(x);
}
#endif

// sums (+)= a b^T of 64 rows of a and 8 kEighths rows of b, 16 elements of each, both K-major: Tile::rows. A warp has 16 rows
// of sums, as Sums has them; `accumulates` as wgmma's scale-d. Uniform over the warpgroup.
template <typename S, int kEighths>
__device__ __forceinline__ void multiply_tiles(float (&sums)[kEighths][4], uint64_t a, uint64_t b,
                                               bool accumulates TENON_HERE) {
#ifndef __CUDACC__
  emulator::multiply_on_warpgroup({.sums = sums[0],
                                   .columns = 8 * kEighths,
                                   .a = a,
                                   .b = b,
                                   .accumulates = accumulates,
                                   .widen = widen_bits<S>},
                                  where);
#else
  constexpr int kN = 8 * kEighths;
  if constexpr (kN == 32) {
    TENON_OF_TYPE(TENON_MULTIPLY_SHARED, 32, TENON_16, 16, 17, 18, TENON_SUMS_4(0));
  } else if constexpr (kN == 64) {
    TENON_OF_TYPE(TENON_MULTIPLY_SHARED, 64, TENON_32, 32, 33, 34, TENON_SUMS_8(0));
  } else if constexpr (kN == 80) {
    TENON_OF_TYPE(TENON_MULTIPLY_SHARED, 80, TENON_40, 40, 41, 42, TENON_SUMS_8(0), TENON_SUMS_2(8));
  } else if constexpr (kN == 128) {
    TENON_OF_TYPE(TENON_MULTIPLY_SHARED, 128, TENON_64, 64, 65, 66, TENON_SUMS_16(0));
  } else if constexpr (kN == 176) {
    TENON_OF_TYPE(TENON_MULTIPLY_SHARED, 176, TENON_88, 88, 89, 90, TENON_SUMS_16(0), TENON_SUMS_4(16),
                  TENON_SUMS_2(20));
  } else if constexpr (kN == 208) {
    TENON_OF_TYPE(TENON_MULTIPLY_SHARED, 208, TENON_104, 104, 105, 106, TENON_SUMS_16(0), TENON_SUMS_8(16),
                  TENON_SUMS_2(24));
  } else {
    static_assert(kN == 256);
    TENON_OF_TYPE(TENON_MULTIPLY_SHARED, 256, TENON_128, 128, 129, 130, TENON_SUMS_16(0), TENON_SUMS_16(16));
  }
#endif
}

// sums (+)= a b of 64 rows of a in registers, those of multiply_16x8x16 in each warp, and 16 rows of b, N-major:
// Tile::columns.
template <typename S, int kEighths>
__device__ __forceinline__ void multiply_registers(float (&sums)[kEighths][4], const uint32_t (&a)[4],
                                                   uint64_t b, bool accumulates TENON_HERE) {
#ifndef __CUDACC__
  emulator::multiply_on_warpgroup({.sums = sums[0],
                                   .columns = 8 * kEighths,
                                   .a_registers = a,
                                   .b = b,
                                   .transposed_b = true,
                                   .accumulates = accumulates,
                                   .widen = widen_bits<S>},
                                  where);
#else
  if constexpr (kEighths == 8) {
    TENON_OF_TYPE(TENON_MULTIPLY_REGISTERS, 64, TENON_32, 32, 33, 34, 35, 36, 37, TENON_SUMS_8(0));
  } else {
    static_assert(kEighths == 16);
    TENON_OF_TYPE(TENON_MULTIPLY_REGISTERS, 128, TENON_64, 64, 65, 66, 67, 68, 69, TENON_SUMS_16(0));
  }
#endif
}

#ifdef __CUDACC__
#undef TENON_TEN
#undef TENON_FIRST_TEN
#undef TENON_SUMS
#undef TENON_SUMS_2
#undef TENON_SUMS_4
#undef TENON_SUMS_8
#undef TENON_SUMS_16
#undef TENON_16
#undef TENON_32
#undef TENON_40
#undef TENON_60
#undef TENON_64
#undef TENON_80
#undef TENON_88
#undef TENON_100
#undef TENON_104
#undef TENON_128
#undef TENON_MULTIPLY_SHARED
#undef TENON_MULTIPLY_REGISTERS
#undef TENON_OF_TYPE
#endif
#undef TENON_ONLY_HERE

}  // namespace tenon::cuda
