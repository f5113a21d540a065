// The choice of algorithms for products: what is timed, what is kept, and that it stands.
#include "backend/cuda/tuning.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "backend/cuda/cublaslt.h"
#include "test/cuda_emulator/libraries.h"
#include "test/matmul_testing.h"

namespace tenon::cuda {
namespace {

using testing::Buffer;

Queue& queue() { return queue_of(testing::stream()); }

// A cache folder of its own.
class Tuned : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_);
    setenv("TENON_CACHE", folder_.c_str(), 1);
    unsetenv("TENON_CUDA_TUNE");
    start_again();
    a_.fill_normal(1);
    b_.fill_normal(2);
    bias_.fill_normal(3);
  }
  void TearDown() override {
    setenv("TENON_CUDA_TUNE", "0", 1);
    unsetenv("TENON_CACHE");
    library_ = {};
    start_again();
    std::filesystem::remove_all(folder_);
  }

  // As a new process would.
  static void start_again() {
    queue().matmul_plans.reset();
    queue().conv2d_plans.reset();
  }

  std::string text() const {
    std::ostringstream text;
    text << std::ifstream(file_).rdbuf();
    return text.str();
  }
  void write(const std::string& text) const { std::ofstream(file_) << text; }
  int64_t lines() const {
    const std::string all = text();
    return std::count(all.begin(), all.end(), '\n');
  }

  // Always with the same addresses, whose alignment counts.
  void multiply(Queue& on, Activation activation = Activation::Relu) {
    MatmulArgs args{a_.view(), b_.view(), out_.view(), bias_.view(), {}};
    args.activation = activation;
    testing::kernels().matmul(args, &on);
    testing::wait();
    testing::matmul::expect_values(out_, testing::matmul::reference(args), "product");
  }
  void multiply(Activation activation = Activation::Relu) { multiply(queue(), activation); }

  Buffer a_{DType::Float32, {5, 8}}, b_{DType::Float32, {8, 12}}, bias_{DType::Float32, {12}},
      out_{DType::Float32, {5, 12}};
  const std::string folder_ = ::testing::TempDir() + "tenon-tuning-" + std::to_string(getpid());
  const std::string file_ = folder_ + "/cuda-tuning-1.txt";
  emulator::MatmulLibrary& library_ = emulator::matmul_library();
};

TEST_F(Tuned, TheFastestProposalIsTakenAndStands) {
  library_.fused = {0.5, 0.1, 0.3};
  library_.plain = library_.biased = {0.5, 0.4, 0.3};
  multiply();
  EXPECT_EQ(library_.algorithm, 1u);
  EXPECT_EQ(library_.epilogue, lt::kRelu | lt::kBias);
  const std::string kept = text();
  EXPECT_EQ(lines(), 2);
  EXPECT_NE(kept.find("Emulated GPU 0, cuBLASLt 130101: float32 [5, 8] [8, 12] -> float32:"),
            std::string::npos);
  EXPECT_NE(kept.find("\tfused "), std::string::npos);

  library_.fused = {0.1, 0.5, 0.5};  // but the choice is made
  multiply();
  EXPECT_EQ(library_.algorithm, 1u);
  start_again();
  multiply();
  EXPECT_EQ(library_.algorithm, 1u);
  EXPECT_EQ(text(), kept);

  multiply(Activation::None);  // another product
  EXPECT_EQ(library_.algorithm, 2u);
  EXPECT_EQ(library_.epilogue, lt::kBias);
  EXPECT_EQ(lines(), 3);
}

TEST_F(Tuned, AnEpilogueOfOurOwnIsTakenWhereItIsFaster) {
  library_.fused = library_.biased = {0.3, 0.3, 0.3};
  library_.plain = {0.4, 0.4, 0.1};
  multiply();
  EXPECT_EQ(library_.algorithm, 2u);
  EXPECT_EQ(library_.epilogue, lt::kNoEpilogue);
  EXPECT_NE(text().find("\tapart "), std::string::npos);
  start_again();
  multiply();
  EXPECT_EQ(library_.algorithm, 2u);
  EXPECT_EQ(library_.epilogue, lt::kNoEpilogue);
}

