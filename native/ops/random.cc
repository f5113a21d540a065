#include "core/random.h"
#include "ops/ops.h"

namespace tenon::ops {

Tensor random(Device& device, const Dims& sizes, const std::string& kind_name, double a, double b, double c,
              double d, uint64_t seed, uint64_t offset, DType dtype) {
  RandomKind kind{};
  if (kind_name == "uniform") {
    kind = RandomKind::Uniform;
    if (!(a <= b)) fail("uniform", code::kValue, "expected low <= high, got ", a, " and ", b);
  } else if (kind_name == "normal") {
    kind = RandomKind::Normal;
    if (!(b >= 0)) fail("normal", code::kValue, "expected a standard deviation of 0 or more, got ", b);
  } else if (kind_name == "truncatedNormal") {
    kind = RandomKind::TruncatedNormal;
    if (!(b >= 0 && c < d)) {
      fail("truncatedNormal", code::kValue, "expected std >= 0 and low < high, got std ", b, ", low ", c,
           ", high ", d);
    }
  } else if (kind_name == "bernoulli") {
    kind = RandomKind::Bernoulli;
    if (!(a >= 0 && a <= 1)) fail("bernoulli", code::kValue, "expected a probability in [0, 1], got ", a);
  } else if (kind_name == "randint") {
    kind = RandomKind::RandInt;
    if (!(a < b)) fail("randint", code::kValue, "expected low < high, got ", a, " and ", b);
    check_number("randint", dtype, a);
    check_number("randint", dtype, b - 1);
  } else {
    fail("random", code::kValue, "expected a known distribution, got '", kind_name, "'");
  }
  if (kind != RandomKind::RandInt && kind != RandomKind::Bernoulli && !is_floating(dtype)) {
    fail(kind_name.c_str(), code::kDType, "expected a floating-point dtype, got ", dtype);
  }
  const Shape shape{std::span<const int64_t>(sizes)};
  for (const int64_t n : shape) {
    if (n < 0) fail(kind_name.c_str(), code::kShape, "expected sizes of 0 or more, got ", shape);
  }
  Tensor out = empty(device, shape, dtype);
  launch(device, "random", &Kernels::random, RandomArgs{kind, out.view(), a, b, c, d, seed, offset});
  return out;
}

Tensor permutation(Device& device, int64_t n, uint64_t seed, uint64_t offset) {
  if (n < 0) fail("permutation", code::kValue, "expected a size of 0 or more, got ", n);
  Tensor out = empty(device, Shape{n}, DType::Int64);
  launch(device, "permutation", &Kernels::permutation, PermutationArgs{out.view(), seed, offset});
  return out;
}

std::vector<int64_t> drawn_ones(int64_t n, double p, uint64_t seed, uint64_t offset) {
  const uint64_t threshold = Philox::threshold(p);
  std::vector<int64_t> ones;
  for (int64_t i = 0; i < n; ++i) {
    if (Philox::word(seed, offset + static_cast<uint64_t>(i)) < threshold) ones.push_back(i);
  }
  return ones;
}

Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t offset) {
  check_floating("dropout", "x", x);
  if (!(p >= 0 && p < 1)) fail("dropout", code::kValue, "expected a probability in [0, 1), got ", p);
  const Tensor xc = contiguous(x);
  Tensor out = empty_like(x);
  launch(x.device(), "dropout", &Kernels::dropout, DropoutArgs{xc.view(), out.view(), p, seed, offset});
  return out;
}

}  // namespace tenon::ops
