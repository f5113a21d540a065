// Resizing: exact cases by hand, and backward as the transpose of forward. The goldens of PyTorch are in test/ops.
#include <gtest/gtest.h>

#include <vector>

#include "backend/cpu/kernels.h"
#include "kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::relative_error;

struct Mode {
  Interpolation mode;
  bool antialias;
};
const std::vector<Mode> kModes = {{Interpolation::Nearest, false},
                                  {Interpolation::Bilinear, false},
                                  {Interpolation::Bilinear, true},
                                  {Interpolation::Bicubic, false},
                                  {Interpolation::Bicubic, true}};

TEST(CpuInterpolate, BilinearByHand) {
  Buffer x(DType::Float64, Shape{1, 1, 1, 2}), out(DType::Float64, Shape{1, 1, 1, 4});
  x.fill({0, 4});
  cpu::interpolate({x.view(), out.view(), Interpolation::Bilinear, false});
  EXPECT_EQ(out.values(), (std::vector<double>{0, 1, 3, 4}));
}

TEST(CpuInterpolate, AntialiasedHalvingIsATriangle) {
  Buffer x(DType::Float64, Shape{1, 1, 1, 8}), out(DType::Float64, Shape{1, 1, 1, 4});
  x.fill({0, 0, 0, 8, 0, 0, 0, 0});
  cpu::interpolate({x.view(), out.view(), Interpolation::Bilinear, true});
  EXPECT_LT(relative_error(out.values(), {0, 3, 1, 0}),
            1e-12);  // weights 1 3 3 1 over 8
}

TEST(CpuInterpolate, TheSameSizeIsTheIdentity) {
  for (const auto& [mode, antialias] : kModes) {
    Buffer x(DType::Float32, Shape{2, 3, 5, 7}), out(DType::Float32, Shape{2, 3, 5, 7});
    x.fill_normal(1);
    cpu::interpolate({x.view(), out.view(), mode, antialias});
    EXPECT_LT(relative_error(out.values(), x.values()), 1e-7);
    EXPECT_TRUE(out.intact());
  }
}

TEST(CpuInterpolate, AConstantStaysConstant) {
  for (const auto& [mode, antialias] : kModes) {
    for (const DType dtype : testing::float_dtypes()) {
      Buffer x(dtype, Shape{1, 2, 6, 9}), out(dtype, Shape{1, 2, 11, 4});
      x.fill(0.5);
      cpu::interpolate({x.view(), out.view(), mode, antialias});
      for (const double v : out.values()) EXPECT_NEAR(v, 0.5, 1e-3);
    }
  }
}

TEST(CpuInterpolate, BackwardIsTheTranspose) {
  for (const auto& [mode, antialias] : kModes) {
    for (const auto& [h, w] : {std::pair<int64_t, int64_t>{3, 11}, {13, 4}}) {
      Buffer x(DType::Float64, Shape{2, 2, 7, 6}), y(DType::Float64, Shape{2, 2, h, w});
      Buffer dy(DType::Float64, Shape{2, 2, h, w}), dx(DType::Float64, Shape{2, 2, 7, 6});
      x.fill_normal(1);
      dy.fill_normal(2);
      cpu::interpolate({x.view(), y.view(), mode, antialias});
      cpu::interpolate_backward({dy.view(), dx.view(), mode, antialias});
      double forward = 0, backward = 0;  // <A x, dy> = <x, A' dy>
      for (size_t i = 0; i < y.values().size(); ++i) forward += y.values()[i] * dy.values()[i];
      for (size_t i = 0; i < x.values().size(); ++i) backward += x.values()[i] * dx.values()[i];
      EXPECT_NEAR(forward, backward, 1e-12 * (1 + std::abs(forward)));
      EXPECT_TRUE(dx.intact());
    }
  }
}

}  // namespace
}  // namespace tenon