TEST_F(Tuned, TheBiasAloneIsTakenWhereThatIsFastest) {
  library_.fused = library_.plain = {0.3, 0.3, 0.3};
  library_.biased = {0.3, 0.1, 0.3};
  for (int run = 0; run < 2; ++run) {
    start_again();
    multiply();
    EXPECT_EQ(library_.algorithm, 1u);
    EXPECT_EQ(library_.epilogue, lt::kBias);
    EXPECT_NE(text().find("\tbias "), std::string::npos);
    EXPECT_EQ(lines(), 2);
  }
}

// Both directions of a layer's product and its activation give the same whichever way is fastest, and take that way; in float32
// GELU itself is never the library's.
TEST_F(Tuned, GeluIsFusedWhereThatIsFastest) {
  const auto time = [&](double fused, double biased, double plain) {
    std::filesystem::remove(file_);
    start_again();
    library_.fused.fill(fused);
    library_.biased.fill(biased);
    library_.plain.fill(plain);
  };
  for (const DType dtype : {DType::Float32, DType::BFloat16, DType::Float16}) {
    const bool may_fuse = dtype != DType::Float32;
    Buffer a(dtype, {5, 8}), b(dtype, {8, 16}), bias(dtype, {16}), out(dtype, {5, 16}),
        before(dtype, {5, 16});
    a.fill_normal(1);
    b.fill_normal(2, 0.3);
    bias.fill_normal(3);
    MatmulArgs args{a.view(), b.view(), out.view(), bias.view(), {}, Activation::GeluTanh};
    const std::vector<double> expected = testing::matmul::reference(args);
    args.activation = Activation::None;
    const std::vector<double> expected_before = testing::matmul::reference(args);
    args.activation = Activation::GeluTanh;
    args.before = before.view();
    const auto forward_takes = [&](uint32_t epilogue) {
      out.fill(NAN);
      before.fill(NAN);
      testing::run(&Kernels::matmul, args);
      EXPECT_EQ(library_.epilogue, epilogue);
      testing::matmul::expect_values(out, expected, "out");
      testing::matmul::expect_values(before, expected_before, "before");
    };
    time(0.1, 0.2, 0.2);
    forward_takes(may_fuse ? lt::kGeluTanhAux | lt::kBias : uint32_t{lt::kBias});
    time(0.2, 0.1, 0.2);
    forward_takes(lt::kBias);
    time(0.2, 0.2, 0.1);
    forward_takes(lt::kNoEpilogue);

    Buffer dy(dtype, {5, 8}), after(dtype, {5, 16}), dbefore(dtype, {5, 16});
    dy.fill_normal(4);
    std::vector<double> results[2][2];
    for (const bool fused : {true, false}) {
      time(fused ? 0.1 : 0.2, 0.2, fused ? 0.2 : 0.1);
      testing::run(&Kernels::matmul_activation_backward,
                   {Activation::GeluTanh, dy.view(), b.view(), before.view(), after.view(), dbefore.view()});
      EXPECT_EQ(library_.epilogue, fused && may_fuse ? lt::kGeluTanhSlope : lt::kNoEpilogue);
      results[fused][0] = after.values();
      results[fused][1] = dbefore.values();
    }
    const double most = std::max(1e-6, 2 * testing::tolerance(dtype));
    EXPECT_EQ(results[0][0], results[1][0]);
    EXPECT_LT(testing::relative_error(results[0][1], results[1][1]), most);
  }
}

TEST_F(Tuned, AWinByLessThanMeasurementsVaryIsNone) {
  library_.plain = library_.biased = library_.fused = {0.100, 0.099, 0.098};
  multiply();
  EXPECT_EQ(library_.algorithm, 0u);
}

