// Data-parallel loops of CPU kernels on the OpenMP team that oneDNN uses as well.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>

namespace tenon::cpu {

// Splits [0, n) into one contiguous range per thread and calls body(begin, end) on each; a range holds at least
// `grain` items, so small loops stay on one thread. Ranges depend on n, grain and the thread count alone, so that
// results are reproducible. An exception of any range is rethrown (the first in range order).
template <typename Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  if (n <= 0) return;
  const int64_t most = std::max<int64_t>(1, n / std::max<int64_t>(1, grain));
  const int threads = static_cast<int>(std::min<int64_t>(most, omp_get_max_threads()));
  if (threads == 1) {
    body(int64_t{0}, n);
    return;
  }
  std::exception_ptr failure;
  int failed = threads;
#pragma omp parallel num_threads(threads)
  {
    const int t = omp_get_thread_num();
    const int64_t begin = n * t / threads;
    const int64_t end = n * (t + 1) / threads;
    try {
      if (begin < end) body(begin, end);
    } catch (...) {
#pragma omp critical(tenon_parallel_for)
      if (t < failed) {
        failed = t;
        failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace tenon::cpu
