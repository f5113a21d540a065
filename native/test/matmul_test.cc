// matmul against float64 sums.
#include <memory>

#include "test/matmul_testing.h"

namespace tenon::testing::matmul {
namespace {

INSTANTIATE_TEST_SUITE_P(Table, Matmul, ::testing::Values(Kernel{"matmul", [](const MatmulArgs& args) {
                                                                   testing::run(&Kernels::matmul, args);
                                                                 }}));

const std::vector<Size> kSizes = {{1, 1, 1},       {1, 7, 5},       {5, 1, 3},    {13, 17, 1},
                                  {1, 192, 1000},  {7, 33, 65},     {64, 96, 48}, {97, 385, 31},
                                  {197, 192, 576}, {130, 801, 770}, {300, 64, 10}};
const std::vector<Size> kFewSizes = {{1, 1, 1}, {1, 7, 5}, {5, 1, 3}, {13, 17, 1}, {7, 33, 65}, {16, 32, 8}};

TEST_P(Matmul, MultipliesInAllFourLayouts) {
  for (const DType dtype : float_dtypes()) {
    for (const Size& s : emulated() ? kFewSizes : kSizes) {
      std::vector<double> expected;  // the same for every layout
      for (int layout = 0; layout < 4; ++layout) {
        const Shape a_strides = (layout & 1) != 0 ? Shape{1, s.m + 3} : Shape{s.k + 2, 1};
        const Shape b_strides = (layout & 2) != 0 ? Shape{1, s.k + 1} : Shape{s.n + 5, 1};
        Buffer a(dtype, {s.m, s.k}, a_strides), b(dtype, {s.k, s.n}, b_strides);
        Buffer out(dtype, {s.m, s.n}, {s.n + 3, 1});
        a.fill_normal(1);
        b.fill_normal(2);
        const MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
        if (layout == 0) expected = reference(args);
        run(args);
        expect_values(out, expected, describe(s, dtype) + " layout " + std::to_string(layout));
      }
    }
  }
}

TEST_P(Matmul, AppliesTheEpilogue) {
  // Rows that packs divide, and rows that they don't.
  const std::vector<Size> few = {{7, 20, 33}, {5, 16, 40}}, many = {{70, 50, 99}};
  for (const DType dtype : float_dtypes()) {
    for (const Size& s : emulated() ? few : many) {
      for (const Activation activation :
           {Activation::None, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu}) {
        for (int epilogue = 0; epilogue < 8; ++epilogue) {
          const bool bias = epilogue % 2 == 1;
          Buffer a(dtype, {s.m, s.k}), b(dtype, {s.k, s.n}, {1, s.k}), v(dtype, {s.n}),
              out(dtype, {s.m, s.n});
          Buffer wide(dtype, {s.m, s.n}, {2 * s.n, 1}), same(dtype, {s.m, s.n});
          a.fill_normal(1, 0.3);
          b.fill_normal(2, 0.3);
          v.fill_normal(3);
          wide.fill_normal(4);
          same.fill_normal(5);
          MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
          args.activation = activation;
          if (bias) args.bias = v.view();
          if (epilogue / 2 == 1) args.residual = same.view();
          if (epilogue / 2 == 2) args.residual = wide.view();
          if (epilogue / 2 == 3) {
            out.fill_normal(6);
            args.residual = out.view();
          }
          expect_product(args, out,
                         describe(s, dtype) + " activation " + std::to_string(static_cast<int>(activation)) +
                             " epilogue " + std::to_string(epilogue));
        }
      }
    }
  }
}

TEST_P(Matmul, Accumulates) {
  for (const DType dtype : float_dtypes()) {
    for (const Size& s : {Size{50, 300, 96}, Size{3, 5, 2}, Size{40, 0, 30}}) {
      Buffer a(dtype, {s.m, s.k}, {1, s.m}), b(dtype, {s.k, s.n}), out(dtype, {s.m, s.n});
      a.fill_normal(1);
      b.fill_normal(2);
      out.fill_normal(3);
      MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
      args.accumulate = true;
      expect_product(args, out, describe(s, dtype));
    }
  }
}

TEST_P(Matmul, MultipliesBatchesAndBroadcastsThem) {
  const int64_t batch = 5;
  for (const DType dtype : float_dtypes()) {
    for (int broadcast = 0; broadcast < 8; ++broadcast) {
      const bool one_a = (broadcast & 1) != 0, one_b = (broadcast & 2) != 0, packs = (broadcast & 4) != 0;
      const int64_t m = packs ? 8 : 33, k = packs ? 16 : 20, n = packs ? 24 : 41;
      Buffer a(dtype, {batch, m, k}, {one_a ? 0 : m * k + (packs ? 8 : 7), k, 1});
      Buffer b(dtype, {batch, k, n}, {one_b ? 0 : k * n, 1, k});
      Buffer bias(dtype, {n}), residual(dtype, {batch, m, n}), out(dtype, {batch, m, n});
      a.fill_normal(1);
      b.fill_normal(2);
      bias.fill_normal(3);
      residual.fill_normal(4);
      MatmulArgs args{a.view(), b.view(), out.view(), bias.view(), residual.view()};
      args.activation = Activation::Gelu;
      expect_product(args, out, describe({m, k, n}, dtype) + " broadcast " + std::to_string(broadcast));
    }
  }
}

TEST_P(Matmul, TakesMatricesThatLieWithinEachOther) {
  for (const DType dtype : float_dtypes()) {
    for (const int64_t step :
         {20, 4}) {  // rows 8 apart: beginning before the last ends, and between its rows
      Buffer a(dtype, {2, 3, 4}, {step, 8, 1}), b(dtype, {2, 4, 3}), out(dtype, {2, 3, 3});
      a.fill_normal(1);
      b.fill_normal(2);
      expect_product({a.view(), b.view(), out.view(), {}, {}}, out, "matrices " + std::to_string(step));
      Buffer left(dtype, {2, 5, 3}), product(dtype, {2, 5, 4});
      left.fill_normal(3);
      expect_product({left.view(), a.view(), product.view(), {}, {}}, product,
                     "as b " + std::to_string(step));
    }
  }
}

// 256 + 1 has no place in bfloat16, 2048 + 1 none in float16: only what is added in float32 leaves the 1, however the
// matrices lie.
TEST_P(Matmul, AddsABiasThatCancelsTheProductOf16BitTypes) {
  const int64_t m = 3, k = 16, n = 24, most_bytes = 2 * (m + k + n) * (n + 8);
  for (const DType dtype : {DType::BFloat16, DType::Float16}) {
    const double large = dtype == DType::BFloat16 ? 256 : 2048;
    for (const char* shifted : {"nothing", "a", "b", "out", "a's rows", "b's rows", "out's rows"}) {
      std::vector<std::unique_ptr<Buffer>> memory;
      const auto matrix = [&](const std::string& name, int64_t rows, int64_t columns) {
        memory.push_back(std::make_unique<Buffer>(DType::UInt8, Shape{most_bytes}));
        const int64_t stride = columns + (shifted == name + "'s rows" ? 2 : 8);
        return View{memory.back()->view().as<char>() + (shifted == name ? 4 : 0),
                    dtype,
                    {rows, columns},
                    {stride, 1}};
      };
      const View a = matrix("a", m, k), b = matrix("b", k, n), out = matrix("out", m, n);
      for_each_offset(a.shape, a.strides, [&](int64_t i) { store(dtype, a.data, i, 1); });
      for_each_offset(b.shape, b.strides, [&](int64_t i) {
        const int64_t row = i / b.stride(0);
        store(dtype, b.data, i, row == 0 ? large : row == k - 1 ? 1 : 0);
      });
      Buffer bias(dtype, {n});
      bias.fill(-large);
      for (const Activation activation : {Activation::None, Activation::Relu}) {
        run({a, b, out, bias.view(), {}, activation});
        EXPECT_EQ(values(out), std::vector<double>(static_cast<size_t>(m * n), 1.0))
            << name_of(dtype) << ", shifted: " << shifted;
      }
    }
  }
}

TEST_P(Matmul, AddsABiasBesideOneRowOrColumn) {
  for (const DType dtype : float_dtypes()) {
    for (const Size& s : {Size{16, 8, 1}, Size{1, 8, 16}, Size{1, 8, 1}}) {
      Buffer a(dtype, {s.m, s.k}), b(dtype, {s.k, s.n}, {1, s.k}), bias(dtype, {s.n}), out(dtype, {s.m, s.n});
      a.fill_normal(1);
      b.fill_normal(2);
      bias.fill_normal(3);
      expect_product({a.view(), b.view(), out.view(), bias.view(), {}}, out, describe(s, dtype));
    }
  }
}

TEST_P(Matmul, TakesRepeatedAndReversedRows) {
  for (const DType dtype : float_dtypes()) {
    Buffer a(dtype, {6, 9}, {0, 1}), b(dtype, {9, 4}, {-4, 1}), bias(dtype, {4}, {3}), out(dtype, {6, 4});
    a.fill_normal(1);
    b.fill_normal(2);
    bias.fill_normal(3);
    const MatmulArgs args{a.view(), b.view(), out.view(), bias.view(), {}};
    expect_product(args, out, describe({6, 9, 4}, dtype));
  }
}

TEST_P(Matmul, KeepsTheProductOf16BitTypesInFloat32) {
  const Size s{11, 40, 24};
  for (const DType dtype : {DType::BFloat16, DType::Float16}) {
    for (const Activation activation : {Activation::None, Activation::Gelu, Activation::GeluTanh}) {
      Buffer a(dtype, {s.m, s.k}), b(dtype, {s.k, s.n}, {1, s.k});
      Buffer bias(DType::Float32, {s.n}), residual(DType::Float32, {s.m, s.n}),
          out(DType::Float32, {s.m, s.n});
      a.fill_normal(1);
      b.fill_normal(2);
      bias.fill_normal(3);
      residual.fill_normal(4);
      MatmulArgs args{a.view(), b.view(), out.view(), bias.view(), residual.view()};
      args.activation = activation;
      expect_product(args, out,
                     describe(s, dtype) + " activation " + std::to_string(static_cast<int>(activation)));
      args = {a.view(), b.view(), out.view(), {}, {}};
      args.accumulate = true;
      expect_product(args, out, describe(s, dtype) + " accumulates");
    }
  }
}

TEST_P(Matmul, EmptyProductsAreZeroOrNothing) {
  for (const DType dtype : float_dtypes()) {
    Buffer a(dtype, {3, 0}), b(dtype, {0, 4}), out(dtype, {3, 4}), bias(dtype, {4}), residual(dtype, {3, 4});
    bias.fill_normal(1);
    residual.fill_normal(2);
    MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
    run(args);
    EXPECT_EQ(out.values(), std::vector<double>(12, 0.0));
    args.bias = bias.view();
    args.residual = residual.view();
    args.activation = Activation::Relu;
    expect_product(args, out, "K=0");

    Buffer none(dtype, {0, 4}), x(dtype, {4, 5}), no_rows(dtype, {0, 5});
    x.fill(1);
    run({none.view(), x.view(), no_rows.view(), {}, {}});
    EXPECT_TRUE(no_rows.intact());
    Buffer y(dtype, {4, 0}), no_columns(dtype, {4, 0}), square(dtype, {4, 4});
    square.fill(1);
    run({square.view(), y.view(), no_columns.view(), {}, {}});
    EXPECT_TRUE(no_columns.intact());
  }
}

TEST_P(Matmul, KeepsNaNAndInfinity) {
  for (const DType dtype : float_dtypes()) {
    Buffer a(dtype, {2, 2}), b(dtype, {2, 2}), out(dtype, {2, 2});
    a.fill(std::vector<double>{NAN, 1, INFINITY, 1});
    b.fill(std::vector<double>{1, 0, 1, 1});
    run({a.view(), b.view(), out.view(), {}, {}});
    const std::vector<double> values = out.values();
    EXPECT_TRUE(std::isnan(values[0]) && std::isnan(values[1]));
    EXPECT_EQ(values[2], INFINITY);
    EXPECT_TRUE(std::isnan(values[3]));  // inf * 0
  }
}

TEST_P(Matmul, RepeatsBitByBit) {
  for (const DType dtype : float_dtypes()) {
    for (const Size& s :
         emulated() ? std::vector<Size>{{9, 40, 20}} : std::vector<Size>{{192, 3152, 192}, {1000, 96, 288}}) {
      Buffer a(dtype, {s.m, s.k}, {1, s.m}), b(dtype, {s.k, s.n}), out(dtype, {s.m, s.n});
      a.fill_normal(1);
      b.fill_normal(2);
      const MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
      run(args);
      const std::vector<double> first = out.values();
      for (int i = 0; i < 3; ++i) {
        out.fill(NAN);
        run(args);
        EXPECT_EQ(out.values(), first) << describe(s, dtype);
      }
    }
  }
}

TEST(MatmulBefore, IsWhatGoesIntoTheActivation) {
  for (const DType dtype : float_dtypes()) {
    // Columns that an epilogue's second matrix may have, and others.
    for (const Size& s : {Size{6, 8, 16}, Size{6, 7, 16}, Size{5, 12, 33}, Size{0, 3, 8}, Size{3, 0, 8}}) {
      for (const Activation activation :
           {Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu}) {
        for (const bool has_bias : {true, false}) {
          Buffer a(dtype, {s.m, s.k}), b(dtype, {s.k, s.n}, {1, s.k}), bias(dtype, {s.n}),
              out(dtype, {s.m, s.n}), before(dtype, {s.m, s.n});
          a.fill_normal(1, 0.3);
          b.fill_normal(2);
          bias.fill_normal(3);
          MatmulArgs args{a.view(), b.view(), out.view(), has_bias ? bias.view() : View{}, {}, activation};
          args.before = before.view();
          testing::run(&Kernels::matmul, args);
          const std::string what =
              describe(s, dtype) + " activation " + std::to_string(static_cast<int>(activation));
          // Where a kernel takes the activation of what it has stored, that is rounded too.
          EXPECT_LE(relative_error(out.values(), reference(args)), std::max(1e-6, 2 * tolerance(dtype)))
              << what;
          EXPECT_TRUE(out.intact()) << what;
          args.activation = Activation::None;
          expect_values(before, reference(args), what + ", before");
        }
      }
    }
  }
}

TEST(MatmulSums, AreThoseOfTheRowsOfA) {
  for (const DType dtype : float_dtypes()) {
    for (const DType result : {dtype, DType::Float32}) {  // a gradient of 16-bit operands may be float32
      if (result != dtype && size_of(dtype) != 2) continue;
      for (const Size& s : {Size{12, 37, 8}, Size{21, 131, 10}, Size{16, 200, 24}, Size{5, 70, 3},
                            Size{1, 6, 5}, Size{4, 0, 3}, Size{4, 3, 0}}) {
        for (const bool transposed : {false, true}) {
          Buffer a(dtype, {s.m, s.k}, transposed ? Shape{1, s.m} : Shape{s.k, 1}), b(dtype, {s.k, s.n}),
              out(result, {s.m, s.n}), sums(result, {s.m});
          a.fill_normal(1);
          b.fill_normal(2);
          MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
          args.a_sums = sums.view();
          testing::run(&Kernels::matmul, args);
          const std::string what = describe(s, dtype) + " to " + std::string(name_of(result));
          expect_values(out, reference(args), what);
          std::vector<double> expected(static_cast<size_t>(s.m));
          const std::vector<double> elements = a.values();
          for (size_t i = 0; i < elements.size(); ++i) expected[i / static_cast<size_t>(s.k)] += elements[i];
          expect_values(sums, expected, what + ", sums");
        }
      }
    }
  }
}

// Which a product in 16 bits has added to it in float32.
TEST(MatmulSums, KeepTheirTypeBesideABiasWithGaps) {
  for (const DType dtype : float_dtypes()) {
    Buffer a(dtype, {8, 16}), b(dtype, {16, 24}), bias(dtype, {24}, {3}), out(dtype, {8, 24}),
        sums(dtype, {8});
    a.fill_normal(1);
    b.fill_normal(2);
    bias.fill_normal(3);
    MatmulArgs args{a.view(), b.view(), out.view(), bias.view(), {}};
    args.a_sums = sums.view();
    testing::run(&Kernels::matmul, args);
    expect_values(out, reference(args), std::string(name_of(dtype)));
    std::vector<double> expected(8);
    const std::vector<double> elements = a.values();
    for (size_t i = 0; i < elements.size(); ++i) expected[i / 16] += elements[i];
    expect_values(sums, expected, std::string(name_of(dtype)) + " sums");
  }
}

}  // namespace
}  // namespace tenon::testing::matmul