TEST_F(Tuned, TimingChangesNoResult) {
  for (const DType dtype : {DType::Float32, DType::BFloat16}) {
    Buffer a(dtype, {4, 6}, {1, 4}), b(dtype, {6, 8}), out(dtype, {4, 8}, {9, 1}), sums(dtype, {4});
    a.fill_normal(1);
    b.fill_normal(2);
    out.fill_normal(3);
    MatmulArgs args{a.view(), b.view(), out.view(), {}, {}};
    args.accumulate = true;
    args.a_sums = sums.view();
    std::vector<double> expected = testing::matmul::reference(args);
    testing::run(&Kernels::matmul, args);
    testing::matmul::expect_values(out, expected, "accumulates");
    const std::vector<double> elements = a.values();
    std::vector<double> totals(4);
    for (size_t i = 0; i < elements.size(); ++i) totals[i / 6] += elements[i];
    testing::matmul::expect_values(sums, totals, "sums");

    args = {a.view(), b.view(), out.view(), {}, out.view()};
    args.activation = Activation::Gelu;
    expected = testing::matmul::reference(args);
    testing::run(&Kernels::matmul, args);
    testing::matmul::expect_values(out, expected, "in place");
  }
  EXPECT_EQ(lines(), 5);
}

// The tests' queue while launches are recorded, or with too little memory for timing.
class SpecialQueue : public Queue {
 public:
  cudaStream_t stream() override { return queue().stream(); }
  int multiprocessors() const override { return queue().multiprocessors(); }
  bool capturing() const override { return is_capturing; }
  const double* random() const override { return nullptr; }
  void* scratch(size_t bytes) override {
    if (std::exchange(is_full, false)) throw TensorError("allocate", code::kMemory, "no memory");
    return queue().scratch(bytes);
  }
  DataError* data_error() override { return queue().data_error(); }

  bool is_capturing = false;
  bool is_full = false;  // at the first call
};

TEST_F(Tuned, NothingIsTimedWhileAGraphIsCaptured) {
  library_.fused = {0.5, 0.1, 0.3};
  library_.plain = library_.biased = {0.5, 0.4, 0.3};
  SpecialQueue first;
  first.is_capturing = true;
  multiply(first);
  EXPECT_EQ(library_.algorithm, 0u);
  EXPECT_EQ(lines(), 0);
  first.is_capturing = false;
  multiply(first);  // the same bits as in the graph
  EXPECT_EQ(library_.algorithm, 0u);

  SpecialQueue later;
  multiply(later);
  EXPECT_EQ(library_.algorithm, 1u);
  SpecialQueue last;
  last.is_capturing = true;
  multiply(last);  // from the file
  EXPECT_EQ(library_.algorithm, 1u);
}

TEST_F(Tuned, WithoutMemoryForTimingAProductStillRuns) {
  library_.fused = {0.5, 0.1, 0.3};
  library_.plain = library_.biased = {0.5, 0.4, 0.3};
  SpecialQueue full;
  full.is_full = true;
  multiply(full);
  EXPECT_EQ(library_.algorithm, 0u);
  EXPECT_FALSE(full.is_full);
  EXPECT_EQ(lines(), 0);
}

TEST_F(Tuned, WhatCannotBeKeptIsNotTimed) {
  library_.fused = {0.5, 0.1, 0.3};
  library_.plain = library_.biased = {0.5, 0.4, 0.3};
  setenv("TENON_CACHE", "/dev/null/folder", 1);
  start_again();
  multiply();
  EXPECT_EQ(library_.algorithm, 0u);

  setenv("TENON_CACHE", folder_.c_str(), 1);
  setenv("TENON_CUDA_TUNE", "0", 1);
  start_again();
  multiply();
  EXPECT_EQ(library_.algorithm, 0u);
  EXPECT_EQ(lines(), 0);

  unsetenv("TENON_CUDA_TUNE");
  write("a file of somebody else's\n");
  start_again();
  multiply();
  EXPECT_EQ(library_.algorithm, 0u);
  EXPECT_EQ(text(), "a file of somebody else's\n");
}

