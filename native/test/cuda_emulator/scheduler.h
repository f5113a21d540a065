// What the files of the emulator share: the fibers of a block, its warps, and whose turn it is.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "test/cuda_emulator/async.h"
#include "test/cuda_emulator/emulator.h"

// These files themselves are compiled without the thread sanitizer (see CMakeLists.txt): all fibers touch the scheduler's
// state, one at a time. What they do to the memory of kernels on behalf of a copy or a product, they tell it; what they
// allocate for themselves on one fiber and free on another, they hide by a Quiet.
#if defined(TENON_THREAD_SANITIZER)
#include <sanitizer/tsan_interface.h>
extern "C" {
void __tsan_read_range(void* address, unsigned long bytes);
void __tsan_write_range(void* address, unsigned long bytes);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#define TENON_RELEASE(object) __tsan_release(object)
#define TENON_ACQUIRE(object) __tsan_acquire(object)
#else
#define TENON_RELEASE(object) static_cast<void>(object)
#define TENON_ACQUIRE(object) static_cast<void>(object)
#endif

namespace tenon::emulator {

// While it lives, the thread sanitizer does not see what the fiber reads and writes, allocates and frees; but for these.
class Quiet {
 public:
#if defined(TENON_THREAD_SANITIZER)
  Quiet() { AnnotateIgnoreWritesBegin(__FILE__, __LINE__); }
  ~Quiet() { AnnotateIgnoreWritesEnd(__FILE__, __LINE__); }
  void reads(void* address, size_t bytes) { tell(&__tsan_read_range, address, bytes); }
  void writes(void* address, size_t bytes) { tell(&__tsan_write_range, address, bytes); }
#else
  Quiet() {}
  ~Quiet() {}
  void reads(void*, size_t) {}
  void writes(void*, size_t) {}
#endif
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

 private:
#if defined(TENON_THREAD_SANITIZER)
  static void tell(void (*access)(void*, unsigned long), void* address, size_t bytes) {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    access(address, bytes);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
#endif
};

enum class State : uint8_t { Ready, AtBlockBarrier, AtWarpBarrier, AtMbarrier, Done };

struct Warp {
  unsigned live = 0;     // lanes that have not returned
  unsigned arrived = 0;  // lanes at the current rendezvous
  unsigned mask = 0;     // that it is for
  unsigned phase = 0;    // which half of `slots` it writes
  Where where;
  alignas(16) unsigned char slots[2][kWarpSize][kMaxExchange];
};

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  unsigned group;
  Where where;
};

struct Fiber {
  Position position;  // written by the fiber itself, whose kernel reads it
  Dim3 index;
  Warp* warp = nullptr;
  unsigned lane = 0;
  State state = State::Done;
  Where where;
  const void* mbarrier = nullptr;  // that it waits for
  std::vector<Copy> copies;        // that wait to happen
  unsigned copy_group = 0;         // of the next copy
  void* context = nullptr;         // its stack pointer while it does not run
  std::unique_ptr<unsigned char[]> stack;
  bool started = false;
  void* tsan = nullptr;
};

struct Scheduler {
  std::vector<std::unique_ptr<Fiber>> fibers;  // kept from launch to launch
  std::vector<Warp> warps;
  Fiber* current = nullptr;
  void* host = nullptr;  // the host's stack pointer while a fiber runs
  const std::function<void()>* body = nullptr;
  const char* kernel = "";
  unsigned char* shared = nullptr;
  size_t shared_bytes = 0;
  Dim3 block, block_size, grid_size;
  size_t waiting_at_block = 0;
  size_t live = 0;
  std::exception_ptr error;
  Order order = Order::Forward;
  size_t sample = 0;
  std::mt19937 random{1};
  std::shared_ptr<AsyncWork> async;  // of the block, once there is some
  // What the thread sanitizer takes for synchronisation objects: from the host to the threads, back, and barriers.
  char launch_edge = 0, finish_edge = 0, block_edge = 0;
#if defined(__SANITIZE_ADDRESS__)
  const void* host_stack = nullptr;
  size_t host_stack_bytes = 0;
#endif
#if defined(TENON_THREAD_SANITIZER)
  void* host_fiber = nullptr;
#endif
};

extern thread_local Scheduler scheduler;

std::string describe(Where where);
std::string describe(const Dim3& d);

[[noreturn]] void refuse(const char* kernel, const std::string& what);
[[noreturn]] void fail(const std::string& what, Where where);

// From a fiber: until the scheduler gives it its next turn.
void switch_to_host();

// Every lane of `mask` gives `bytes` bytes; when all have, lane l's are at the result + l * kMaxExchange, until the
// caller's next exchange but one. The last to arrive calls `at_last` first, while the others still wait.
const unsigned char* exchange(unsigned mask, const void* value, size_t bytes, Where where,
                              const std::function<void(const unsigned char*)>& at_last = nullptr);

// ---- of async.cc ----

// What a block's asynchronous work leaves goes.
void forget_async();
// Does some copy that a thread waits for; false where there is none.
bool make_progress();
// What the threads that wait for mbarriers wait for: part of the report of a deadlock.
std::string describe_mbarriers();
// Where a block leaves copies or products that nobody waited for. @throws std::runtime_error
void check_async_end();

}  // namespace tenon::emulator
