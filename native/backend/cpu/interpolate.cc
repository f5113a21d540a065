// Image resizing by separable filters: each axis has a table of taps (which inputs an output reads, with what
// weight), and the backward pass is the same with the tables transposed.
#include <algorithm>
#include <numeric>
#include <vector>

#include "backend/cpu/convert.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "backend/taps.h"

namespace tenon::cpu {

namespace {

// Output i is the sum of weights[k] * input[places[k]] for k in [starts[i], starts[i + 1]).
struct Table {
  std::vector<int64_t> starts{0};
  std::vector<int64_t> places;
  std::vector<double> weights;

  void add(int64_t place, double weight) {
    places.push_back(place);
    weights.push_back(weight);
  }
  void finish() { starts.push_back(static_cast<int64_t>(places.size())); }
  int64_t outputs() const { return static_cast<int64_t>(starts.size()) - 1; }
};

Table make_table(const Taps& taps) {
  Table table;
  for (int64_t i = 0; i < taps.out; ++i) {
    const Taps::Range range = taps.range(i);
    const size_t start = table.weights.size();
    for (int64_t k = 0; k < range.count; ++k)
      table.add(taps.clamped(range.first + k), taps.weight(range, i, k));
    if (taps.antialias) {
      const auto begin = table.weights.begin() + static_cast<std::ptrdiff_t>(start);
      const double sum = std::accumulate(begin, table.weights.end(), 0.0);
      std::for_each(begin, table.weights.end(), [sum](double& weight) { weight /= sum; });
    }
    table.finish();
  }
  return table;
}

// For each input, which outputs read it: in the order of the outputs, so that sums have a fixed order.
Table transposed(const Table& table, int64_t inputs) {
  std::vector<std::vector<std::pair<int64_t, double>>> readers(static_cast<size_t>(inputs));
  for (int64_t i = 0; i < table.outputs(); ++i) {
    for (int64_t k = table.starts[static_cast<size_t>(i)]; k < table.starts[static_cast<size_t>(i + 1)];
         ++k) {
      readers[static_cast<size_t>(table.places[static_cast<size_t>(k)])].emplace_back(
          i, table.weights[static_cast<size_t>(k)]);
    }
  }
  Table out;
  for (const auto& list : readers) {
    for (const auto& [place, weight] : list) out.add(place, weight);
    out.finish();
  }
  return out;
}

// Every plane of x [.., H, W] through the vertical and then the horizontal table. T computes, Stored is the dtype.
template <typename T, typename Stored>
void resample(const View& x, const View& out, const Table& vertical, const Table& horizontal) {
  const int64_t planes = x.size(0) * x.size(1), height = x.size(2), width = x.size(3);
  const int64_t rows = out.size(2), columns = out.size(3);
  const std::vector<T> down(vertical.weights.begin(), vertical.weights.end());
  const std::vector<T> across(horizontal.weights.begin(), horizontal.weights.end());
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, columns));
  parallel_for(planes * rows, grain, [&](int64_t begin, int64_t end) {
    std::vector<T> line(static_cast<size_t>(width));
    for (int64_t job = begin; job < end; ++job) {
      const Stored* plane = x.as<const Stored>() + job / rows * height * width;
      const auto row = static_cast<size_t>(job % rows);
      std::fill(line.begin(), line.end(), T(0));
      for (int64_t k = vertical.starts[row]; k < vertical.starts[row + 1]; ++k) {
        const Stored* from = plane + vertical.places[static_cast<size_t>(k)] * width;
        const T weight = down[static_cast<size_t>(k)];
        for (int64_t c = 0; c < width; ++c) line[static_cast<size_t>(c)] += weight * convert<T>(from[c]);
      }
      Stored* to = out.as<Stored>() + job * columns;
      for (int64_t c = 0; c < columns; ++c) {
        T sum = 0;
        for (int64_t k = horizontal.starts[static_cast<size_t>(c)];
             k < horizontal.starts[static_cast<size_t>(c + 1)]; ++k) {
          sum += across[static_cast<size_t>(k)] *
                 line[static_cast<size_t>(horizontal.places[static_cast<size_t>(k)])];
        }
        to[c] = convert<Stored>(sum);
      }
    }
  });
}

void resample(const View& x, const View& out, const Table& vertical, const Table& horizontal) {
  switch (x.dtype) {
    case DType::Float64:
      return resample<double, double>(x, out, vertical, horizontal);
    case DType::BFloat16:
      return resample<float, bfloat16>(x, out, vertical, horizontal);
    case DType::Float16:
      return resample<float, float16>(x, out, vertical, horizontal);
    default:
      return resample<float, float>(x, out, vertical, horizontal);
  }
}

}  // namespace

void interpolate(const InterpolateArgs& args) {
  const auto table = [&](int dim) {
    return make_table(Taps(args.x.size(dim), args.out.size(dim), args.mode, args.antialias));
  };
  resample(args.x, args.out, table(2), table(3));
}

void interpolate_backward(const InterpolateBackwardArgs& args) {
  const auto table = [&](int dim) {
    const Taps taps(args.dx.size(dim), args.dy.size(dim), args.mode, args.antialias);
    return transposed(make_table(taps), taps.in);
  };
  resample(args.dy, args.dx, table(2), table(3));
}

}  // namespace tenon::cpu
