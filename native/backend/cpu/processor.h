// What this processor is good at.
#pragma once

namespace tenon::cpu {

// What the kernels' vectors are: "AVX-512", "AVX2", "NEON", or "none".
const char* instruction_set();

// Whether products of bfloat16 are faster in pairs, as AVX-512 BF16 multiplies and adds them, than as floats. AMD's processors
// (Zen 4 and 5) have it at the rate of an FMA, twice the products. Intel's since Sapphire Rapids, where AMX took its place, have
// it at a quarter of that rate, half the products: 83 GFLOP/s of 168 on a core of Emerald Rapids.
bool multiplies_pairs();

// For tests, which run both ways wherever there is the instruction. Returns whether there is.
bool set_multiplies_pairs(bool wanted);

}  // namespace tenon::cpu
