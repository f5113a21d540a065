#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "image/resize.cc"
#include "core/vector_targets.h"
//
#include "hwy/foreach_target.h"
//
#include "hwy/highway.h"
//
#include "image/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <string>
#include <vector>

#include "core/error.h"

#ifndef TENON_IMAGE_RESIZE_ONCE
#define TENON_IMAGE_RESIZE_ONCE
namespace tenon::image {

constexpr int kBits = 22;  // fractional bits of the weights

// For each output of a line: its first input, and its weights.
struct Taps {
  std::vector<int64_t> first, count;
  std::vector<int32_t> weights;  // [outputs, width]
  int64_t width = 0;

  int64_t begin() const { return first.front(); }  // of the inputs that are read
  int64_t end() const { return first.back() + count.back(); }
};

}  // namespace tenon::image
#endif

HWY_BEFORE_NAMESPACE();
namespace tenon::image::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// out = the sum of `count` lines of `n` bytes, times their weights, rounded and clipped to 8 bits.
void sum_lines(const uint8_t* HWY_RESTRICT lines, int64_t stride, const int32_t* HWY_RESTRICT weights,
               int64_t count, int64_t n, uint8_t* HWY_RESTRICT out) {
  const hn::ScalableTag<int32_t> d;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  const auto half = hn::Set(d, 1 << (kBits - 1));
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto load = [&](const uint8_t* p) HWY_ATTR { return hn::PromoteTo(d, hn::LoadU(d8, p)); };
  const auto store = [&](auto sum, uint8_t* p)
                         HWY_ATTR { hn::StoreU(hn::DemoteTo(d8, hn::ShiftRight<kBits>(sum)), d8, p); };
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    auto low = half, high = half;
    for (int64_t k = 0; k < count; ++k) {
      const auto weight = hn::Set(d, weights[k]);
      const uint8_t* const line = lines + k * stride + i;
      low = hn::Add(low, hn::Mul(weight, load(line)));
      high = hn::Add(high, hn::Mul(weight, load(line + lanes)));
    }
    store(low, out + i);
    store(high, out + i + lanes);
  }
  for (; i < n; ++i) {
    int32_t sum = 1 << (kBits - 1);
    for (int64_t k = 0; k < count; ++k) sum += weights[k] * lines[k * stride + i];
    out[i] = static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255));
  }
}

}  // namespace
}  // namespace tenon::image::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::image {

HWY_EXPORT(sum_lines);

namespace {

constexpr int64_t kChannels = 3;

double sinc(double x) {
  const double angle = std::numbers::pi * x;
  return x == 0 ? 1 : std::sin(angle) / angle;
}

double filter_at(Filter filter, double x) {
  const double t = std::abs(x);
  switch (filter) {
    case Filter::Bilinear:
      return std::max(0.0, 1 - t);
    case Filter::Bicubic: {
      constexpr double a = -0.5;
      if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
      return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
    }
    case Filter::Lanczos:
      return t < 3 ? sinc(x) * sinc(x / 3) : 0;
    case Filter::Nearest:
      break;
  }
  return 0;
}

double half_width(Filter filter) {
  return filter == Filter::Bilinear ? 1 : filter == Filter::Bicubic ? 2 : 3;
}

// Those of `outputs` outputs from `start` on, of `out_size` in all, which [low, high) of `in_size` inputs become.
Taps taps_of(Filter filter, int64_t in_size, float low, float high, int64_t out_size, int64_t start,
             int64_t outputs) {
  const double scale = static_cast<double>(high - low) / static_cast<double>(out_size);
  const double filter_scale = std::max(scale, 1.0), support = half_width(filter) * filter_scale;
  Taps taps;
  taps.width = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  taps.first.resize(static_cast<size_t>(outputs));
  taps.count.resize(static_cast<size_t>(outputs));
  taps.weights.resize(static_cast<size_t>(outputs * taps.width));
  std::vector<double> row(static_cast<size_t>(taps.width));
  for (int64_t i = 0; i < outputs; ++i) {
    const double centre = low + (static_cast<double>(start + i) + 0.5) * scale;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(std::trunc(centre - support + 0.5)));
    const int64_t count = std::min(in_size, static_cast<int64_t>(std::trunc(centre + support + 0.5))) - first;
    double total = 0;
    for (int64_t k = 0; k < count; ++k) {
      row[k] = filter_at(filter, (static_cast<double>(k + first) - centre + 0.5) / filter_scale);
      total += row[k];
    }
    const double inverse = total == 0 ? 1 : 1 / total;  // Pillow multiplies by the inverse
    for (int64_t k = 0; k < count; ++k) {
      const double weight = row[k] * inverse;
      taps.weights[i * taps.width + k] =
          static_cast<int32_t>(weight * (1 << kBits) + (weight < 0 ? -0.5 : 0.5));
    }
    taps.first[i] = first;
    taps.count[i] = count;
  }
  return taps;
}

