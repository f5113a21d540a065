// Reductions over any set of dimensions. Two shapes of the inner loop: along a run of memory, when the fastest
// dimension of x is reduced ("rows"), or side by side into a strip of results, when it is kept ("columns").
//
// Sums of floating-point numbers are accumulated in float64: that keeps 1e-7 relative whatever the count, and costs
// nothing while memory is the limit.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/reduce.cc"
#include "backend/cpu/block.h"
//
#include <algorithm>
#include <array>
#include <functional>
#include <vector>

#include "backend/cpu/iterate.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/prefetch.h"
#include "core/error.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// ---- what is accumulated -----------------------------------------------------------------------------------------

template <typename T>
using Total = std::conditional_t<std::is_floating_point_v<T>, double, int64_t>;

struct Sum {
  template <typename V>
  static constexpr V kStart = 0;
  static void take(double& total, double x, double) { total += x; }
  static void take(int64_t& total, int64_t x, double) {  // wraps around
    total = static_cast<int64_t>(static_cast<uint64_t>(total) + static_cast<uint64_t>(x));
  }
};

struct SquaredDeviations {
  template <typename V>
  static constexpr V kStart = 0;
  static void take(double& total, double x, double mean) { total += (x - mean) * (x - mean); }
};

// NaN beats everything.
struct Max {
  template <typename V>
  static constexpr V kStart = std::is_same_v<V, double> ? -std::numeric_limits<V>::infinity()
                                                        : std::numeric_limits<V>::min();
  template <typename V>
  static void take(V& total, V x, double) {
    total = x > total || x != x ? x : total;
  }
};

struct Min {
  template <typename V>
  static constexpr V kStart = std::is_same_v<V, double> ? std::numeric_limits<V>::infinity()
                                                        : std::numeric_limits<V>::max();
  template <typename V>
  static void take(V& total, V x, double) {
    total = x < total || x != x ? x : total;
  }
};

struct Any {
  template <typename V>
  static constexpr V kStart = 0;
  static void take(int64_t& total, int64_t x, double) { total |= static_cast<int64_t>(x != 0); }
};

struct All {
  template <typename V>
  static constexpr V kStart = 1;
  static void take(int64_t& total, int64_t x, double) { total &= static_cast<int64_t>(x != 0); }
};

// A reduction of blocks of T. The loops over dimensions below are compiled once per T and call it through pointers.
template <typename T>
struct Reducer {
  Total<T> start;
  void (*run)(Total<T>& total, const T* x, int64_t n, double mean);
  // totals[i] takes x[r * stride + i] for each row r
  void (*strip)(Total<T>* totals, const T* x, int64_t rows, int64_t stride, int64_t n, const double* means);
  void (*merge)(Total<T>& total, Total<T> part);
  const double* means = nullptr;  // one per result, for SquaredDeviations
};

constexpr int64_t kStrip = 512;    // results side by side
constexpr int64_t kStripRows = 8;  // of x, so that totals are loaded and stored once for as many

// totals[i] takes x[r * stride + i] for kRows rows, while the rows after the next kRows come nearer: a sum of the columns
// of [6272, 192] reads 34 instead of 18 GB/s (Zen 4, 2 threads).
template <typename Op, int kRows, typename T>
HWY_INLINE void take_rows(Total<T>* HWY_RESTRICT totals, const T* HWY_RESTRICT x, int64_t stride, int64_t n,
                          const double* HWY_RESTRICT means) {
  constexpr int64_t kChunk = kCacheLine / static_cast<int64_t>(sizeof(T));
  const auto take = [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t i = begin; i < end; ++i) {
      Total<T> total = totals[i];
      double mean = 0;
      if constexpr (std::is_same_v<Op, SquaredDeviations>) mean = means[i];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) Op::take(total, static_cast<Total<T>>(x[r * stride + i]), mean);
      totals[i] = total;
    }
  };
  int64_t i = 0;
  for (; i + kChunk <= n; i += kChunk) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) prefetch(x + (2 * kRows + r) * stride + i);
    take(i, i + kChunk);
  }
  take(i, n);
}

