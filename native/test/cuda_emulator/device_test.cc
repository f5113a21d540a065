// The CUDA device on the emulator's runtime, whose streams are threads: order, errors, memory.
#include "backend/cuda/device.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/handles.h"
#include "backend/cuda/launch.h"
#include "core/tensor.h"
#include "test/cuda_emulator/libraries.h"

namespace tenon {
namespace {

class CudaDevice : public testing::Test {
 protected:
  void SetUp() override { device = cuda::make_device(0, {}); }
  void TearDown() override {
    emulator::forgive(0);
    emulator::slow_copies(false);
  }

  Tensor empty(const Shape& shape, DType dtype = DType::Float32) {
    const size_t bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
    return {std::make_shared<Storage>(*device, device->allocator(), bytes), dtype, shape,
            contiguous_strides(shape), 0};
  }
  Tensor upload(const std::vector<float>& values) {
    const Tensor x = empty(Shape{static_cast<int64_t>(values.size())});
    device->upload(x.data(), values.data(), values.size() * sizeof(float));
    return x;
  }
  std::future<std::exception_ptr> download(std::vector<float>& target, const Tensor& x) {
    target.assign(static_cast<size_t>(x.numel()), -1);
    auto settled = std::make_shared<std::promise<std::exception_ptr>>();
    device->download(target.data(), x.data(), target.size() * sizeof(float),
                     [settled](std::exception_ptr error) { settled->set_value(std::move(error)); });
    return settled->get_future();
  }
  std::vector<float> values(const Tensor& x) {
    std::vector<float> target;
    if (const std::exception_ptr error = download(target, x).get()) std::rethrow_exception(error);
    return target;
  }
  void add(const Tensor& x, float number) {
    launch(*device, "add", &Kernels::binary, BinaryArgs{BinaryOp::Add, x.view(), {}, x.view(), number});
  }
  // A kernel that a GPU would stop.
  void fault(const char* op) {
    device->enqueue(op, [op](void* stream) {
      cuda::launch(
          cuda::queue_of(stream), op, +[](int) { throw std::runtime_error("out of bounds"); }, 1, 1, 0, 0);
    });
  }
  // What f does, on the other device.
  template <typename F>
  auto there(F&& f) {
    struct Swap {
      CudaDevice& test;
      explicit Swap(CudaDevice& t) : test(t) { std::swap(test.device, test.other); }
      ~Swap() { std::swap(test.device, test.other); }
    } const swap(*this);
    return f();
  }
  template <typename F>
  static std::string error_of(F&& f) {
    try {
      f();
    } catch (const TensorError& error) {
      return error.code() + " " + error.what();
    }
    return "none";
  }

