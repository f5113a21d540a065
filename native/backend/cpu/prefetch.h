// Asking for memory ahead of time, where its rows are too far apart for the processor to see them coming.
#pragma once

#include <cstdint>

namespace tenon::cpu {

constexpr int64_t kCacheLine = 64;

// Asks for the line of p, to be read or written soon: into the L2 cache, as asking the L1 cache for more than its few
// open requests stalls. Inlined by force, as GCC drops calls of a function that only prefetches.
__attribute__((always_inline)) inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

// The same for all lines of [p, p + bytes).
__attribute__((always_inline)) inline void prefetch(const void* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kCacheLine) prefetch(static_cast<const char*>(p) + i);
}

}  // namespace tenon::cpu
