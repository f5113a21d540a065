// What becomes of a convolution that cuDNN proposes an algorithm for and then refuses, or that it lacks a part of itself for.
#include <functional>
#include <string>
#include <vector>

#include "backend/cuda/conv2d_plans.h"
#include "test/cuda_emulator/libraries.h"
#include "test/kernel_testing.h"

namespace tenon::cuda {
namespace {

using testing::Buffer;

Buffer image(int64_t channels) {
  return Buffer(DType::Float32, {1, channels, 4, 4}, {16 * channels, 1, 4 * channels, channels});
}

class Conv2dByLibrary : public ::testing::Test {
 protected:
  Conv2dByLibrary() {
    for (Buffer* const operand : {&x_, &y_, &weight_, &bias_}) operand->fill_normal(1);
    start_again();
  }
  ~Conv2dByLibrary() override { start_again(); }
  void start_again() {
    library_ = {};
    queue_of(testing::stream()).conv2d_plans.reset();
  }

  void forward() {
    testing::run(&Kernels::conv2d,
                 Conv2dArgs{x_.view(), weight_.view(), bias_.view(), x_.view(), y_.view(), kWindow, 1, true});
  }
  void input_gradient() {
    testing::run(&Kernels::conv2d_input_gradient,
                 Conv2dInputGradientArgs{x_.view(), weight_.view(), y_.view(), kWindow, 1});
  }
  void weight_gradient() {
    testing::run(&Kernels::conv2d_weight_gradient,
                 Conv2dWeightGradientArgs{x_.view(), x_.view(), dweight_.view(), {}, kWindow, 1});
  }

  static constexpr Window kWindow{{3, 3}, {1, 1}, {1, 1}, {1, 1}};
  Buffer x_ = image(8), y_ = image(8), weight_{DType::Float32, {8, 8, 3, 3}}, bias_{DType::Float32, {8}},
         dweight_{DType::Float32, {8, 8, 3, 3}};
  emulator::ConvolutionLibrary& library_ = emulator::convolution_library();
};

TEST_F(Conv2dByLibrary, OursTakesOverWhatItRefusesToRunAndItIsAskedOnce) {
  const auto expect_ours = [&](const std::function<void()>& run, const Buffer& result) {
    start_again();
    run();
    EXPECT_EQ(library_.asked, 1);
    const std::vector<double> by_library = result.values();
    for (const int status : {3000, 3005, 3007, 3012}) {
      start_again();
      library_.refuses_to_run = status;
      for (int round = 0; round < 2; ++round) {
        run();
        EXPECT_EQ(library_.asked, 1);
        EXPECT_LT(testing::relative_error(result.values(), by_library), 1e-6);
      }
    }
  };
  expect_ours([&] { forward(); }, y_);
  expect_ours([&] { input_gradient(); }, y_);
  expect_ours([&] { weight_gradient(); }, dweight_);
}

TEST_F(Conv2dByLibrary, WhatIsMissingOfItIsAnErrorInItsOwnWords) {
  for (int emulator::ConvolutionLibrary::*const question :
       {&emulator::ConvolutionLibrary::refuses_to_propose, &emulator::ConvolutionLibrary::refuses_to_measure,
        &emulator::ConvolutionLibrary::refuses_to_run}) {
    for (const int status : {3008, 3009, 4000}) {
      start_again();
      library_.*question = status;
      library_.last_error = status == 3009 ? "libcudnn_cnn.so.9 can't be opened" : "";
      std::string error;
      try {
        forward();
      } catch (const TensorError& e) {
        error = e.what();
      }
      // Of an algorithm that does not work for another reason, the next may.
      const bool skips = status == 4000 && question == &emulator::ConvolutionLibrary::refuses_to_measure;
      EXPECT_EQ(error, skips            ? ""
                       : status == 3009 ? "conv2d: cuDNN: CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE: "
                                          "libcudnn_cnn.so.9 can't be opened"
                                        : "conv2d: cuDNN: CUDNN_STATUS_OTHER")
          << status;
    }
  }
}

}  // namespace
}  // namespace tenon::cuda