  std::unique_ptr<Device> device, other;
};

TEST_F(CudaDevice, RunsUploadsKernelsAndDownloadsInProgramOrder) {
  emulator::slow_copies(true);
  for (int round = 0; round < 8; ++round) {
    // All rounds get the same block: the upload of one must not overtake the kernels of the one before.
    const auto r = static_cast<float>(round);
    const Tensor x = upload({r, 10 * r});
    add(x, 0.5f);
    std::vector<float> early;
    std::future<std::exception_ptr> arrived = download(early, x);
    add(x, 1);
    EXPECT_EQ(values(x), (std::vector<float>{r + 1.5f, 10 * r + 1.5f}));
    EXPECT_EQ(arrived.get(), nullptr);
    EXPECT_EQ(early, (std::vector<float>{r + 0.5f, 10 * r + 0.5f}));
  }
  EXPECT_EQ(device->allocator().stats().segments, 1u);
}

TEST_F(CudaDevice, UploadsInPartsWhereASlotIsTooSmall) {
  std::vector<float> wide((size_t{64} << 20) / sizeof(float) + 1000);  // a slot and a bit
  std::iota(wide.begin(), wide.end(), 0.0f);
  const Tensor x = upload(wide);
  std::vector<float> tail;
  EXPECT_EQ(download(tail, x).get(), nullptr);
  EXPECT_EQ(tail, wide);
}

TEST_F(CudaDevice, AFaultNamesTheOpsSinceTheLastWaitAndTheDeviceStaysLost) {
  const Tensor x = upload({1});
  add(x, 1);
  device->synchronize();
  fault("layer_norm");
  std::vector<float> none;
  std::future<std::exception_ptr> first = download(none, x);
  const std::string expected =
      "KERNEL layerNorm: unspecified launch failure on cuda:0; the device is lost to this process";
  EXPECT_EQ(error_of([&] { std::rethrow_exception(first.get()); }), expected);
  EXPECT_EQ(none, std::vector<float>{-1});
  EXPECT_EQ(error_of([&] { device->synchronize(); }), expected);
}

// cuBLASLt has a runtime of its own, and its status says nothing of a fault.
TEST_F(CudaDevice, AFaultThatALibraryMeetsIsNotTheProducts) {
  const Tensor x = upload({1});
  fault("layer_norm");
  const auto square = [&] {
    const View one{x.data(), DType::Float32, Shape{1, 1}, Shape{1, 1}};
    launch(*device, "matmul", &Kernels::matmul, MatmulArgs{one, one, one, {}, {}});
  };
  const std::string fault = error_of([&] { device->synchronize(); });
  EXPECT_NE(fault.find("unspecified launch failure on cuda:0"), std::string::npos);
  EXPECT_EQ(error_of(square), fault);
}

TEST_F(CudaDevice, AFaultAmongSeveralOpsNamesThemAndHowToFindTheOne) {
  const Tensor x = upload({1});
  fault("softmax");
  add(x, 1);
  EXPECT_EQ(error_of([&] { device->synchronize(); }),
            "KERNEL CUDA: unspecified launch failure on cuda:0 in one of upload, softmax, add "
            "(TENON_CUDA_SYNC=1 finds out which); the device is lost to this process");
}

TEST_F(CudaDevice, ASynchronousDeviceThrowsAFaultWhereItIsLaunched) {
  device = cuda::make_device(0, {.synchronous = true});
  const Tensor x = upload({1});
  add(x, 1);
  EXPECT_EQ(error_of([&] { fault("softmax"); }),
            "KERNEL softmax: unspecified launch failure on cuda:0; the device is lost to this process");
}

TEST_F(CudaDevice, AnIndexOutOfRangeSurfacesOnceAtTheNextWait) {
  const Tensor x = upload({1, 2, 3});
  const Tensor index = empty(Shape{2}, DType::Int64), out = empty(Shape{2});
  const int64_t wrong[] = {0, 3};
  device->upload(index.data(), wrong, sizeof wrong);
  launch(*device, "indexSelect", &Kernels::index_select,
         IndexSelectArgs{x.view(), index.view(), out.view(), 0});
  add(x, 1);
  EXPECT_EQ(error_of([&] { values(x); }), "INDEX indexSelect: expected indices from 0 to 2, got 3");
  EXPECT_EQ(values(x), (std::vector<float>{2, 3, 4}));
}

TEST_F(CudaDevice, OutOfMemoryTellsWhatIsAskedHeldAndFree) {
  const Tensor x = empty(Shape{size_t{100} << 20}, DType::UInt8);
  EXPECT_EQ(error_of([&] { empty(Shape{int64_t{2} << 30}, DType::UInt8); }),
            "MEMORY allocate: out of memory: asked for 2048 MiB, in use 100 MiB, held 100 MiB, free 156 MiB");
  EXPECT_EQ(values(upload({7})), std::vector<float>{7});
}

TEST_F(CudaDevice, OutOfMemoryByALimitTellsWhatIsFreeOnTheDeviceThatWasAsked) {
  const Tensor x = empty(Shape{size_t{100} << 20}, DType::UInt8);
  device->allocator().set_limit(size_t{100} << 20);
  other = cuda::make_device(1, {});  // to which this thread has turned
  EXPECT_EQ(error_of([&] { empty(Shape{int64_t{200} << 20}, DType::UInt8); }),
            "MEMORY allocate: out of memory: asked for 200 MiB, in use 100 MiB, held 100 MiB, free 156 MiB, "
            "limit 100 MiB");
}

TEST_F(CudaDevice, AnUploadTakesCachedMemoryAndItsFailureIsItsOwn) {
  const auto fill = [] {  // all that is left
    size_t left = 0, total = 0;
    void* data = nullptr;
    EXPECT_EQ(cudaMemGetInfo(&left, &total), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&data, left), cudaSuccess);
    return cuda::DeviceMemory(data);
  };
  const Tensor x = empty(Shape{1});
  const float one = 1;
  empty(Shape{8 << 20});  // goes to the allocator's cache
  {
    const cuda::DeviceMemory others = fill();
    device->upload(x.data(), &one, sizeof one);
    const cuda::DeviceMemory rest = fill();
    EXPECT_EQ(error_of([&] { device->upload(x.data(), &one, sizeof one); }),
              "MEMORY allocate: CUDA: out of memory of the device: 65536 bytes asked for");
    add(x, 1);
  }
  EXPECT_EQ(values(x), std::vector<float>{2});
  device->upload(x.data(), &one, sizeof one);
  EXPECT_EQ(values(x), std::vector<float>{1});
}

TEST_F(CudaDevice, BlocksAndScratchBeginAtMultiplesOf256Bytes) {
  device->enqueue("test", [this](void* stream) {
    void* const scratch = cuda::queue_of(stream).scratch(1000);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch) % 256, 0u);
    EXPECT_EQ(device->allocator().stats().current, 1024u);
  });
  EXPECT_EQ(device->allocator().stats().current, 0u);
  const Tensor a = upload({1}), b = upload({2});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data()) % 256, 0u);
}

