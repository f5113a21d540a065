// Tasks of a device's stream, by their numbers: what a tensor's values depend on.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tenon {

struct Tasks {
  int64_t begin = 0, end = 0;

  bool empty() const { return begin >= end; }
  // The range that spans both: where it says too much, an error counts for a tensor that was computed beside it.
  Tasks with(Tasks other) const {
    if (empty() || other.empty()) return empty() ? other : *this;
    return {std::min(begin, other.begin), std::max(end, other.end)};
  }
};

}  // namespace tenon
