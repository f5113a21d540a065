#include "backend/cpu/device.h"

#include <omp.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "backend/cpu/cores.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/processor.h"
#include "core/error.h"
#include "core/stream.h"

namespace tenon::cpu {

namespace {

class SystemMemory : public MemorySource {
 public:
  void* acquire(size_t bytes) override {
    constexpr size_t kHugePage = size_t{2} << 20;
    void* data = std::aligned_alloc(kHugePage, bytes);  // segments are whole huge pages
#ifdef __linux__
    if (data != nullptr) madvise(data, bytes, MADV_HUGEPAGE);
#endif
    return data;
  }
  void release(void* data, size_t) override { std::free(data); }
};

class CpuDevice : public Device {
 public:
  explicit CpuDevice(int threads)
      : allocator_(std::make_unique<SystemMemory>(), [this] { stream_.wait_idle(); }),
        stream_([threads] { omp_set_num_threads(threads); }) {}

  const std::string& name() const override { return name_; }
  Allocator& allocator() override { return allocator_; }
  const Kernels& kernels() const override { return cpu::kernels(); }

  void enqueue(const char* op, std::function<void(void*)> task) override {
    stream_.push(op, [task = std::move(task)] { task(nullptr); });
  }

  void upload(void* target, const void* source, size_t bytes) override {
    const auto* begin = static_cast<const char*>(source);
    stream_.push(
        "upload",
        [target, staged = std::vector<char>(begin, begin + bytes)] {
          if (!staged.empty()) std::memcpy(target, staged.data(), staged.size());
        },
        bytes);
  }

  void download(void* target, const void* source, size_t bytes,
                std::function<void(std::exception_ptr)> done) override {
    stream_.push("download", [this, target, source, bytes, done = std::move(done)] {
      if (bytes > 0) std::memcpy(target, source, bytes);
      done(stream_.take_error());
    });
  }

  size_t prepared_bytes(const MatmulArgs& args) const override { return cpu::prepared_bytes(args); }
  size_t prepared_bytes(const Conv2dArgs& args) const override { return onednn_prepared_bytes(args); }

  void synchronize() override { stream_.synchronize(); }

  int64_t pushed() const override { return stream_.pushed(); }
  Tasks unsettled(Tasks tasks) override { return stream_.unsettled(tasks); }
  std::exception_ptr failure(Tasks tasks) override { return stream_.failure(tasks); }

 private:
  std::string name_ = "cpu";
  Allocator allocator_;
  Stream stream_;  // last, so that it has run everything before the memory goes
};

}  // namespace

int default_threads() {
  const char* text = std::getenv("TENON_NUM_THREADS");
  if (text == nullptr || *text == '\0') return available_cores();
  const std::string_view view(text);
  int threads = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), threads);
  if (error != std::errc() || end != view.data() + view.size() || threads < 1 || threads > 1024) {
    throw TensorError(
        "device", code::kValue,
        "TENON_NUM_THREADS: expected a whole number from 1 to 1024, got '" + std::string(view) + "'");
  }
  return threads;
}

std::unique_ptr<Device> make_device(int threads) {
  return std::make_unique<CpuDevice>(threads > 0 ? threads : default_threads());
}

CpuInfo info() {
  const char* const bfloat16 = onednn_has_tiles() ? "tiles" : multiplies_pairs() ? "pairs" : "float32";
  return {available_cores(), default_threads(), instruction_set(), bfloat16, onednn_version()};
}

}  // namespace tenon::cpu