// Merge is how the results of parts come together: the op itself, or Sum.
template <typename T, typename Op, typename Merge = Op>
Reducer<T> make_reducer(const double* means = nullptr) {
  Reducer<T> reducer;
  reducer.start = Op::template kStart<Total<T>>;
  reducer.run = [](Total<T>& total, const T* x, int64_t n, double mean) {
    constexpr int kLanes = 32;  // independent results, to fill vectors and hide latency
    Total<T> lanes[kLanes];
    std::fill_n(lanes, kLanes, Op::template kStart<Total<T>>);
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      for (int j = 0; j < kLanes; ++j) Op::take(lanes[j], static_cast<Total<T>>(x[i + j]), mean);
    }
    for (; i < n; ++i) Op::take(lanes[i % kLanes], static_cast<Total<T>>(x[i]), mean);
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j) Merge::take(lanes[j], lanes[j + width], 0);
    }
    Merge::take(total, lanes[0], 0);
  };
  reducer.strip = [](Total<T>* totals, const T* x, int64_t rows, int64_t stride, int64_t n,
                     const double* mean) {
    for (; rows >= kStripRows; rows -= kStripRows, x += kStripRows * stride)
      take_rows<Op, kStripRows>(totals, x, stride, n, mean);
    for (; rows > 0; --rows, x += stride) take_rows<Op, 1>(totals, x, stride, n, mean);
  };
  reducer.merge = [](Total<T>& total, Total<T> part) { Merge::take(total, part, 0); };
  reducer.means = means;
  return reducer;
}

template <typename T>
HWY_NOINLINE const T* read(const Tile& tile, T* scratch) {
  return read_block(tile, scratch);
}

// ---- the two inner loops ---------------------------------------------------------------------------------------

// The dimensions that are kept, and those that are reduced.
struct Plan {
  Shape kept, kept_x, kept_out;  // sizes, strides in x, strides in out
  Shape reduced, reduced_x;
  bool columns = false;  // whether x's fastest dimension is kept

  explicit Plan(const ReduceArgs& args) {
    int64_t fastest = std::numeric_limits<int64_t>::max();
    for (int d = 0; d < args.x.ndim(); ++d) {
      const int64_t size = args.x.size(d), stride = args.x.stride(d);
      if (size == 1) continue;
      const bool keep = args.out.size(d) == size;
      if (keep) {
        kept.push_back(size);
        kept_x.push_back(stride);
        kept_out.push_back(args.out.stride(d));
      } else {
        reduced.push_back(size);
        reduced_x.push_back(stride);
      }
      if (std::abs(stride) < fastest || (std::abs(stride) == fastest && !keep)) {
        fastest = std::abs(stride);
        columns = keep;
      }
    }
  }
};

// Called with each result: (offset in out, number of the result, total).
template <typename T>
using Finish = std::function<void(int64_t, int64_t, Total<T>)>;

// How the reduced elements are shared out: `parts` ranges for each of `units` groups of results.
struct Split {
  int64_t units, parts;

  Split(int64_t units_, int64_t reduced, int64_t width) : units(units_), parts(1) {
    constexpr int64_t kEach = 4;  // of a thread
    const int64_t threads = omp_get_max_threads();
    const int64_t worth = units * reduced * width / kElementwiseGrain;
    if (units < threads && worth > 1) parts = std::min({kEach * threads, worth, reduced});
  }
};

