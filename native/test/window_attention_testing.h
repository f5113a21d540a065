// The window attention kernels' operands, and a plain float64 implementation that goes by the map of regions of Swin's
// reference implementation.
#pragma once

#include <memory>
#include <sstream>

#include "core/random.h"
#include "test/kernel_testing.h"

namespace tenon::testing::window_attention {

struct Case {
  int64_t batch = 1, height = 4, width = 4, heads = 2, d = 8;
  int64_t window_height = 2, window_width = 2, shift_y = 0, shift_x = 0;
  DType dtype = DType::Float32;
  bool padding = false;
  double dropout = 0;

  std::string name() const {
    std::ostringstream text;
    text << "B" << batch << " map " << height << 'x' << width << " heads" << heads << " d" << d << " window "
         << window_height << 'x' << window_width << " shift " << shift_y << ',' << shift_x << ' '
         << name_of(dtype) << (padding ? " padding" : "") << " dropout" << dropout;
    return text.str();
  }
};

constexpr uint64_t kSeed = 1234, kOffset = 77;

struct Problem {
  Case c;
  double scale;
  Windows windows;
  std::vector<std::unique_ptr<Buffer>> buffers;
  View qkv, table, padding, out, lse, dout, dqkv, dtable, dpadding;

  explicit Problem(const Case& options) : c(options), scale(1 / std::sqrt(static_cast<double>(c.d))) {
    windows = {c.height, c.width, c.window_height, c.window_width, c.shift_y, c.shift_x};
    const int64_t features = c.heads * c.d;
    const Shape packed{c.batch, c.height, c.width, 3 * features}, map{c.batch, c.height, c.width, features};
    const Shape biases{windows.offsets(), c.heads};
    qkv = add(c.dtype, packed).fill_normal(1).view();
    table = add(c.dtype, biases).fill_normal(2).view();
    dout = add(c.dtype, map).fill_normal(3).view();
    out = add(c.dtype, map).view();
    dqkv = add(c.dtype, packed).view();
    dtable = add(c.dtype, biases).view();
    const DType wide = c.dtype == DType::Float64 ? DType::Float64 : DType::Float32;
    lse = add(wide, Shape{c.batch, c.heads, c.height, c.width}).view();
    if (c.padding) {
      padding = add(c.dtype, Shape{3 * features}).fill_normal(4).view();
      dpadding = add(c.dtype, Shape{3 * features}).view();
    }
  }

