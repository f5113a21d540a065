// Convolution: oneDNN where it has an optimised kernel; elsewhere (float64, other processors) the images' patches as the rows
// of a matrix, times our own GEMM, group by group. A patch is its taps one after the other, each a run of the group's
// channels, so that it is copied in runs; the weights are turned to that order.
//
// 16-bit elements that oneDNN has no kernel for are convolved in float32, some images at a time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/conv2d.cc"
#include "backend/cpu/rows.h"
//
#include <omp.h>

#include <algorithm>

#include "backend/cpu/gemm.h"
#include "backend/cpu/iterate.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/scratch.h"
#include "backend/divide.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

struct ConvScratch {
  ScratchBuffer patches, weight, sums;  // of the thread that shares out a convolution
  ScratchBuffer line;                   // of each that takes a part in it
};

ConvScratch& conv_scratch() {
  static thread_local ConvScratch scratch;
  return scratch;
}

// Of a matrix of patches, what is there at a time: rows enough for the GEMM, in memory that its threads share a cache of.
constexpr int64_t kPatches = 1 << 22;

View matrix(void* data, DType dtype, int64_t rows, int64_t columns, int64_t stride) {
  return {data, dtype, Shape{rows, columns}, Shape{stride, 1}};
}

// The patches of one group, line by line of the result: B h lines of w patches each.
struct Patches {
  int64_t B, H, W, C,
      pixel;  // B images; of a pixel, C channels are the group's, and the next is `pixel` elements on
  int64_t h, w;
  Window window;

  Patches(const View& x, const View& y, const Window& window_, int64_t groups)
      : B(x.size(0)),
        H(x.size(2)),
        W(x.size(3)),
        C(x.size(1) / groups),
        pixel(x.size(1)),
        h(y.size(2)),
        w(y.size(3)),
        window(window_) {}

  int64_t taps() const { return window.kernel[0] * window.kernel[1]; }
  int64_t columns() const { return C * taps(); }

  // Whether they are the images' pixels as they lie.
  bool are_pixels() const {
    const auto& [kernel, stride, padding, dilation] = window;
    return taps() == 1 && stride[0] == 1 && stride[1] == 1 && padding[0] == 0 && padding[1] == 0;
  }

  // The taps [begin, end) along `dim` of the window at i that lie on an image of n.
  struct Taps {
    int64_t begin, end;
  };
  Taps taps_inside(int dim, int64_t i, int64_t n) const {
    const int64_t kernel = window.kernel[dim], dilation = window.dilation[dim];
    const int64_t first = i * window.stride[dim] - window.padding[dim];
    const int64_t end = first >= n ? 0 : std::min(kernel, ceil_div(n - first, dilation));
    return {std::min(end, first >= 0 ? 0 : ceil_div(-first, dilation)), end};
  }

  // The patches of lines [begin, end).
  template <typename T>
  void gather(const T* x, int64_t begin, int64_t end, T* to) const {
    const int64_t wide = w * columns();
    parallel_for(end - begin, kElementwiseGrain / (wide + 1) + 1, [&](int64_t first, int64_t last) {
      for (int64_t line = first; line < last; ++line) gather_line(x, begin + line, to + line * wide);
    });
  }

  // Adds up, for `images` images, the gradients of their patches to those of their pixels.
  template <typename T>
  void scatter(const T* from, int64_t images, T* dx) const {
    parallel_for(images * H, kElementwiseGrain / (W * columns() + 1) + 1, [&](int64_t first, int64_t last) {
      T* const sums = conv_scratch().line.reserve<T>(W * C);
      for (int64_t line = first; line < last; ++line) {
        std::fill_n(sums, W * C, T{0});
        add_line(from + line / H * h * w * columns(), line % H, sums);
        T* const to = dx + line * W * pixel;
        if (C == pixel) {
          convert_run(sums, 1, to, 1, W * C);
        } else {
          for (int64_t column = 0; column < W; ++column)
            convert_run(sums + column * C, 1, to + column * pixel, 1, C);
        }
      }
    });
  }

 private:
  template <typename T>
  void gather_line(const T* HWY_RESTRICT x, int64_t line, T* HWY_RESTRICT to) const {
    const auto& [kernel, stride, padding, dilation] = window;
    const int64_t image = line / h, i = line % h;
    const Taps rows = taps_inside(0, i, H);
    const bool runs = C == pixel && dilation[1] == 1;  // a row of taps is one run
    for (int64_t j = 0; j < w; ++j) {
      const Taps inside = taps_inside(1, j, W);
      for (int64_t a = 0; a < kernel[0]; ++a, to += kernel[1] * C) {
        const int64_t begin = a < rows.begin || a >= rows.end ? inside.end : inside.begin;
        std::fill(to, to + begin * C, T{0});
        std::fill(to + inside.end * C, to + kernel[1] * C, T{0});
        if (begin == inside.end) continue;
        const int64_t row = i * stride[0] - padding[0] + a * dilation[0];
        const int64_t column = j * stride[1] - padding[1] + begin * dilation[1];
        const T* from = x + ((image * H + row) * W + column) * pixel;
        if (runs) {
          std::copy_n(from, (inside.end - begin) * C, to + begin * C);
          continue;
        }
        for (int64_t b = begin; b < inside.end; ++b, from += dilation[1] * pixel)
          std::copy_n(from, C, to + b * C);
      }
    }
  }