// out[i] = the weighted sum of the lines that taps name, for lines of n bytes; `lines` holds those from taps.begin() on.
void sum_by_taps(const uint8_t* lines, int64_t stride, const Taps& taps, int64_t n, uint8_t* out,
                 int64_t out_stride) {
  const auto sum = HWY_DYNAMIC_DISPATCH(sum_lines);
  for (size_t i = 0; i < taps.first.size(); ++i) {
    sum(lines + (taps.first[i] - taps.begin()) * stride, stride,
        taps.weights.data() + static_cast<int64_t>(i) * taps.width, taps.count[i], n,
        out + static_cast<int64_t>(i) * out_stride);
  }
}

// Rows of pixels as columns: to[x][y] = from[y][x], for height x width pixels.
void transpose(const uint8_t* from, int64_t stride, int64_t height, int64_t width, uint8_t* to,
               int64_t to_stride) {
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* pixel = from + y * stride;
    uint8_t* place = to + y * kChannels;
    for (int64_t x = 0; x < width; ++x, pixel += kChannels, place += to_stride)
      std::memcpy(place, pixel, kChannels);
  }
}

// Rows [begin, end) of an image, resized along themselves. Sums are made of lines of memory: a strip of rows is turned, so that
// its columns are lines, and turned back.
std::vector<uint8_t> along_rows(const Pixels& image, const Taps& taps, int64_t begin, int64_t end) {
  constexpr int64_t kStrip = 64;
  const auto outputs = static_cast<int64_t>(taps.first.size());
  const int64_t inputs = taps.end() - taps.begin(), stride = outputs * kChannels;
  std::vector<uint8_t> out(static_cast<size_t>((end - begin) * stride));
  std::vector<uint8_t> columns(static_cast<size_t>(inputs * kStrip * kChannels));
  std::vector<uint8_t> sums(static_cast<size_t>(outputs * kStrip * kChannels));
  for (int64_t y = begin; y < end; y += kStrip) {
    const int64_t rows = std::min(kStrip, end - y), line = rows * kChannels;
    transpose(image.data + y * image.stride + taps.begin() * kChannels, image.stride, rows, inputs,
              columns.data(), line);
    sum_by_taps(columns.data(), line, taps, line, sums.data(), line);
    transpose(sums.data(), line, outputs, rows, out.data() + (y - begin) * stride, stride);
  }
  return out;
}

// The inputs under the centres of outputs. Pillow goes from one to the next, and its roundings add up.
std::vector<int64_t> centres(float low, float high, int64_t out_size, int64_t start, int64_t outputs) {
  const double step = static_cast<double>(high - low) / static_cast<double>(out_size);
  double at = low + step * 0.5;
  for (int64_t i = 0; i < start; ++i) at += step;
  std::vector<int64_t> places(static_cast<size_t>(outputs));
  for (int64_t& place : places) {
    place = static_cast<int64_t>(at);
    at += step;
  }
  return places;
}

void nearest(const Pixels& image, const Box& box, int64_t height, int64_t width, const Window& window,
             uint8_t* out) {
  const std::vector<int64_t> rows = centres(box.top, box.bottom, height, window.top, window.height);
  const std::vector<int64_t> columns = centres(box.left, box.right, width, window.left, window.width);
  for (const int64_t row : rows) {
    for (const int64_t column : columns) {
      std::memcpy(out, image.data + row * image.stride + column * kChannels, kChannels);
      out += kChannels;
    }
  }
}

}  // namespace

Filter filter_named(std::string_view name) {
  if (name == "nearest") return Filter::Nearest;
  if (name == "bilinear") return Filter::Bilinear;
  if (name == "bicubic") return Filter::Bicubic;
  if (name == "lanczos") return Filter::Lanczos;
  throw TensorError("resize", code::kValue,
                    "expected nearest, bilinear, bicubic or lanczos, got " + std::string(name));
}

void resize(const Pixels& image, const Box& box, Filter filter, int64_t height, int64_t width,
            const Window& window, uint8_t* out) {
  if (filter == Filter::Nearest) return nearest(image, box, height, width, window, out);
  const bool needs_rows =
      width != image.width || box.left != 0 || box.right != static_cast<float>(image.width);
  const bool needs_columns =
      height != image.height || box.top != 0 || box.bottom != static_cast<float>(image.height);
  const int64_t line = window.width * kChannels;
  Taps columns;
  int64_t begin = window.top, end = window.top + window.height;  // of the rows that are read
  if (needs_columns) {
    columns = taps_of(filter, image.height, box.top, box.bottom, height, window.top, window.height);
    begin = columns.begin();
    end = columns.end();
  }
  Pixels source{image.data + begin * image.stride + window.left * kChannels, end - begin, window.width,
                image.stride};
  std::vector<uint8_t> resized;
  if (needs_rows) {
    const Taps rows = taps_of(filter, image.width, box.left, box.right, width, window.left, window.width);
    resized = along_rows(image, rows, begin, end);
    source.data = resized.data();
    source.stride = line;
  }
  if (needs_columns) return sum_by_taps(source.data, source.stride, columns, line, out, line);
  for (int64_t y = 0; y < window.height; ++y)
    std::memcpy(out + y * line, source.data + y * source.stride, static_cast<size_t>(line));
}

}  // namespace tenon::image
#endif
