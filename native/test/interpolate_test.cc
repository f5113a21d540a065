// Resizing: exact cases by hand, and backward as the transpose of forward. The goldens of PyTorch are in test/ops.
#include <gtest/gtest.h>

#include <vector>

#include "backend/taps.h"
#include "kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::relative_error;
using testing::run;

struct Mode {
  Interpolation mode;
  bool antialias;
};
const std::vector<Mode> kModes = {{Interpolation::Nearest, false},
                                  {Interpolation::Bilinear, false},
                                  {Interpolation::Bilinear, true},
                                  {Interpolation::Bicubic, false},
                                  {Interpolation::Bicubic, true}};

TEST(Interpolate, BilinearByHand) {
  Buffer x(DType::Float64, Shape{1, 1, 1, 2}), out(DType::Float64, Shape{1, 1, 1, 4});
  x.fill({0, 4});
  run(&Kernels::interpolate, {x.view(), out.view(), Interpolation::Bilinear, false});
  EXPECT_EQ(out.values(), (std::vector<double>{0, 1, 3, 4}));
}

TEST(Interpolate, AntialiasedHalvingIsATriangle) {
  Buffer x(DType::Float64, Shape{1, 1, 1, 8}), out(DType::Float64, Shape{1, 1, 1, 4});
  x.fill({0, 0, 0, 8, 0, 0, 0, 0});
  run(&Kernels::interpolate, {x.view(), out.view(), Interpolation::Bilinear, true});
  EXPECT_LT(relative_error(out.values(), {0, 3, 1, 0}),
            1e-12);  // weights 1 3 3 1 over 8
}

TEST(Interpolate, TheSameSizeIsTheIdentity) {
  for (const auto& [mode, antialias] : kModes) {
    Buffer x(DType::Float32, Shape{2, 3, 5, 7}), out(DType::Float32, Shape{2, 3, 5, 7});
    x.fill_normal(1);
    run(&Kernels::interpolate, {x.view(), out.view(), mode, antialias});
    EXPECT_LT(relative_error(out.values(), x.values()), 1e-7);
    EXPECT_TRUE(out.intact());
  }
}

TEST(Interpolate, AConstantStaysConstant) {
  for (const auto& [mode, antialias] : kModes) {
    for (const DType dtype : testing::float_dtypes()) {
      Buffer x(dtype, Shape{1, 2, 6, 9}), out(dtype, Shape{1, 2, 11, 4});
      x.fill(0.5);
      run(&Kernels::interpolate, {x.view(), out.view(), mode, antialias});
      for (const double v : out.values()) EXPECT_NEAR(v, 0.5, 1e-3);
    }
  }
}

// The weights of an axis as a matrix [out, in].
std::vector<std::vector<double>> matrix(const Taps& taps) {
  std::vector<std::vector<double>> rows(static_cast<size_t>(taps.out));
  for (int64_t i = 0; i < taps.out; ++i) {
    auto& row = rows[static_cast<size_t>(i)];
    row.resize(static_cast<size_t>(taps.in));
    double sum = 0;
    const Taps::Range range = taps.range(i);
    for (int64_t k = 0; k < range.count; ++k) {
      const double weight = taps.weight(range, i, k);
      row[static_cast<size_t>(taps.clamped(range.first + k))] += weight;
      sum += weight;
    }
    for (double& weight : row) weight /= sum;
  }
  return rows;
}

TEST(Interpolate, EqualsTheProductWithTheMatricesOfItsTaps) {
  for (const auto& [mode, antialias] : kModes) {
    for (const DType dtype : testing::float_dtypes()) {
      for (const auto& [h, w] : {std::pair<int64_t, int64_t>{3, 11}, {13, 4}, {1, 1}}) {
        Buffer x(dtype, Shape{2, 1, 7, 6}), y(dtype, Shape{2, 1, h, w});
        x.fill_normal(1);
        run(&Kernels::interpolate, {x.view(), y.view(), mode, antialias});
        const auto down = matrix({7, h, mode, antialias}), across = matrix({6, w, mode, antialias});
        const std::vector<double> from = x.values();
        std::vector<double> expected;
        for (size_t plane = 0; plane < 2; ++plane) {
          for (const auto& column : down) {
            for (const auto& row : across) {
              double sum = 0;
              for (size_t i = 0; i < 42; ++i) sum += column[i / 6] * row[i % 6] * from[plane * 42 + i];
              expected.push_back(sum);
            }
          }
        }
        EXPECT_LT(relative_error(y.values(), expected), testing::tolerance(dtype));
        EXPECT_TRUE(y.intact());
      }
    }
  }
}

TEST(Interpolate, BicubicOvershoots) {  // the border repeats; PyTorch gives the same
  Buffer x(DType::Float64, Shape{1, 1, 2, 1}), out(DType::Float64, Shape{1, 1, 4, 1});
  x.fill({0, 128});
  run(&Kernels::interpolate, {x.view(), out.view(), Interpolation::Bicubic, false});
  EXPECT_LT(relative_error(out.values(), {-13.5, 29, 99, 141.5}), 1e-12);
}

TEST(Interpolate, OfNothingIsNothing) {
  Buffer x(DType::Float32, Shape{0, 3, 5, 7}), out(DType::Float32, Shape{0, 3, 2, 2});
  run(&Kernels::interpolate, {x.view(), out.view(), Interpolation::Bilinear, true});
  run(&Kernels::interpolate_backward, {out.view(), x.view(), Interpolation::Bilinear, true});
  EXPECT_TRUE(x.intact() && out.intact());
}

TEST(Interpolate, BackwardIsTheTranspose) {
  for (const auto& [mode, antialias] : kModes) {
    for (const auto& [h, w] : {std::pair<int64_t, int64_t>{3, 11}, {13, 4}}) {
      Buffer x(DType::Float64, Shape{2, 2, 7, 6}), y(DType::Float64, Shape{2, 2, h, w});
      Buffer dy(DType::Float64, Shape{2, 2, h, w}), dx(DType::Float64, Shape{2, 2, 7, 6});
      x.fill_normal(1);
      dy.fill_normal(2);
      run(&Kernels::interpolate, {x.view(), y.view(), mode, antialias});
      run(&Kernels::interpolate_backward, {dy.view(), dx.view(), mode, antialias});
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
