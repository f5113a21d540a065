// Resizing as a pair of small sparse matrices, one for each axis: every output position is a weighted sum of a few
// input positions. Forward applies them to rows, then to columns; backward applies their transposes.
//
// Weights follow PyTorch (ATen/native/UpSample.h) and, antialiased, Pillow (Resample.c), with half-pixel centres.
#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

namespace tenon::cpu {
namespace {

// taps[i * width + k]: output i takes `weight` of input `index`.
template <typename C>
struct Axis {
  struct Tap {
    int64_t index;
    C weight;
  };
  int64_t width = 0;
  std::vector<Tap> taps;

  const Tap* of(int64_t i) const { return taps.data() + i * width; }
};

// The cubic convolution kernel (Keys, 1981) at distance x, for parameter a.
double cubic(double x, double a) {
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

double filter(Interpolation mode, double x) {
  if (mode == Interpolation::Bicubic) return cubic(x, -0.5);
  return std::max(0.0, 1 - std::abs(x));
}

template <typename C>
Axis<C> antialiased(Interpolation mode, int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double stretch = std::max(scale, 1.0);
  const double support = (mode == Interpolation::Bicubic ? 2.0 : 1.0) * stretch;
  Axis<C> axis;
  axis.width = 2 * static_cast<int64_t>(std::ceil(support)) + 1;
  axis.taps.assign(static_cast<size_t>(out * axis.width), {0, C(0)});
  std::vector<double> weights;
  for (int64_t i = 0; i < out; ++i) {
    const double centre = scale * (static_cast<double>(i) + 0.5);
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
    const int64_t last = std::min<int64_t>(static_cast<int64_t>(centre + support + 0.5), in);
    weights.clear();
    double total = 0;
    for (int64_t j = first; j < last; ++j) {
      weights.push_back(filter(mode, (static_cast<double>(j) - centre + 0.5) / stretch));
      total += weights.back();
    }
    for (size_t k = 0; k < weights.size(); ++k) {
      axis.taps[static_cast<size_t>(i * axis.width) + k] = {first + static_cast<int64_t>(k),
                                                            static_cast<C>(weights[k] / total)};
    }
  }
  return axis;
}

template <typename C>
Axis<C> pointwise(Interpolation mode, int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  Axis<C> axis;
  axis.width = mode == Interpolation::Nearest ? 1 : mode == Interpolation::Bilinear ? 2 : 4;
  const auto inside = [in](int64_t j) { return std::clamp<int64_t>(j, 0, in - 1); };
  for (int64_t i = 0; i < out; ++i) {
    const double centre = scale * (static_cast<double>(i) + 0.5) - 0.5;
    if (mode == Interpolation::Nearest) {
      // In float32, as PyTorch: the rounding decides which neighbour a tie goes to.
      const float step = static_cast<float>(in) / static_cast<float>(out);
      axis.taps.push_back({inside(static_cast<int64_t>(std::floor(static_cast<float>(i) * step))), C(1)});
    } else if (mode == Interpolation::Bilinear) {
      const double place = std::max(centre, 0.0);
      const auto low = static_cast<int64_t>(place);
      const double t = place - static_cast<double>(low);
      axis.taps.push_back({inside(low), static_cast<C>(1 - t)});
      axis.taps.push_back({inside(low + 1), static_cast<C>(t)});
    } else {
      const double floor = std::floor(centre);
      for (int k = -1; k <= 2; ++k) {
        const double x = centre - floor - k;
        axis.taps.push_back({inside(static_cast<int64_t>(floor) + k), static_cast<C>(cubic(x, -0.75))});
      }
    }
  }
  return axis;
}

template <typename C>
Axis<C> axis_for(Interpolation mode, bool antialias, int64_t in, int64_t out) {
  return antialias ? antialiased<C>(mode, in, out) : pointwise<C>(mode, in, out);
}

// Each of the `rows` rows of target is a weighted sum of rows of source; rows are `length` long.
template <typename C>
void gather_rows(const Axis<C>& axis, const C* source, C* target, int64_t rows, int64_t length) {
  std::fill_n(target, rows * length, C(0));
  for (int64_t i = 0; i < rows; ++i) {
    C* const to = target + i * length;
    for (int64_t k = 0; k < axis.width; ++k) {
      const auto [index, weight] = axis.of(i)[k];
      if (weight == C(0)) continue;
      const C* const from = source + index * length;
      for (int64_t x = 0; x < length; ++x) to[x] += weight * from[x];
    }
  }
}

// The transpose of gather_rows: `rows` rows of source are spread over the rows of target (`target_rows` of them).
template <typename C>
void scatter_rows(const Axis<C>& axis, const C* source, C* target, int64_t rows, int64_t target_rows,
                  int64_t length) {
  std::fill_n(target, target_rows * length, C(0));
  for (int64_t i = 0; i < rows; ++i) {
    const C* const from = source + i * length;
    for (int64_t k = 0; k < axis.width; ++k) {
      const auto [index, weight] = axis.of(i)[k];
      if (weight == C(0)) continue;
      C* const to = target + index * length;
      for (int64_t x = 0; x < length; ++x) to[x] += weight * from[x];
    }
  }
}

template <typename C>
void gather_columns(const Axis<C>& axis, const C* source, C* target, int64_t rows, int64_t from_width,
                    int64_t to_width) {
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t x = 0; x < to_width; ++x) {
      C sum = 0;
      for (int64_t k = 0; k < axis.width; ++k) {
        const auto [index, weight] = axis.of(x)[k];
        sum += weight * source[y * from_width + index];
      }
      target[y * to_width + x] = sum;
    }
  }
}

template <typename C>
void scatter_columns(const Axis<C>& axis, const C* source, C* target, int64_t rows, int64_t from_width,
                     int64_t to_width) {
  std::fill_n(target, rows * to_width, C(0));
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t x = 0; x < from_width; ++x) {
      for (int64_t k = 0; k < axis.width; ++k) {
        const auto [index, weight] = axis.of(x)[k];
        target[y * to_width + index] += weight * source[y * from_width + x];
      }
    }
  }
}

