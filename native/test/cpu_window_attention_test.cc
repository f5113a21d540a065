// What the window attention kernels promise on the CPU alone.
#include <omp.h>

#include "test/window_attention_testing.h"

namespace tenon::testing::window_attention {
namespace {

TEST(CpuWindowAttention, GivesTheSameBitsForAnyThreadCount) {
  const int threads = omp_get_max_threads();
  for (const DType dtype : {DType::Float32, DType::BFloat16}) {
    const Case c{.batch = 3,
                 .height = 20,
                 .width = 26,
                 .d = 32,
                 .window_height = 7,
                 .window_width = 7,
                 .shift_y = 3,
                 .shift_x = 3,
                 .dtype = dtype,
                 .padding = true,
                 .dropout = 0.1};
    const auto run = [&](int count) {
      omp_set_num_threads(count);
      const Problem x(c);
      x.forward();
      x.backward();
      return x.results();
    };
    const auto first = run(2);
    EXPECT_EQ(first, run(1));
    EXPECT_EQ(first, run(3));
  }
  omp_set_num_threads(threads);
}

}  // namespace
}  // namespace tenon::testing::window_attention
