// Whole numbers divided so that nothing is left over. Both backends use it.
#pragma once

#include <cstdint>

namespace tenon {

// a / b rounded up; b is positive.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

// The least multiple of `multiple` that is at least n.
constexpr int64_t round_up(int64_t n, int64_t multiple) { return ceil_div(n, multiple) * multiple; }

}  // namespace tenon
