// Whole numbers divided so that nothing is left over. Both backends use it.
#pragma once

#include <cstdint>

namespace tenon {

// a / b rounded up; b is positive.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

}  // namespace tenon
