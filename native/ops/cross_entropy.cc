#include "ops/ops.h"

namespace tenon::ops {

namespace {

Reduction reduction_named(const std::string& name) {
  if (name == "none") return Reduction::None;
  if (name == "mean") return Reduction::Mean;
  if (name == "sum") return Reduction::Sum;
  fail("crossEntropy", code::kValue, "expected a reduction of none, mean or sum, got '", name, "'");
}

}  // namespace

std::tuple<Tensor, Tensor> cross_entropy(const Tensor& logits, const OptionalTensor& labels,
                                         const OptionalTensor& targets, double smoothing,
                                         int64_t ignore_index, const std::string& reduction_name,
                                         bool needs_gradient) {
  check_floating("crossEntropy", "logits", logits);
  check_ndim("crossEntropy", "logits [N, classes]", logits, 2);
  if (labels.has_value() == targets.has_value()) {
    fail("crossEntropy", code::kValue, "expected either labels or soft targets");
  }
  if (labels) {
    check_index_dtype("crossEntropy", "labels", *labels);
    check_shape("crossEntropy", "labels", *labels, Shape{logits.size(0)});
  } else {
    check_same_dtype("crossEntropy", "logits", logits, "targets", *targets);
    check_shape("crossEntropy", "targets", *targets, logits.shape());
  }
  if (logits.size(1) == 0)
    fail("crossEntropy", code::kShape, "expected at least one class, got logits ", logits);
  if (!(smoothing >= 0 && smoothing < 1)) {
    fail("crossEntropy", code::kValue, "expected a label smoothing in [0, 1), got ", smoothing);
  }
  const Reduction reduction = reduction_named(reduction_name);
  const bool is_double = logits.dtype() == DType::Float64;
  const Shape loss_shape = reduction == Reduction::None ? Shape{logits.size(0)} : Shape{};
  const Tensor x = contiguous(logits);
  const OptionalTensor y = labels ? OptionalTensor(contiguous(*labels)) : labels;
  const OptionalTensor t = targets ? OptionalTensor(contiguous(*targets)) : targets;
  Tensor loss = empty(logits.device(), loss_shape, is_double ? DType::Float64 : DType::Float32);
  Tensor dlogits = needs_gradient ? empty_like(logits) : Tensor();
  launch(logits.device(), "crossEntropy", &Kernels::cross_entropy,
         CrossEntropyArgs{x.view(), optional_view(y), optional_view(t), loss.view(), dlogits.view(),
                          smoothing, ignore_index, reduction});
  return {loss, dlogits};
}

}  // namespace tenon::ops
