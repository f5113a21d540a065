// Data-parallel loops of CPU kernels on the OpenMP team that oneDNN uses as well.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <thread>
#include <utility>

namespace tenon::cpu {

// How [0, n) is cut: into `count` contiguous parts, the same number for each of `threads` threads. They depend on n, grain
// and the thread count alone, so that what is summed by parts is reproducible.
struct Parts {
  int64_t n = 0, count = 1;
  int threads = 1;

  // A part holds at least `grain` items, so small loops stay on one thread.
  Parts(int64_t n_, int64_t grain, int64_t most_threads = omp_get_max_threads()) : n(n_) {
    constexpr int64_t kEach = 16;  // parts of a thread, so that it does not wait long for another's last one
    const int64_t most = n / std::max<int64_t>(1, grain);
    threads = static_cast<int>(std::clamp<int64_t>(most, 1, most_threads));
    if (threads > 1) count = threads * std::min(kEach, most / threads);
  }

  int64_t begin(int64_t part) const { return n * part / count; }
  // Of a thread's parts, the first; of `threads`, the end of all.
  int64_t first(int64_t thread) const { return count / threads * thread; }
};

// The parts of a thread that nobody has taken yet, and of all those, how many are done: each alone in its cache line.
struct alignas(64) Counter {
  std::atomic<int64_t> at;
};

inline Counter* counters(int64_t count) {
  static thread_local std::unique_ptr<Counter[]> memory;
  static thread_local int64_t size = 0;
  if (size < count) {
    memory = std::make_unique<Counter[]>(static_cast<size_t>(count));
    size = count;
  }
  return memory.get();
}

// Waits until a counter has come so far: not long, or another thread has the core.
inline void wait_for(const Counter& counter, int64_t count) {
  constexpr int kSpins = 2000;
  for (int spins = 0; counter.at.load(std::memory_order_acquire) < count; ++spins) {
    if (spins > kSpins) std::this_thread::yield();
  }
}

// Calls body(loop, begin, end, part) for each part of each of `count` loops, whose Parts are parts_of(loop). A thread takes
// its own parts first, which lie side by side, so that equal loops over the same tensors find them in its cache; then those
// that others have not come to: where a core is slower than another, or has other work, the rest do more. With no part of a
// loop left it goes on to the next, and begins it at once if may_overlap(loop) says so; else when all before it are done. An
// exception of any part is rethrown (the first in their order).
template <typename PartsOf, typename MayOverlap, typename Body>
void parallel_loops(int64_t count, PartsOf&& parts_of, MayOverlap&& may_overlap, Body&& body) {
  int threads = 1;
  for (int64_t loop = 0; loop < count; ++loop) threads = std::max(threads, parts_of(loop).threads);
  if (threads == 1) {
    for (int64_t loop = 0; loop < count; ++loop) {
      const Parts parts = parts_of(loop);
      for (int64_t part = 0; part < parts.count; ++part)
        if (parts.n > 0) body(loop, parts.begin(part), parts.begin(part + 1), part);
    }
    return;
  }
  // For each loop: parts done, and by thread the next part.
  const int64_t row = 1 + threads;
  Counter* const all = counters(count * row);
  for (int64_t loop = 0; loop < count; ++loop) {
    const Parts parts = parts_of(loop);
    all[loop * row].at.store(0, std::memory_order_relaxed);
    for (int t = 0; t < threads; ++t)
      all[loop * row + 1 + t].at.store(parts.first(t), std::memory_order_relaxed);
  }
  std::exception_ptr failure;
  std::pair<int64_t, int64_t> failed = {count, 0};  // loop and part
#pragma omp parallel num_threads(threads)
  {
    const int own = omp_get_thread_num();
    int64_t first = 0;  // that may not be done
    for (int64_t loop = 0; loop < count; ++loop) {
      const Parts parts = parts_of(loop);
      Counter* const counter = all + loop * row;
      for (; first < loop && !may_overlap(loop); ++first) wait_for(all[first * row], parts_of(first).count);
      for (int i = 0; i < parts.threads; ++i) {
        const int owner = (own + i) % parts.threads;
        for (;;) {
          const int64_t part = counter[1 + owner].at.fetch_add(1, std::memory_order_relaxed);
          if (part >= parts.first(owner + 1)) break;
          try {
            if (parts.n > 0) body(loop, parts.begin(part), parts.begin(part + 1), part);
          } catch (...) {
#pragma omp critical(tenon_parallel_loops)
            if (std::pair(loop, part) < failed) {
              failed = {loop, part};
              failure = std::current_exception();
            }
          }
          counter->at.fetch_add(1, std::memory_order_release);
        }
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

// One loop: body(begin, end, part).
template <typename Body>
void parallel_for(const Parts& parts, Body&& body) {
  parallel_loops(
      1, [&](int64_t) -> const Parts& { return parts; }, [](int64_t) { return true; },
      [&](int64_t, int64_t begin, int64_t end, int64_t part) { body(begin, end, part); });
}

// The same where it does not matter which part it is.
template <typename Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  parallel_for(Parts(n, grain), [&](int64_t begin, int64_t end, int64_t) { body(begin, end); });
}

}  // namespace tenon::cpu