TEST_F(CudaDevice, AGraphRunsWhatWasCapturedAgainAndAgain) {
  const Tensor x = upload({1, 2});
  device->begin_capture(nullptr);
  add(x, 1);
  Tensor y = empty(Shape{2});
  float number = 10;
  launch(*device, "add", &Kernels::binary, BinaryArgs{BinaryOp::Add, x.view(), {}, y.view(), number});
  number = 0;  // the graph has a copy
  const std::unique_ptr<Graph> graph = device->end_capture();
  EXPECT_EQ(values(x), (std::vector<float>{1, 2}));
  for (const float n : {1.0f, 2.0f}) {
    graph->launch();
    EXPECT_EQ(values(y), (std::vector<float>{11 + n, 12 + n}));
  }
}

TEST_F(CudaDevice, AStepMayBeTheFirstToUseALibrary) {
  const Tensor x = upload({3});
  const View one{x.data(), DType::Float32, Shape{1, 1}, Shape{1, 1}};
  const Tensor y = empty(Shape{1});
  const View square{y.data(), DType::Float32, Shape{1, 1}, Shape{1, 1}};
  device->begin_capture(nullptr);
  launch(*device, "matmul", &Kernels::matmul, MatmulArgs{one, one, square, {}, {}});
  device->end_capture()->launch();
  EXPECT_EQ(values(y), std::vector<float>{9});
}

TEST_F(CudaDevice, AGraphsMemoryIsItsOwnUntilItGoes) {
  const Tensor x = upload({1});
  const size_t reserved = device->allocator().stats().reserved;
  device->begin_capture(nullptr);
  void* inside = nullptr;
  {
    const Tensor y = empty(Shape{1000});
    inside = y.data();
    const Tensor z = empty(Shape{int64_t{1} << 20});  // a segment that cudaMalloc gives while capturing
  }
  std::unique_ptr<Graph> graph = device->end_capture();
  device->allocator().release_cached();
  EXPECT_GT(device->allocator().stats().reserved, reserved);
  std::vector<Tensor> others;
  for (int i = 0; i < 100; ++i) others.push_back(empty(Shape{1000}));
  for (const Tensor& other : others) EXPECT_NE(other.data(), inside);
  others.clear();
  graph.reset();
  device->allocator().release_cached();
  EXPECT_EQ(device->allocator().stats().reserved, reserved);
}

