// Stream capture on the emulator's runtime: what CUDA promises, and what it forbids.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <thread>

namespace tenon::emulator {
namespace {

class StreamCapture : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaHostAlloc(&host, sizeof(int), cudaHostAllocDefault), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&device, sizeof(int)), cudaSuccess);
  }
  void TearDown() override {
    EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    EXPECT_EQ(cudaFreeHost(host), cudaSuccess);
    EXPECT_EQ(cudaFree(device), cudaSuccess);
    static_cast<void>(cudaGetLastError());
  }
  int& number() { return *static_cast<int*>(host); }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    ASSERT_EQ(cudaStreamBeginCapture(stream, mode), cudaSuccess);
  }
  cudaError_t end() {
    cudaGraph_t graph = nullptr;
    const cudaError_t status = cudaStreamEndCapture(stream, &graph);
    EXPECT_EQ(graph == nullptr, status != cudaSuccess);
    if (graph != nullptr) cudaGraphDestroy(graph);
    return status;
  }

  cudaStream_t stream = nullptr;
  void* host = nullptr;
  void* device = nullptr;
};

TEST_F(StreamCapture, RecordsCopiesOfArgumentsAndRunsThemAtEachLaunch) {
  begin();
  int runs = 0, argument = 7;
  launch(stream, "count", 1, 1, 0, [&runs, argument] { runs += argument; });
  argument = 0;
  EXPECT_EQ(cudaMemsetAsync(device, 1, sizeof(int), stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(host, device, sizeof(int), cudaMemcpyDeviceToHost, stream), cudaSuccess);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  number() = 5;
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(number(), 5);
  EXPECT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
  EXPECT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(runs, 14);
  EXPECT_EQ(number(), 0x01010101);
}

TEST_F(StreamCapture, WaitingForTheStreamMakesItInvalid) {
  begin(cudaStreamCaptureModeRelaxed);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaMemsetAsync(device, 0, sizeof(int), stream), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(end(), cudaErrorStreamCaptureUnmatched);
  EXPECT_EQ(cudaMemsetAsync(device, 0, sizeof(int), stream), cudaSuccess);
}

TEST_F(StreamCapture, EventsOnBothSidesAreApart) {
  cudaEvent_t outside = nullptr, inside = nullptr;
  cudaEventCreateWithFlags(&outside, cudaEventDisableTiming);
  cudaEventCreateWithFlags(&inside, cudaEventDisableTiming);
  EXPECT_EQ(cudaEventRecord(outside, stream), cudaSuccess);
  begin();
  EXPECT_EQ(cudaEventRecord(inside, stream), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(stream, inside, 0), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(inside), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaStreamWaitEvent(stream, outside, 0), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  cudaEventDestroy(outside);
  cudaEventDestroy(inside);
}

TEST_F(StreamCapture, UnsafeCallsAreForOtherThreads) {
  void* more = nullptr;
  begin();
  EXPECT_EQ(cudaMalloc(&more, 8), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin();
  std::thread([&] { EXPECT_EQ(cudaMalloc(&more, 8), cudaSuccess); }).join();
  EXPECT_EQ(end(), cudaSuccess);
  EXPECT_EQ(cudaFree(more), cudaSuccess);
}

TEST_F(StreamCapture, EndsOnTheThreadThatBeganIt) {
  begin();
  std::thread([&] { EXPECT_EQ(end(), cudaErrorStreamCaptureWrongThread); }).join();
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}

}  // namespace
}  // namespace tenon::emulator