// Results in the order of the kept dimensions' nest; finish(offset in out, number of the result, total).
template <typename T>
void reduce_columns(const ReduceArgs& args, const Plan& plan, const Reducer<T>& op, const Finish<T>& finish) {
  const Nest<2> kept(plan.kept, {plan.kept_x, plan.kept_out});
  const Nest<1> reduced(plan.reduced, {plan.reduced_x});
  const int64_t width = kept.columns(), strips = (width + kStrip - 1) / kStrip;
  const int64_t rows = width == 0 ? 0 : kept.count() / width;
  const Split split(rows * strips, reduced.count(), std::min(width, kStrip));
  const bool direct = is_own<T>(args.x.dtype) && kept.column_stride(0) == 1;
  std::vector<Total<T>> totals(static_cast<size_t>(split.parts * kept.count()), op.start);

  const int64_t grain = std::max<int64_t>(
      1, kElementwiseGrain * split.parts / std::max<int64_t>(1, reduced.count() * std::min(width, kStrip)));
  parallel_for(split.units * split.parts, grain, [&](int64_t begin, int64_t end) {
    HWY_ALIGN T scratch[kStrip * kStripRows];
    for (int64_t task = begin; task < end; ++task) {
      const int64_t part = task / split.units, unit = task % split.units;
      const int64_t first = unit / strips * width + unit % strips * kStrip;
      const int64_t count = std::min(kStrip, width - unit % strips * kStrip);
      Total<T>* strip = totals.data() + part * kept.count() + first;
      kept.tiles(first, first + count, count, [&](const auto& at, int64_t, int64_t) {
        const int64_t from = reduced.count() * part / split.parts,
                      to = reduced.count() * (part + 1) / split.parts;
        reduced.tiles(from, to, reduced.count(), [&](const auto& place, int64_t rows_, int64_t columns) {
          const double* means = op.means == nullptr ? nullptr : op.means + first;
          for (int64_t r = 0; r < rows_; ++r) {
            const int64_t row = at[0] + place[0] + r * reduced.row_stride(0);
            if (direct) {
              op.strip(strip, args.x.as<const T>() + row, columns, reduced.column_stride(0), count, means);
              continue;
            }
            for (int64_t c = 0; c < columns; c += kStripRows) {
              const int64_t some = std::min(kStripRows, columns - c), step = reduced.column_stride(0);
              const Tile tile{args.x.data, args.x.dtype, row + c * step,       some,
                              count,       step,         kept.column_stride(0)};
              op.strip(strip, read(tile, scratch), some, count, count, means);
            }
          }
        });
      });
    }
  });

  for (int64_t part = 1; part < split.parts; ++part) {
    for (int64_t i = 0; i < kept.count(); ++i) {
      op.merge(totals[static_cast<size_t>(i)], totals[static_cast<size_t>(part * kept.count() + i)]);
    }
  }
  int64_t number = 0;
  kept.tiles(0, kept.count(), kept.count(), [&](const auto& at, int64_t rows_, int64_t columns) {
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < columns; ++c, ++number) {
        finish(at[1] + r * kept.row_stride(1) + c * kept.column_stride(1), number,
               totals[static_cast<size_t>(number)]);
      }
    }
  });
}