TEST_F(Tuned, AConvolutionsAlgorithmIsTheFastestAndStands) {
  const auto gradient_by = [] {
    start_again();
    const auto image = [](int64_t C) { return Buffer(DType::Float32, {2, C, 4, 4}, {16 * C, 1, 4 * C, C}); };
    Buffer dy = image(8), x = image(4), dweight(DType::Float32, {8, 4, 3, 3});
    dy.fill(1);
    x.fill(1);
    testing::run(&Kernels::conv2d_weight_gradient,
                 {dy.view(), x.view(), dweight.view(), {}, {{3, 3}, {1, 1}, {1, 1}, {1, 1}}, 1});
    EXPECT_EQ(dweight.values()[4], 32);  // under the middle of the window: every pixel of both images
    return emulator::convolution_library().algorithm;
  };
  emulator::convolution_library().times = {0.2, 0.1};
  EXPECT_EQ(gradient_by(), 8);
  const std::string kept = text();
  EXPECT_EQ(lines(), 2);
  EXPECT_NE(kept.find("Emulated GPU 0, cuDNN 92400: float32 [2, 4, 4, 4] [8, 4, 3, 3]: "), std::string::npos);
  EXPECT_TRUE(kept.ends_with("\talgorithm 8 math 3\n")) << kept;
  emulator::convolution_library() = {};
  EXPECT_EQ(gradient_by(), 8);
  EXPECT_EQ(text(), kept);
  setenv("TENON_CUDA_TUNE", "0", 1);
  EXPECT_EQ(gradient_by(), 7);
}

TEST_F(Tuned, WhatFollowsAConvolutionIsFusedWhereThatIsFastest) {
  const auto image = [](DType dtype, int64_t C) {
    return Buffer(dtype, {2, C, 4, 4}, {16 * C, 1, 4 * C, C});
  };
  for (const DType dtype : {DType::Float32, DType::BFloat16}) {
    Buffer x = image(dtype, 8), weight(dtype, {8, 8, 3, 3}), bias(dtype, {8}), residual = image(dtype, 8),
           y = image(dtype, 8);
    x.fill_normal(1);
    weight.fill_normal(2, 0.1);
    bias.fill_normal(3);
    residual.fill_normal(4);
    for (const bool has_residual : {false, true}) {
      const Conv2dArgs args{x.view(),    weight.view(),
                            bias.view(), has_residual ? residual.view() : View{},
                            y.view(),    {{3, 3}, {1, 1}, {1, 1}, {1, 1}},
                            1,           true};
      std::vector<double> results[2];
      for (const bool fused : {false, true}) {
        std::filesystem::remove(file_);
        emulator::convolution_library() = {{0.2, 0.3}, fused ? 0.1 : 0.4};
        for (int run = 0; run < 2; ++run) {  // timed, then from the file
          start_again();
          y.fill(NAN);
          testing::run(&Kernels::conv2d, args);
          EXPECT_EQ(emulator::convolution_library().algorithm, 7);
          EXPECT_EQ(emulator::convolution_library().fused, fused);
          EXPECT_EQ(text().ends_with(" fused\n"), fused) << text();
        }
        results[fused] = y.values();
      }
      EXPECT_LT(testing::relative_error(results[1], results[0]), std::max(1e-6, testing::tolerance(dtype)));
      EXPECT_EQ(*std::min_element(results[1].begin(), results[1].end()), 0);
      EXPECT_GT(*std::max_element(results[1].begin(), results[1].end()), 0.5);

      // What nobody has timed is not tried, and neither is what has no ReLU.
      setenv("TENON_CUDA_TUNE", "0", 1);
      start_again();
      testing::run(&Kernels::conv2d, args);
      EXPECT_FALSE(emulator::convolution_library().fused);
      unsetenv("TENON_CUDA_TUNE");
      start_again();
      Conv2dArgs linear = args;
      linear.relu = false;
      testing::run(&Kernels::conv2d, linear);
      EXPECT_FALSE(emulator::convolution_library().fused);
    }
  }
  emulator::convolution_library() = {};
}

