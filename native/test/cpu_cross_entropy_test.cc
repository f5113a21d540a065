// What cross_entropy does on the CPU alone: it sees labels out of range in time.
#include "backend/cpu/kernels.h"
#include "core/error.h"
#include "test/kernel_testing.h"

namespace tenon {
namespace {

using testing::Buffer;

TEST(CpuCrossEntropy, NamesTheFirstLabelOutOfRange) {
  Buffer logits(DType::Float32, {6, 10}), labels(DType::Int64, {6}), loss(DType::Float32, {});
  logits.fill_normal(1);
  labels.fill(std::vector<double>{0, 9, -100, 12, -1, 3});
  const CrossEntropyArgs args{logits.view(), labels.view(), {}, loss.view(), {}};
  try {
    cpu::cross_entropy(args);
    FAIL() << "expected an error";
  } catch (const TensorError& error) {
    EXPECT_EQ(error.code(), code::kIndex);
    EXPECT_EQ(std::string(error.what()),
              "crossEntropy: expected labels from 0 to 9 or -100, got 12 at row 3");
  }
}

}  // namespace
}  // namespace tenon
