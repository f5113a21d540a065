// How loops are shared out among threads.
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "backend/cpu/parallel.h"
#include "gtest/gtest.h"

namespace tenon::cpu {
namespace {

// OpenMP's threads while a test runs.
class CpuParallel : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { omp_set_num_threads(GetParam()); }
  void TearDown() override { omp_set_num_threads(before_); }

 private:
  const int before_ = omp_get_max_threads();
};

INSTANTIATE_TEST_SUITE_P(Threads, CpuParallel, ::testing::Values(1, 2, 3, 7));

TEST_P(CpuParallel, CutsALoopIntoAsManyPartsForEachThread) {
  for (const int64_t n : {1, 2, 5, 6, 99, 1000}) {
    for (const int64_t grain : {1, 3, 400}) {
      const Parts parts(n, grain);
      EXPECT_LE(parts.threads, GetParam());
      EXPECT_EQ(parts.count % parts.threads, 0) << n << " by " << grain;
      EXPECT_EQ(parts.begin(0), 0);
      EXPECT_EQ(parts.begin(parts.count), n);
      for (int64_t part = 0; part < parts.count; ++part) {
        EXPECT_GE(parts.begin(part + 1) - parts.begin(part), std::min(n, grain)) << n << " by " << grain;
      }
    }
  }
}

TEST_P(CpuParallel, VisitsEveryItemOnce) {
  std::vector<std::atomic<int>> visits(1000);
  parallel_for(1000, 7, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
  });
  for (const auto& visit : visits) EXPECT_EQ(visit, 1);
}

// Its first part waits until all others are done: its thread's, too, which others must take.
TEST_P(CpuParallel, OthersTakeThePartsOfAThreadThatIsLate) {
  const Parts parts(64, 1);
  if (parts.threads == 1) return;
  std::atomic<int64_t> done = 0;
  parallel_for(parts, [&](int64_t, int64_t, int64_t part) {
    while (part == 0 && done < parts.count - 1) std::this_thread::yield();
    ++done;
  });
  EXPECT_EQ(done, parts.count);
}

TEST_P(CpuParallel, BeginsALoopWhenAllBeforeItAreDoneUnlessItMayOverlap) {
  constexpr int64_t kLoops = 9;
  std::atomic<int64_t> done[kLoops] = {};
  std::atomic<int> early = 0;
  const auto parts_of = [](int64_t loop) { return Parts(loop % 3 == 2 ? 0 : 20 + loop, 1 + loop % 2); };
  const auto may_overlap = [](int64_t loop) { return loop % 2 == 0; };
  parallel_loops(kLoops, parts_of, may_overlap, [&](int64_t loop, int64_t begin, int64_t end, int64_t) {
    for (int64_t before = 0; before < loop && !may_overlap(loop); ++before)
      early += done[before] < parts_of(before).n;
    done[loop] += end - begin;
  });
  EXPECT_EQ(early, 0);
  for (int64_t loop = 0; loop < kLoops; ++loop) EXPECT_EQ(done[loop], parts_of(loop).n);
}

TEST_P(CpuParallel, ThrowsTheFirstOfItsErrorsAndDoesTheRest) {
  std::atomic<int64_t> done = 0;
  const Parts parts(32, 1);
  std::string caught;
  try {
    parallel_for(parts, [&](int64_t begin, int64_t end, int64_t part) {
      done += end - begin;
      if (part >= parts.count / 2) throw std::runtime_error(std::to_string(part));
    });
  } catch (const std::runtime_error& error) {
    caught = error.what();
  }
  EXPECT_EQ(caught, std::to_string(parts.count / 2));
  EXPECT_EQ(done, 32);
}

}  // namespace
}  // namespace tenon::cpu
