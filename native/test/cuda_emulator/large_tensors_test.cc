// Tensors that 32 bits do not count: elements, rows and lines beyond 2^31. They lie in memory of which only the pages that
// are touched exist, and of a grid over all of it only the first and the last blocks run.
#include <cstdlib>
#include <memory>

#include "backend/cuda/launch.h"
#include "backend/cuda/tensor_map.h"
#include "test/cuda_emulator/emulator.h"
#include "test/kernel_testing.h"
#include "test/sparse.h"

namespace tenon {
namespace {

using testing::Buffer;
using testing::error_of;
using testing::run;
using testing::Sparse;

constexpr int64_t kTwoTo30 = int64_t{1} << 30, kTwoTo31 = 2 * kTwoTo30, kTwoTo32 = 4 * kTwoTo30;

// Only the blocks at either end of a grid run.
struct Sample {
  explicit Sample(size_t blocks) { emulator::set_sample(blocks); }
  ~Sample() { emulator::set_sample(0); }
};

// ---- what kernels count in int, and what a grid cannot hold ----------------------------------------------------------

// A tensor of any size, all of whose elements are one.
View endless(DType dtype, const Shape& shape) {
  static double element = 0;
  Shape strides = shape;
  for (int d = 0; d < shape.ndim(); ++d) strides[d] = d == shape.ndim() - 1 ? 1 : 0;
  return {&element, dtype, shape, strides};
}

TEST(LargeTensors, AreRefusedWhereKernelsCountInInt) {
  const auto f32 = [](const Shape& shape) { return endless(DType::Float32, shape); };
  {
    const View row = f32({1, kTwoTo32 + 8}), one = f32({1});
    EXPECT_EQ(error_of(&Kernels::layer_norm, LayerNormArgs{row, {}, {}, {}, {}, row, one, one}),
              "SHAPE layerNorm: expected at most 1073741823 columns, got 4294967304");
    EXPECT_EQ(error_of(&Kernels::layer_norm_backward,
                       LayerNormBackwardArgs{row, row, {}, one, one, {}, row, {}, {}}),
              "SHAPE layerNormBackward: expected at most 1073741823 columns, got 4294967304");
    EXPECT_EQ(
        error_of(&Kernels::cross_entropy,
                 CrossEntropyArgs{row, endless(DType::Int32, {1}), {}, one, {}, 0, -100, Reduction::None}),
        "SHAPE crossEntropy: expected at most 1073741823 classes, got 4294967304");
  }
  {
    const View q = f32({1, 1, kTwoTo32 + 3, 8}), k = f32({1, 1, 5, 8}), lse = f32({1, 1, kTwoTo32 + 3});
    EXPECT_EQ(error_of(&Kernels::attention, AttentionArgs{q, k, k, {}, {}, q, lse}),
              "SHAPE attention: expected at most 1073741823 queries, got 4294967299");
    EXPECT_EQ(error_of(&Kernels::attention, AttentionArgs{k, q, q, {}, {}, k, lse}),
              "SHAPE attention: expected at most 1073741823 keys, got 4294967299");
    EXPECT_EQ(error_of(&Kernels::attention_backward,
                       AttentionBackwardArgs{q, k, k, {}, {}, q, q, lse, q, k, k, {}}),
              "SHAPE attentionBackward: expected at most 1073741823 queries, got 4294967299");
    EXPECT_EQ(
        error_of(&Kernels::attention_rows,
                 AttentionRowsArgs{
                     k, k, {}, {}, endless(DType::Int64, {kTwoTo32 + 1}), f32({1, 1, kTwoTo32 + 1, 5})}),
        "SHAPE attentionRows: expected at most 1073741823 rows, got 4294967297");
  }
  {
    const View many = f32({kTwoTo32 + 1, 1, 3, 8}), lse = f32({kTwoTo32 + 1, 1, 3});
    EXPECT_EQ(error_of(&Kernels::attention, AttentionArgs{many, many, many, {}, {}, many, lse}),
              "SHAPE attention: expected operands for at most 2147483647 blocks of threads, got some for "
              "4294967297");
  }
  {
    const auto windowed = [&](int64_t side, int64_t window, int64_t heads) {
      const View qkv = f32({1, side, side, 3 * heads}), out = f32({1, side, side, heads});
      const View table = f32({(2 * window - 1) * (2 * window - 1), heads}), lse = f32({1, heads, side, side});
      return error_of(&Kernels::window_attention,
                      WindowAttentionArgs{qkv, table, {}, out, lse, {side, side, window, window, 0, 0}, 1});
    };
    EXPECT_EQ(windowed(1 << 16, 8, 1),
              "SHAPE windowAttention: expected at most 1073741823 positions in an image's windows, got "
              "4294967296");
    EXPECT_EQ(windowed(1 << 16, 1 << 15, 1),
              "SHAPE windowAttention: expected at most 1073741823 rows of the table, got 4294836225");
    EXPECT_EQ(windowed(8, 8, int64_t{1} << 23),
              "SHAPE windowAttention: expected at most 1073741823 elements of the table, got 1887436800");
  }
  {
    const View image = f32({1, 1, 1, kTwoTo32 + 2}), pixel = f32({1, 1, 1, 1});
    EXPECT_EQ(error_of(&Kernels::interpolate, InterpolateArgs{image, pixel}),
              "SHAPE interpolate: expected at most 1073741823 rows or columns, got 4294967298");
    EXPECT_EQ(error_of(&Kernels::interpolate_backward, InterpolateBackwardArgs{pixel, image}),
              "SHAPE interpolateBackward: expected at most 1073741823 rows or columns, got 4294967298");
    const View row = f32({1, 1, 1, kTwoTo30 / 2});
    EXPECT_EQ(error_of(&Kernels::interpolate, InterpolateArgs{row, pixel, Interpolation::Bicubic, true}),
              "SHAPE interpolate: expected at most 1073741823 taps of a pixel, got 2147483650");
  }
  {
    const View many = f32({kTwoTo32 + 1, 1, 1}), tall = f32({kTwoTo31, 1}), one = f32({1, 1});
    EXPECT_EQ(error_of(&Kernels::matmul, MatmulArgs{many, many, many, {}, {}}),
              "SHAPE matmul: expected fewer than 2^31 rows, columns and matrices, got [4294967297, 1, 1] by "
              "[4294967297, 1, 1]");
    EXPECT_EQ(error_of(&Kernels::matmul, MatmulArgs{tall, one, tall, {}, {}}),
              "SHAPE matmul: expected fewer than 2^31 rows, columns and matrices, got [2147483648, 1] by "
              "[1, 1]");
  }
}

TEST(LargeTensors, AreRefusedWhereAGridCannotHoldTheirBlocks) {
  const auto error_of_grid = [](int64_t x, int64_t y) -> std::string {
    try {
      const dim3 grid = cuda::Blocks(x, y).grid("kernel");
      return std::to_string(grid.x) + " x " + std::to_string(grid.y);
    } catch (const TensorError& error) {
      return error.what();
    }
  };
  EXPECT_EQ(error_of_grid(kTwoTo31 - 1, 65535), "2147483647 x 65535");
  EXPECT_EQ(error_of_grid(kTwoTo31, 1),
            "kernel: expected operands for at most 2147483647 blocks of threads, got some for 2147483648");
  EXPECT_EQ(error_of_grid(1, 65536),
            "kernel: expected operands for at most 65535 blocks of threads, got some for 65536");
}

TEST(LargeTensors, HaveNoTensorMapWhereIntHasNoCoordinate) {
  alignas(16) static bfloat16 memory[64];
  const auto takes = [&](int64_t rows) {
    return cuda::takes_map({memory, DType::BFloat16, Shape{1, 1, rows, 64}, Shape{64, 64, 64, 1}});
  };
  EXPECT_TRUE(takes(kTwoTo30));
  EXPECT_FALSE(takes(kTwoTo30 + 1));
  EXPECT_FALSE(takes(kTwoTo32 + 1));
}

// ---- more rows than int counts ---------------------------------------------------------------------------------------

// Of 2^31 + 1 rows the first and the last.
constexpr int64_t kRows = kTwoTo31 + 1;
constexpr int64_t kSomeRows[] = {0, kRows - 1};

std::vector<double> numbers(int64_t row, int64_t columns) {
  std::vector<double> x;
  for (int64_t c = 0; c < columns; ++c) x.push_back(static_cast<double>((row + 3 * c * c) % 7));
  return x;
}

TEST(ManyRows, AreNormalised) {
  for (const auto& [dtype, columns] : {std::pair{DType::BFloat16, 8}, {DType::Float32, 3}}) {
    Sparse x(dtype, Shape{kRows, columns}), y(dtype, Shape{kRows, columns});
    Sparse mean(DType::Float32, Shape{kRows}), rstd(DType::Float32, Shape{kRows});
    for (const int64_t row : kSomeRows) x.set(row, numbers(row, columns));
    {
      const Sample sample(1);
      run(&Kernels::layer_norm, {x.view(), {}, {}, {}, {}, y.view(), mean.view(), rstd.view()});
    }
    for (const int64_t row : kSomeRows) {
      const std::vector<double> values = numbers(row, columns);
      Buffer near(dtype, Shape{1, columns}), expected(dtype, Shape{1, columns});
      Buffer its_mean(DType::Float32, Shape{1}), its_rstd(DType::Float32, Shape{1});
      near.fill(values);
      run(&Kernels::layer_norm,
          {near.view(), {}, {}, {}, {}, expected.view(), its_mean.view(), its_rstd.view()});
      EXPECT_EQ(y.get(row), expected.values()) << name_of(dtype) << " row " << row;
      EXPECT_EQ(mean.get(row), its_mean.values()) << row;
      EXPECT_EQ(rstd.get(row), its_rstd.values()) << row;
    }
  }
}

TEST(ManyRows, HaveGradientsOfLayerNorm) {
  constexpr int64_t kColumns =
      3;  // a block to a row: with a warp to a row, the blocks of a device share all rows
  Sparse dy(DType::Float32, Shape{kRows, kColumns}), s(DType::Float32, Shape{kRows, kColumns}),
      dx(DType::Float32, Shape{kRows, kColumns});
  Sparse mean(DType::Float32, Shape{kRows}), rstd(DType::Float32, Shape{kRows});
  for (const int64_t row : kSomeRows) {
    s.set(row, numbers(row, kColumns));
    dy.set(row, numbers(row + 2, kColumns));
    mean.set(row, {2});
    rstd.set(row, {0.5});
  }
  {
    const Sample sample(1);
    run(&Kernels::layer_norm_backward,
        {dy.view(), s.view(), {}, mean.view(), rstd.view(), {}, dx.view(), {}, {}});
  }
  for (const int64_t row : kSomeRows) {
    Buffer one(DType::Float32, Shape{1}), half(DType::Float32, Shape{1});
    Buffer its_dy(DType::Float32, Shape{1, kColumns}), its_s(DType::Float32, Shape{1, kColumns}),
        expected(DType::Float32, Shape{1, kColumns});
    one.fill(2);
    half.fill(0.5);
    its_s.fill(numbers(row, kColumns));
    its_dy.fill(numbers(row + 2, kColumns));
    run(&Kernels::layer_norm_backward,
        {its_dy.view(), its_s.view(), {}, one.view(), half.view(), {}, expected.view(), {}, {}});
    EXPECT_EQ(dx.get(row), expected.values()) << row;
  }
}

TEST(ManyRows, HaveACrossEntropyEach) {
  for (const int64_t classes : {8, 3}) {  // in registers, and not
    Sparse logits(DType::BFloat16, Shape{kRows, classes}), dlogits(DType::BFloat16, Shape{kRows, classes});
    Sparse labels(DType::Int32, Shape{kRows}), loss(DType::Float32, Shape{kRows});
    const auto label = [](int64_t row) { return static_cast<double>(row % 3); };
    for (const int64_t row : kSomeRows) {
      logits.set(row, numbers(row, classes));
      labels.set(row, {label(row)});
    }
    {
      const Sample sample(1);
      run(&Kernels::cross_entropy,
          {logits.view(), labels.view(), {}, loss.view(), dlogits.view(), 0, -100, Reduction::None});
    }
    for (const int64_t row : kSomeRows) {
      Buffer near(DType::BFloat16, Shape{1, classes}), gradient(DType::BFloat16, Shape{1, classes});
      Buffer its_label(DType::Int32, Shape{1}), its_loss(DType::Float32, Shape{1});
      near.fill(numbers(row, classes));
      its_label.fill(label(row));
      run(&Kernels::cross_entropy,
          {near.view(), its_label.view(), {}, its_loss.view(), gradient.view(), 0, -100, Reduction::None});
      EXPECT_EQ(loss.get(row), its_loss.values()) << classes << " classes, row " << row;
      EXPECT_EQ(dlogits.get(row), gradient.values()) << classes << " classes, row " << row;
    }
  }
}

// More lines than two grids have blocks, and than 32 bits count.
constexpr int64_t kLines = kTwoTo32 + 1;
constexpr int64_t kSomeLines[] = {0, kLines - 1};

TEST(ManyRows, HaveRunningSums) {
  Sparse x(DType::UInt8, Shape{kLines, 2}), out(DType::UInt8, Shape{kLines, 2});
  for (const int64_t line : kSomeLines) x.set(line, {3, static_cast<double>(line % 11)});
  {
    const Sample sample(1);
    run(&Kernels::cumsum, {x.view(), out.view(), 1});
  }
  for (const int64_t line : kSomeLines) {
    EXPECT_EQ(out.get(line), (std::vector<double>{3, 3 + static_cast<double>(line % 11)})) << line;
  }
}

TEST(ManyRows, HaveLargestElements) {
  Sparse x(DType::UInt8, Shape{kLines, 3}), values(DType::UInt8, Shape{kLines, 1});
  Sparse indices(DType::Int64, Shape{kLines, 1});
  for (const int64_t line : kSomeLines) x.set(line, {3, static_cast<double>(9 + line % 11), 5});
  {
    const Sample sample(1);
    run(&Kernels::topk, {x.view(), values.view(), indices.view()});
  }
  for (const int64_t line : kSomeLines) {
    EXPECT_EQ(values.get(line), (std::vector<double>{static_cast<double>(9 + line % 11)})) << line;
    EXPECT_EQ(indices.get(line), (std::vector<double>{1})) << line;
  }
}

// ---- elements further apart than int counts --------------------------------------------------------------------------

// The same call on tensors that lie close together and on ones whose rows are so far apart.
constexpr int64_t kFar = kTwoTo31 + 8;

TEST(FarRows, HaveTheSoftmaxOfNearOnes) {
  for (const int64_t length : {64, 2000}) {  // in registers, and not
    const Shape shape{3, length}, far{kFar, 1};
    Buffer x(DType::BFloat16, shape), y(DType::BFloat16, shape), dx(DType::BFloat16, shape);
    x.fill_normal(1);
    Sparse far_x(DType::BFloat16, shape, far), far_y(DType::BFloat16, shape, far),
        far_dx(DType::BFloat16, shape, far);
    far_x.fill(x.view());
    run(&Kernels::softmax, {x.view(), y.view()});
    run(&Kernels::softmax, {far_x.view(), far_y.view()});
    EXPECT_EQ(far_y.values(), y.values());
    run(&Kernels::softmax_backward, {y.view(), x.view(), dx.view()});
    run(&Kernels::softmax_backward, {far_y.view(), far_x.view(), far_dx.view()});
    EXPECT_EQ(far_dx.values(), dx.values());
  }
}

TEST(FarRows, AreCopiedAndReduced) {
  const Shape shape{3, 40, 24};
  Buffer x(DType::Float16, shape), sums(DType::Float16, Shape{1, 40, 24});
  x.fill_normal(1);
  for (const Shape& strides : {Shape{kFar, 24, 1}, Shape{kFar * 24, 1, kFar}}) {
    Sparse far(DType::Float16, shape, strides), to(DType::Float16, shape, Shape{40 * kFar, kFar, 1});
    far.fill(x.view());
    run(&Kernels::copy, {far.view(), to.view()});
    EXPECT_EQ(to.values(), x.values());
    Buffer of_far(DType::Float16, Shape{1, 40, 24});
    run(&Kernels::reduce, {ReduceOp::Sum, x.view(), sums.view()});
    run(&Kernels::reduce, {ReduceOp::Sum, far.view(), of_far.view()});
    EXPECT_EQ(of_far.values(), sums.values());
  }
}

TEST(FarRows, AreSelectedAndAddedTo) {
  const Shape shape{3, 16};
  Buffer x(DType::Float32, shape), index(DType::Int32, Shape{4}), out(DType::Float32, Shape{4, 16});
  x.fill_normal(1);
  index.fill({2, 0, 2, 1});
  Sparse far(DType::Float32, shape, Shape{kFar, 1});
  far.fill(x.view());
  run(&Kernels::index_select, {far.view(), index.view(), out.view(), 0});
  Buffer expected(DType::Float32, Shape{4, 16});
  run(&Kernels::index_select, {x.view(), index.view(), expected.view(), 0});
  EXPECT_EQ(out.values(), expected.values());
  run(&Kernels::index_add, {far.view(), index.view(), out.view(), 0});
  run(&Kernels::index_add, {x.view(), index.view(), expected.view(), 0});
  EXPECT_EQ(far.values(), x.values());
}

struct Attention {
  View q, k, v, bias, mask, out, lse, dout, dq, dk, dv, dbias;

