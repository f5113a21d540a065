#include <cmath>

#include "ops/ops.h"

namespace tenon::ops {

namespace {

// The result of an elementwise op: channels-last where an operand is an image of its shape that lies so, so that a
// chain of image ops never permutes; else row-major.
Tensor result(const Tensor& like, const Shape& shape, DType dtype,
              std::initializer_list<const Tensor*> operands) {
  for (const Tensor* x : operands) {
    if (x != nullptr && x->shape() == shape && !x->is_contiguous() && x->view().is_channels_last()) {
      return empty_channels_last(like.device(), shape, dtype);
    }
  }
  return empty(like.device(), shape, dtype);
}

Tensor unary(const char* op, UnaryOp kind, const Tensor& x, double a = 0, double b = 0) {
  switch (kind) {
    case UnaryOp::LogicalNot:
      if (x.dtype() != DType::Bool) fail(op, code::kDType, "expected a bool tensor, got ", x.dtype());
      break;
    case UnaryOp::Neg:
    case UnaryOp::Abs:
    case UnaryOp::Sign:
    case UnaryOp::Relu:
    case UnaryOp::Clamp:
      if (x.dtype() == DType::Bool) fail(op, code::kDType, "expected a numeric tensor, got bool");
      break;
    default:
      check_floating(op, "x", x);
  }
  Tensor out = result(x, x.shape(), x.dtype(), {&x});
  launch(x.device(), op, &Kernels::unary, UnaryArgs{kind, x.view(), out.view(), a, b});
  return out;
}

// A number as a tensor of a 16-bit dtype holds it.
double rounded(DType dtype, double number) {
  const auto value = static_cast<float>(number);
  if (dtype == DType::BFloat16) return static_cast<float>(bfloat16(value));
  if (dtype == DType::Float16) return static_cast<float>(float16(value));
  return number;
}

bool is_comparison(BinaryOp kind) { return kind >= BinaryOp::Equal && kind <= BinaryOp::GreaterEqual; }
bool is_logical(BinaryOp kind) { return kind == BinaryOp::LogicalAnd || kind == BinaryOp::LogicalOr; }
bool is_floating_only(BinaryOp kind) {
  return kind == BinaryOp::Div || kind == BinaryOp::Pow || kind >= BinaryOp::ReluBackward;
}

Tensor binary(const char* op, BinaryOp kind, const OptionalTensor& a, const OptionalTensor& b,
              double scalar) {
  if (!a && !b) fail(op, code::kValue, "expected at least one tensor, got two numbers");
  const Tensor& x = a ? *a : *b;
  if (a && b) {
    check_same_dtype(op, "a", *a, "b", *b);
  }
  if (is_logical(kind)) {
    if (x.dtype() != DType::Bool) fail(op, code::kDType, "expected bool tensors, got ", x.dtype());
  } else if (is_floating_only(kind)) {
    check_floating(op, "tensor", x);
  } else if (x.dtype() == DType::Bool && !is_comparison(kind)) {
    fail(op, code::kDType, "expected numeric tensors, got bool");
  }
  if (!a || !b) check_number(op, x.dtype(), scalar);
  const Shape shape = a && b ? broadcast_shapes(op, a->shape(), b->shape()) : x.shape();
  const bool truth = is_comparison(kind) || is_logical(kind);
  Tensor out = result(x, shape, truth ? DType::Bool : x.dtype(), {a ? &*a : nullptr, b ? &*b : nullptr});
  const auto operand = [&](const OptionalTensor& t) {
    return t ? broadcast_to(op, *t, shape).view() : View{};
  };
  // Arithmetic takes the number as it is and rounds once; what it is compared with was rounded before.
  const double number = is_comparison(kind) ? rounded(x.dtype(), scalar) : scalar;
  launch(x.device(), op, &Kernels::binary, BinaryArgs{kind, operand(a), operand(b), out.view(), number});
  return out;
}

}  // namespace

#define TENON_OP(name, Name) \
  Tensor name(const Tensor& x) { return unary(#name, UnaryOp::Name, x); }
TENON_UNARY_OPS(TENON_OP)
#undef TENON_OP

Tensor clamp(const Tensor& x, double lo, double hi) {
  if (!(lo <= hi)) fail("clamp", code::kValue, "expected min <= max, got ", lo, " and ", hi);
  for (const double bound : {lo, hi}) {
    if (std::isfinite(bound)) check_number("clamp", x.dtype(), bound);  // an infinity is no bound at all
  }
  return unary("clamp", UnaryOp::Clamp, x, lo, hi);
}

#define TENON_OP(name, Name)                                                     \
  Tensor name(const OptionalTensor& a, const OptionalTensor& b, double scalar) { \
    return binary(#name, BinaryOp::Name, a, b, scalar);                          \
  }
TENON_BINARY_OPS(TENON_OP)
#undef TENON_OP

Tensor where(const Tensor& condition, const OptionalTensor& a, const OptionalTensor& b, double a_scalar,
             double b_scalar) {
  if (condition.dtype() != DType::Bool) {
    fail("where", code::kDType, "expected a bool condition, got ", condition.dtype());
  }
  if (!a && !b) fail("where", code::kValue, "expected at least one tensor, got two numbers");
  Shape shape = condition.shape();
  for (const OptionalTensor& t : {a, b}) {
    if (!t) continue;
    shape = broadcast_shapes("where", shape, t->shape());
  }
  if (a && b) check_same_dtype("where", "a", *a, "b", *b);
  const DType dtype = a ? a->dtype() : b->dtype();
  if (!a) check_number("where", dtype, a_scalar);
  if (!b) check_number("where", dtype, b_scalar);
  Tensor out = result(condition, shape, dtype, {&condition, a ? &*a : nullptr, b ? &*b : nullptr});
  const auto operand = [&](const OptionalTensor& t) {
    return t ? broadcast_to("where", *t, shape).view() : View{};
  };
  launch(condition.device(), "where", &Kernels::where,
         WhereArgs{broadcast_to("where", condition, shape).view(), operand(a), operand(b), out.view(),
                   a_scalar, b_scalar});
  return out;
}

}  // namespace tenon::ops
