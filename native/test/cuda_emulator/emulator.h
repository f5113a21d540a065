// A host emulator of CUDA's execution model. Kernel sources of backend/cuda compile with a C++ compiler against the
// cuda_runtime.h beside this file, and run here with the semantics that a GPU gives them:
//
//  - each thread of a block is a fiber; blocks run one after another, their threads in a chosen or shuffled order, in which
//    some thread always lags behind as far as the others can go without it;
//  - __syncthreads, __syncwarp and the warp's shuffles and votes are rendezvous: a thread that arrives waits for the
//    others, so a missing barrier shows as a wrong result in some order, or as a race under the thread sanitizer,
//    which sees every fiber as a thread of its own and only the barriers as synchronisation;
//  - shared memory is filled with 0xff (NaN) before each block, and has the size that the launch gave: an access
//    beyond it is the address sanitizer's;
//  - a rendezvous that not all threads reach, or reach at different places, is an error that names the kernel, the
//    threads and the places.
//
// Hopper's asynchronous instructions are in async.h.
//
// What it can't show: timing, memory coalescing, bank conflicts; that the hardware reads a descriptor or a tensor map as its
// documentation does; the order in which tensor cores sum.
#pragma once

#include <cstddef>
#include <functional>
#include <source_location>

namespace tenon::emulator {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr Dim3() = default;
  constexpr Dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct Position {
  Dim3 thread, block, block_size, grid_size;
};

constexpr unsigned kWarpSize = 32;
constexpr size_t kMaxExchange = 64;  // bytes that a lane can give in one exchange

using Where = std::source_location;

// The order in which the threads of a block, and the blocks of a grid, take their turns.
enum class Order { Forward, Reverse, Shuffled };

// Of the launches that follow on this host thread.
void set_order(Order order);

// Of a grid of more blocks, only so many at its beginning and at its end run; 0: all run. For grids that would take hours,
// over memory of which little is touched.
void set_sample(size_t blocks);

// Runs a grid to its end. @throws std::runtime_error when the launch is not one that a GPU would take, or its threads
// deadlock; rethrows what a thread threw.
void launch(const char* name, Dim3 grid, Dim3 block, size_t shared_bytes,
            const std::function<void()>& thread);

// Of the calling thread.
const Position& position();
void* shared_memory();
void sync_block(Where where);

// Rendezvous of the lanes of `mask`.
void sync_warp(unsigned mask, Where where);

// Every lane of `mask` gives `bytes` bytes, at most kMaxExchange, and gets those of lane `source`; a source beyond the
// warp is the lane itself. @throws where the source is not in the mask: on a GPU the result is undefined.
void shuffle(unsigned mask, const void* value, size_t bytes, unsigned source, void* result, Where where);

// The lanes of `mask` whose predicate holds.
unsigned ballot(unsigned mask, bool predicate, Where where);

// The products and fragment loads of backend/cuda/mma.h, which has their layouts; for all 32 lanes. Elements come widened.
void multiply_16x8x16(float (&c)[4], const float (&a)[8], const float (&b)[4], Where where);
void load_matrices(unsigned (&result)[4], const void* row, bool transposed, Where where);

// Copies of the calling thread that happen as late as they may: when it waits for their group. A null source stands for
// zeros. A thread that ends before one of its copies is an error: on a GPU it may overwrite what was
// written there since.
void copy_later(void* to, const void* from, size_t bytes, Where where);
void commit_copies();
void wait_copies(unsigned groups_left);

// The caller's place in its warp.
unsigned lane();

}  // namespace tenon::emulator