  // Adds to a row of pixels, [W, C], what the patches of its image have for it.
  template <typename T>
  void add_line(const T* patches, int64_t row, T* HWY_RESTRICT sums) const {
    const auto& [kernel, stride, padding, dilation] = window;
    for (int64_t a = 0; a < kernel[0]; ++a) {
      const int64_t at = row + padding[0] - a * dilation[0], i = at / stride[0];
      if (at < 0 || at % stride[0] != 0 || i >= h) continue;
      for (int64_t j = 0; j < w; ++j) {
        const Taps inside = taps_inside(1, j, W);
        const T* HWY_RESTRICT tap = patches + ((i * w + j) * kernel[0] + a) * kernel[1] * C;
        for (int64_t b = inside.begin; b < inside.end; ++b) {
          T* HWY_RESTRICT sum = sums + (j * stride[1] - padding[1] + b * dilation[1]) * C;
          for (int64_t c = 0; c < C; ++c) sum[c] += tap[b * C + c];
        }
      }
    }
  }
};

// A weight [O, C, kh, kw] and [O, kh, kw, C], both contiguous, as views of one shape.
View channels_first(void* data, DType dtype, int64_t outputs, const Patches& patches) {
  const int64_t taps = patches.taps();
  return {data, dtype, Shape{outputs, taps, patches.C}, Shape{taps * patches.C, 1, taps}};
}
View taps_first(void* data, DType dtype, int64_t outputs, const Patches& patches) {
  const int64_t taps = patches.taps();
  return {data, dtype, Shape{outputs, taps, patches.C}, Shape{taps * patches.C, patches.C, 1}};
}

// The weight in the order of patches.
template <typename T>
T* weight_of_patches(const View& weight, const Patches& patches) {
  if (patches.taps() == 1 || patches.C == 1) return weight.as<T>();
  T* const turned = conv_scratch().weight.reserve<T>(weight.numel());
  const int64_t outputs = weight.size(0);
  copy({channels_first(weight.data, weight.dtype, outputs, patches),
        taps_first(turned, weight.dtype, outputs, patches)});
  return turned;
}

// What a group has of a result [B, O, h, w]: `own` of its channels, as rows of a matrix.
struct Outputs {
  int64_t all, own, rows;

  Outputs(const View& y, int64_t groups)
      : all(y.size(1)), own(all / groups), rows(y.size(0) * y.size(2) * y.size(3)) {}

  View of(const View& y, int64_t group, int64_t row, int64_t count) const {
    if (!y) return {};
    const int64_t offset = (row * all + group * own) * static_cast<int64_t>(size_of(y.dtype));
    return matrix(y.as<char>() + offset, y.dtype, count, own, all);
  }
  View slice(const View& x, int64_t group) const {
    if (!x) return {};
    const int64_t offset = group * own * static_cast<int64_t>(size_of(x.dtype));
    return {x.as<char>() + offset, x.dtype, Shape{own}, Shape{1}};
  }
};

// Calls body(matrix, row, rows) for the patches of a group, some rows at a time.
template <typename T, typename Body>
void for_patches(const View& x, int64_t group, const Patches& patches, Body&& body) {
  T* const pixels = x.as<T>() + group * patches.C;
  const int64_t w = patches.w, lines = patches.B * patches.h, columns = patches.columns();
  if (patches.are_pixels())
    return body(matrix(pixels, x.dtype, lines * w, columns, patches.pixel), 0, lines * w);
  const int64_t some = std::min(lines, kPatches / (w * columns + 1) + 1);
  T* const scratch = conv_scratch().patches.reserve<T>(some * w * columns);
  for (int64_t line = 0; line < lines; line += some) {
    const int64_t rows = std::min(some, lines - line) * w;
    patches.gather(pixels, line, line + rows / w, scratch);
    body(matrix(scratch, x.dtype, rows, columns, columns), line * w, rows);
  }
}

