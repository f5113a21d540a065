#include "ops/ops.h"

namespace tenon::ops {

namespace {

Interpolation mode_named(const std::string& name) {
  if (name == "nearest") return Interpolation::Nearest;
  if (name == "bilinear") return Interpolation::Bilinear;
  if (name == "bicubic") return Interpolation::Bicubic;
  fail("interpolate", code::kValue, "expected a mode of nearest, bilinear or bicubic, got '", name, "'");
}

void check_image(const char* name, const Tensor& x, int64_t height, int64_t width, Interpolation mode,
                 bool antialias) {
  check_floating("interpolate", name, x);
  check_ndim("interpolate", "x [B, C, H, W]", x, 4);
  if (height < 1 || width < 1 || x.size(2) < 1 || x.size(3) < 1) {
    fail("interpolate", code::kShape, "expected sizes of 1 or more, got ", x, " and ", Shape{height, width});
  }
  if (antialias && mode == Interpolation::Nearest) {
    fail("interpolate", code::kValue, "expected bilinear or bicubic with antialias, got nearest");
  }
}

}  // namespace

Tensor interpolate(const Tensor& x, int64_t height, int64_t width, const std::string& mode_name,
                   bool antialias) {
  const Interpolation mode = mode_named(mode_name);
  check_image("x", x, height, width, mode, antialias);
  const Tensor xc = contiguous(x);
  Tensor out = empty(x.device(), Shape{x.size(0), x.size(1), height, width}, x.dtype());
  launch(x.device(), "interpolate", &Kernels::interpolate,
         InterpolateArgs{xc.view(), out.view(), mode, antialias});
  return out;
}

Tensor interpolate_backward(const Tensor& dy, int64_t height, int64_t width, const std::string& mode_name,
                            bool antialias) {
  const Interpolation mode = mode_named(mode_name);
  check_image("dy", dy, height, width, mode, antialias);
  const Tensor dyc = contiguous(dy);
  Tensor dx = empty(dy.device(), Shape{dy.size(0), dy.size(1), height, width}, dy.dtype());
  launch(dy.device(), "interpolateBackward", &Kernels::interpolate_backward,
         InterpolateBackwardArgs{dyc.view(), dx.view(), mode, antialias});
  return dx;
}

}  // namespace tenon::ops
