#include "test/cuda_emulator/scheduler.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "test/cuda_emulator/fiber_switch.h"

// The sanitizers must know which stack runs (address), and which fiber is a thread of its own (thread).
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace tenon::emulator {

thread_local Scheduler scheduler;

std::string describe(Where where) {
  const char* name = std::strrchr(where.file_name(), '/');
  return std::string(name == nullptr ? where.file_name() : name + 1) + ":" + std::to_string(where.line());
}

std::string describe(const Dim3& d) {
  std::ostringstream text;
  text << '(' << d.x << ", " << d.y << ", " << d.z << ')';
  return text.str();
}

[[noreturn]] void refuse(const char* kernel, const std::string& what) {
  throw std::runtime_error(std::string("emulator: ") + kernel + ": " + what);
}

namespace {

constexpr size_t kStackBytes = size_t{128} << 10;

void switch_to_fiber(Fiber& fiber) {
  scheduler.current = &fiber;
#if defined(TENON_THREAD_SANITIZER)
  __tsan_switch_to_fiber(fiber.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, fiber.stack.get(), kStackBytes);
#endif
  tenon_emulator_switch(&scheduler.host, fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

}  // namespace

void switch_to_host() {
  Fiber& fiber = *scheduler.current;
#if defined(TENON_THREAD_SANITIZER)
  __tsan_switch_to_fiber(scheduler.host_fiber, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, scheduler.host_stack, scheduler.host_stack_bytes);
#endif
  tenon_emulator_switch(&fiber.context, scheduler.host);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, &scheduler.host_stack, &scheduler.host_stack_bytes);
#endif
}

namespace {

// The threads that wait go on when the last that lives has arrived, or has returned.
void open_block_barrier() {
  if (scheduler.live == 0 || scheduler.waiting_at_block < scheduler.live) return;
  const Fiber* first = nullptr;
  for (const auto& fiber : scheduler.fibers) {
    if (fiber->state != State::AtBlockBarrier) continue;
    if (first == nullptr) first = fiber.get();
    if (fiber->where.line() != first->where.line()) {
      refuse(scheduler.kernel, "thread " + describe(first->index) + " waits at the barrier of " +
                                   describe(first->where) + ", thread " + describe(fiber->index) +
                                   " at that of " + describe(fiber->where));
    }
  }
  for (const auto& fiber : scheduler.fibers) {
    if (fiber->state == State::AtBlockBarrier) fiber->state = State::Ready;
  }
  scheduler.waiting_at_block = 0;
}

void run_thread(Fiber& fiber) {
  try {
    TENON_ACQUIRE(&scheduler.launch_edge);
    fiber.position = {fiber.index, scheduler.block, scheduler.block_size, scheduler.grid_size};
    (*scheduler.body)();
    if (!fiber.copies.empty()) fail("a thread ends before a copy that it issued", fiber.copies.front().where);
  } catch (...) {
    if (!scheduler.error) scheduler.error = std::current_exception();
  }
  fiber.state = State::Done;
  fiber.warp->live &= ~(1u << fiber.lane);
  --scheduler.live;
  try {
    open_block_barrier();
  } catch (...) {
    if (!scheduler.error) scheduler.error = std::current_exception();
  }
  TENON_RELEASE(&scheduler.finish_edge);
}

// A fiber runs one thread of one block after another.
void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.host_stack, &scheduler.host_stack_bytes);
#endif
  for (;;) {
    run_thread(*scheduler.current);
    switch_to_host();
  }
}

void prepare_fibers(size_t threads) {
  while (scheduler.fibers.size() < threads) {
    scheduler.fibers.push_back(std::make_unique<Fiber>());
    scheduler.fibers.back()->stack = std::make_unique<unsigned char[]>(kStackBytes);
  }
  for (size_t i = 0; i < threads; ++i) {
    Fiber& fiber = *scheduler.fibers[i];
    if (fiber.started) continue;
    fiber.context = fresh_stack(fiber.stack.get(), kStackBytes, &fiber_main);
#if defined(TENON_THREAD_SANITIZER)
    fiber.tsan = __tsan_create_fiber(0);
#endif
    fiber.started = true;
  }
}

[[noreturn]] void report_deadlock(size_t threads) {
  const Fiber* waiting = nullptr;
  const Fiber* other = nullptr;
  for (size_t i = 0; i < threads; ++i) {
    const Fiber& fiber = *scheduler.fibers[i];
    if (fiber.state == State::AtWarpBarrier && waiting == nullptr) waiting = &fiber;
    if (fiber.state == State::AtBlockBarrier && other == nullptr) other = &fiber;
  }
  std::string text = "deadlock in block " + describe(scheduler.block);
  if (waiting != nullptr) {
    std::ostringstream mask;
    mask << std::hex << waiting->warp->mask << ", where only " << waiting->warp->arrived << " arrived";
    text += ": thread " + describe(waiting->index) + " waits at " + describe(waiting->where) +
            " for the lanes 0x" + mask.str();
  }
  if (other != nullptr) {
    text += (waiting != nullptr ? ", thread " : ": thread ") + describe(other->index) +
            " at the barrier of " + describe(other->where);
  }
  refuse(scheduler.kernel, text + describe_mbarriers());
}

void run_block(const std::vector<unsigned>& turns) {
  size_t laggard =
      turns.size();  // runs only when nobody else can, and is another one then, most often of its warp
  const auto choose_laggard = [&] {
    if (scheduler.order != Order::Shuffled) return;
    if (laggard == turns.size() || scheduler.random() % 4 == 0) laggard = scheduler.random() % turns.size();
    laggard = std::min(laggard / kWarpSize * kWarpSize + scheduler.random() % kWarpSize, turns.size() - 1);
  };
  choose_laggard();
  size_t left = turns.size();
  while (left > 0) {
    bool moved = false;
    left = 0;
    for (const unsigned turn : turns) {
      Fiber& fiber = *scheduler.fibers[turn];
      if (fiber.state == State::Ready && turn != laggard) {
        switch_to_fiber(fiber);
        moved = true;
      }
      if (fiber.state != State::Done) ++left;
    }
    if (scheduler.error) {
      TENON_ACQUIRE(&scheduler.finish_edge);
      std::rethrow_exception(std::exchange(scheduler.error, nullptr));
    }
    if (moved || left == 0) continue;
    if (laggard < turns.size() && scheduler.fibers[laggard]->state == State::Ready) {
      switch_to_fiber(*scheduler.fibers[laggard]);
    } else if (!make_progress()) {
      report_deadlock(turns.size());
    }
    choose_laggard();
  }
  check_async_end();
}

std::vector<unsigned> order_of(size_t count) {
  std::vector<unsigned> turns(count);
  std::iota(turns.begin(), turns.end(), 0u);
  if (scheduler.order == Order::Reverse) std::reverse(turns.begin(), turns.end());
  if (scheduler.order == Order::Shuffled) std::shuffle(turns.begin(), turns.end(), scheduler.random);
  return turns;
}

// What is left after an error: fibers in the middle of a thread, whose stacks are given up.
void abandon() {
#if defined(TENON_THREAD_SANITIZER)
  for (const auto& fiber : scheduler.fibers) {
    if (fiber->tsan != nullptr) __tsan_destroy_fiber(fiber->tsan);
  }
#endif
  scheduler.fibers.clear();
  forget_async();
  scheduler.current = nullptr;
}

void check_launch(const char* name, Dim3 grid, Dim3 block, size_t shared_bytes) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64) {
    refuse(name, "expected blocks of 1 to 1024 threads, got " + describe(block));
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    refuse(name, "expected a grid of 1 to 2^31 - 1, 65535, 65535 blocks, got " + describe(grid));
  }
  constexpr size_t kMaxShared = size_t{227} << 10;  // of sm_90
  if (shared_bytes > kMaxShared) {
    refuse(name, "expected at most 227 KiB of shared memory, got " + std::to_string(shared_bytes) + " bytes");
  }
  if (scheduler.current != nullptr) refuse(name, "launched from a kernel");
}

}  // namespace

