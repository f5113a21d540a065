// What window attention's two kernels share, per instruction set: the cut into items, the rows of a window, and what is
// added to its scores. Included after attention_scores-inl.h.
//
// An item is a head in up to kWindows windows: they share the bias, written out once as a matrix for each combination of
// seams. A thread takes up to kHeads items of the same windows together, window by window: the heads of a token lie
// side by side in memory. A window's scores and operands stay in the cache (7 x 7 positions of 32 features: 6 KiB for
// each of q, k and v), but a head's rows are too far apart for the processor to see them coming: while one window is
// computed, the rows of the next are asked for, which is worth a third of the time.
#if defined(TENON_WINDOW_ATTENTION_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_WINDOW_ATTENTION_H
#undef TENON_WINDOW_ATTENTION_H
#else
#define TENON_WINDOW_ATTENTION_H
#endif

#include <omp.h>

#include <array>

#include "backend/cpu/parallel.h"
#include "backend/cpu/prefetch.h"

#ifndef TENON_WINDOW_ATTENTION_ONCE
#define TENON_WINDOW_ATTENTION_ONCE
namespace tenon::cpu {

constexpr int64_t kWindows = 16;
constexpr int64_t kHeads = 4;

// Items that are computed together: heads [head, head + heads) of windows [first, last).
struct WindowGroup {
  int64_t item, head, heads, first, last;
};

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
  // Calls run(group) for all items, on all threads. `positions` are a window's; an item takes `products` products.
  template <typename Run>
  void for_each_group(int64_t positions, int64_t products, Run&& run) const {
    const int64_t together = std::clamp<int64_t>(count() / (2 * omp_get_max_threads()), 1, kHeads);
    const int64_t groups = ceil_div(heads, together);  // of a chunk, as even as can be
    const int64_t grain = attention_grain(positions, positions * kWindows * together, products * head_dim);
    parallel_for(chunks() * groups, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t chunk = i / groups, head = heads * (i % groups) / groups;
        const int64_t first = chunk * kWindows;
        run(WindowGroup{chunk * heads + head, head, heads * (i % groups + 1) / groups - head, first,
                        std::min(windows, first + kWindows)});
      }
    });
  }
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

// The rows of the window that comes next, asked for a few at a time: with each tile of this one's products.
class RowsAhead {
 public:
  RowsAhead(const int64_t* tokens, int64_t n) : tokens_(tokens), n_(n) {}
  // The first `columns` elements of each row.
  void add(const WindowRows& rows, int64_t columns) {
    const auto size = static_cast<int64_t>(size_of(rows.dtype));
    tensors_[static_cast<size_t>(count_++)] = {rows.data, rows.stride * size, columns * size};
  }
  void operator()() { ask(kShare); }
  // All that are left.
  void finish() { ask(n_ * kMost); }

 private:
  static constexpr int64_t kShare = 16, kMost = 8;  // rows with each tile; tensors
  struct Tensor {
    const char* data;
    int64_t stride, bytes;
  };

  void ask(int64_t rows) {
    for (; rows > 0 && at_ < count_; --rows) {
      const Tensor& x = tensors_[static_cast<size_t>(at_)];
      if (tokens_[row_] >= 0) prefetch(x.data + tokens_[row_] * x.stride, x.bytes);
      if (++row_ < n_) continue;
      row_ = 0;
      ++at_;
    }
  }

  const int64_t* tokens_;
  int64_t n_, row_ = 0, at_ = 0, count_ = 0;
  std::array<Tensor, kMost> tensors_{};
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
  ScratchBuffer terms;   // [heads, kinds of seams, positions, padded row]
  ScratchBuffer dterms;  // [heads, positions, padded row]
};

inline WindowScratch& window_scratch() {
  static thread_local WindowScratch scratch;
  return scratch;
}

// The tokens of a window's positions (-1 outside the map), those of the window after it, and rows that stand in for
// those outside.
struct WindowTokens {
  int64_t* list;
  int64_t* next;
  void* zeros;      // to read
  void* discarded;  // to write

  WindowTokens(const Windows& windows, int64_t d)
      : list(window_scratch().tokens.reserve<int64_t>(2 * windows.positions())),
        next(list + windows.positions()),
        zeros(window_scratch().zeros.reserve<double>(d)),
        discarded(window_scratch().discarded.reserve<double>(d)) {
    std::fill_n(static_cast<double*>(zeros), d, 0.0);
  }
  // windows.token for all positions of the window after this one, without a division for each.
  void find_next(const Windows& w, int64_t window) const {
    const int64_t top = window / w.columns() * w.height, left = window % w.columns() * w.width;
    int64_t* to = next;
    for (int64_t y = top; y < top + w.height; ++y) {
      const int64_t row = (y + w.shift_y) % w.map_height * w.map_width;
      int64_t column = (left + w.shift_x) % w.map_width;
      for (int64_t x = left; x < left + w.width; ++x) {
        *to++ = y < w.map_height && x < w.map_width ? row + column : -1;
        if (++column == w.map_width) column = 0;
      }
    }
  }
  void advance() { std::swap(list, next); }
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

// What is added to the scores of a group's heads: matrices of the biases and of the penalty, made when first asked for.
template <typename T>
class WindowTerms {
 public:
  WindowTerms(const View& table, const Windows& windows, const WindowGroup& group, int64_t stride)
      : table_(table),
        windows_(windows),
        head_(group.head),
        stride_(stride),
        size_(windows.positions() * stride),
        reversed_(window_scratch().table.reserve<T>(windows.offsets())),
        terms_(window_scratch().terms.reserve<T>(kHeads * kSeams * size_)) {}

  // For head `h` of the group.
  const T* matrix(int64_t h, int seams) {
    const int64_t at = h * kSeams + seams;
    T* terms = terms_ + at * size_;
    if (!made_[static_cast<size_t>(at)]) {
      made_[static_cast<size_t>(at)] = true;
      make(head_ + h, seams, terms);
    }
    return terms;
  }

 private:
  static constexpr int64_t kSeams = 4;  // kinds of them

  void make(int64_t head, int seams, T* HWY_RESTRICT terms) const {
    const Windows& w = windows_;
    const int64_t n = w.positions(), offsets = w.offsets(), heads = table_.size(1);
    with_storage_type<T>(table_.dtype, [&]<typename S>(S*) {
      const S* column = table_.as<const S>() + head;
      for (int64_t i = 0; i < offsets; ++i) reversed_[i] = static_cast<T>(column[(offsets - 1 - i) * heads]);
    });
    uint8_t* sides = window_scratch().sides.reserve<uint8_t>(n);
    for (int64_t i = 0; i < n; ++i) sides[i] = static_cast<uint8_t>(w.side(seams, i));
    for (int64_t i = 0; i < n; ++i) {
      T* row = terms + i * stride_;
      // Along a row of keys the offset falls by one, so the reversed table runs along with it.
      for (int64_t j = 0; j < n; j += w.width)
        std::copy_n(reversed_ + offsets - 1 - w.offset(i, j), w.width, row + j);
      std::fill(row + n, row + stride_, T{0});
      if (seams == 0) continue;
      for (int64_t j = 0; j < n; ++j) row[j] += sides[i] != sides[j] ? T(kSeamPenalty) : T{0};
    }
  }

  const View& table_;
  const Windows& windows_;
  int64_t head_, stride_, size_;
  T* reversed_;
  T* terms_;
  std::array<bool, static_cast<size_t>(kHeads* kSeams)> made_{};
};

}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_WINDOW_ATTENTION_H