  void operator()() const {
    run(&Kernels::attention, {q, k, v, bias, mask, out, lse, 0.3});
    run(&Kernels::attention_backward, {q, k, v, bias, mask, out, dout, lse, dq, dk, dv, dbias, 0.3});
  }
};

// Of heads whose rows, and scores whose rows are far apart; `far` keeps what it makes.
void expect_far_heads_to_attend_as_near_ones(DType dtype, bool with_bias, int64_t d) {
  constexpr int64_t kHeads = 2, kQueries = 3, kKeys = 4;
  const DType wide = dtype == DType::Float64 ? DType::Float64 : DType::Float32;
  std::vector<std::unique_ptr<Buffer>> near;
  std::vector<std::unique_ptr<Sparse>> far;
  Attention a, b;
  const auto add = [&](View Attention::*view, DType type, const Shape& shape, uint32_t seed) {
    near.push_back(std::make_unique<Buffer>(type, shape));
    Shape strides = shape;
    int64_t stride = kFar;
    for (int i = shape.ndim() - 2; i >= 0; --i) {
      strides[i] = stride;
      stride *= shape[i];
    }
    strides[shape.ndim() - 1] = 1;
    far.push_back(std::make_unique<Sparse>(type, shape, strides));
    if (type == DType::Bool) {
      near.back()->fill(1);
      testing::store(type, near.back()->view().data, 1, 0);
    } else if (seed > 0) {
      near.back()->fill_normal(seed);
    }
    if (seed > 0) far.back()->fill(near.back()->view());
    a.*view = near.back()->view();
    b.*view = far.back()->view();
  };
  const Shape of_queries{1, kHeads, kQueries, d}, of_keys{1, kHeads, kKeys, d};
  const Shape scores{1, kHeads, kQueries, kKeys};
  add(&Attention::q, dtype, of_queries, 1);
  add(&Attention::k, dtype, of_keys, 2);
  add(&Attention::v, dtype, of_keys, 3);
  add(&Attention::dout, dtype, of_queries, 4);
  if (with_bias) add(&Attention::bias, dtype, scores, 5);
  if (with_bias) add(&Attention::mask, DType::Bool, scores, 6);
  const size_t results = near.size();
  add(&Attention::out, dtype, of_queries, 0);
  add(&Attention::dq, dtype, of_queries, 0);
  add(&Attention::dk, dtype, of_keys, 0);
  add(&Attention::dv, dtype, of_keys, 0);
  Buffer lse(wide, Shape{1, kHeads, kQueries}), far_lse(wide, Shape{1, kHeads, kQueries});
  Buffer dbias(dtype, scores), far_dbias(dtype, scores);
  a.lse = lse.view();
  b.lse = far_lse.view();
  if (with_bias) {
    a.dbias = dbias.view();
    b.dbias = far_dbias.view();
  }
  a();
  b();
  EXPECT_EQ(far_lse.values(), lse.values());
  if (with_bias) {
    EXPECT_EQ(far_dbias.values(), dbias.values());
  }
  for (size_t i = results; i < near.size(); ++i) EXPECT_EQ(far[i]->values(), near[i]->values()) << i;
}

TEST(FarRows, AttendAsNearOnes) {
  expect_far_heads_to_attend_as_near_ones(DType::Float32, true, 5);
  expect_far_heads_to_attend_as_near_ones(DType::BFloat16, true, 32);
  expect_far_heads_to_attend_as_near_ones(DType::BFloat16, false, 8);
}

TEST(FarRows, AttendAsNearOnesOnHopper) {
  setenv("TENON_CUDA_HOPPER", "1", 1);
  expect_far_heads_to_attend_as_near_ones(DType::BFloat16, false, 64);
  setenv("TENON_CUDA_HOPPER", "0", 1);
}

}  // namespace
}  // namespace tenon