  void forward() const {
    run(&Kernels::window_attention,
        {qkv, table, padding, out, lse, windows, scale, c.dropout, kSeed, kOffset});
  }
  void backward() const {
    run(&Kernels::window_attention_backward, {qkv, table, padding, out, dout, lse, dqkv, dtable, dpadding,
                                              windows, scale, c.dropout, kSeed, kOffset});
  }
  std::vector<double> results() const {
    std::vector<double> all;
    for (const View& view : {out, lse, dqkv, dtable, dpadding}) {
      if (!view) continue;
      const auto some = values(view);
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }
  bool intact() const {
    return std::all_of(buffers.begin(), buffers.end(), [](const auto& b) { return b->intact(); });
  }

 private:
  Buffer& add(DType dtype, const Shape& shape) {
    return *buffers.emplace_back(std::make_unique<Buffer>(dtype, shape));
  }
};

struct Expected {
  std::vector<double> out, lse, dqkv, dtable, dpadding;
};

// A coordinate of the shifted and padded map: before the last window, or one of the last one's two sides.
inline int region(int64_t i, int64_t size, int64_t window, int64_t shift) {
  return shift == 0 || i < size - window ? 0 : i < size - shift ? 1 : 2;
}

inline Expected reference(const Problem& x) {
  const Case& c = x.c;
  const int64_t wh = c.window_height, ww = c.window_width, n = wh * ww, features = c.heads * c.d;
  const int64_t rows = (c.height + wh - 1) / wh * wh, columns = (c.width + ww - 1) / ww * ww;
  const int64_t windows = rows / wh * (columns / ww);
  // After the map's own tokens comes one that stands for all outside.
  auto qkv = values(x.qkv), dout = values(x.dout);
  const auto table = values(x.table),
             padding = x.padding ? values(x.padding) : std::vector<double>(size_t(3 * features));
  const int64_t tokens = c.batch * c.height * c.width;
  qkv.insert(qkv.end(), padding.begin(), padding.end());
  dout.resize(dout.size() + size_t(features));
  std::vector<double> dqkv(qkv.size());
  Expected e;
  e.out.resize(size_t(tokens * features)), e.lse.resize(size_t(tokens * c.heads));
  e.dtable.resize(table.size());
  for (int64_t item = 0; item < c.batch * windows * c.heads; ++item) {
    const int64_t h = item % c.heads, window = item / c.heads % windows, b = item / c.heads / windows;
    struct Place {
      int64_t token, y, x;
      int id;
    };
    std::vector<Place> places;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t y = window / (columns / ww) * wh + i / ww, px = window % (columns / ww) * ww + i % ww;
      const bool inside = y < c.height && px < c.width;
      const int64_t from = ((y + c.shift_y) % c.height) * c.width + (px + c.shift_x) % c.width;
      const int id = 3 * region(y, rows, wh, c.shift_y) + region(px, columns, ww, c.shift_x);
      places.push_back({inside ? b * c.height * c.width + from : tokens, i / ww, i % ww, id});
    }
    const auto at = [&](int64_t token, int64_t which) {
      return size_t((token * 3 + which) * features + h * c.d);
    };
    for (int64_t i = 0; i < n; ++i) {
      const Place& q = places[size_t(i)];
      std::vector<double> p(size_t(n), 0.0), keep(size_t(n), 1.0), dp(size_t(n), 0.0);
      std::vector<size_t> offset;
      double most = -INFINITY, total = 0, delta = 0;
      for (int64_t j = 0; j < n; ++j) {
        const Place& k = places[size_t(j)];
        double score = 0;
        for (int64_t l = 0; l < c.d; ++l)
          score += qkv[at(q.token, 0) + size_t(l)] * qkv[at(k.token, 1) + size_t(l)];
        offset.push_back(size_t(((q.y - k.y + wh - 1) * (2 * ww - 1) + q.x - k.x + ww - 1) * c.heads + h));
        p[size_t(j)] = score * x.scale + table[offset.back()] + (q.id == k.id ? 0 : -100);
        most = std::max(most, p[size_t(j)]);
        if (c.dropout > 0) {
          const auto index = uint64_t((((b * windows + window) * c.heads + h) * n + i) * n + j);
          const bool kept =
              Philox::word(kSeed, kOffset + index) >= static_cast<uint32_t>(std::ldexp(c.dropout, 32));
          keep[size_t(j)] = kept ? 1 / (1 - c.dropout) : 0;
        }
      }
      for (double& value : p) total += value = std::exp(value - most);
      if (q.token == tokens) continue;  // its result is cropped away
      const int64_t map = c.height * c.width;
      e.lse[size_t((b * c.heads + h) * map + q.token % map)] = most + std::log(total);
      const size_t row = size_t(q.token * features + h * c.d);
      for (size_t j = 0; j < size_t(n); ++j) {
        p[j] /= total;
        for (size_t l = 0; l < size_t(c.d); ++l) {
          const double v = qkv[at(places[j].token, 2) + l];
          e.out[row + l] += p[j] * keep[j] * v;
          dqkv[at(places[j].token, 2) + l] += p[j] * keep[j] * dout[row + l];
          dp[j] += dout[row + l] * v * keep[j];
        }
        delta += p[j] * dp[j];
      }
      for (size_t j = 0; j < size_t(n); ++j) {
        const double ds = p[j] * (dp[j] - delta);
        for (size_t l = 0; l < size_t(c.d); ++l) {
          dqkv[at(q.token, 0) + l] += x.scale * ds * qkv[at(places[j].token, 1) + l];
          dqkv[at(places[j].token, 1) + l] += x.scale * ds * qkv[at(q.token, 0) + l];
        }
        e.dtable[offset[j]] += ds;
      }
    }
  }
  e.dqkv.assign(dqkv.begin(), dqkv.end() - 3 * features);
  if (x.padding) e.dpadding.assign(dqkv.end() - 3 * features, dqkv.end());
  return e;
}

inline double most_error(DType dtype) {
  switch (dtype) {
    case DType::Float64:
      return 1e-13;
    case DType::BFloat16:
      return 8e-3;  // dout out is computed from rounded out
    case DType::Float16:
      return 1e-3;
    default:
      return 2e-6;
  }
}

// Forward and backward against the reference.
inline void check(const Case& c) {
  SCOPED_TRACE(c.name());
  const Problem x(c);
  x.forward();
  x.backward();
  const Expected e = reference(x);
  const double most = most_error(c.dtype);
  EXPECT_LT(relative_error(values(x.out), e.out), most);
  EXPECT_LT(relative_error(values(x.lse), e.lse), c.dtype == DType::Float64 ? 1e-13 : 4e-6);
  EXPECT_LT(relative_error(values(x.dqkv), e.dqkv), 2 * most);
  EXPECT_LT(relative_error(values(x.dtable), e.dtable), 4 * most);
  if (x.dpadding) {
    EXPECT_LT(relative_error(values(x.dpadding), e.dpadding), 4 * most);
  }
  EXPECT_TRUE(x.intact());
}

}  // namespace tenon::testing::window_attention
