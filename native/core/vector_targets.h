// The instruction sets that Highway compiles our vector code for. Machines without AVX2 run its portable target: slow, but right.
// Fewer sets make for short builds.
#pragma once

#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif
