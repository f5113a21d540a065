// What the attention kernels promise on the CPU alone.
#include <omp.h>

#include "test/attention_testing.h"

namespace tenon::testing::attention {
namespace {

TEST(CpuAttention, GivesTheSameBitsForAnyThreadCount) {
  const int threads = omp_get_max_threads();
  for (const Case& c :
       {Case{.queries = 197, .keys = 197, .d = 64, .bias = Broadcast::Batch},
        Case{.batch = 1, .heads = 1, .queries = 900, .keys = 900, .d = 64, .bias = Broadcast::None},
        Case{.batch = 40, .queries = 49, .keys = 49, .d = 32, .bias = Broadcast::Both, .dropout = 0.1},
        Case{.queries = 65, .keys = 65, .d = 32, .dtype = DType::BFloat16, .packed = true}}) {
    SCOPED_TRACE(c.name());
    const auto run = [&](int count) {
      omp_set_num_threads(count);
      const Problem x(c);
      x.forward();
      x.backward();
      return x.results();
    };
    const auto first = run(2);
    EXPECT_EQ(first, run(2));
    EXPECT_EQ(first, run(1));
    EXPECT_EQ(first, run(3));
  }
  omp_set_num_threads(threads);
}

}  // namespace
}  // namespace tenon::testing::attention
