// What window attention's two kernels share, per instruction set: the cut into items, the rows of a window, and what is
// added to its scores. Included after attention_scores-inl.h.
//
// An item is a head in up to kWindows windows: they share the bias, written out once as a matrix for each combination of
// seams. A window's scores and operands stay in the cache (7 x 7 positions of 32 features: 6 KiB for each of q, k and v).
#if defined(TENON_WINDOW_ATTENTION_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_WINDOW_ATTENTION_H
#undef TENON_WINDOW_ATTENTION_H
#else
#define TENON_WINDOW_ATTENTION_H
#endif

#include <array>

#ifndef TENON_WINDOW_ATTENTION_ONCE
#define TENON_WINDOW_ATTENTION_ONCE
namespace tenon::cpu {

constexpr int64_t kWindows = 16;

// The items of a call, chunk by chunk with the heads inside, so that what one head leaves in the cache serves the next.
struct WindowItems {
  int64_t heads, windows, head_dim;

  // Args: WindowAttentionArgs or its backward
  template <typename Args>
  explicit WindowItems(const Args& args)
      : heads(args.table.size(1)),
        windows(args.qkv.size(0) * args.windows.count()),
        head_dim(args.qkv.size(3) / (3 * heads)) {}
  int64_t chunks() const { return ceil_div(windows, kWindows); }
  int64_t count() const { return chunks() * heads; }
  int64_t head(int64_t item) const { return item % heads; }
  int64_t first(int64_t item) const { return item / heads * kWindows; }
  int64_t last(int64_t item) const { return std::min(windows, first(item) + kWindows); }
};

// The rows of a window in a map of tokens: one row for each position.
struct WindowRows {
  char* data;  // the first token's
  DType dtype;
  int64_t stride;  // elements between tokens
  const int64_t* tokens;
  void* padding;  // the row of positions outside the map

  template <typename S>
  S* row(int64_t i) const {
    return tokens[i] < 0 ? static_cast<S*>(padding) : reinterpret_cast<S*>(data) + tokens[i] * stride;
  }
};

// `column` of every token of image b, in a tensor [B, H, W, columns].
inline WindowRows window_rows(const View& x, int64_t b, int64_t column, const int64_t* tokens,
                              void* padding) {
  const auto size = static_cast<int64_t>(size_of(x.dtype));
  return {x.as<char>() + (b * x.stride(0) + column) * size, x.dtype, x.stride(2), tokens, padding};
}

struct WindowScratch {
  ScratchBuffer tokens, zeros, discarded, sides;
  ScratchBuffer table;   // one head's biases, backwards
  ScratchBuffer terms;   // [kinds of seams, positions, padded row]
  ScratchBuffer dterms;  // [positions, padded row]
};

inline WindowScratch& window_scratch() {
  static thread_local WindowScratch scratch;
  return scratch;
}

// The tokens of a window's positions (-1 outside the map), and rows that stand in for those outside.
struct WindowTokens {
  int64_t* list;
  void* zeros;      // to read
  void* discarded;  // to write

  WindowTokens(const Windows& windows, int64_t d)
      : list(window_scratch().tokens.reserve<int64_t>(windows.positions())),
        zeros(window_scratch().zeros.reserve<double>(d)),
        discarded(window_scratch().discarded.reserve<double>(d)) {
    std::fill_n(static_cast<double*>(zeros), d, 0.0);
  }
  // windows.token for all positions, without a division for each.
  void find(const Windows& w, int64_t window) const {
    const int64_t top = window / w.columns() * w.height, left = window % w.columns() * w.width;
    int64_t* to = list;
    for (int64_t y = top; y < top + w.height; ++y) {
      const int64_t row = (y + w.shift_y) % w.map_height * w.map_width;
      int64_t column = (left + w.shift_x) % w.map_width;
      for (int64_t x = left; x < left + w.width; ++x) {
        *to++ = y < w.map_height && x < w.map_width ? row + column : -1;
        if (++column == w.map_width) column = 0;
      }
    }
  }
  // `column` of padding's row, or zeros without one.
  void* padding_row(const View& padding, int64_t column) const {
    return padding ? padding.as<char>() + column * static_cast<int64_t>(size_of(padding.dtype)) : zeros;
  }
};

// The index of the first score of query i, in [windows, heads, n, n].
inline uint64_t window_score(int64_t window, int64_t heads, int64_t head, int64_t n, int64_t i) {
  return static_cast<uint64_t>(((window * heads + head) * n + i) * n);
}

}  // namespace tenon::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {

// What is added to the scores of a head: matrices of the biases and of the penalty, made when first asked for.
template <typename T>
class WindowTerms {
 public:
  WindowTerms(const View& table, const Windows& windows, int64_t head, int64_t stride)
      : windows_(windows), stride_(stride), size_(windows.positions() * stride) {
    WindowScratch& scratch = window_scratch();
    const int64_t offsets = windows.offsets(), heads = table.size(1);
    reversed_ = scratch.table.reserve<T>(offsets);
    terms_ = scratch.terms.reserve<T>(4 * size_);
    with_storage_type<T>(table.dtype, [&]<typename S>(S*) {
      const S* column = table.as<const S>() + head;
      for (int64_t i = 0; i < offsets; ++i) reversed_[i] = static_cast<T>(column[(offsets - 1 - i) * heads]);
    });
  }

  const T* matrix(int seams) {
    T* terms = terms_ + seams * size_;
    if (!made_[static_cast<size_t>(seams)]) {
      made_[static_cast<size_t>(seams)] = true;
      make(seams, terms);
    }
    return terms;
  }

 private:
  void make(int seams, T* HWY_RESTRICT terms) const {
    const Windows& w = windows_;
    const int64_t n = w.positions();
    uint8_t* sides = window_scratch().sides.reserve<uint8_t>(n);
    for (int64_t i = 0; i < n; ++i) sides[i] = static_cast<uint8_t>(w.side(seams, i));
    for (int64_t i = 0; i < n; ++i) {
      T* row = terms + i * stride_;
      // Along a row of keys the offset falls by one, so the reversed table runs along with it.
      for (int64_t j = 0; j < n; j += w.width)
        std::copy_n(reversed_ + w.offsets() - 1 - w.offset(i, j), w.width, row + j);
      std::fill(row + n, row + stride_, T{0});
      if (seams == 0) continue;
      for (int64_t j = 0; j < n; ++j) row[j] += sides[i] != sides[j] ? T(kSeamPenalty) : T{0};
    }
  }

  const Windows& windows_;
  int64_t stride_, size_;
  T* reversed_;
  T* terms_;
  std::array<bool, 4> made_{};
};

}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_WINDOW_ATTENTION_H
