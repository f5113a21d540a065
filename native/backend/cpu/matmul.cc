// out = activation(a b + bias) + residual: oneDNN where it has an optimised kernel, our own GEMM elsewhere and where it
// is faster.
//
// Exact GELU after a float32 product is a pass of our own: oneDNN's epilogue takes longer than reading and writing the
// product again. [3152, 192] x [192, 768], 2 threads, Zen 4: 4.4 ms without GELU, 5.2 with oneDNN's, 4.85 with ours.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/matmul.cc"
#include "backend/cpu/block.h"
//
#include <algorithm>

#include "backend/cpu/gemm.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// x Phi(x) = max(x, 0) - t Phi(-t), t = |x|, within 3e-7, as far as the product's own rounding. log2 Phi(-t) is nearly
// a parabola: a polynomial of degree 7, fitted so that the error of t Phi(-t) is even, then 2 to that power.
template <class D, class V>
HWY_INLINE V gelu_epilogue(D d, V x) {
  const hn::RebindToSigned<D> di;
  const auto set = [d](float value) { return hn::Set(d, value); };
  const V size = hn::Abs(x), limit = set(10.0f);
  const V t = hn::IfThenElse(hn::Gt(size, limit), limit, size);  // keeps NaN
  V p = hn::MulAdd(set(-1.2594318e-06f), t, set(4.9938673e-05f));
  p = hn::MulAdd(p, t, set(-0.0008448297f));
  p = hn::MulAdd(p, t, set(0.008225213f));
  p = hn::MulAdd(p, t, set(-0.05352006f));
  p = hn::MulAdd(p, t, set(-0.45877f));
  p = hn::MulAdd(p, t, set(-1.1511732f));
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
  const V tail = hn::BitCast(d, hn::Add(hn::BitCast(di, power), exponent));
  return hn::NegMulAdd(t, tail, hn::Max(x, hn::Zero(d)));
}

void gelu_row(float* x, int64_t n) {
  map_vectors(
      x, n, [](auto d, auto v) HWY_ATTR { return gelu_epilogue(d, v); }, x);
}

bool is_avx2() { return HWY_TARGET == HWY_AVX2; }

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

namespace {

HWY_EXPORT(gelu_row);
HWY_EXPORT(is_avx2);

void gelu_rows(const View& x) {
  const auto row = HWY_DYNAMIC_DISPATCH(gelu_row);
  const int64_t columns = x.size(-1);
  constexpr int64_t kGrain = 16384;  // elements for which a second thread pays
  parallel_for(x.size(0), std::max<int64_t>(1, kGrain / columns), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) row(x.as<float>() + i * x.stride(0), columns);
  });
}

bool is_float32_gelu(const MatmulArgs& args) {
  return args.activation == Activation::Gelu && args.out.dtype == DType::Float32 && args.out.ndim() == 2 &&
         !args.residual && !args.accumulate;
}

// Where our own GEMM takes rows of a as they lie, and oneDNN's kernels for AVX-512 do not run. Measured on Zen 3, 2 threads,
// oneDNN 2.6, GFLOP/s oneDNN -> ours, of 199 that the processor can do:
//   x w^T  [25088, 96] x [96, 384]: 131 -> 171,  [1576, 192] x [192, 576]: 109 -> 155,  [1568, 384] x [384, 384]: 169 -> 184
//   dy w   [25088, 384] x [384, 96]: 108 -> 144, [1576, 576] x [576, 192]: 177 -> 191,  [1568, 1152] x [1152, 384]: the same
//   x w^T  [64, 384] x [384, 1152]: 147 -> 138,  [8, 384] x [384, 1152]: 78 -> 56, which pack b for few rows
// Weight gradients are oneDNN's: dy^T x  [288, 25088] x [25088, 96]: 167 -> 132.
bool gemm_is_faster(const MatmulArgs& args) {
  constexpr int64_t kRows = 192;
  return args.a.dtype == DType::Float32 && args.out.dtype == DType::Float32 && args.out.ndim() == 2 &&
         args.out.size(0) >= kRows && args.a.stride(1) == 1 && HWY_DYNAMIC_DISPATCH(is_avx2)();
}

bool fast_matmul(const MatmulArgs& args) {
  if (!gemm_is_faster(args)) return onednn_matmul(args);
  gemm(args);
  return true;
}

bool fast_matmul_gelu(const MatmulArgs& args) {
  MatmulArgs product = args;
  product.activation = Activation::None;
  if (!fast_matmul(product)) return false;
  gelu_rows(args.out);
  return true;
}

}  // namespace

void matmul(const MatmulArgs& args) {
  if (args.before) {
    matmul({args.a, args.b, args.before, args.bias, {}});
    return unary({unary_op(args.activation), args.before, args.out});
  }
  if (args.a_sums)
    reduce(row_sums(args));  // at the speed of memory; what fits in the cache stays there for the product
  const bool empty = args.out.numel() == 0 || args.a.size(-1) == 0;
  if (!empty && (is_float32_gelu(args) ? fast_matmul_gelu(args) : fast_matmul(args))) return;
  gemm(args);
}

}  // namespace tenon::cpu
#endif
