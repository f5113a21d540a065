// Swin's windows (Liu et al., 2021): the map of tokens [map_height, map_width] is rolled by (-shift_y, -shift_x), padded
// at the bottom and the right to whole windows, and cut into windows of height x width, row by row. Kernels find the
// token of each position by this arithmetic; nothing is moved.
#pragma once

#include <cstdint>

namespace tenon {

template <typename Int>
struct WindowsOf {
  Int map_height = 0, map_width = 0;
  Int height = 1, width = 1;
  Int shift_y = 0, shift_x = 0;  // less than height and width

  constexpr Int tokens() const { return map_height * map_width; }
  constexpr Int rows() const { return (map_height + height - 1) / height; }
  constexpr Int columns() const { return (map_width + width - 1) / width; }
  constexpr Int count() const { return rows() * columns(); }
  constexpr Int positions() const { return height * width; }

  // The token at a position of a window, or -1: padding.
  constexpr Int token(Int window, Int position) const {
    const Int y = window / columns() * height + position / width;
    const Int x = window % columns() * width + position % width;
    if (y >= map_height || x >= map_width) return -1;
    return (y + shift_y) % map_height * map_width + (x + shift_x) % map_width;
  }

  // Bit 1: the map's lower and upper ends meet in the window; bit 0: its right and left ends do.
  constexpr int seams(Int window) const {
    const bool last_row = window / columns() == rows() - 1, last_column = window % columns() == columns() - 1;
    return (shift_y > 0 && last_row ? 2 : 0) + (shift_x > 0 && last_column ? 1 : 0);
  }

  // The side of the seams that a position is on; positions on different sides do not attend to each other.
  constexpr int side(int seams, Int position) const {
    const bool below = position / width >= height - shift_y, beyond = position % width >= width - shift_x;
    return ((seams & 2) != 0 && below ? 2 : 0) + ((seams & 1) != 0 && beyond ? 1 : 0);
  }

  // Rows of the table of relative positions, and the one for a query's and a key's position:
  // (yq - yk + height - 1) (2 width - 1) + xq - xk + width - 1, the middle row plus a difference of places.
  constexpr Int offsets() const { return (2 * height - 1) * (2 * width - 1); }
  constexpr Int offset(Int query, Int key) const { return place(query) - place(key) + offsets() / 2; }
  constexpr Int place(Int position) const { return position / width * (2 * width - 1) + position % width; }
};

using Windows = WindowsOf<int64_t>;

// Added to the scores of positions on different sides of a seam, as in the reference implementation.
constexpr double kSeamPenalty = -100;

}  // namespace tenon
