// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter-based
// generator. The numbers of a call depend on (seed, offset, element index) alone, so they are the same on every
// device and for every thread count.
//
// Element i of a call that starts at `offset` uses word (offset + i) % 4 of the block with counter (offset + i) / 4.
// The counter's upper half is the plane: an element that needs a second word finds it at the same place of plane 1.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace tenon {

struct Philox {
  using Block = std::array<uint32_t, 4>;

  static constexpr Block block(uint64_t seed, uint64_t counter, uint32_t plane = 0) {
    uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = plane,
             c3 = 0;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
      const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
      c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
      c1 = static_cast<uint32_t>(p1);
      c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c3 = static_cast<uint32_t>(p0);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return {c0, c1, c2, c3};
  }

  static constexpr uint32_t word(uint64_t seed, uint64_t index, uint32_t plane = 0) {
    return block(seed, index / 4, plane)[index % 4];
  }

  // Words below it are dropped, or drawn, with probability p: all 2^32 of them for 1.
  static uint64_t threshold(double p) { return static_cast<uint64_t>(std::ldexp(p, 32)); }

  // [0, 1), 24 bits
  static constexpr float uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
};

// The distribution function of the standard normal distribution.
inline double standard_normal_cdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752440); }

}  // namespace tenon