template <typename T>
void reduce_rows(const ReduceArgs& args, const Plan& plan, const Reducer<T>& op, const Finish<T>& finish) {
  const Nest<2> kept(plan.kept, {plan.kept_out, plan.kept_x});
  const Nest<1> reduced(plan.reduced, {plan.reduced_x});
  const Split split(kept.count(), reduced.count(), 1);
  const bool direct = is_own<T>(args.x.dtype) && reduced.column_stride(0) == 1;
  const int64_t most = direct ? std::max(reduced.columns(), kBlock) : kBlock;

  const auto accumulate = [&](int64_t offset, int64_t number, int64_t part, T* scratch) {
    Total<T> total = op.start;
    const int64_t from = reduced.count() * part / split.parts,
                  to = reduced.count() * (part + 1) / split.parts;
    reduced.tiles(from, to, most, [&](const auto& place, int64_t rows, int64_t columns) {
      const Tile tile{args.x.data, args.x.dtype,          offset + place[0],       rows,
                      columns,     reduced.row_stride(0), reduced.column_stride(0)};
      op.run(total, read(tile, scratch), tile.size(), op.means == nullptr ? 0 : op.means[number]);
    });
    return total;
  };
  // For each result in [begin, end): body(offset in out, offset in x, number).
  const auto each = [&](int64_t begin, int64_t end, auto&& body) {
    int64_t number = begin;
    kept.tiles(begin, end, kept.count(), [&](const auto& at, int64_t rows, int64_t columns) {
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c, ++number) {
          body(at[0] + r * kept.row_stride(0) + c * kept.column_stride(0),
               at[1] + r * kept.row_stride(1) + c * kept.column_stride(1), number);
        }
      }
    });
  };

  if (split.parts == 1) {
    const int64_t grain = std::max<int64_t>(1, kElementwiseGrain / std::max<int64_t>(1, reduced.count()));
    parallel_for(kept.count(), grain, [&](int64_t begin, int64_t end) {
      HWY_ALIGN T scratch[kBlock];
      each(begin, end, [&](int64_t to, int64_t from, int64_t number) {
        finish(to, number, accumulate(from, number, 0, scratch));
      });
    });
    return;
  }
  std::vector<Total<T>> totals(static_cast<size_t>(split.parts * kept.count()));
  parallel_for(split.parts, 1, [&](int64_t begin, int64_t end) {
    HWY_ALIGN T scratch[kBlock];
    for (int64_t part = begin; part < end; ++part) {
      each(0, kept.count(), [&](int64_t, int64_t from, int64_t number) {
        totals[static_cast<size_t>(part * kept.count() + number)] = accumulate(from, number, part, scratch);
      });
    }
  });
  each(0, kept.count(), [&](int64_t to, int64_t, int64_t number) {
    Total<T> total = op.start;
    for (int64_t part = 0; part < split.parts; ++part) {
      op.merge(total, totals[static_cast<size_t>(part * kept.count() + number)]);
    }
    finish(to, number, total);
  });
}

template <typename T>
void reduce_with(const ReduceArgs& args, const Plan& plan, const Reducer<T>& op, const Finish<T>& finish) {
  if (plan.columns) {
    reduce_columns<T>(args, plan, op, finish);
  } else {
    reduce_rows<T>(args, plan, op, finish);
  }
}

// ---- the ops ---------------------------------------------------------------------------------------------------

// One element of a result. A switch per element, not a loop per dtype: there are few, and it keeps the code small.
HWY_NOINLINE void store_result(const View& out, int64_t at, double value) {
  with_type(out.dtype, [&](auto zero) { out.as<decltype(zero)>()[at] = convert<decltype(zero)>(value); });
}
HWY_NOINLINE void store_result(const View& out, int64_t at, int64_t value) {
  with_type(out.dtype, [&](auto zero) { out.as<decltype(zero)>()[at] = convert<decltype(zero)>(value); });
}

template <typename T>
void reduce_into(const ReduceArgs& args, const Plan& plan, const Reducer<T>& op, double divisor = 1) {
  reduce_with<T>(args, plan, op, [&](int64_t at, int64_t, Total<T> total) {
    if constexpr (std::is_floating_point_v<T>) total /= divisor;
    store_result(args.out, at, total);
  });
}

template <typename T>
void variance(const ReduceArgs& args, const Plan& plan) {
  const auto n = static_cast<double>(plan.reduced.numel());
  std::vector<double> means(static_cast<size_t>(plan.kept.numel()));
  reduce_with<T>(args, plan, make_reducer<T, Sum>(), [&](int64_t, int64_t number, double total) {
    means[static_cast<size_t>(number)] = total / n;
  });
  reduce_into<T>(args, plan, make_reducer<T, SquaredDeviations, Sum>(means.data()),
                 std::max(0.0, n - args.correction));
}