TEST_F(CudaDevice, RandomNumbersOfAGraphComeFromDeviceMemory) {
  const Tensor place = empty(Shape{2}, DType::Float64), x = upload(std::vector<float>(9, 1.0f));
  const Tensor drawn = empty(Shape{9}), dropped = empty(Shape{9}), order = empty(Shape{9}),
               keys = empty(Shape{9}, DType::Int64);
  const auto draw = [&](uint64_t seed, uint64_t offset) {
    launch(*device, "random", &Kernels::random,
           RandomArgs{RandomKind::Uniform, drawn.view(), 0, 1, 0, 0, seed, offset});
    launch(*device, "dropout", &Kernels::dropout,
           DropoutArgs{x.view(), dropped.view(), 0.5, seed, offset + 12});
    launch(*device, "permutation", &Kernels::permutation, PermutationArgs{keys.view(), seed, offset + 24});
    launch(*device, "to", &Kernels::copy, CopyArgs{keys.view(), order.view()});
  };
  device->begin_capture(static_cast<const double*>(place.data()));
  draw(5, 40);
  const std::unique_ptr<Graph> graph = device->end_capture();
  for (const auto& [seed, offset] : {std::pair<uint64_t, uint64_t>{5, 40}, {5, 400}, {6, 16}}) {
    const double numbers[] = {static_cast<double>(seed), static_cast<double>(offset) - 40};
    device->upload(place.data(), numbers, sizeof numbers);
    graph->launch();
    const auto found = [&] { return std::array{values(drawn), values(dropped), values(order)}; };
    const auto replayed = found();
    draw(seed, offset);
    EXPECT_EQ(replayed, found());
  }
}

TEST_F(CudaDevice, WhatCannotBeCapturedIsAnErrorAndTheDeviceGoesOn) {
  const Tensor x = upload({1});
  const std::pair<std::function<void()>, const char*> cases[] = {
      {[&] { values(x); }, "VALUE data: expected no values to be read in a captured step; "},
      {[&] { upload({2}); }, "VALUE tensor: expected no values from the host in a captured step; "},
      {[&] { device->synchronize(); },
       "VALUE synchronize: expected no waiting for the device in a captured step"},
      {[&] { device->allocator().release_cached(); },
       "VALUE releaseCachedMemory: expected no waiting for the device in a captured step"}};
  for (const auto& [call, message] : cases) {
    device->begin_capture(nullptr);
    add(x, 1);
    EXPECT_EQ(error_of(call).rfind(message, 0), 0u) << error_of(call);
    add(x, 1);
    EXPECT_EQ(error_of([&] { device->end_capture(); }).rfind(message, 0), 0u);
    EXPECT_EQ(values(x), std::vector<float>{1});
  }
  add(x, 1);
  EXPECT_EQ(values(x), std::vector<float>{2});
}

TEST_F(CudaDevice, AFaultInAGraphIsOfACapturedStep) {
  device->begin_capture(nullptr);
  fault("softmax");
  const std::unique_ptr<Graph> graph = device->end_capture();
  device->synchronize();
  graph->launch();
  EXPECT_EQ(
      error_of([&] { device->synchronize(); }),
      "KERNEL a captured step: unspecified launch failure on cuda:0; the device is lost to this process");
  EXPECT_EQ(
      error_of([&] { device->begin_capture(nullptr); }),
      "KERNEL a captured step: unspecified launch failure on cuda:0; the device is lost to this process");
  EXPECT_FALSE(cuda::make_device(1, {.synchronous = true})->captures());
}