[[noreturn]] void fail(const std::string& what, Where where) {
  refuse(scheduler.kernel, what + " at " + describe(where));
}

const unsigned char* exchange(unsigned mask, const void* value, size_t bytes, Where where,
                              const std::function<void(const unsigned char*)>& at_last) {
  Fiber& fiber = *scheduler.current;
  Warp& warp = *fiber.warp;
  const unsigned own = 1u << fiber.lane;
  if ((mask & own) == 0) fail("a lane is not in the mask that it gives", where);
  if (warp.arrived == 0) {
    warp.mask = mask;
    warp.where = where;
  } else if (warp.mask != mask || warp.where.line() != where.line()) {
    fail("the lanes of a warp meet with other masks or at another place, " + describe(warp.where) + ",",
         where);
  }
  unsigned char* slot = warp.slots[warp.phase][fiber.lane];
  for (size_t i = 0; i < bytes; ++i) slot[i] = static_cast<const unsigned char*>(value)[i];
  const unsigned char* values = warp.slots[warp.phase][0];
  TENON_RELEASE(&warp);
  warp.arrived |= own;
  if ((warp.arrived & mask) == (mask & (warp.live | warp.arrived))) {
    if ((mask & ~warp.live) != 0) fail("the mask names lanes that have returned or do not exist", where);
    if (at_last) {
      TENON_ACQUIRE(&warp);
      at_last(values);
      TENON_RELEASE(&warp);
    }
    warp.arrived = 0;
    warp.phase ^= 1u;
    const size_t first = static_cast<size_t>(&warp - scheduler.warps.data()) * kWarpSize;
    for (size_t i = first; i < std::min(first + kWarpSize, scheduler.fibers.size()); ++i) {
      Fiber& other = *scheduler.fibers[i];
      if (other.warp == &warp && other.state == State::AtWarpBarrier) other.state = State::Ready;
    }
  } else {
    fiber.state = State::AtWarpBarrier;
    fiber.where = where;
    switch_to_host();
  }
  TENON_ACQUIRE(&warp);
  return values;
}

