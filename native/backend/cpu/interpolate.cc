// Image resizing by separable filters: each axis has a table of taps (which inputs an output reads, with what
// weight), and the backward pass is the same with the tables transposed.
#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/convert.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace tenon::cpu {

namespace {

// Output i is the sum of weights[k] * input[places[k]] for k in [starts[i], starts[i + 1]).
struct Taps {
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

// Keys' cubic convolution kernel (1981) with parameter a.
double cubic(double x, double a) {
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

double triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }

Taps plain_taps(int64_t in, int64_t out, Interpolation mode) {
  Taps taps;
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const auto clamped = [in](int64_t i) { return std::clamp<int64_t>(i, 0, in - 1); };
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale - 0.5;
    if (mode == Interpolation::Nearest) {
      // PyTorch's 'nearest' works in float32 and takes the left edge of the output pixel.
      const float edge = static_cast<float>(i) * (static_cast<float>(in) / static_cast<float>(out));
      taps.add(clamped(static_cast<int64_t>(std::floor(edge))), 1);
    } else if (mode == Interpolation::Bilinear) {
      const double x = std::max(0.0, centre);
      const auto left = static_cast<int64_t>(x);
      const double t = x - static_cast<double>(left);
      taps.add(clamped(left), 1 - t);
      taps.add(clamped(left + 1), t);
    } else {
      const double left = std::floor(centre);
      for (int64_t k = -1; k <= 2; ++k) {
        taps.add(clamped(static_cast<int64_t>(left) + k),
                 cubic(centre - (left + static_cast<double>(k)), -0.75));
      }
    }
    taps.finish();
  }
  return taps;
}

// Pillow's filter: the kernel is stretched by the scale when the image shrinks, cut off at the border and normalised.
Taps antialias_taps(int64_t in, int64_t out, Interpolation mode) {
  Taps taps;
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double stretch = std::max(1.0, scale);
  const double support = (mode == Interpolation::Bicubic ? 2 : 1) * stretch;
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
    const int64_t last = std::min(in, static_cast<int64_t>(centre + support + 0.5));
    const size_t start = taps.weights.size();
    double sum = 0;
    for (int64_t k = first; k < last; ++k) {
      const double x = (static_cast<double>(k) - centre + 0.5) / stretch;
      const double weight = mode == Interpolation::Bicubic ? cubic(x, -0.5) : triangle(x);
      taps.add(k, weight);
      sum += weight;
    }
    for (size_t k = start; k < taps.weights.size(); ++k) taps.weights[k] /= sum;
    taps.finish();
  }
  return taps;
}

Taps make_taps(int64_t in, int64_t out, Interpolation mode, bool antialias) {
  return antialias ? antialias_taps(in, out, mode) : plain_taps(in, out, mode);
}

// For each input, which outputs read it: in the order of the outputs, so that sums have a fixed order.
Taps transposed(const Taps& taps, int64_t inputs) {
  std::vector<std::vector<std::pair<int64_t, double>>> readers(static_cast<size_t>(inputs));
  for (int64_t i = 0; i < taps.outputs(); ++i) {
    for (int64_t k = taps.starts[static_cast<size_t>(i)]; k < taps.starts[static_cast<size_t>(i + 1)]; ++k) {
      readers[static_cast<size_t>(taps.places[static_cast<size_t>(k)])].emplace_back(
          i, taps.weights[static_cast<size_t>(k)]);
    }
  }
  Taps out;
  for (const auto& list : readers) {
    for (const auto& [place, weight] : list) out.add(place, weight);
    out.finish();
  }
  return out;
}

// Every plane of x [.., H, W] through the vertical and then the horizontal table. T computes, Stored is the dtype.
template <typename T, typename Stored>
void resample(const View& x, const View& out, const Taps& vertical, const Taps& horizontal) {
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

void resample(const View& x, const View& out, const Taps& vertical, const Taps& horizontal) {
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
  const Taps vertical = make_taps(args.x.size(2), args.out.size(2), args.mode, args.antialias);
  const Taps horizontal = make_taps(args.x.size(3), args.out.size(3), args.mode, args.antialias);
  resample(args.x, args.out, vertical, horizontal);
}

void interpolate_backward(const InterpolateBackwardArgs& args) {
  const int64_t height = args.dx.size(2), width = args.dx.size(3);
  const Taps vertical = make_taps(height, args.dy.size(2), args.mode, args.antialias);
  const Taps horizontal = make_taps(width, args.dy.size(3), args.mode, args.antialias);
  resample(args.dy, args.dx, transposed(vertical, height), transposed(horizontal, width));
}

}  // namespace tenon::cpu