TEST_F(CudaDevice, DevicesWorkSideBySide) {
  const Tensor x = upload({1});
  other = cuda::make_device(1, {});
  EXPECT_EQ(other->name(), "cuda:1");
  there([&] {
    const Tensor y = upload({5});
    add(y, 1);
    EXPECT_EQ(values(y), std::vector<float>{6});
  });
  add(x, 1);
  EXPECT_EQ(values(x), std::vector<float>{2});
}

TEST_F(CudaDevice, ACopyFromAnotherDeviceIsInTheOrderOfBoth) {
  other = cuda::make_device(1, {});
  emulator::slow_copies(true);
  for (int round = 0; round < 8; ++round) {
    const auto r = static_cast<float>(round);
    const Tensor target = upload({-1, -1});
    device->upload(target.data(), std::vector<float>{-2, -2}.data(), 2 * sizeof(float));
    std::vector<float> early, late;
    std::future<std::exception_ptr> arrived = download(early, target);  // of what the target held before
    {
      const Tensor source = there([&] { return upload({r, 10 * r}); });
      there([&] { add(source, 1); });
      EXPECT_TRUE(device->copy_from(*other, target.data(), source.data(), 2 * sizeof(float)));
      there([&] { add(source, 100); });  // the copy has gone, or goes first
    }
    // So it does before whoever gets the source's memory next.
    const Tensor next = there([&] { return upload({-3, -3}); });
    const std::future<std::exception_ptr> other_arrived = there([&] { return download(late, next); });
    add(target, 0.5f);
    EXPECT_EQ(values(target), (std::vector<float>{r + 1.5f, 10 * r + 1.5f}));
    EXPECT_EQ(arrived.get(), nullptr);
    EXPECT_EQ(early, (std::vector<float>{-2, -2}));
    other_arrived.wait();
    EXPECT_EQ(late, (std::vector<float>{-3, -3}));
  }
  EXPECT_EQ(device->allocator().stats().segments, 1u);
  EXPECT_EQ(other->allocator().stats().segments, 1u);
}

TEST_F(CudaDevice, ACopyGoesBetweenDevicesOfOneBackendAndBothWays) {
  other = cuda::make_device(1, {.synchronous = true});
  const Tensor x = upload({3});
  const Tensor y = there([&] { return empty(Shape{1}); });
  EXPECT_TRUE(other->copy_from(*device, y.data(), x.data(), sizeof(float)));
  add(x, 1);
  there([&] { add(y, 10); });
  EXPECT_EQ(there([&] { return values(y); }), std::vector<float>{13});
  EXPECT_TRUE(device->copy_from(*other, x.data(), y.data(), sizeof(float)));
  EXPECT_EQ(values(x), std::vector<float>{13});
  EXPECT_TRUE(device->copy_from(*other, x.data(), y.data(), 0));

  class Foreign : public Device {
   public:
    explicit Foreign(Device& real) : real_(real) {}
    const std::string& name() const override { return real_.name(); }
    Allocator& allocator() override { return real_.allocator(); }
    const Kernels& kernels() const override { return real_.kernels(); }
    void enqueue(const char*, std::function<void(void*)>) override {}
    void upload(void*, const void*, size_t) override {}
    void download(void*, const void*, size_t, std::function<void(std::exception_ptr)>) override {}
    void synchronize() override {}

   private:
    Device& real_;
  } foreign(*device);
  EXPECT_FALSE(device->copy_from(foreign, x.data(), x.data(), sizeof(float)));
  EXPECT_FALSE(foreign.copy_from(*device, x.data(), x.data(), sizeof(float)));
}

