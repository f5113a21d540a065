// Pooling against loops over windows, forward and backward, on the harness's backend.
#include "test/kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::relative_error;
using Values = std::vector<double>;

double allowed(DType dtype) { return dtype == DType::Float64 ? 1e-13 : testing::tolerance(dtype); }

struct Case {
  Shape x;
  int64_t h, w;
  Window window;
  bool adaptive = false;
};

const Case kCases[] = {
    {{2, 3, 6, 8}, 3, 4, {{2, 2}, {2, 2}}},
    {{1, 17, 7, 5}, 4, 3, {{3, 3}, {2, 2}, {1, 1}}},
    {{2, 2, 7, 8}, 4, 7, {{3, 2}, {2, 1}, {1, 0}}},
    {{1, 2, 6, 6}, 3, 3, {{3, 3}, {2, 2}}},  // the last window reaches beyond the image
    {{1, 2, 9, 9}, 7, 7, {{3, 3}, {1, 1}, {1, 1}, {2, 2}}},
    {{2, 5, 7, 5}, 3, 2, {}, true},
    {{1, 2, 2, 3}, 4, 4, {}, true},
    {{2, 3, 5, 6}, 1, 1, {}, true},
};

// Calls body(output, input, shares of the mean) for every element under every window, by row-major indices.
template <typename Body>
void visit(const Case& c, bool count_padding, Body&& body) {
  const auto range = [&](int dim, int64_t o, int64_t n, int64_t count, Values& seen) {
    const Window& w = c.window;
    if (c.adaptive) {
      for (int64_t i = o * n / count; i < ((o + 1) * n + count - 1) / count; ++i)
        seen.push_back(static_cast<double>(i));
      return static_cast<int64_t>(seen.size());
    }
    const int64_t first = o * w.stride[dim] - w.padding[dim];
    for (int64_t k = 0; k < w.kernel[dim]; ++k) {
      const int64_t i = first + k * w.dilation[dim];
      if (i >= 0 && i < n) seen.push_back(static_cast<double>(i));
    }
    return count_padding ? std::min(first + w.kernel[dim], n + w.padding[dim]) - first
                         : static_cast<int64_t>(seen.size());
  };
  const int64_t planes = c.x[0] * c.x[1], H = c.x[2], W = c.x[3];
  for (int64_t plane = 0; plane < planes; ++plane) {
    for (int64_t i = 0; i < c.h; ++i) {
      for (int64_t j = 0; j < c.w; ++j) {
        Values rows, columns;
        const int64_t n = range(0, i, H, c.h, rows) * range(1, j, W, c.w, columns);
        for (const double r : rows) {
          for (const double q : columns) {
            const int64_t pixel = static_cast<int64_t>(r) * W + static_cast<int64_t>(q);
            body(static_cast<size_t>((plane * c.h + i) * c.w + j), static_cast<size_t>(plane * H * W + pixel),
                 n, pixel);
          }
        }
      }
    }
  }
}

Buffer image(DType dtype, const Shape& shape) { return Buffer(dtype, shape, channels_last_strides(shape)); }

template <typename Check>
void for_each_case(Check&& check) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(std::string(name_of(dtype)) + " " + to_string(c.x) + " to " + std::to_string(c.h) + " x " +
                   std::to_string(c.w));
      check(dtype, c, Shape{c.x[0], c.x[1], c.h, c.w});
    }
  }
}

TEST(Pool2d, FindsMaxima) {
  for_each_case([](DType dtype, const Case& c, const Shape& out) {
    if (c.adaptive) return;
    Buffer x = image(dtype, c.x), y = image(dtype, out), index = image(DType::Int32, out);
    Buffer dy = image(dtype, out), dx = image(dtype, c.x);
    x.fill_normal(1);
    dy.fill_normal(2);
    testing::run(&Kernels::max_pool2d, MaxPool2dArgs{x.view(), y.view(), index.view(), c.window});
    testing::run(&Kernels::max_pool2d_backward,
                 MaxPool2dBackwardArgs{dy.view(), index.view(), dx.view(), c.window});
    const Values from = x.values(), gradient = dy.values();
    const auto outputs = static_cast<size_t>(out.numel());
    Values largest(outputs, -std::numeric_limits<double>::infinity()), pixels(outputs);
    std::vector<size_t> chosen(outputs);
    visit(c, true, [&](size_t to, size_t at, int64_t, int64_t pixel) {
      if (!(from[at] > largest[to])) return;
      largest[to] = from[at];
      pixels[to] = static_cast<double>(pixel);
      chosen[to] = at;
    });
    Values sums(from.size());
    for (size_t to = 0; to < outputs; ++to) sums[chosen[to]] += gradient[to];
    EXPECT_EQ(y.values(), largest);
    EXPECT_EQ(index.values(), pixels);
    EXPECT_LE(relative_error(dx.values(), sums), allowed(dtype));
    EXPECT_TRUE(y.intact() && index.intact() && dx.intact());
  });
}

TEST(Pool2d, TakesMeans) {
  for_each_case([](DType dtype, const Case& c, const Shape& out) {
    if (c.window.dilation[0] != 1) return;
    for (const bool count_padding : {true, false}) {
      Buffer x = image(dtype, c.x), y = image(dtype, out), dy = image(dtype, out), dx = image(dtype, c.x);
      x.fill_normal(1);
      dy.fill_normal(2);
      testing::run(&Kernels::avg_pool2d,
                   AvgPool2dArgs{x.view(), y.view(), c.window, c.adaptive, count_padding});
      testing::run(&Kernels::avg_pool2d_backward,
                   AvgPool2dBackwardArgs{dy.view(), dx.view(), c.window, c.adaptive, count_padding});
      const Values from = x.values(), gradient = dy.values();
      Values means(static_cast<size_t>(out.numel())), sums(from.size());
      visit(c, count_padding, [&](size_t to, size_t at, int64_t n, int64_t) {
        means[to] += from[at] / static_cast<double>(n);
        sums[at] += gradient[to] / static_cast<double>(n);
      });
      EXPECT_LE(relative_error(y.values(), means), 2 * allowed(dtype));
      EXPECT_LE(relative_error(dx.values(), sums), 2 * allowed(dtype));
      EXPECT_TRUE(y.intact() && dx.intact());
    }
  });
}

}  // namespace
}  // namespace tenon
