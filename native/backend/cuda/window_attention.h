// Attention's operands and terms where a head's rows are the positions of a window on a map: found by arithmetic, so that
// no rolled, partitioned or masked copy exists. A "batch" is a window of an image.
#pragma once

#include "backend/cuda/attention.h"
#include "core/windows.h"

namespace tenon::cuda {

// A device divides 32-bit integers faster.
using Grid = WindowsOf<int>;

inline Grid grid_of(const char* op, const Windows& w) {
  to_int(op, "rows of the table", w.offsets());
  to_int(op, "positions in an image's windows", w.count() * w.positions());
  to_int(op, "tokens in an image", w.tokens());
  const auto narrow = [](int64_t x) { return static_cast<int>(x); };
  return {narrow(w.map_height), narrow(w.map_width), narrow(w.height),
          narrow(w.width),      narrow(w.shift_y),   narrow(w.shift_x)};
}

// The positions outside the map that fill up an image's windows, numbered: of all windows, and of one position.
constexpr int count_outside(const Grid& w) { return w.count() * w.positions() - w.tokens(); }

constexpr int index_outside(const Grid& w, int window, int position) {
  const int y = window / w.columns() * w.height + position / w.width;
  const int x = window % w.columns() * w.width + position % w.width;
  const int beyond = w.columns() * w.width - w.map_width;  // in a row of the map
  return y < w.map_height ? y * beyond + x - w.map_width
                          : w.map_height * beyond + (y - w.map_height) * w.columns() * w.width + x;
}

// Rows of [B, H, W, columns], and rows for the positions outside the map.
template <typename S>
struct WindowHeads {
  S* data = nullptr;
  S* outside = nullptr;                        // null: zeros to read, nothing to write
  int64_t image = 0, head = 0, row = 0;        // between images, heads and tokens
  int64_t outside_image = 0, outside_row = 0;  // 0: all positions outside share a row
  Grid windows;
  int window = 0;
  bool packs = false;  // rows can be read 16 bytes at a time

  __device__ __forceinline__ WindowHeads of(int b, int h) const {
    WindowHeads x = *this;
    x.window = b % windows.count();
    x.data += b / windows.count() * image + h * head;
    if (outside != nullptr) x.outside += b / windows.count() * outside_image + h * head;
    return x;
  }
  __device__ __forceinline__ S* at(int i) const {
    const int token = windows.token(window, i);
    if (token >= 0) return data + token * row;
    return outside == nullptr ? nullptr : outside + index_outside(windows, window, i) * outside_row;
  }
  __device__ __forceinline__ WindowHeads from(int column) const {
    WindowHeads x = *this;
    x.data += column;
    if (outside != nullptr) x.outside += column;
    return x;
  }
};

// `column` on of the rows of x [B, H, W, columns], whose heads are d apart; `outside` holds rows as wide.
template <typename S>
WindowHeads<S> window_heads(const View& x, const Grid& windows, int64_t column, int64_t d,
                            S* outside = nullptr, bool shared = true) {
  const int64_t row = x.size(3);
  WindowHeads<S> heads;
  heads.data = x.as<S>() + column;
  heads.outside = outside == nullptr ? nullptr : outside + column;
  heads.image = windows.tokens() * row;
  heads.head = d;
  heads.row = row;
  heads.outside_image = shared ? 0 : count_outside(windows) * row;
  heads.outside_row = shared ? 0 : row;
  heads.windows = windows;
  heads.packs = takes_packs<S>(heads.data, d) && takes_packs<S>(heads.outside, row);
  return heads;
}

// The log-sum-exps [B, heads, H, W], as rows of one.
template <typename T>
WindowHeads<T> window_lse(const View& lse, const Grid& windows) {
  WindowHeads<T> heads;
  heads.data = lse.as<T>();
  heads.image = lse.size(1) * windows.tokens();
  heads.head = windows.tokens();
  heads.row = 1;
  heads.windows = windows;
  return heads;
}

// The score of query i and key j of a window: bias by relative position, and the penalty across a seam.
template <typename S>
struct WindowTerms {
  using T = Compute<S>;
  const S* table = nullptr;  // [offsets, heads]
  Grid windows;
  int heads = 0, queries = 0, keys = 0, seams = 0;
  T scale = 1, keep_scale = 1;
  uint32_t drop_below = 0;  // 0: no dropout
  RandomPlace place;

  // Args: WindowAttentionArgs or its backward
  template <typename Args>
  WindowTerms(const char* op, const Args& args, Queue& queue)
      : table(args.table.template as<S>()),
        windows(grid_of(op, args.windows)),
        heads(to_int(op, "elements of the table", args.table.numel()) / windows.offsets()),
        queries(windows.positions()),
        keys(queries),
        scale(static_cast<T>(args.scale)),
        keep_scale(static_cast<T>(1 / (1 - args.dropout))),
        drop_below(static_cast<uint32_t>(Philox::threshold(args.dropout))),
        place{args.seed, args.offset, queue.random()} {}

  __device__ __forceinline__ WindowTerms of(int b, int h) const {
    WindowTerms x = *this;
    x.table += h;
    x.seams = windows.seams(b % windows.count());
    x.place.offset += (static_cast<uint64_t>(b) * heads + h) * queries * keys;
    return x;
  }

  // Minus infinity where either is not there.
  __device__ __forceinline__ T score(T product, int i, int j) const {
    if (i >= queries || j >= keys) return kMinusInfinity<T>;
    const T s = product * scale + widen(table[windows.offset(i, j) * heads]);
    return seams != 0 && windows.side(seams, i) != windows.side(seams, j) ? s + T(kSeamPenalty) : s;
  }

  // For a loop over keep: what it needs of a captured graph's random numbers is read once.
  __device__ __forceinline__ WindowTerms dropping() const {
    WindowTerms x = *this;
    x.place = place.now();
    return x;
  }
  // What dropout multiplies the probability by.
  __device__ __forceinline__ T keep(int i, int j) const {
    if (drop_below == 0) return T(1);
    const RandomPlace now = place.now();  // not before: it would stay in registers where nothing is dropped
    return random_word(now.seed, now.offset + static_cast<uint64_t>(i) * keys + j) >= drop_below ? keep_scale
                                                                                                 : T(0);
  }
};

struct Windowed {
  template <typename S>
  using Heads = WindowHeads<S>;
  template <typename S>
  using Terms = WindowTerms<S>;
  static constexpr int kMinBlocks = 1;     // else it spills registers to get one more
  static constexpr bool kOnePass = false;  // scores have a bias

  // Swin's heads have 32 features; other dimensions share two more kernels.
  template <typename F>
  static void with_head_dim(int64_t d, F&& f) {
    if (d <= 32) return f(std::integral_constant<int, 32>{});
    if (d <= 64) return f(std::integral_constant<int, 64>{});
    return f(std::integral_constant<int, 256>{});
  }
};

}  // namespace tenon::cuda