TEST_F(CudaDevice, ACopyFromAnotherDeviceIsNotCaptured) {
  other = cuda::make_device(1, {});
  const Tensor x = upload({1});
  const Tensor y = there([&] { return upload({2}); });
  const std::string message = "VALUE to: expected no other device in a captured step";
  for (Device* const capturing : {device.get(), other.get()}) {
    capturing->begin_capture(nullptr);
    EXPECT_EQ(error_of([&] { device->copy_from(*other, x.data(), y.data(), sizeof(float)); }), message);
    EXPECT_EQ(error_of([&] { capturing->end_capture(); }), message);
  }
  EXPECT_TRUE(device->copy_from(*other, x.data(), y.data(), sizeof(float)));
  EXPECT_EQ(values(x), std::vector<float>{2});
}

TEST_F(CudaDevice, ALostDeviceGivesNoCopy) {
  other = cuda::make_device(1, {});
  const Tensor x = upload({1});
  const Tensor y = there([&] { return upload({2}); });
  there([&] { fault("softmax"); });
  const std::string lost = error_of([&] { other->synchronize(); });
  EXPECT_NE(lost.find("unspecified launch failure on cuda:1"), std::string::npos) << lost;
  EXPECT_EQ(error_of([&] { device->copy_from(*other, x.data(), y.data(), sizeof(float)); }), lost);
  add(x, 1);
  EXPECT_EQ(values(x), std::vector<float>{2});
  emulator::forgive(1);
}

TEST_F(CudaDevice, ItsKernelsAreTheTablesThatItWasGiven) {
  EXPECT_TRUE(device->take_launched().empty());
  const Tensor x = upload({1}), y = empty(Shape{1});
  add(x, 1);
  launch(*device, "exp", &Kernels::unary, UnaryArgs{UnaryOp::Exp, x.view(), y.view()});
  launch(*device, "exp", &Kernels::unary, UnaryArgs{UnaryOp::Exp, x.view(), y.view()});
  std::vector<std::string> names;
  for (const char* name : device->take_launched()) names.emplace_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"unary", "binary"}));
  EXPECT_TRUE(device->take_launched().empty());
}

TEST_F(CudaDevice, LetsGoOfLibrariesBeforeItsStream) {
  {
    const Tensor x = upload({3}), y = empty(Shape{1});
    const auto as = [](const Tensor& tensor, const Shape& ones) { return tensor.with(ones, ones, 0).view(); };
    const Shape matrix{1, 1}, image{1, 1, 1, 1};
    launch(*device, "matmul", &Kernels::matmul,
           MatmulArgs{as(x, matrix), as(x, matrix), as(y, matrix), {}, {}});
    EXPECT_EQ(values(y), std::vector<float>{9});
    launch(*device, "conv2d", &Kernels::conv2d,
           Conv2dArgs{as(x, image), as(x, image), {}, {}, as(y, image), {}});
    EXPECT_EQ(values(y), std::vector<float>{9});
  }
  device.reset();
  EXPECT_EQ(emulator::late_handles(), 0);
}

TEST_F(CudaDevice, MultipliesFloat32InTF32OnlyWhereTheEnvironmentAllowsIt) {
  const float fine = 1 + 1.0f / 8192;  // more bits than TF32 keeps
  for (const bool allowed : {false, true}) {
    if (allowed) setenv("TENON_TF32", "1", 1);
    device = cuda::make_device(0, {});
    const Tensor a = upload({fine}), b = upload({2}), product = upload({0}), sum = upload({0});
    const auto as = [](const Tensor& x, const Shape& ones) { return x.with(ones, ones, 0).view(); };
    const Shape matrix{1, 1}, image{1, 1, 1, 1};
    launch(*device, "matmul", &Kernels::matmul,
           MatmulArgs{as(a, matrix), as(b, matrix), as(product, matrix), {}, {}});
    launch(*device, "conv2d", &Kernels::conv2d,
           Conv2dArgs{as(a, image), as(b, image), {}, {}, as(sum, image), {}});
    EXPECT_EQ(values(product), std::vector<float>{allowed ? 2 : 2 * fine});
    EXPECT_EQ(values(sum), values(product));
    unsetenv("TENON_TF32");
  }
}

}  // namespace
}  // namespace tenon
