// Vector code with run-time dispatch through Highway: the instruction sets we compile for, and the vector functions
// that several kernels share. A kernel file begins with
//
//   #undef HWY_TARGET_INCLUDE
//   #define HWY_TARGET_INCLUDE "backend/cpu/x.cc"
//   #include "backend/cpu/simd.h"
//
// and is compiled once per instruction set. Its own helpers go into an anonymous namespace inside
// tenon::cpu::HWY_NAMESPACE, so that files cannot clash. This header has no include guard of the usual kind: it is
// read again for every instruction set.

#include "core/vector_targets.h"
//
#include "hwy/foreach_target.h"
//
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/dtype.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

#if defined(TENON_SIMD_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_SIMD_H
#undef TENON_SIMD_H
#else
#define TENON_SIMD_H
#endif

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// ---- float32 vectors from and to the floating-point dtypes -----------------------------------------------------

template <class D>
HWY_INLINE hn::Vec<D> load_f32(D d, const float* p) {
  return hn::LoadU(d, p);
}

template <class D>
HWY_INLINE hn::Vec<D> load_f32(D d, const bfloat16* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}

template <class D>
HWY_INLINE hn::Vec<D> load_f32(D d, const float16* p) {
#if HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR  // Highway's own emulation rounds subnormals wrongly
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)];
  for (size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = static_cast<float>(p[i]);
  return hn::Load(d, lanes);
#else
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
#endif
}

template <class D, class V>
HWY_INLINE void store_f32(D d, V v, float* p) {
  hn::StoreU(v, d, p);
}

// Rounds to nearest even; NaN stays NaN.
template <class D, class V>
HWY_INLINE void store_f32(D, V v, bfloat16* p) {
  const hn::RebindToUnsigned<D> d32;
  const hn::RebindToSigned<D> s32;
  const hn::Rebind<uint16_t, D> d16;
  const auto bits = hn::BitCast(d32, v);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(d32, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(d32, 0x7fffu))));
  const auto quiet = hn::Or(upper, hn::Set(d32, 0x40u));
  const auto nan = hn::RebindMask(d32, hn::IsNaN(v));
  const auto half = hn::IfThenElse(nan, quiet, rounded);
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(s32, half)), d16, reinterpret_cast<uint16_t*>(p));
}

template <class D, class V>
HWY_INLINE void store_f32([[maybe_unused]] D d, V v, float16* p) {
#if HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) p[i] = float16(lanes[i]);
#else
  const hn::Rebind<hwy::float16_t, D> d16;
  hn::StoreU(hn::DemoteTo(d16, v), d16, reinterpret_cast<hwy::float16_t*>(p));
#endif
}

// ---- functions ---------------------------------------------------------------------------------------------------
//
// For float32 within 1e-6 of the true value, relative (most within 2 ulp), over the whole range; NaN stays NaN and
// infinities give the limits. float64 goes through the C library lane by lane: it is there for gradient checks.

template <class D>
constexpr bool kIsDouble = std::is_same_v<hn::TFromD<D>, double>;

template <class D, class V, class F>
HWY_INLINE V per_lane(D d, V v, F&& f) {
  using T = hn::TFromD<D>;
  HWY_ALIGN T lanes[HWY_MAX_BYTES / sizeof(T)];
  hn::Store(v, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = f(lanes[i]);
  return hn::Load(d, lanes);
}

template <class D, class V>
HWY_INLINE V keep_nan(D, V x, V y) {
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// exp(x - n ln 2) for float32, n being x / ln 2 rounded: Cephes' polynomial.
template <class D, class V>
HWY_INLINE V exp_fraction(D d, V x, V n) {
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  V p = hn::MulAdd(hn::Set(d, 1.9875691500e-4f), r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  return hn::MulAdd(hn::Mul(r, r), p, hn::Add(r, hn::Set(d, 1.0f)));
}

// exp(x) for x that is not above 0 but for rounding, as less a maximum: within 2 ulp, exactly 0 below -87 for float32 (and
// at minus infinity), NaN stays NaN. The leanest of the three, as softmax and attention spend much of their time here.
template <class D, class V>
HWY_INLINE V exp_negative(D d, V x) {
  if constexpr (kIsDouble<D>) {
    return per_lane(d, x, [](double v) { return std::exp(v); });
  } else {
    const hn::RebindToSigned<D> di;
    const V magic =
        hn::Set(d, 12583039.0f);  // 1.5 * 2^23 + 127: rounds, and leaves 2^n's exponent in the low bits
    const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), magic);
    const V n = hn::Sub(shifted, magic);
    const V p = exp_fraction(d, x, n);
    const V power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
    return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.0f)), hn::Mul(p, power));
  }
}

