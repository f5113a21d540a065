// The attention kernels against float64, on the harness's backend.
#include "test/attention_testing.h"

namespace tenon::testing::attention {
namespace {

using Sizes = std::vector<int64_t>;

TEST(Attention, MatchesTheReferenceForAllSizes) {
  for (const int64_t n : emulated() ? Sizes{1, 17, 49, 65} : Sizes{1, 3, 49, 64, 65, 197, 577}) {
    for (const int64_t d : emulated() ? Sizes{32, 80, 256} : Sizes{8, 32, 48, 64, 80, 128, 256}) {
      if (n * d > (emulated() ? 65 * 80 : 577 * 64)) continue;
      check({.batch = 1, .heads = 2, .queries = n, .keys = n, .d = d, .packed = true});
    }
  }
  if (!emulated()) check({.batch = 1, .heads = 1, .queries = 577, .keys = 577, .d = 256});
}

TEST(Attention, MatchesTheReferenceIn16Bits) {
  for (const DType dtype : {DType::BFloat16, DType::Float16}) {
    for (const int64_t n : {1, 17, 49, 65}) {
      const int64_t d = n == 49 ? 32 : 64;
      for (const bool packed : {false, true}) {
        if (emulated() && packed != (dtype == DType::BFloat16)) continue;
        check({.batch = 1, .heads = 2, .queries = n, .keys = n, .d = d, .dtype = dtype, .packed = packed});
      }
    }
    for (const int64_t d : {80, 128, 256}) {
      check({.batch = 1, .heads = 1, .queries = 33, .keys = 50, .d = d, .dtype = dtype, .gap = 8});
    }
  }
  check({.batch = 1,
         .heads = 1,
         .queries = 197,
         .keys = 197,
         .d = 64,
         .dtype = DType::BFloat16,
         .packed = true});
}

// One for each number of tiles that the CUDA kernel of one pass has, and heads enough for a block to each.
TEST(Attention, MatchesTheReferenceForAllTokensOfShortSequences) {
  check({.batch = 2, .heads = 3, .queries = 82, .keys = 65, .d = 32, .dtype = DType::BFloat16, .gap = 8});
  for (const int64_t keys : {145, 198, 256}) {
    check({.batch = 1, .heads = 1, .queries = 17, .keys = keys, .d = 32, .dtype = DType::BFloat16});
  }
}

TEST(Attention, TakesHeadDimensionsThatFillNoVector) {
  for (const int64_t d : {1, 3, 7, 17, 31, 33, 72}) {
    for (const DType dtype : float_dtypes()) {
      if (emulated() && d != 1 && d != 31 && d != 72) continue;
      const int64_t n = emulated() ? 9 : 19;
      check({.batch = emulated() ? 1 : 2,
             .queries = n,
             .keys = n,
             .d = d,
             .dtype = dtype,
             .bias = Broadcast::None,
             .packed = true});
    }
  }
}

TEST(Attention, TakesCrossAttention) {
  using Pair = std::pair<int64_t, int64_t>;
  for (const auto& [queries, keys] :
       emulated() ? std::vector<Pair>{{1, 67}, {67, 1}, {5, 40}}
                  : std::vector<Pair>{{1, 197}, {197, 1}, {5, 300}, {300, 5}, {50, 257}, {64, 1000}}) {
    check({.batch = 1, .queries = queries, .keys = keys, .d = 32});
    check({.queries = queries, .keys = keys, .d = 32, .dtype = DType::BFloat16});
    check({.queries = queries, .keys = keys, .d = 32, .dtype = DType::Float64, .mask = Broadcast::None});
  }
}

TEST(Attention, TakesEveryDtype) {
  const int64_t keys = emulated() ? 70 : 300;
  for (const DType dtype : float_dtypes()) {
    if (!emulated()) check({.queries = 65, .keys = 65, .d = 32, .dtype = dtype, .packed = true});
    check({.queries = 30, .keys = keys, .d = 20, .dtype = dtype, .bias = Broadcast::Batch, .dropout = 0.1});
  }
}

TEST(Attention, BroadcastsBiasAndMask) {
  for (const Broadcast kind : {Broadcast::Absent, Broadcast::None, Broadcast::Batch, Broadcast::Head,
                               Broadcast::Both, Broadcast::Query, Broadcast::Key}) {
    for (const DType dtype : float_dtypes()) {
      if (emulated() && (dtype == DType::Float64 || dtype == DType::Float16)) continue;
      // Tensor cores or not, the outer strides are the same.
      const bool outer = kind == Broadcast::Batch || kind == Broadcast::Head || kind == Broadcast::Both;
      if (emulated() && dtype == DType::BFloat16 && outer) continue;
      const int64_t heads = emulated() ? 2 : 3;
      check({.heads = heads, .queries = 21, .keys = 37, .dtype = dtype, .bias = kind});
      check({.heads = heads, .queries = 21, .keys = 37, .dtype = dtype, .mask = kind});
    }
    if (emulated()) continue;
    check({.batch = 20, .queries = 49, .keys = 49, .d = 32, .bias = kind, .mask = Broadcast::Head});
    check(
        {.batch = 1, .heads = 2, .queries = 70, .keys = 600, .d = 32, .bias = kind, .mask = Broadcast::None});
  }
}

TEST(Attention, SumsTheBiasGradientOverManyHeads) {
  for (const DType dtype : {DType::Float32, DType::BFloat16}) {
    check({.batch = 13,
           .heads = 2,
           .queries = 9,
           .keys = 9,
           .dtype = dtype,
           .bias = Broadcast::Batch,
           .mask = Broadcast::Head});
    check({.batch = 5, .heads = 3, .queries = 9, .keys = 9, .dtype = dtype, .bias = Broadcast::Both});
  }
}

TEST(Attention, DropsProbabilities) {
  for (const int64_t n : emulated() ? Sizes{5, 49} : Sizes{5, 49, 300}) {
    for (const DType dtype : {DType::Float32, DType::BFloat16}) {
      check({.batch = 1,
             .heads = 2,
             .queries = n,
             .keys = n,
             .d = 32,
             .dtype = dtype,
             .bias = Broadcast::Batch,
             .mask = Broadcast::None,
             .dropout = 0.3});
    }
    check({.batch = 1, .queries = n, .keys = n, .d = 32, .dtype = DType::Float64, .dropout = 0.9});
  }
}

TEST(Attention, GivesTheSameBitsAgain) {
  for (const Case& c : {Case{.batch = 4,
                       .heads = 1,
                       .queries = 30,
                       .keys = 40,
                       .d = 32,
                       .bias = Broadcast::Batch,
                       .dropout = 0.1},
                        Case{.batch = 4,
                        .heads = 1,
                        .queries = 70,
                        .keys = 40,
                        .d = 32,
                        .dtype = DType::BFloat16,
                        .bias = Broadcast::Batch}}) {
    SCOPED_TRACE(c.name());
    const auto bits = [&] {
      const Problem x(c);
      x.forward();
      x.backward();
      return x.results();
    };
    EXPECT_EQ(bits(), bits());
  }
}

// Forward and backward agree, dropout included: the loss is sum(out dout).
TEST(Attention, GradientsMatchFiniteDifferences) {
  const Case c{.batch = 2,
               .heads = 2,
               .queries = emulated() ? 3 : 5,
               .keys = emulated() ? 4 : 7,
               .d = 3,
               .dtype = DType::Float64,
               .bias = Broadcast::Batch,
               .mask = Broadcast::None,
               .dropout = 0.25};
  const Problem x(c);
  x.forward();
  x.backward();
  const auto loss = [&] {
    x.forward();
    const auto out = values(x.out), dout = values(x.dout);
    double sum = 0;
    for (size_t i = 0; i < out.size(); ++i) sum += out[i] * dout[i];
    return sum;
  };
  View bias = x.bias;
  bias.shape[0] = 1;
  for (const auto& [variable, gradient] : {std::pair{x.q, x.dq}, {x.k, x.dk}, {x.v, x.dv}, {bias, x.dbias}}) {
    std::vector<double> differences;
    for_each_offset(variable.shape, variable.strides, [&, &variable = variable](int64_t i) {
      constexpr double kStep = 1e-5;
      double& value = variable.as<double>()[i];
      const double saved = value;
      value = saved + kStep;
      const double above = loss();
      value = saved - kStep;
      differences.push_back((above - loss()) / (2 * kStep));
      value = saved;
    });
    EXPECT_LT(relative_error(values(gradient), differences), 1e-8);
  }
}

TEST(Attention, KeepsLargeScoresFinite) {
  const Problem x({.queries = 30, .keys = emulated() ? 70 : 600, .d = 16, .bias = Broadcast::None});
  for_each_offset(x.bias.shape, x.bias.strides, [&](int64_t i) { x.bias.as<float>()[i] *= 1e4f; });
  x.forward();
  x.backward();
  const Expected e = reference(x);
  EXPECT_LT(relative_error(values(x.out), e.out), 1e-3);  // scores of 1e4 are known to 1e-3
  EXPECT_LT(relative_error(values(x.dv), e.dv), 1e-3);
}

TEST(Attention, MaskedQueriesGiveZeros) {
  for (const DType dtype : float_dtypes()) {
    const Problem x({.queries = 3, .keys = emulated() ? 70 : 300, .dtype = dtype, .mask = Broadcast::None});
    x.forward();
    x.backward();
    for (int64_t j = 0; j < 8; ++j) {
      EXPECT_EQ(load(dtype, x.out.data, j), 0);
      EXPECT_EQ(load(dtype, x.dq.data, j), 0);
    }
    EXPECT_EQ(load(x.lse.dtype, x.lse.data, 0), -INFINITY);
  }
}

TEST(Attention, NaNStaysInItsRow) {
  for (const DType dtype : float_dtypes()) {
    const Problem x({.batch = 1, .heads = 1, .queries = 20, .keys = 20, .dtype = dtype});
    store(dtype, x.q.data, 3 * x.q.stride(2), NAN);
    x.forward();
    for (int64_t i = 0; i < 20; ++i) {
      EXPECT_EQ(std::isnan(load(dtype, x.out.data, i * x.out.stride(2))), i == 3) << i;
    }
  }
}

TEST(Attention, TakesEmptyTensors) {
  for (const DType dtype : float_dtypes()) {
    check({.batch = 0, .dtype = dtype});
    check({.queries = 0, .keys = 5, .dtype = dtype});
    const Problem x({.queries = 5, .keys = 0, .dtype = dtype});
    x.forward();
    x.backward();
    for (const double value : values(x.out)) EXPECT_EQ(value, 0);
    for (const double value : values(x.lse)) EXPECT_EQ(value, -INFINITY);
    for (const double value : values(x.dq)) EXPECT_EQ(value, 0);
  }
  const Problem none({.batch = 0, .bias = Broadcast::Batch});
  none.backward();
  for (const double value : values(none.dbias)) EXPECT_EQ(value, 0);
}

// Rows that are copied 16 bytes at a time, on CUDA by copies that nobody else waits for.
TEST(Attention, TakesNoQueriesAndNoKeysInTiles) {
  for (const DType dtype : {DType::BFloat16, DType::Float16}) {
    check({.queries = 0, .keys = 40, .d = 64, .dtype = dtype, .gap = 8});
    check({.queries = 40, .keys = 0, .d = 64, .dtype = dtype, .gap = 8});
  }
}

TEST(AttentionRows, GivesTheProbabilitiesOfChosenQueries) {
  for (const DType dtype : float_dtypes()) {
    for (const int64_t chosen : {0, 1, emulated() ? 7 : 60}) {
      const Case c{.queries = 30,
                   .keys = emulated() ? 140 : 300,
                   .d = 20,
                   .dtype = dtype,
                   .bias = Broadcast::Head,
                   .mask = Broadcast::None};
      const Problem x(c);
      Buffer rows(DType::Int64, Shape{chosen}), out(dtype, Shape{c.batch, c.heads, chosen, c.keys});
      std::vector<double> expected, indices;
      for (int64_t r = 0; r < chosen; ++r) indices.push_back(static_cast<double>((r * 7) % c.queries));
      rows.fill(indices);
      const Expected e = reference(x);
      for (int64_t g = 0; g < c.batch * c.heads; ++g) {
        for (const double index : indices) {
          const auto first = e.p.begin() + (g * c.queries + static_cast<int64_t>(index)) * c.keys;
          expected.insert(expected.end(), first, first + c.keys);
        }
      }
      run(&Kernels::attention_rows, {x.q, x.k, x.bias, x.mask, rows.view(), out.view(), x.scale});
      EXPECT_LT(relative_error(out.values(), expected), attention_tolerance(dtype));
      EXPECT_TRUE(out.intact());
    }
  }
}

TEST(AttentionRows, RejectsARowThatIsNotThere) {
  const Problem x({.queries = 5});
  for (const int64_t index : {-1, 5}) {
    Buffer rows(DType::Int64, Shape{1}), out(DType::Float32, Shape{2, 3, 1, 5});
    rows.fill(static_cast<double>(index));
    EXPECT_EQ(error_of(&Kernels::attention_rows, {x.q, x.k, {}, {}, rows.view(), out.view(), 1}),
              "INDEX attentionRows: expected rows from 0 to 4, got " + std::to_string(index));
    EXPECT_TRUE(out.intact());
  }
}

}  // namespace
}  // namespace tenon::testing::attention