template <typename T>
void forward(const Conv2dArgs& args) {
  const Patches patches(args.x, args.y, args.window, args.groups);
  const Outputs outputs(args.y, args.groups);
  const int64_t columns = patches.columns();
  T* const weight = weight_of_patches<T>(args.weight, patches);
  for (int64_t g = 0; g < args.groups; ++g) {
    const View w = matrix(weight + g * outputs.own * columns, args.x.dtype, outputs.own, columns, columns);
    for_patches<T>(args.x, g, patches, [&](const View& a, int64_t row, int64_t rows) {
      gemm({a, transposed(w), outputs.of(args.y, g, row, rows), outputs.slice(args.bias, g),
            outputs.of(args.residual, g, row, rows),
            args.relu && !args.residual ? Activation::Relu : Activation::None});
    });
  }
  if (args.relu && args.residual) unary({UnaryOp::Relu, args.y, args.y});
}

template <typename T>
void input_gradient(const Conv2dInputGradientArgs& args) {
  const Patches patches(args.dx, args.dy, args.window, args.groups);
  const Outputs outputs(args.dy, args.groups);
  const int64_t columns = patches.columns(), each = patches.h * patches.w;
  T* const weight = weight_of_patches<T>(args.weight, patches);
  const int64_t some = std::min(patches.B, kPatches / (each * columns + 1) + 1);
  T* const gradients =
      patches.are_pixels() ? nullptr : conv_scratch().patches.reserve<T>(some * each * columns);
  for (int64_t g = 0; g < args.groups; ++g) {
    const View w = matrix(weight + g * outputs.own * columns, args.dx.dtype, outputs.own, columns, columns);
    T* const dx = args.dx.as<T>() + g * patches.C;
    if (patches.are_pixels()) {
      const View out = matrix(dx, args.dx.dtype, outputs.rows, columns, patches.pixel);
      gemm({outputs.of(args.dy, g, 0, outputs.rows), w, out, {}, {}});
      continue;
    }
    for (int64_t image = 0; image < patches.B; image += some) {
      const int64_t images = std::min(some, patches.B - image), rows = images * each;
      const View out = matrix(gradients, args.dx.dtype, rows, columns, columns);
      gemm({outputs.of(args.dy, g, image * each, rows), w, out, {}, {}});
      patches.scatter(gradients, images, dx + image * patches.H * patches.W * patches.pixel);
    }
  }
}

template <typename T>
void weight_gradient(const Conv2dWeightGradientArgs& args) {
  const Patches patches(args.x, args.dy, args.window, args.groups);
  const Outputs outputs(args.dy, args.groups);
  const int64_t columns = patches.columns(), O = outputs.all;
  T* const sums = conv_scratch().sums.reserve<T>(O * columns);
  if (outputs.rows == 0) std::fill_n(sums, O * columns, T{0});  // otherwise the first product writes them
  for (int64_t g = 0; g < args.groups; ++g) {
    const View out =
        matrix(sums + g * outputs.own * columns, args.dweight.dtype, outputs.own, columns, columns);
    for_patches<T>(args.x, g, patches, [&](const View& b, int64_t row, int64_t rows) {
      MatmulArgs product{transposed(outputs.of(args.dy, g, row, rows)), b, out, {}, {}};
      product.accumulate = row > 0;
      gemm(product);
    });
  }
  copy({taps_first(sums, args.dweight.dtype, O, patches),
        channels_first(args.dweight.data, args.dweight.dtype, O, patches)});
  if (!args.dbias) return;
  reduce({ReduceOp::Sum, matrix(args.dy.data, args.dy.dtype, outputs.rows, O, O),
          matrix(args.dbias.data, args.dbias.dtype, 1, O, O)});
}

void run_forward(const Conv2dArgs& args) {
  args.x.dtype == DType::Float64 ? forward<double>(args) : forward<float>(args);
}

void run_input_gradient(const Conv2dInputGradientArgs& args) {
  args.dx.dtype == DType::Float64 ? input_gradient<double>(args) : input_gradient<float>(args);
}

