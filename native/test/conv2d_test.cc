// conv2d and its gradients against loops over taps in float64, on the harness's backend.
#include "test/kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::relative_error;
using Values = std::vector<double>;

// A sum of some hundred terms; in 16 bits what follows the sum may see it rounded.
double allowed(DType dtype) { return dtype == DType::Float64 ? 1e-13 : 2 * testing::tolerance(dtype); }

struct Case {
  Shape x;
  int64_t outputs;
  Window window;
  int64_t groups = 1;

  int64_t count(int dim) const {
    const Window& w = window;
    return (x[2 + dim] + 2 * w.padding[dim] - w.dilation[dim] * (w.kernel[dim] - 1) - 1) / w.stride[dim] + 1;
  }
  Shape y() const { return {x[0], outputs, count(0), count(1)}; }
  Shape weight() const { return {outputs, x[1] / groups, window.kernel[0], window.kernel[1]}; }
};

const Case kCases[] = {
    {{1, 1, 1, 1}, 1, {}},
    {{2, 3, 5, 6}, 4, {}},
    {{2, 3, 5, 6}, 4, {{3, 3}, {1, 1}, {1, 1}}},
    {{1, 16, 4, 5}, 40, {{3, 3}, {1, 1}, {1, 1}}},  // more outputs than a warp has lanes
    {{1, 2, 7, 8}, 3, {{3, 2}, {2, 3}, {1, 0}}},
    {{1, 3, 8, 8}, 2, {{4, 4}, {4, 4}}},
    {{1, 2, 6, 6}, 3, {{3, 3}, {2, 2}}},  // no window reaches the last row and column
    {{1, 2, 9, 9}, 2, {{3, 3}, {1, 1}, {2, 2}, {2, 2}}},
    {{1, 1, 9, 12}, 2, {{3, 2}, {2, 1}, {3, 1}, {1, 3}}},
    {{1, 4, 5, 6}, 4, {{1, 1}, {2, 1}, {1, 1}}},  // windows in the padding alone
    {{1, 4, 5, 6}, 3, {}},                        // an odd number of outputs
    {{1, 2, 4, 1}, 1, {{1, 3}, {3, 3}, {0, 1}}},  // taps that meet the padding alone
    {{1, 3, 2, 4}, 5, {{1, 5}, {1, 4}, {0, 3}}},  // fewer windows in a row than pixels of padding
    {{2, 4, 1, 1}, 6, {{3, 3}, {2, 2}, {1, 1}}},
    {{2, 6, 5, 5}, 4, {{3, 3}, {2, 2}, {1, 1}}, 2},
    {{2, 17, 4, 5}, 17, {{3, 3}, {1, 1}, {1, 1}}, 17},
    {{1, 4, 3, 3}, 8, {{2, 2}}, 4},
};

Buffer image(DType dtype, const Shape& shape) { return Buffer(dtype, shape, channels_last_strides(shape)); }

// Calls body(x, weight, y) with the row-major places of each term.
template <typename Body>
void visit(const Case& c, Body&& body) {
  const Shape y = c.y(), w = c.weight();
  const auto place = [](const Shape& s, int64_t i, int64_t j, int64_t k, int64_t l) {
    return static_cast<size_t>(((i * s[1] + j) * s[2] + k) * s[3] + l);
  };
  for (int64_t image = 0; image < y[0]; ++image) {
    for (int64_t o = 0; o < y[1]; ++o) {
      for (int64_t i = 0; i < y[2]; ++i) {
        for (int64_t j = 0; j < y[3]; ++j) {
          for (int64_t channel = 0; channel < w[1]; ++channel) {
            for (int64_t a = 0; a < w[2]; ++a) {
              const int64_t row = i * c.window.stride[0] - c.window.padding[0] + a * c.window.dilation[0];
              if (row < 0 || row >= c.x[2]) continue;
              for (int64_t b = 0; b < w[3]; ++b) {
                const int64_t column =
                    j * c.window.stride[1] - c.window.padding[1] + b * c.window.dilation[1];
                if (column < 0 || column >= c.x[3]) continue;
                body(place(c.x, image, o / (c.outputs / c.groups) * w[1] + channel, row, column),
                     place(w, o, channel, a, b), place(y, image, o, i, j));
              }
            }
          }
        }
      }
    }
  }
}