void set_order(Order order) { scheduler.order = order; }
void set_sample(size_t blocks) { scheduler.sample = blocks; }

void launch(const char* name, Dim3 grid, Dim3 block, size_t shared_bytes,
            const std::function<void()>& thread) {
  check_launch(name, grid, block, shared_bytes);
  const size_t threads = size_t{block.x} * block.y * block.z;
  const size_t blocks = size_t{grid.x} * grid.y * grid.z, sample = scheduler.sample;
  const size_t running = sample == 0 ? blocks : std::min(blocks, 2 * sample);
  prepare_fibers(threads);
  scheduler.body = &thread;
  scheduler.kernel = name;
  scheduler.block_size = block;
  scheduler.grid_size = grid;
  scheduler.error = nullptr;
#if defined(TENON_THREAD_SANITIZER)
  scheduler.host_fiber = __tsan_get_current_fiber();
#endif
  // Every block has shared memory of its own, so that the thread sanitizer sees no race of one with the next. The exact
  // size puts the address sanitizer's guard behind its last byte.
  std::vector<std::unique_ptr<unsigned char[]>> shared(running);
  const auto fresh = [&](size_t turn) {
    shared[turn] = std::make_unique<unsigned char[]>(shared_bytes);
    std::memset(shared[turn].get(), 0xff, shared_bytes);
  };
#if defined(TENON_THREAD_SANITIZER)
  for (size_t i = 0; i < running; ++i) fresh(i);
#endif
  TENON_RELEASE(&scheduler.launch_edge);
  try {
    for (const unsigned turn : order_of(running)) {
#if !defined(TENON_THREAD_SANITIZER)
      fresh(turn);
#endif
      scheduler.shared = shared[turn].get();
      scheduler.shared_bytes = shared_bytes;
      forget_async();
      scheduler.warps.assign((threads + kWarpSize - 1) / kWarpSize, Warp{});
      scheduler.waiting_at_block = 0;
      scheduler.live = threads;
      const size_t at = turn < running / 2 ? turn : blocks - running + turn;
      const auto coordinate = [](size_t i, unsigned size) { return static_cast<unsigned>(i % size); };
      scheduler.block = Dim3(coordinate(at, grid.x), coordinate(at / grid.x, grid.y),
                             coordinate(at / grid.x / grid.y, grid.z));
      for (unsigned i = 0; i < threads; ++i) {
        Fiber& fiber = *scheduler.fibers[i];
        fiber.index = Dim3(i % block.x, i / block.x % block.y, i / block.x / block.y);
        fiber.warp = &scheduler.warps[i / kWarpSize];
        fiber.lane = i % kWarpSize;
        fiber.warp->live |= 1u << fiber.lane;
        fiber.copies.clear();
        fiber.state = State::Ready;
      }
      run_block(order_of(threads));
#if !defined(TENON_THREAD_SANITIZER)
      shared[turn].reset();
#endif
    }
  } catch (...) {
    // Threads have returned, or wait at a barrier.
    TENON_ACQUIRE(&scheduler.finish_edge);
    TENON_ACQUIRE(&scheduler.block_edge);
    for ([[maybe_unused]] Warp& warp : scheduler.warps) TENON_ACQUIRE(&warp);
    abandon();
    throw;
  }
  scheduler.current = nullptr;
  TENON_ACQUIRE(&scheduler.finish_edge);
}

