// Selecting, scattering and one-hot rows, against loops; an index out of range is an error that names it.
#include <gtest/gtest.h>

#include <vector>

#include "kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::error_of;
using testing::run;

const std::vector<DType> kDTypes = {DType::Float32, DType::BFloat16, DType::Float64, DType::Int64,
                                    DType::UInt8};

Buffer& fill_counting(Buffer& x) {
  std::vector<double> values(x.values().size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i % 120);
  return x.fill(values);
}

// x [2, 5, 32]: rows that packs divide, in two layouts, along each dimension.
TEST(IndexSelect, TakesSlicesAlongEachDimension) {
  for (const DType dtype : kDTypes) {
    for (const Shape& strides : {Shape{160, 32, 1}, Shape{1, 2, 10}}) {
      for (const int dim : {0, 1, 2}) {
        Buffer x(dtype, Shape{2, 5, 32}, strides), index(DType::Int32, Shape{3}, Shape{2});
        fill_counting(x);
        index.fill({1, 0, 1});
        Shape shape = x.view().shape;
        shape[dim] = 3;
        Buffer out(dtype, shape);
        run(&Kernels::index_select, {x.view(), index.view(), out.view(), dim});
        const std::vector<double> from = x.values();
        std::vector<double> expected;
        const Shape dense = contiguous_strides(x.view().shape);
        for (int64_t i = 0; i < shape[0]; ++i) {
          for (int64_t j = 0; j < shape[1]; ++j) {
            for (int64_t k = 0; k < shape[2]; ++k) {
              Shape at{i, j, k};
              at[dim] = at[dim] == 1 ? 0 : 1;
              expected.push_back(from[static_cast<size_t>(at[0] * dense[0] + at[1] * dense[1] + at[2])]);
            }
          }
        }
        EXPECT_EQ(out.values(), expected) << name_of(dtype) << " dim " << dim;
        EXPECT_TRUE(out.intact());
      }
    }
  }
}

TEST(Gather, TakesAnElementEach) {
  Buffer x(DType::Float32, Shape{3, 4}), rows(DType::Int64, Shape{2, 4}), columns(DType::Int64, Shape{3, 2});
  fill_counting(x);
  rows.fill({2, 0, 1, 2, 0, 0, 2, 1});
  columns.fill({3, 0, 1, 1, 0, 2});
  Buffer down(DType::Float32, Shape{2, 4}), across(DType::Float32, Shape{3, 2});
  run(&Kernels::gather, {x.view(), rows.view(), down.view(), 0});
  run(&Kernels::gather, {x.view(), columns.view(), across.view(), 1});
  EXPECT_EQ(down.values(), (std::vector<double>{8, 1, 6, 11, 0, 1, 10, 7}));
  EXPECT_EQ(across.values(), (std::vector<double>{3, 0, 5, 5, 8, 10}));
}

// Many sources for few places: bits that repeat show that the order does.
TEST(IndexAdd, AddsInTheOrderOfTheSource) {
  for (const DType dtype : {DType::Float32, DType::Float16, DType::Float64, DType::Int32}) {
    for (const int dim : {0, 1}) {
      const Shape places = dim == 0 ? Shape{20, 6} : Shape{6, 20},
                  sources = dim == 0 ? Shape{90, 6} : Shape{6, 90};
      Buffer out(dtype, places), src(dtype, sources), index(DType::Int64, Shape{90});
      out.fill(1);
      src.fill_normal(4);
      std::vector<double> indices(90);
      for (size_t i = 0; i < 90; ++i) indices[i] = static_cast<double>(i * 7 % 20);
      index.fill(indices);
      const std::vector<double> from = src.values();
      std::vector<double> expected(120, 1.0);
      for (size_t i = 0; i < 90; ++i) {
        const auto place = static_cast<size_t>(indices[i]);
        for (size_t c = 0; c < 6; ++c) {
          double& target = expected[dim == 0 ? place * 6 + c : c * 20 + place];
          const double sum = target + from[dim == 0 ? i * 6 + c : c * 90 + i];
          testing::store(dtype, &target, 0, sum);  // rounded, as the kernel rounds each sum
          target = testing::load(dtype, &target, 0);
        }
      }
      run(&Kernels::index_add, {out.view(), index.view(), src.view(), dim});
      EXPECT_EQ(out.values(), expected) << name_of(dtype) << " dim " << dim;
      EXPECT_TRUE(out.intact());
    }
  }
}