TEST_F(Tuned, ADamagedLineIsTimedAgain) {
  library_.fused = {0.5, 0.1, 0.3};
  library_.plain = library_.biased = {0.5, 0.4, 0.3};
  multiply();
  const std::string good = text();
  const size_t tab = good.find('\t');
  const auto expect_mended = [&](const std::string& damaged) {
    write(damaged);
    start_again();
    multiply();
    EXPECT_EQ(library_.algorithm, 1u) << damaged;
    EXPECT_EQ(text().substr(0, damaged.size()), damaged);
    EXPECT_TRUE(text().ends_with(good.substr(good.find('\n') + 1))) << text();
    start_again();
    const std::string mended = text();
    multiply();
    EXPECT_EQ(text(), mended);
  };
  expect_mended(good.substr(0, good.size() - 10));  // no newline: written only in part
  expect_mended(good.substr(0, tab) + "\tfused 12\n");
  expect_mended(good.substr(0, tab) + "\tfast " + good.substr(tab + 7));
  expect_mended(good.substr(0, good.size() - 1) + " 1\n");
  std::string unknown = good;  // to this library
  const size_t number = unknown.find(" 0000000000000001 0000000000000000 0000000000000000\n");
  ASSERT_NE(number, std::string::npos);
  unknown[number + 16] = '7';
  expect_mended(unknown);
}

TEST_F(Tuned, ProcessesThatStartTogetherAgree) {
  Tuning first, second;
  const auto usable = [](const std::string&) { return true; };
  EXPECT_EQ(first.choose("product", usable, [] { return "one"; }), "one");
  EXPECT_EQ(second.choose("product", usable, [] { return "another"; }), "one");
  EXPECT_EQ(second.find("product", usable), "one");
  EXPECT_EQ(lines(), 2);
}

TEST_F(Tuned, TheFileIsWhereTheEnvironmentSays) {
  EXPECT_EQ(cache_file(), file_);
  unsetenv("TENON_CACHE");
  setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(cache_file(), "/somewhere/tenon/cuda-tuning-1.txt");
  unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(cache_file(), std::string(std::getenv("HOME")) + "/.cache/tenon/cuda-tuning-1.txt");
  setenv("TENON_CUDA_TUNE", "0", 1);
  EXPECT_EQ(cache_file(), "");
}

TEST_F(Tuned, TheFileSaysWhatItHoldsOrWhyThereIsNone) {
  const auto told = [] {
    const KeptChoices kept = kept_choices();
    return kept.file + "|" + std::to_string(kept.count) + "|" + kept.reason;
  };
  EXPECT_EQ(told(), file_ + "|0|");
  EXPECT_FALSE(std::filesystem::exists(file_));  // asking makes none
  library_.fused = {0.5, 0.1, 0.3};
  multiply();
  multiply(Activation::None);
  EXPECT_EQ(told(), file_ + "|2|");
  write("a file of somebody else's\n");
  EXPECT_EQ(told(), "|0|" + file_ + " is another program's");
  setenv("TENON_CACHE", "/dev/null/folder", 1);
  EXPECT_EQ(told(), "|0|/dev/null/folder/cuda-tuning-1.txt can't be written");
  setenv("TENON_CACHE", (folder_ + "/new/folder").c_str(), 1);
  EXPECT_EQ(told(), folder_ + "/new/folder/cuda-tuning-1.txt|0|");
  setenv("TENON_CUDA_TUNE", "0", 1);
  EXPECT_EQ(told(), "|0|TENON_CUDA_TUNE is 0");
}

}  // namespace
}  // namespace tenon::cuda