const Position& position() { return scheduler.current->position; }

void* shared_memory() { return scheduler.shared; }

void sync_block(Where where) {
  Fiber& fiber = *scheduler.current;
  TENON_RELEASE(&scheduler.block_edge);
  fiber.state = State::AtBlockBarrier;
  fiber.where = where;
  ++scheduler.waiting_at_block;
  open_block_barrier();
  switch_to_host();
  TENON_ACQUIRE(&scheduler.block_edge);
}

void sync_warp(unsigned mask, Where where) { exchange(mask, nullptr, 0, where); }

void shuffle(unsigned mask, const void* value, size_t bytes, unsigned source, void* result, Where where) {
  if (bytes > kMaxExchange) fail("a shuffle of more than 64 bytes", where);
  const unsigned char* values = exchange(mask, value, bytes, where);
  if (source >= kWarpSize) source = lane();
  if ((mask >> source & 1u) == 0) fail("a shuffle reads a lane that is not in its mask", where);
  for (size_t i = 0; i < bytes; ++i) {
    static_cast<unsigned char*>(result)[i] = values[source * kMaxExchange + i];
  }
}

unsigned ballot(unsigned mask, bool predicate, Where where) {
  const unsigned char* votes = exchange(mask, &predicate, 1, where);
  unsigned result = 0;
  for (unsigned l = 0; l < kWarpSize; ++l) {
    if ((mask >> l & 1u) != 0 && votes[l * kMaxExchange] != 0) result |= 1u << l;
  }
  return result;
}

void multiply_16x8x16(float (&c)[4], const float (&a)[8], const float (&b)[4], Where where) {
  float own[12];
  std::copy(a, a + 8, own);
  std::copy(b, b + 4, own + 8);
  static_assert(sizeof own <= kMaxExchange);
  const unsigned char* given = exchange(0xffffffffu, own, sizeof own, where);
  const auto of = [&](unsigned l) { return reinterpret_cast<const float*>(given + l * kMaxExchange); };
  const unsigned group = lane() / 4, thread = lane() % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = i / 2, column = 2 * thread + i % 2;  // c(group + 8 row, column)
    for (unsigned k = 0; k < 16; ++k) {
      const float* from_a = of(4 * group + k % 8 / 2);
      const float* from_b = of(4 * column + k % 8 / 2) + 8;
      c[i] += from_a[4 * (k / 8) + 2 * row + k % 2] * from_b[2 * (k / 8) + k % 2];
    }
  }
}

void load_matrices(unsigned (&result)[4], const void* row, bool transposed, Where where) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
    fail("ldmatrix of an address that 16 does not divide", where);
  alignas(16) unsigned char own[16];
  std::memcpy(own, row, sizeof own);  // which the sanitizers intercept or check
  const unsigned char* given = exchange(0xffffffffu, own, sizeof own, where);
  const unsigned group = lane() / 4, thread = lane() % 4;
  const auto element = [&](unsigned matrix, unsigned i, unsigned j) {
    uint16_t bits;
    std::copy_n(given + (8 * matrix + i) * kMaxExchange + 2 * j, 2, reinterpret_cast<unsigned char*>(&bits));
    return unsigned{bits};
  };
  for (unsigned m = 0; m < 4; ++m) {
    const unsigned first = transposed ? element(m, 2 * thread, group) : element(m, group, 2 * thread);
    const unsigned second =
        transposed ? element(m, 2 * thread + 1, group) : element(m, group, 2 * thread + 1);
    result[m] = first | second << 16;
  }
}

void copy_later(void* to, const void* from, size_t bytes, Where where) {
  Fiber& fiber = *scheduler.current;
  fiber.copies.push_back({to, from, bytes, fiber.copy_group, where});
}

void commit_copies() { ++scheduler.current->copy_group; }

void wait_copies(unsigned groups_left) {
  Fiber& fiber = *scheduler.current;
  std::erase_if(fiber.copies, [&](const Copy& copy) {
    if (fiber.copy_group - copy.group <= groups_left) return false;
    if (copy.from == nullptr) {
      std::memset(copy.to, 0, copy.bytes);
    } else {
      std::memcpy(copy.to, copy.from, copy.bytes);
    }
    return true;
  });
}

unsigned lane() { return scheduler.current->lane; }

}  // namespace tenon::emulator