TEST(IndexAdd, ScalesTheSource) {
  for (const DType dtype : {DType::Float32, DType::BFloat16, DType::Float16, DType::Float64}) {
    Buffer out(dtype, Shape{3, 2}), src(dtype, Shape{3, 2}), index(DType::Int64, Shape{3});
    out.fill(1);
    src.fill({1, 2, 3, 4, 5, 6});
    index.fill({2, 0, 2});
    run(&Kernels::index_add, {out.view(), index.view(), src.view(), 0, -0.5});
    EXPECT_EQ(out.values(), (std::vector<double>{-0.5, -1, 1, 1, -2, -3})) << name_of(dtype);
  }
}

TEST(ScatterAdd, AddsToAPlaceEach) {
  Buffer out(DType::Float32, Shape{2, 3}), index(DType::Int32, Shape{2, 4}), src(DType::Float32, Shape{2, 4});
  out.fill({10, 20, 30, 40, 50, 60});
  index.fill({0, 2, 0, 1, 1, 1, 1, 1});
  src.fill({1, 2, 3, 4, 5, 6, 7, 8});
  run(&Kernels::scatter_add, {out.view(), index.view(), src.view(), 1});
  EXPECT_EQ(out.values(), (std::vector<double>{14, 24, 32, 40, 76, 60}));
}

TEST(OneHot, MarksTheClass) {
  for (const DType dtype : {DType::Float32, DType::BFloat16, DType::Int64, DType::Bool}) {
    Buffer index(DType::Int64, Shape{3}), out(dtype, Shape{3, 4});
    index.fill({3, 0, 1});
    run(&Kernels::one_hot, {index.view(), out.view()});
    EXPECT_EQ(out.values(), (std::vector<double>{0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0}));
    EXPECT_TRUE(out.intact());
  }
}

TEST(Indexing, AnIndexOutOfRangeIsNamed) {
  Buffer x(DType::Float32, Shape{4, 8}), out(DType::Float32, Shape{3, 8}), hot(DType::Float32, Shape{3, 4});
  x.fill(0);
  out.fill(0);
  for (const double bad : {4.0, -1.0}) {
    const std::string text = "expected indices from 0 to 3, got " + std::to_string(static_cast<int>(bad));
    Buffer index(DType::Int64, Shape{3}), each(DType::Int64, Shape{3, 8});
    index.fill({0, bad, 3});
    each.fill(0);
    each.fill(std::vector<double>(24, bad));
    EXPECT_EQ(error_of(&Kernels::index_select, {x.view(), index.view(), out.view(), 0}),
              "INDEX indexSelect: " + text);
    EXPECT_EQ(error_of(&Kernels::index_add, {x.view(), index.view(), out.view(), 0}),
              "INDEX indexAdd: " + text);
    EXPECT_EQ(error_of(&Kernels::gather, {x.view(), each.view(), out.view(), 0}), "INDEX gather: " + text);
    EXPECT_EQ(error_of(&Kernels::scatter_add, {x.view(), each.view(), out.view(), 0}),
              "INDEX scatterAdd: " + text);
    EXPECT_EQ(error_of(&Kernels::one_hot, {index.view(), hot.view()}), "INDEX oneHot: " + text);
  }
  Buffer index(DType::Int64, Shape{3});
  index.fill(3);  // no error stays behind
  EXPECT_EQ(error_of(&Kernels::index_select, {x.view(), index.view(), out.view(), 0}), "no error");
}

TEST(Indexing, NothingToIndexIsLegal) {
  Buffer x(DType::Float32, Shape{4, 8}), index(DType::Int64, Shape{0}), none(DType::Float32, Shape{0, 8});
  x.fill(5);
  EXPECT_EQ(error_of(&Kernels::index_select, {x.view(), index.view(), none.view(), 0}), "no error");
  EXPECT_EQ(error_of(&Kernels::index_add, {x.view(), index.view(), none.view(), 0}), "no error");
  EXPECT_EQ(x.values(), std::vector<double>(32, 5.0));
}

}  // namespace
}  // namespace tenon