// y without what follows the sum.
Values convolved(const Case& c, const Values& x, const Values& weight) {
  Values y(static_cast<size_t>(c.y().numel()));
  visit(c, [&](size_t in, size_t tap, size_t out) { y[out] += x[in] * weight[tap]; });
  return y;
}

template <typename Check>
void for_each_case(Check&& check) {
  for (const DType dtype : testing::float_dtypes()) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(std::string(name_of(dtype)) + " " + to_string(c.x) + " by " + to_string(c.weight()) +
                   " in " + std::to_string(c.groups));
      check(dtype, c);
    }
  }
}

// Runs it twice: the second time gives the same bits.
template <typename Args>
void run(void (*Kernels::*kernel)(const Args&, void*), const Args& args,
         std::initializer_list<Buffer*> outputs) {
  testing::run(kernel, args);
  for (Buffer* out : outputs) {
    const Values first = out->values();
    out->fill(NAN);
    testing::run(kernel, args);
    EXPECT_EQ(out->values(), first);
    EXPECT_TRUE(out->intact());
  }
}

TEST(Conv2d, ConvolvesAndAddsBiasAndResidual) {
  for_each_case([](DType dtype, const Case& c) {
    Buffer x = image(dtype, c.x), weight(dtype, c.weight()), bias(dtype, {c.outputs});
    Buffer residual = image(dtype, c.y());
    x.fill_normal(1);
    weight.fill_normal(2);
    bias.fill_normal(3);
    residual.fill_normal(4);
    const Values sums = convolved(c, x.values(), weight.values());
    const auto pixels = static_cast<size_t>(c.count(0) * c.count(1));
    for (const int options : {0, 1, 2, 7}) {
      Buffer y = image(dtype, c.y());
      Conv2dArgs args{x.view(), weight.view(), {}, {}, y.view(), c.window, c.groups};
      if ((options & 1) != 0) args.bias = bias.view();
      if ((options & 2) != 0) args.residual = residual.view();
      args.relu = (options & 4) != 0;
      run(&Kernels::conv2d, args, {&y});
      Values expected = sums;
      for (size_t i = 0; i < expected.size(); ++i) {
        if (args.bias) expected[i] += bias.values()[i / pixels % static_cast<size_t>(c.outputs)];
        if (args.residual) expected[i] += residual.values()[i];
        if (args.relu) expected[i] = std::max(expected[i], 0.0);
      }
      EXPECT_LE(relative_error(y.values(), expected), allowed(dtype)) << "options " << options;
    }
  });
}

TEST(Conv2d, GivesTheGradientOfItsInput) {
  for_each_case([](DType dtype, const Case& c) {
    Buffer dy = image(dtype, c.y()), weight(dtype, c.weight()), dx = image(dtype, c.x);
    dy.fill_normal(1);
    weight.fill_normal(2);
    run(&Kernels::conv2d_input_gradient,
        Conv2dInputGradientArgs{dy.view(), weight.view(), dx.view(), c.window, c.groups}, {&dx});
    const Values gradient = dy.values(), taps = weight.values();
    Values expected(static_cast<size_t>(c.x.numel()));
    visit(c, [&](size_t in, size_t tap, size_t out) { expected[in] += gradient[out] * taps[tap]; });
    EXPECT_LE(relative_error(dx.values(), expected), allowed(dtype));
  });
}

TEST(Conv2d, GivesTheGradientsOfItsWeightAndBias) {
  for_each_case([](DType dtype, const Case& c) {
    Buffer dy = image(dtype, c.y()), x = image(dtype, c.x), dweight(dtype, c.weight());
    Buffer dbias(dtype, {c.outputs});
    dy.fill_normal(1);
    x.fill_normal(2);
    Conv2dWeightGradientArgs args{dy.view(), x.view(), dweight.view(), dbias.view(), c.window, c.groups};
    run(&Kernels::conv2d_weight_gradient, args, {&dweight, &dbias});
    const Values gradient = dy.values(), pixels = x.values();
    Values expected(static_cast<size_t>(c.weight().numel())), sums(static_cast<size_t>(c.outputs));
    visit(c, [&](size_t in, size_t tap, size_t out) { expected[tap] += gradient[out] * pixels[in]; });
    const auto plane = static_cast<size_t>(c.count(0) * c.count(1));
    for (size_t i = 0; i < gradient.size(); ++i) sums[i / plane % sums.size()] += gradient[i];
    EXPECT_LE(relative_error(dweight.values(), expected), allowed(dtype));
    EXPECT_LE(relative_error(dbias.values(), sums), allowed(dtype));
    const Values before = dweight.values();
    args.dbias = {};
    testing::run(&Kernels::conv2d_weight_gradient, args);
    EXPECT_EQ(dweight.values(), before);
  });
}