void run_weight_gradient(const Conv2dWeightGradientArgs& args) {
  args.x.dtype == DType::Float64 ? weight_gradient<double>(args) : weight_gradient<float>(args);
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(run_forward);
HWY_EXPORT(run_input_gradient);
HWY_EXPORT(run_weight_gradient);

namespace {

int64_t elements_of_image(const View& x) { return x.size(1) * x.size(2) * x.size(3); }

// Calls body(first, count) for some images at a time, [first, first + count) of those of x and y: enough of them for all
// threads, few enough to stay in a cache.
template <typename Body>
void for_images(const View& x, const View& y, Body&& body) {
  constexpr int64_t kCached = 1 << 22;  // elements
  const int64_t all = x.size(0), each = elements_of_image(x) + elements_of_image(y);
  const int64_t some = std::max<int64_t>(omp_get_max_threads(), kCached / (each + 1));
  int64_t first = 0;
  do {  // with no images, once
    body(first, std::min(some, all - first));
    first += some;
  } while (first < all);
}

View images(const View& x, int64_t first, int64_t count) {
  if (!x) return {};
  const int64_t each = elements_of_image(x) * static_cast<int64_t>(size_of(x.dtype));
  const Shape shape{count, x.size(1), x.size(2), x.size(3)};
  return {x.as<char>() + first * each, x.dtype, shape, channels_last_strides(shape)};
}

// Memory for the elements of x as float32, in the same order, and those elements.
View float32_like(const View& x, ScratchBuffer& memory) {
  if (!x) return {};
  return {memory.reserve<float>(x.numel()), DType::Float32, x.shape, x.strides};
}
View float32_of(const View& x, ScratchBuffer& memory) {
  const View to = float32_like(x, memory);
  if (x) copy({x, to});
  return to;
}

struct Float32Scratch {
  ScratchBuffer x, y, weight, bias, residual, sums, bias_sums;
};

Float32Scratch& float32_scratch() {
  static thread_local Float32Scratch scratch;
  return scratch;
}

void conv2d_in_float32(const Conv2dArgs& args) {
  Float32Scratch& scratch = float32_scratch();
  Conv2dArgs some = args;
  some.weight = float32_of(args.weight, scratch.weight);
  some.bias = float32_of(args.bias, scratch.bias);
  for_images(args.x, args.y, [&](int64_t first, int64_t count) {
    some.x = float32_of(images(args.x, first, count), scratch.x);
    some.residual = float32_of(images(args.residual, first, count), scratch.residual);
    some.y = float32_like(images(args.y, first, count), scratch.y);
    conv2d(some);
    copy({some.y, images(args.y, first, count)});
  });
}

void input_gradient_in_float32(const Conv2dInputGradientArgs& args) {
  Float32Scratch& scratch = float32_scratch();
  Conv2dInputGradientArgs some = args;
  some.weight = float32_of(args.weight, scratch.weight);
  for_images(args.dx, args.dy, [&](int64_t first, int64_t count) {
    some.dy = float32_of(images(args.dy, first, count), scratch.y);
    some.dx = float32_like(images(args.dx, first, count), scratch.x);
    conv2d_input_gradient(some);
    copy({some.dx, images(args.dx, first, count)});
  });
}

void weight_gradient_in_float32(const Conv2dWeightGradientArgs& args) {
  Float32Scratch& scratch = float32_scratch();
  const View dweight = float32_like(args.dweight, scratch.sums),
             dbias = float32_like(args.dbias, scratch.bias_sums);
  const auto add = [](const View& more, const View& sums) {
    if (sums) binary({BinaryOp::Add, sums, more, sums});
  };
  for_images(args.x, args.dy, [&](int64_t first, int64_t count) {
    Conv2dWeightGradientArgs some = args;
    some.x = float32_of(images(args.x, first, count), scratch.x);
    some.dy = float32_of(images(args.dy, first, count), scratch.y);
    some.dweight = first == 0 ? dweight : float32_like(args.dweight, scratch.weight);
    some.dbias = first == 0 ? dbias : float32_like(args.dbias, scratch.bias);
    conv2d_weight_gradient(some);
    if (first == 0) return;
    add(some.dweight, dweight);
    add(some.dbias, dbias);
  });
  copy({dweight, args.dweight});
  if (args.dbias) copy({dbias, args.dbias});
}

bool is_16_bit(const View& x) { return size_of(x.dtype) == 2; }

}  // namespace

void conv2d(const Conv2dArgs& args) {
  if (args.y.numel() == 0) return;
  if (args.x.numel() > 0 && onednn_conv2d(args)) return;
  if (is_16_bit(args.x)) return conv2d_in_float32(args);
  HWY_DYNAMIC_DISPATCH(run_forward)(args);
}

void conv2d_input_gradient(const Conv2dInputGradientArgs& args) {
  if (args.dx.numel() == 0) return;
  if (args.dy.numel() > 0 && onednn_conv2d_input_gradient(args)) return;
  if (is_16_bit(args.dx)) return input_gradient_in_float32(args);
  HWY_DYNAMIC_DISPATCH(run_input_gradient)(args);
}

void conv2d_weight_gradient(const Conv2dWeightGradientArgs& args) {
  if (args.dweight.size(0) == 0) return;
  if (args.dy.numel() > 0 && args.x.numel() > 0 && onednn_conv2d_weight_gradient(args)) return;
  if (is_16_bit(args.x)) return weight_gradient_in_float32(args);
  HWY_DYNAMIC_DISPATCH(run_weight_gradient)(args);
}

}  // namespace tenon::cpu
#endif