// Runs body(in, out, scratch) on every plane in the computing type.
template <typename T, typename Body>
void for_each_plane(const View& in, const View& out, int64_t scratch_size, Body&& body) {
  using C = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const int64_t planes = in.size(0) * in.size(1);
  const int64_t in_size = in.size(2) * in.size(3), out_size = out.size(2) * out.size(3);
  parallel_for(planes, std::max<int64_t>(1, 16384 / (in_size + out_size)), [&](int64_t begin, int64_t end) {
    std::vector<C> source(static_cast<size_t>(in_size)), target(static_cast<size_t>(out_size));
    std::vector<C> scratch(static_cast<size_t>(scratch_size));
    for (int64_t p = begin; p < end; ++p) {
      const T* const from = in.as<const T>() + p * in_size;
      T* const to = out.as<T>() + p * out_size;
      for (int64_t i = 0; i < in_size; ++i) source[static_cast<size_t>(i)] = static_cast<C>(from[i]);
      body(source.data(), target.data(), scratch.data());
      for (int64_t i = 0; i < out_size; ++i) to[i] = static_cast<T>(target[static_cast<size_t>(i)]);
    }
  });
}

template <typename T>
void resize(const InterpolateArgs& a) {
  using C = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const int64_t h = a.x.size(2), w = a.x.size(3), oh = a.out.size(2), ow = a.out.size(3);
  const auto rows = axis_for<C>(a.mode, a.antialias, h, oh);
  const auto columns = axis_for<C>(a.mode, a.antialias, w, ow);
  for_each_plane<T>(a.x, a.out, h * ow, [&](const C* source, C* target, C* scratch) {
    gather_columns(columns, source, scratch, h, w, ow);
    gather_rows(rows, scratch, target, oh, ow);
  });
}

template <typename T>
void resize_backward(const InterpolateBackwardArgs& a) {
  using C = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const int64_t h = a.dx.size(2), w = a.dx.size(3), oh = a.dy.size(2), ow = a.dy.size(3);
  const auto rows = axis_for<C>(a.mode, a.antialias, h, oh);
  const auto columns = axis_for<C>(a.mode, a.antialias, w, ow);
  for_each_plane<T>(a.dy, a.dx, h * ow, [&](const C* source, C* target, C* scratch) {
    scatter_rows(rows, source, scratch, oh, h, ow);
    scatter_columns(columns, scratch, target, h, ow, w);
  });
}

}  // namespace

void interpolate(const InterpolateArgs& args) {
  switch (args.x.dtype) {
    case DType::Float64:
      return resize<double>(args);
    case DType::BFloat16:
      return resize<bfloat16>(args);
    case DType::Float16:
      return resize<float16>(args);
    default:
      return resize<float>(args);
  }
}

void interpolate_backward(const InterpolateBackwardArgs& args) {
  switch (args.dy.dtype) {
    case DType::Float64:
      return resize_backward<double>(args);
    case DType::BFloat16:
      return resize_backward<bfloat16>(args);
    case DType::Float16:
      return resize_backward<float16>(args);
    default:
      return resize_backward<float>(args);
  }
}

}  // namespace tenon::cpu
