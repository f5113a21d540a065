// The product, and in place the activation and its slope, with one exponential: row by row, while they are in the cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/matmul_activation_backward.cc"
#include "backend/cpu/activation.h"
//
#include "backend/cpu/rows.h"
//
#include <algorithm>

#include "backend/cpu/kernels.h"
#include "backend/cpu/matmul.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

template <typename S, typename F>
void run_range(const MatmulActivationBackwardArgs& args, int64_t begin, int64_t end, F&& at) {
  const hn::ScalableTag<Compute<S>> d;
  const S* const before = args.before.as<const S>() + begin;
  S* const after = args.after ? args.after.as<S>() + begin : nullptr;
  S* const gradient = args.dbefore.as<S>() + begin;
  for_vectors(d, end - begin, [&](auto part, int64_t i) {
    const auto [value, slope] = at(d, part.get(d, before + i));
    if (after != nullptr) part.put(d, value, after + i);
    part.put(d, hn::Mul(part.get(d, gradient + i), slope), gradient + i);
  });
}

void run(const MatmulActivationBackwardArgs& args, int64_t begin, int64_t end) {
  with_float_type(args.before.dtype, [&]<typename S>(S) {
    switch (args.activation) {
      case Activation::None:
        return;
      case Activation::Relu:
        return run_range<S>(args, begin, end, [](auto d, auto x) HWY_ATTR { return relu_at(d, x); });
      case Activation::Gelu:
        return run_range<S>(args, begin, end, [](auto d, auto x) HWY_ATTR { return gelu_at(d, x); });
      case Activation::GeluTanh:
        return run_range<S>(args, begin, end, [](auto d, auto x) HWY_ATTR { return gelu_tanh_at(d, x); });
      case Activation::Silu:
        return run_range<S>(args, begin, end, [](auto d, auto x) HWY_ATTR { return silu_at(d, x); });
    }
  });
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

namespace {
HWY_EXPORT(run);
}

void matmul_activation_backward(const MatmulActivationBackwardArgs& args) {
  const auto function = HWY_DYNAMIC_DISPATCH(run);
  const int64_t columns = args.before.size(1);
  matmul({args.a, args.b, args.dbefore, {}, {}}, [&](int64_t row, int64_t column, int64_t n) {
    function(args, row * columns + column, row * columns + column + n);
  });
}

}  // namespace tenon::cpu
#endif
