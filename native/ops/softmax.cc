#include "ops/ops.h"

namespace tenon::ops {

Tensor softmax(const Tensor& x, int64_t d, bool log) {
  const char* op = log ? "logSoftmax" : "softmax";
  check_floating(op, "x", x);
  if (x.ndim() == 0) fail(op, code::kShape, "expected at least one dimension, got a scalar");
  const int dim = check_dim(op, d, x.ndim());
  Tensor out = empty_like(x);
  launch(x.device(), op, &Kernels::softmax, SoftmaxArgs{x.view(), out.view(), dim, log});
  return out;
}

Tensor softmax_backward(const Tensor& y, const Tensor& dy, int64_t d, bool log) {
  check_same_dtype("softmaxBackward", "y", y, "dy", dy);
  check_shape("softmaxBackward", "dy", dy, y.shape());
  const int dim = check_dim("softmaxBackward", d, y.ndim());
  Tensor dx = empty_like(y);
  launch(y.device(), "softmaxBackward", &Kernels::softmax_backward,
         SoftmaxBackwardArgs{y.view(), dy.view(), dx.view(), dim, log});
  return dx;
}

Tensor logsumexp(const Tensor& x, int64_t d, bool keepdim) {
  check_floating("logsumexp", "x", x);
  if (x.ndim() == 0) fail("logsumexp", code::kShape, "expected at least one dimension, got a scalar");
  const int dim = check_dim("logsumexp", d, x.ndim());
  Shape shape = x.shape();
  shape[dim] = 1;
  Tensor out = empty(x.device(), shape, x.dtype());
  launch(x.device(), "logsumexp", &Kernels::logsumexp, LogsumexpArgs{x.view(), out.view(), dim});
  return keepdim ? out : squeeze(out, {dim});
}

}  // namespace tenon::ops
