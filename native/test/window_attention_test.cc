// The window attention kernels against float64, on the harness's backend.
#include "test/window_attention_testing.h"

namespace tenon::testing::window_attention {
namespace {

Case square(int64_t map, int64_t window, int64_t shift, int64_t d, DType dtype = DType::Float32) {
  return {.height = map,
          .width = map,
          .d = d,
          .window_height = window,
          .window_width = window,
          .shift_y = shift,
          .shift_x = shift,
          .dtype = dtype};
}

TEST(WindowAttention, MatchesTheReferenceForSwinsWindows) {
  for (const int64_t shift : {0, 3}) {
    Case c = square(14, 7, shift, 32);
    if (emulated()) c.heads = 1, c.height = 7;
    check(c);
  }
  check(square(emulated() ? 5 : 10, 5, 2, 24));
  check(square(8, 8, 4, 48));
  if (emulated())
    return check({.height = 9,
                  .width = 9,
                  .heads = 1,
                  .window_height = 9,
                  .window_width = 9,
                  .dtype = DType::BFloat16});
  for (const int64_t shift : {0, 6}) check(square(24, 12, shift, 32));
}

TEST(WindowAttention, TakesEveryDtype) {
  for (const DType dtype : float_dtypes()) {
    Case whole = square(7, 7, 3, 32, dtype);
    if (emulated()) whole.heads = 1;
    check(whole);
    Case c = square(5, 4, 2, 7, dtype);
    c.padding = true;
    c.dropout = 0.2;
    check(c);
  }
}

TEST(WindowAttention, TakesHeadDimensionsThatFillNoVector) {
  for (const int64_t d : {1, 17, 33, 80}) {
    for (const DType dtype : {DType::Float32, DType::BFloat16}) check(square(4, 4, 1, d, dtype));
  }
  if (!emulated()) check(square(4, 4, 1, 256));
}

TEST(WindowAttention, FillsUpMapsThatTheWindowDoesNotDivide) {
  for (const bool padding : {false, true}) {
    for (const int64_t shift : {0, 1}) {
      Case c = square(5, 3, shift, 8);
      c.batch = 2;
      c.width = 7;
      c.padding = padding;
      check(c);
    }
    Case larger = square(2, 5, 2, 8);  // the window than the map
    larger.padding = padding;
    check(larger);
  }
}

TEST(WindowAttention, TakesWindowsAndShiftsThatDifferByAxis) {
  check({.batch = 2, .height = 6, .width = 8, .window_height = 3, .window_width = 4, .shift_x = 2});
  check({.batch = 2, .height = 6, .width = 8, .window_height = 6, .window_width = 2, .shift_y = 1});
}

TEST(WindowAttention, SumsTheTableGradientOverManyWindows) {
  for (const DType dtype : {DType::Float32, DType::BFloat16}) {
    Case c = square(6, 2, 1, 8, dtype);
    c.batch = 5;  // 45 windows
    c.heads = 3;
    check(c);
  }
}

TEST(WindowAttention, DropsProbabilities) {
  Case c = square(7, 7, 3, 16);
  c.dropout = 0.3;
  check(c);
}

TEST(WindowAttention, GivesTheSameBitsAgain) {
  for (const DType dtype : {DType::Float32, DType::BFloat16}) {
    Case c = square(6, 3, 1, 32, dtype);
    c.batch = 3;
    c.dropout = 0.1;
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

TEST(WindowAttention, TakesNothing) {
  Case c = square(4, 2, 1, 8);
  c.batch = 0;
  const Problem x(c);
  x.forward();
  x.backward();
  for (const double value : values(x.dtable)) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace tenon::testing::window_attention
