// The activations of layers and their slopes, on vectors: both from one exponential. NaN stays NaN. Read again for every
// instruction set.

#include "backend/cpu/simd.h"

#if defined(TENON_CPU_ACTIVATION_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_CPU_ACTIVATION_H
#undef TENON_CPU_ACTIVATION_H
#else
#define TENON_CPU_ACTIVATION_H
#endif

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {

// f(x) and f'(x).
template <class V>
struct Activated {
  V value, slope;
};

template <class D, class V>
HWY_INLINE Activated<V> relu_at(D d, V x) {
  const V zero = hn::Zero(d);
  return {hn::IfThenElse(hn::Lt(x, zero), zero, x),
          hn::IfThenElseZero(hn::Gt(x, zero), hn::Set(d, hn::TFromD<D>(1)))};
}

// x Phi(x): GELU in its exact form (Hendrycks and Gimpel, 2016). x is bounded where infinity would meet 0.
template <class D, class V>
HWY_INLINE Activated<V> gelu_at(D d, V x) {
  using T = hn::TFromD<D>;
  V density;
  const V phi = normal_cdf(d, x, density);
  const V above = hn::Max(x, hn::Set(d, T(-40)));
  return {hn::Mul(above, phi), hn::MulAdd(hn::Min(above, hn::Set(d, T(40))), density, phi)};
}

// x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which is 0.5 x (1 + tanh(...)).
template <class D, class V>
HWY_INLINE Activated<V> gelu_tanh_at(D d, V x) {
  using T = hn::TFromD<D>;
  const T k = T(1.5957691216057307118);  // 2 sqrt(2 / pi)
  const V square = hn::Mul(x, x);
  const V inner = hn::Mul(x, hn::MulAdd(square, hn::Set(d, T(0.044715) * k), hn::Set(d, k)));
  const V slope = hn::MulAdd(square, hn::Set(d, 3 * T(0.044715) * k), hn::Set(d, k));
  const V s = sigmoid(d, inner);
  const V rest = hn::Mul(hn::Mul(s, hn::Sub(hn::Set(d, T(1)), s)), hn::Mul(x, slope));
  return {hn::Mul(x, s), hn::Add(s, rest)};
}

template <class D, class V>
HWY_INLINE Activated<V> silu_at(D d, V x) {
  const V one = hn::Set(d, hn::TFromD<D>(1));
  const V s = sigmoid(d, x);
  return {hn::Mul(x, s), hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one))};
}

}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_CPU_ACTIVATION_H