// exp(x) for float32 with x brought into [-87, 88] first: the result is never 0, infinite or subnormal, and NaN is
// lost. For use inside other functions. 2^n is added to the exponent's bits.
template <class D, class V>
HWY_INLINE V exp_clamped(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
  x = hn::Min(hn::Max(x, hn::Set(d, -87.0f)), hn::Set(d, 88.0f));
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), magic);
  const V n = hn::Sub(shifted, magic);
  const V p = exp_fraction(d, x, n);
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
}

template <class D, class V>
HWY_INLINE V exp(D d, V x) {
  if constexpr (kIsDouble<D>) {
    return per_lane(d, x, [](double v) { return std::exp(v); });
  } else {
    // exp(x) = exp(x / 2)^2 where the result may be subnormal or infinite: the square reaches both.
    const auto middle = hn::Lt(hn::Abs(x), hn::Set(d, 86.0f));
    V y = exp_clamped(d, x);
    if (HWY_UNLIKELY(!hn::AllTrue(d, middle))) {
      const V half = exp_clamped(d, hn::Mul(x, hn::Set(d, 0.5f)));
      y = hn::IfThenElse(middle, y, hn::Mul(half, half));
    }
    return keep_nan(d, x, y);
  }
}

template <class D, class V>
HWY_INLINE V log(D d, V x) {
  if constexpr (kIsDouble<D>) {
    return per_lane(d, x, [](double v) { return std::log(v); });
  } else {
    const V inf = hn::Set(d, HUGE_VALF);
    V y = hn::Log(d, x);
    y = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), hn::Neg(inf), y);
    y = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Set(d, NAN), y);
    y = hn::IfThenElse(hn::Eq(x, inf), inf, y);
    return keep_nan(d, x, y);
  }
}

template <class D, class V>
HWY_INLINE V sigmoid(D d, V x) {
  const V one = hn::Set(d, hn::TFromD<D>(1));
  return hn::Div(one, hn::Add(one, exp(d, hn::Neg(x))));
}

template <class D, class V>
HWY_INLINE V tanh(D d, V x) {
  if constexpr (kIsDouble<D>) {
    return per_lane(d, x, [](double v) { return std::tanh(v); });
  } else {
    return keep_nan(d, x, hn::Tanh(d, x));
  }
}

// Phi(-x) of the standard normal for x >= 0, in float32: density * Mills ratio, with the ratio as a polynomial in
// 1 / (1 + 0.35 x), fitted to 1e-7 relative over [0, 14].
template <class D, class V>
HWY_INLINE V normal_tail(D d, V x) {
  const V half = hn::Set(d, 0.5f), one = hn::Set(d, 1.0f);
  // exp(-x^2 / 2), with the rounding error of x^2 put back: it would cost 1e-6 at x = 6.
  const V bounded = hn::Min(x, hn::Set(d, 14.0f));
  const V square = hn::Mul(bounded, bounded);
  const V rest = hn::MulSub(bounded, bounded, square);
  V e = exp_clamped(d, hn::Mul(square, hn::Neg(half)));
  e = hn::NegMulAdd(hn::Mul(rest, half), e, e);
  const V u = hn::Div(one, hn::MulAdd(x, hn::Set(d, 0.35f), one));
  V p = hn::MulAdd(hn::Set(d, -0.029146341606974602f), u, hn::Set(d, 0.1439736783504486f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.25571826100349426f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.15917865931987762f));
  p = hn::MulAdd(p, u, hn::Set(d, -0.023112865164875984f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.10550925135612488f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.11983256042003632f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.13986191153526306f));
  p = hn::MulAdd(p, u, hn::Set(d, 0.13962140679359436f));
  return hn::Mul(e, hn::Mul(p, u));
}

template <class D, class V>
HWY_INLINE V erf(D d, V x) {
  if constexpr (kIsDouble<D>) {
    return per_lane(d, x, [](double v) { return std::erf(v); });
  } else {
    const V size = hn::Abs(x);
    const V z = hn::Mul(x, x);
    V p = hn::MulAdd(hn::Set(d, 7.85385345807299e-05f), z, hn::Set(d, -0.000801019137725234f));
    p = hn::MulAdd(p, z, hn::Set(d, 0.00518832728266716f));
    p = hn::MulAdd(p, z, hn::Set(d, -0.026853810995817184f));
    p = hn::MulAdd(p, z, hn::Set(d, 0.1128358542919159f));
    p = hn::MulAdd(p, z, hn::Set(d, -0.3761262595653534f));
    p = hn::MulAdd(p, z, hn::Set(d, 1.1283791065216064f));
    const V tail = normal_tail(d, hn::Mul(size, hn::Set(d, 1.41421356237309505f)));
    const V far = hn::CopySign(hn::NegMulAdd(tail, hn::Set(d, 2.0f), hn::Set(d, 1.0f)), x);
    return hn::IfThenElse(hn::Lt(size, hn::Set(d, 1.0f)), hn::Mul(x, p), far);
  }
}

}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_SIMD_H