// The first place along one dimension that holds its largest (or smallest) element; NaN counts as that.
template <typename T, bool kMax>
void arg_extreme(const ReduceArgs& args) {
  const View& x = args.x;
  const int64_t n = x.size(args.dim), stride = x.stride(args.dim);
  Shape shape = x.shape, x_strides = x.strides, out_strides = args.out.strides;
  shape.erase(args.dim);
  x_strides.erase(args.dim);
  out_strides.erase(args.dim);
  const Nest<2> kept(shape, {out_strides, x_strides});
  const auto find = [&](int64_t from, int64_t to, T* scratch) {
    T best{};
    int64_t place = 0;
    for (int64_t start = 0; start < n; start += kBlock) {
      const int64_t count = std::min(kBlock, n - start);
      const T* v = read(Tile{x.data, x.dtype, from + start * stride, 1, count, 0, stride}, scratch);
      for (int64_t i = 0; i < count; ++i) {
        const bool better = kMax ? v[i] > best : v[i] < best;
        if ((start == 0 && i == 0) || better || (v[i] != v[i] && best == best)) {
          best = v[i];
          place = start + i;
        }
      }
    }
    args.out.as<int64_t>()[to] = place;
  };
  const int64_t grain = std::max<int64_t>(1, kElementwiseGrain / std::max<int64_t>(1, n));
  parallel_for(kept.count(), grain, [&](int64_t begin, int64_t end) {
    HWY_ALIGN T scratch[kBlock];
    kept.tiles(begin, end, kept.count(), [&](const auto& at, int64_t rows, int64_t columns) {
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c) {
          find(at[1] + r * kept.row_stride(1) + c * kept.column_stride(1),
               at[0] + r * kept.row_stride(0) + c * kept.column_stride(0), scratch);
        }
      }
    });
  });
}

template <typename T>
void reduce_as(const ReduceArgs& args) {
  if (args.op == ReduceOp::ArgMax) return arg_extreme<T, true>(args);
  if (args.op == ReduceOp::ArgMin) return arg_extreme<T, false>(args);
  const Plan plan(args);
  if (args.op == ReduceOp::Sum) return reduce_into<T>(args, plan, make_reducer<T, Sum>());
  if (args.op == ReduceOp::Max) return reduce_into<T>(args, plan, make_reducer<T, Max>());
  if (args.op == ReduceOp::Min) return reduce_into<T>(args, plan, make_reducer<T, Min>());
  if constexpr (std::is_floating_point_v<T>) {
    const auto n = static_cast<double>(plan.reduced.numel());
    if (args.op == ReduceOp::Mean) return reduce_into<T>(args, plan, make_reducer<T, Sum>(), n);
    if (args.op == ReduceOp::Var) return variance<T>(args, plan);
  }
  if constexpr (std::is_same_v<T, uint8_t>) {
    if (args.op == ReduceOp::Any) return reduce_into<T>(args, plan, make_reducer<T, Any>());
    if (args.op == ReduceOp::All) return reduce_into<T>(args, plan, make_reducer<T, All>());
  }
  throw TensorError("reduce", code::kKernel,
                    "expected a reduction of " + std::string(name_of(args.x.dtype)) + ", got op " +
                        std::to_string(static_cast<int>(args.op)));
}

void reduce_dispatch(const ReduceArgs& args) {
  switch (args.x.dtype) {
    case DType::Float64:
      return reduce_as<double>(args);
    case DType::Int32:
      return reduce_as<int32_t>(args);
    case DType::Int64:
      return reduce_as<int64_t>(args);
    case DType::UInt8:
    case DType::Bool:
      return reduce_as<uint8_t>(args);
    default:
      return reduce_as<float>(args);
  }
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(reduce_dispatch);

void reduce(const ReduceArgs& args) { HWY_DYNAMIC_DISPATCH(reduce_dispatch)(args); }

}  // namespace tenon::cpu
#endif
