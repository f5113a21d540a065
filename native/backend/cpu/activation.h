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
          hn::IfThenZeroElse(hn::Le(x, zero), hn::Set(d, hn::TFromD<D>(1)))};
}

// x Phi(x): GELU in its exact form (Hendrycks and Gimpel, 2016).
//
// In float32 within 3e-7 max(1, |x|) (PyTorch's own is within 1.2e-6). For t = |x|, x Phi(x) = max(x, 0) - t Phi(-t), and the
// slope is Phi(-t) q(t) away from 0 or 1, where q(t) = t phi(t) / Phi(-t) - 1. log2 Phi(-t) is nearly a parabola, and so is
// q: polynomials, fitted so that the errors of Phi(-t), t Phi(-t) and Phi(-t) q(t) are even, and one power of 2.
template <class D, class V>
HWY_INLINE Activated<V> gelu_at(D d, V x) {
  if constexpr (kIsDouble<D>) {
    const V phi = per_lane(d, x, [](double v) { return 0.5 * std::erfc(v * -0.70710678118654752440); });
    const V density =
        hn::Mul(exp(d, hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5))), hn::Set(d, 0.39894228040143267794));
    const V above = hn::Max(x, hn::Set(d, -40.0));  // infinity would meet 0
    return {hn::Mul(above, phi), hn::MulAdd(hn::Min(above, hn::Set(d, 40.0)), density, phi)};
  } else {
    const hn::RebindToSigned<D> di;
    const auto set = [d](float value) { return hn::Set(d, value); };
    const V size = hn::Abs(x), limit = set(10.0f);
    const auto beyond = hn::Gt(size, limit);
    const V t = hn::IfThenElse(beyond, limit, size);  // keeps NaN
    V p = hn::MulAdd(set(4.362554e-06f), t, set(-1.557718e-05f));
    p = hn::MulAdd(p, t, set(-0.00055529614f));
    p = hn::MulAdd(p, t, set(0.0076086107f));
    p = hn::MulAdd(p, t, set(-0.052861247f));
    p = hn::MulAdd(p, t, set(-0.4590978f));
    p = hn::MulAdd(p, t, set(-1.1511159f));
    p = hn::MulAdd(p, t, set(-1.0f));
    const V magic = set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
    const V shifted = hn::Add(p, magic);
    const V r = hn::Sub(p, hn::Sub(shifted, magic));
    V power = hn::MulAdd(set(0.0013276492f), r, set(0.009675549f));
    power = hn::MulAdd(power, r, set(0.055507135f));
    power = hn::MulAdd(power, r, set(0.2402212f));
    power = hn::MulAdd(power, r, set(0.69314694f));
    power = hn::MulAdd(power, r, set(1.0f));
    const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
    const V tail = hn::IfThenZeroElse(beyond, hn::BitCast(d, hn::Add(hn::BitCast(di, power), exponent)));
    V q = hn::MulAdd(set(1.12883945e-05f), t, set(-0.00014419417f));
    q = hn::MulAdd(q, t, set(0.00058062724f));
    q = hn::MulAdd(q, t, set(0.0008737771f));
    q = hn::MulAdd(q, t, set(-0.02001794f));
    q = hn::MulAdd(q, t, set(0.10940415f));
    q = hn::MulAdd(q, t, set(0.636537f));
    q = hn::MulAdd(q, t, set(0.79789025f));
    q = hn::MulAdd(q, t, set(-1.0f));
    const V away = hn::Mul(tail, q), zero = hn::Zero(d);
    return {hn::NegMulAdd(t, tail, hn::Max(x, zero)),
            hn::IfThenElse(hn::Lt(x, zero), hn::Neg(away), hn::Add(set(1.0f), away))};
  }
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
