// Hopper's asynchronous instructions on the emulator: mbarriers, boxes of tensors that the copy engine (TMA) moves, and
// the products of a warpgroup (wgmma). backend/cuda/hopper.h calls them.
//
//  - What is asynchronous happens as late as it may or at once, by the order of turns: a copy when all threads wait and one
//    of them for its mbarrier (Order::Forward) or when it is issued (Reverse), a product when its group is waited for,
//    or its operands are read when it is issued; either by chance (Shuffled). A stage that is filled too early, or read
//    before it is full, gives wrong numbers in one of them.
//  - Descriptors, tensor maps, swizzles and byte counts are those of the hardware: a wrong one reads wrong elements, never
//    completes, or is an error that says so.
//  - Sums of a product are NaN from its issue to its wait. Who writes them meanwhile is told.
//  - The four warps of a warpgroup must issue the same products; a product whose registers may have been touched needs
//    wgmma.fence, and reads no shared memory that ordinary stores have written since the last fence.proxy.async. Not seen:
//    that the fence was another thread's than the store, and registers touched between wgmma.fence and a product, or
//    while a product reads its left operand from them: it has a copy.
#pragma once

#include <cstddef>
#include <cstdint>

#include "test/cuda_emulator/emulator.h"

namespace tenon::emulator {

struct AsyncWork;  // of a block

// ---- mbarriers -----------------------------------------------------------------------------------------------------

void init_mbarrier(void* barrier, unsigned arrivals, Where where);
// With `bytes` more that copies are to bring before the phase ends.
void arrive_at_mbarrier(void* barrier, unsigned bytes, Where where);
// Until the phase of that parity has ended.
void wait_for_mbarrier(void* barrier, unsigned parity, Where where);
// fence.proxy.async: what ordinary stores wrote is there for copies and products.
void fence_async_proxy();

// ---- copies --------------------------------------------------------------------------------------------------------

enum class Swizzle : uint8_t { None, Of32Bytes, Of64Bytes, Of128Bytes };

// Where the 16-byte chunk at an address of shared memory lies: bits 4 and on are xored with bits 7 and on.
constexpr unsigned swizzled(unsigned address, Swizzle mode) {
  return address ^ (address >> 3 & ((1u << static_cast<unsigned>(mode)) - 1) << 4);
}

// What the emulated cuTensorMapEncodeTiled makes.
struct TensorMap {
  static constexpr uint32_t kMagic = 0x746d6170;
  uint32_t magic = kMagic;
  uint32_t rank = 0;
  const unsigned char* data = nullptr;
  uint64_t sizes[5] = {};    // in elements, the dense dimension first
  uint64_t strides[4] = {};  // in bytes, of the others
  uint16_t box[5] = {};
  uint8_t element_bytes = 0;
  Swizzle swizzle = Swizzle::None;
};
static_assert(sizeof(TensorMap) <= 128);

// The box at `coordinates`, zeros where it goes beyond the tensor; `map` holds a TensorMap.
void load_box(void* to, const void* map, const int* coordinates, unsigned rank, void* barrier, Where where);
// Bytes that lie together; all of them multiples of 16.
void load_bytes(void* to, const void* from, unsigned bytes, void* barrier, Where where);

// ---- products ------------------------------------------------------------------------------------------------------

// A shared address as descriptors have it.
unsigned shared_address(const void* pointer, Where where);

struct Product {
  float* sums;                            // of the lane: columns / 2
  unsigned columns;                       // of b, its N
  uint64_t a = 0;                         // a matrix descriptor,
  const uint32_t* a_registers = nullptr;  // unless the lane's four registers of a are here
  uint64_t b = 0;
  bool transposed_a = false, transposed_b = false;  // M- or N-major rather than K-major
  bool accumulates = true;                          // else sums are overwritten
  float (*widen)(uint16_t) = nullptr;
};
// wgmma.mma_async.m64nNk16 with sums of float32.
void multiply_on_warpgroup(const Product& product, Where where);
void fence_products(Where where);
void commit_products(Where where);
void wait_for_products(unsigned groups_left, Where where);

}  // namespace tenon::emulator