TEST(Conv2d, TakesOperandsAtAnyAddress) {
  const Case c{{1, 3, 4, 5}, 5, {{3, 3}, {1, 1}, {1, 1}}};
  for (const DType dtype : testing::float_dtypes()) {
    const auto shifted = [&](const Buffer& whole, const Shape& shape, const Shape& strides) {
      return View{whole.view().as<char>() + size_of(dtype), dtype, shape, strides};
    };
    Buffer x(dtype, {c.x.numel() + 1}), weight(dtype, {c.weight().numel() + 1}),
        y(dtype, {c.y().numel() + 1});
    x.fill_normal(1);
    weight.fill_normal(2);
    const Conv2dArgs args{shifted(x, c.x, channels_last_strides(c.x)),
                          shifted(weight, c.weight(), contiguous_strides(c.weight())),
                          {},
                          {},
                          shifted(y, c.y(), channels_last_strides(c.y())),
                          c.window};
    testing::run(&Kernels::conv2d, args);
    EXPECT_LE(relative_error(testing::values(args.y),
                             convolved(c, testing::values(args.x), testing::values(args.weight))),
              allowed(dtype))
        << name_of(dtype);
    EXPECT_TRUE(y.intact() && std::isnan(y.values()[0])) << name_of(dtype);
  }
}

TEST(Conv2d, OfNothingIsBiasAndResidualAndItsGradientsAreZero) {
  const Window window{{3, 3}, {1, 1}, {1, 1}};
  for (const DType dtype : testing::float_dtypes()) {
    SCOPED_TRACE(name_of(dtype));
    // No images.
    Buffer none = image(dtype, {0, 2, 4, 4}), dy = image(dtype, {0, 3, 4, 4}), weight(dtype, {3, 2, 3, 3});
    Buffer dweight(dtype, {3, 2, 3, 3}), dbias(dtype, {3});
    weight.fill(1);
    testing::run(&Kernels::conv2d, Conv2dArgs{none.view(), weight.view(), {}, {}, dy.view(), window});
    testing::run(&Kernels::conv2d_input_gradient,
                 Conv2dInputGradientArgs{dy.view(), weight.view(), none.view(), window});
    testing::run(&Kernels::conv2d_weight_gradient,
                 Conv2dWeightGradientArgs{dy.view(), none.view(), dweight.view(), dbias.view(), window});
    EXPECT_EQ(dweight.values(), Values(54));
    EXPECT_EQ(dbias.values(), Values(3));
    EXPECT_TRUE(none.intact() && dy.intact());

    // No input channels.
    Buffer empty = image(dtype, {1, 0, 2, 2}), taps(dtype, {3, 0, 3, 3}), y = image(dtype, {1, 3, 2, 2});
    Buffer bias(dtype, {3}), residual = image(dtype, {1, 3, 2, 2});
    bias.fill(Values{1, -2, 3});
    residual.fill(0.5);
    testing::run(&Kernels::conv2d, Conv2dArgs{empty.view(), taps.view(), bias.view(), residual.view(),
                                              y.view(), window, 1, true});
    EXPECT_EQ(y.values(), (Values{1.5, 1.5, 1.5, 1.5, 0, 0, 0, 0, 3.5, 3.5, 3.5, 3.5}));
    testing::run(&Kernels::conv2d, Conv2dArgs{empty.view(), taps.view(), {}, {}, y.view(), window});
    EXPECT_EQ(y.values(), Values(12));
    residual.fill(Values{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
    testing::run(&Kernels::conv2d_weight_gradient,
                 Conv2dWeightGradientArgs{residual.view(), empty.view(), taps.view(), bias.view(), window});
    EXPECT_EQ(bias.values(), (Values{10, 26, 42}));

    // No output channels.
    Buffer nothing = image(dtype, {1, 0, 2, 2}), dx = image(dtype, {1, 2, 2, 2}),
           untapped(dtype, {0, 2, 3, 3});
    testing::run(&Kernels::conv2d_input_gradient,
                 Conv2dInputGradientArgs{nothing.view(), untapped.view(), dx.view(), window});
    EXPECT_EQ(dx.values(), Values(8));
  }
}

}  // namespace
}  // namespace tenon
