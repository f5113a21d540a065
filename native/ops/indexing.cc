#include "ops/ops.h"

namespace tenon::ops {

Tensor index_select(const Tensor& x, const Tensor& index, int64_t d) {
  check_index_dtype("indexSelect", "index", index);
  check_ndim("indexSelect", "index", index, 1);
  if (x.ndim() == 0) fail("indexSelect", code::kShape, "expected at least one dimension, got a scalar");
  const int dim = check_dim("indexSelect", d, x.ndim());
  Shape shape = x.shape();
  shape[dim] = index.size(0);
  Tensor out = empty(x.device(), shape, x.dtype());
  launch(x.device(), "indexSelect", &Kernels::index_select,
         IndexSelectArgs{x.view(), index.view(), out.view(), dim});
  return out;
}

Tensor index_add(const Tensor& x, const Tensor& index, const Tensor& src, int64_t d, double alpha) {
  constexpr const char* kOp = "indexAdd";
  check_index_dtype(kOp, "index", index);
  check_ndim(kOp, "index", index, 1);
  check_same_dtype(kOp, "x", x, "src", src);
  if (x.ndim() == 0) fail(kOp, code::kShape, "expected at least one dimension, got a scalar");
  const int dim = check_dim(kOp, d, x.ndim());
  Shape expected = x.shape();
  expected[dim] = index.size(0);
  check_shape(kOp, "src", src, expected);
  if (alpha != 1 && !is_floating(x.dtype())) {
    fail(kOp, code::kDType, "expected a floating-point x for an alpha of ", alpha, ", got ", x.dtype());
  }
  Tensor out = clone(x);
  launch(x.device(), kOp, &Kernels::index_add,
         IndexAddArgs{out.view(), index.view(), src.view(), dim, alpha});
  return out;
}

namespace {

// index has x's rank, and no size above x's outside `dim`.
int check_gather(const char* op, const Tensor& x, const Tensor& index, int64_t d) {
  check_index_dtype(op, "index", index);
  if (x.ndim() == 0) fail(op, code::kShape, "expected at least one dimension, got a scalar");
  const int dim = check_dim(op, d, x.ndim());
  bool fits = index.ndim() == x.ndim();
  for (int i = 0; fits && i < x.ndim(); ++i) fits = i == dim || index.size(i) <= x.size(i);
  if (!fits)
    fail(op, code::kShape, "expected an index no larger than ", x, " outside dim ", d, ", got ", index);
  return dim;
}

}  // namespace

Tensor gather(const Tensor& x, const Tensor& index, int64_t d) {
  const int dim = check_gather("gather", x, index, d);
  Tensor out = empty(x.device(), index.shape(), x.dtype());
  launch(x.device(), "gather", &Kernels::gather, GatherArgs{x.view(), index.view(), out.view(), dim});
  return out;
}

Tensor scatter_add(const Tensor& x, const Tensor& index, const Tensor& src, int64_t d) {
  const int dim = check_gather("scatterAdd", x, index, d);
  check_same_dtype("scatterAdd", "x", x, "src", src);
  check_shape("scatterAdd", "src", src, index.shape());
  Tensor out = clone(x);
  launch(x.device(), "scatterAdd", &Kernels::scatter_add,
         ScatterAddArgs{out.view(), index.view(), src.view(), dim});
  return out;
}

Tensor one_hot(const Tensor& index, int64_t classes, DType dtype) {
  check_index_dtype("oneHot", "index", index);
  if (classes < 1) fail("oneHot", code::kValue, "expected at least one class, got ", classes);
  Shape shape = index.shape();
  shape.push_back(classes);
  Tensor out = empty(index.device(), shape, dtype);
  launch(index.device(), "oneHot", &Kernels::one_hot, OneHotArgs{index.view(), out.view()});
  return out;
}

}  // namespace tenon::ops
