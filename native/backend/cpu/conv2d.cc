// Convolution: oneDNN where it has an optimised kernel; elsewhere (float64, float16, other processors) the image's
// patches as the rows of a matrix, times our own GEMM, group by group and image by image.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/conv2d.cc"
#include "backend/cpu/rows.h"
//
#include <algorithm>
#include <vector>

#include "backend/cpu/gemm.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// One group of one image, and the matrix of its patches [h w, C' kh kw].
struct Patches {
  int64_t H, W, C, stride_c;  // of the image: C channels of a group, pixels stride_c apart
  int64_t h, w;               // of the result
  Window window;

  Patches(const View& x, const View& y, const Window& window_, int64_t groups)
      : H(x.size(2)),
        W(x.size(3)),
        C(x.size(1) / groups),
        stride_c(x.size(1)),
        h(y.size(2)),
        w(y.size(3)),
        window(window_) {}

  int64_t rows() const { return h * w; }
  int64_t taps() const { return window.kernel[0] * window.kernel[1]; }
  int64_t columns() const { return C * taps(); }
  int64_t grain() const { return 8192 / std::max<int64_t>(1, w * columns()) + 1; }

  // Calls body(pixel of the result, pixel of the image or -1 beyond it, tap) for the rows [begin, end) of the result.
  template <typename Body>
  void visit(int64_t begin, int64_t end, Body&& body) const {
    const auto& [kernel, stride, padding, dilation] = window;
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < w; ++j) {
        for (int64_t a = 0; a < kernel[0]; ++a) {
          const int64_t row = i * stride[0] - padding[0] + a * dilation[0];
          for (int64_t b = 0; b < kernel[1]; ++b) {
            const int64_t column = j * stride[1] - padding[1] + b * dilation[1];
            const bool inside = row >= 0 && row < H && column >= 0 && column < W;
            body(i * w + j, inside ? row * W + column : -1, a * kernel[1] + b);
          }
        }
      }
    }
  }

  template <typename S>
  void gather(const S* HWY_RESTRICT x, S* HWY_RESTRICT matrix) const {
    const int64_t n = taps(), width = columns();
    parallel_for(h, grain(), [&](int64_t begin, int64_t end) {
      visit(begin, end, [&](int64_t to, int64_t from, int64_t tap) {
        S* HWY_RESTRICT out = matrix + to * width + tap;
        const S* HWY_RESTRICT in = x + from * stride_c;
        for (int64_t c = 0; c < C; ++c) out[c * n] = from < 0 ? S{} : in[c];
      });
    });
  }

  // Adds each patch's gradient to that of its pixels.
  template <typename T>
  void scatter(const T* HWY_RESTRICT matrix, T* HWY_RESTRICT dx) const {
    const int64_t n = taps(), width = columns();
    visit(0, h, [&](int64_t from, int64_t to, int64_t tap) {
      if (to < 0) return;
      const T* HWY_RESTRICT in = matrix + from * width + tap;
      T* HWY_RESTRICT out = dx + to * C;
      for (int64_t c = 0; c < C; ++c) out[c] += in[c * n];
    });
  }
};

View matrix(void* data, DType dtype, int64_t rows, int64_t columns, int64_t stride) {
  return {data, dtype, Shape{rows, columns}, Shape{stride, 1}};
}

// Channels [group O / groups, ...) of one image as a matrix [pixels, O / groups].
template <typename S>
View channels(const View& y, int64_t image, int64_t group, int64_t groups) {
  const int64_t pixels = y.size(2) * y.size(3), all = y.size(1), own = all / groups;
  return matrix(y.as<S>() + image * pixels * all + group * own, y.dtype, pixels, own, all);
}

// The weight of a group as a matrix [O / groups, C' kh kw].
template <typename S>
View weights(const View& weight, int64_t group, int64_t groups, int64_t columns) {
  const int64_t own = weight.size(0) / groups;
  return matrix(weight.as<S>() + group * own * columns, weight.dtype, own, columns, columns);
}

View slice(const View& x, int64_t begin, int64_t n) {
  if (!x) return {};
  return {x.as<char>() + begin * static_cast<int64_t>(size_of(x.dtype)), x.dtype, Shape{n}, Shape{1}};
}

template <typename S>
void forward(const Conv2dArgs& args) {
  const Patches patches(args.x, args.y, args.window, args.groups);
  const int64_t own = args.y.size(1) / args.groups;
  static thread_local std::vector<S> columns;
  columns.resize(static_cast<size_t>(patches.rows() * patches.columns()));
  const View a = matrix(columns.data(), args.x.dtype, patches.rows(), patches.columns(), patches.columns());
  for (int64_t image = 0; image < args.x.size(0); ++image) {
    for (int64_t g = 0; g < args.groups; ++g) {
      patches.gather(static_cast<const S*>(channels<S>(args.x, image, g, args.groups).data), columns.data());
      const View w = weights<S>(args.weight, g, args.groups, patches.columns());
      const View residual = args.residual ? channels<S>(args.residual, image, g, args.groups) : View{};
      gemm({a, transposed(w), channels<S>(args.y, image, g, args.groups), slice(args.bias, g * own, own),
            residual});
    }
  }
  if (args.relu) unary({UnaryOp::Relu, args.y, args.y});
}

template <typename S>
void input_gradient(const Conv2dInputGradientArgs& args) {
  using T = Compute<S>;
  constexpr DType computed = std::is_same_v<T, double> ? DType::Float64 : DType::Float32;
  const Patches patches(args.dx, args.dy, args.window, args.groups);
  static thread_local std::vector<T> columns, sums;
  columns.resize(static_cast<size_t>(patches.rows() * patches.columns()));
  const View out = matrix(columns.data(), computed, patches.rows(), patches.columns(), patches.columns());
  for (int64_t image = 0; image < args.dx.size(0); ++image) {
    for (int64_t g = 0; g < args.groups; ++g) {
      gemm({channels<S>(args.dy, image, g, args.groups),
            weights<S>(args.weight, g, args.groups, patches.columns()),
            out,
            {},
            {}});
      sums.assign(static_cast<size_t>(patches.H * patches.W * patches.C), T{0});
      patches.scatter(columns.data(), sums.data());
      S* to = static_cast<S*>(channels<S>(args.dx, image, g, args.groups).data);
      for (int64_t p = 0; p < patches.H * patches.W; ++p) {
        convert_run(sums.data() + p * patches.C, 1, to + p * patches.stride_c, 1, patches.C);
      }
    }
  }
}

template <typename S>
void weight_gradient(const Conv2dWeightGradientArgs& args) {
  using T = Compute<S>;
  constexpr DType computed = std::is_same_v<T, double> ? DType::Float64 : DType::Float32;
  const Patches patches(args.x, args.dy, args.window, args.groups);
  const int64_t own = args.dy.size(1) / args.groups;
  static thread_local std::vector<S> columns;
  static thread_local std::vector<T> sums;
  columns.resize(static_cast<size_t>(patches.rows() * patches.columns()));
  sums.assign(static_cast<size_t>(args.dweight.numel()), T{0});
  const View b = matrix(columns.data(), args.x.dtype, patches.rows(), patches.columns(), patches.columns());
  for (int64_t image = 0; image < args.x.size(0); ++image) {
    for (int64_t g = 0; g < args.groups; ++g) {
      patches.gather(static_cast<const S*>(channels<S>(args.x, image, g, args.groups).data), columns.data());
      const View out = matrix(sums.data() + g * own * patches.columns(), computed, own, patches.columns(),
                              patches.columns());
      MatmulArgs product{transposed(channels<S>(args.dy, image, g, args.groups)), b, out, {}, {}};
      product.accumulate = true;
      gemm(product);
    }
  }
  convert_run(sums.data(), 1, args.dweight.as<S>(), 1, args.dweight.numel());
  if (!args.dbias) return;
  const int64_t O = args.dy.size(1), pixels = args.dy.numel() / O;
  sums.assign(static_cast<size_t>(O), T{0});
  for (int64_t p = 0; p < pixels; ++p) {
    for (int64_t o = 0; o < O; ++o) sums[static_cast<size_t>(o)] += convert<T>(args.dy.as<S>()[p * O + o]);
  }
  convert_run(sums.data(), 1, args.dbias.as<S>(), 1, O);
}

void run_forward(const Conv2dArgs& args) {
  with_float_type(args.x.dtype, [&]<typename S>(S) { forward<S>(args); });
}

void run_input_gradient(const Conv2dInputGradientArgs& args) {
  with_float_type(args.dx.dtype, [&]<typename S>(S) { input_gradient<S>(args); });
}

void run_weight_gradient(const Conv2dWeightGradientArgs& args) {
  with_float_type(args.x.dtype, [&]<typename S>(S) { weight_gradient<S>(args); });
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(run_forward);
HWY_EXPORT(run_input_gradient);
HWY_EXPORT(run_weight_gradient);

void conv2d(const Conv2dArgs& args) {
  if (args.y.numel() == 0) return;
  if (args.x.numel() > 0 && onednn_conv2d(args)) return;
  HWY_DYNAMIC_DISPATCH(run_forward)(args);
}

void conv2d_input_gradient(const Conv2dInputGradientArgs& args) {
  if (args.dx.numel() == 0) return;
  if (args.dy.numel() > 0 && onednn_conv2d_input_gradient(args)) return;
  HWY_DYNAMIC_DISPATCH(run_input_gradient)(args);
}

void conv2d_weight_gradient(const Conv2dWeightGradientArgs& args) {
  if (args.dweight.size(0) == 0) return;
  if (args.dy.numel() > 0 && args.x.numel() > 0 && onednn_conv2d_weight_gradient(args)) return;
  HWY_DYNAMIC_DISPATCH(run_weight_gradient)(args);
}

}  // namespace tenon::cpu
#endif
