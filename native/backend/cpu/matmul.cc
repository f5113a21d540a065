// out = activation(a b + bias) + residual: oneDNN where it has an optimised kernel, our own GEMM elsewhere and where it
// is faster.
//
// Exact GELU after a float32 product is a pass of our own: oneDNN's epilogue takes longer than reading and writing the
// product again. [3152, 192] x [192, 768], 2 threads, Zen 4: 4.4 ms without GELU, 5.2 with oneDNN's, 4.85 with ours.
// It is so where the product itself is kept for the gradient, too.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/matmul.cc"
#include "backend/cpu/block.h"
//
#include <algorithm>

#include "backend/cpu/gemm.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/scratch.h"

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

void gelu_row(const float* x, float* out, int64_t n) {
  map_vectors(
      out, n, [](auto d, auto v) HWY_ATTR { return gelu_epilogue(d, v); }, x);
}

bool is_avx2() { return HWY_TARGET == HWY_AVX2; }
bool is_avx512() { return HWY_TARGET <= HWY_AVX3; }

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

namespace {

HWY_EXPORT(gelu_row);
HWY_EXPORT(is_avx2);
HWY_EXPORT(is_avx512);

// out = GELU of x, which may be out.
void gelu_rows(const View& x, const View& out) {
  const auto row = HWY_DYNAMIC_DISPATCH(gelu_row);
  const int64_t columns = x.size(-1);
  constexpr int64_t kGrain = 16384;  // elements for which a second thread pays
  parallel_for(x.size(0), std::max<int64_t>(1, kGrain / columns), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      row(x.as<float>() + i * x.stride(0), out.as<float>() + i * out.stride(0), columns);
  });
}

// A product whose GELU is a pass of its own.
bool is_float32_gelu(const MatmulArgs& args) {
  return args.activation == Activation::Gelu && args.out.dtype == DType::Float32 && args.out.ndim() == 2 &&
         !args.residual && !args.accumulate;
}

// dy^T x: both operands are read down the rows that they share.
bool is_weight_gradient(const MatmulArgs& args) {
  return args.out.ndim() == 2 && args.a.stride(0) == 1 && args.a.stride(1) >= args.out.size(0) &&
         args.b.stride(1) == 1 && args.b.stride(0) >= args.out.size(1);
}

// Where our own GEMM reads a as it lies and is faster than oneDNN 2.6: over enough rows to share the packing of b. Measured
// with 2 threads on Zen 4, 225 GFLOP/s possible; oneDNN -> ours. Most is gained where operands come from memory.
//
// AVX-512:
//   x w^T  [25088, 96] x [96, 384]: 203 -> 221,    [25088, 384] x [384, 96]: 205 -> 215,   [1568, 384] x [384, 1536]: 214 -> 222
//          [2048, 2048] x [2048, 2048]: 213 -> 219, [1576, 1024] x [1024, 4096]: 207 -> 218, [3152, 768] x [768, 192]: 217 -> 222
//          [392, 768] x [768, 2304]: the same,     [392, 3072] x [3072, 768]: 215 -> 206,  [64, 768] x [768, 768]: 196 -> 184
//   dy w   [25088, 96] x [96, 384]: 203 -> 221,    [1568, 1152] x [1152, 384]: 210 -> 222, [392, 2304] x [2304, 768]: 219 -> 206
//   dy^T x [288, 25088] x [25088, 96]: 190 -> 205, [384, 25088] x [25088, 96]: 194 -> 208, [768, 197] x [197, 3072]: 205 -> 223
//          [2048, 2048] x [2048, 2048]: 212 -> 223, [576, 6272] x [6272, 192]: the same,   [288, 8320] x [8320, 96]: 223 -> 217
//          [96, 25088] x [25088, 96]: 208 -> 196,  [128, 8320] x [8320, 64]: 222 -> 186,   [768, 64] x [64, 768]: 215 -> 205
//
// AVX2:
//   x w^T  [25088, 96] x [96, 384]: 204 -> 222,    [25088, 384] x [384, 96]: 144 -> 219,   [1576, 1024] x [1024, 1024]: 208 -> 219
//          [392, 768] x [768, 768]: the same,      [64, 384] x [384, 1152]: 211 -> 198
//   dy w   [25088, 384] x [384, 96]: 144 -> 219,   [1576, 576] x [576, 192]: the same
//   dy^T x [288, 25088] x [25088, 96]: 215 -> 196, [576, 6272] x [6272, 192]: 215 -> 200
bool gemm_is_faster(const MatmulArgs& args) {
  if (args.a.dtype != DType::Float32 || args.out.dtype != DType::Float32 || args.out.ndim() != 2)
    return false;
  const int64_t m = args.out.size(0), n = args.out.size(1), k = args.a.size(1);
  const bool has_rows = args.a.stride(1) == 1;
  if (HWY_DYNAMIC_DISPATCH(is_avx2)()) return has_rows && m >= 192;
  if (!HWY_DYNAMIC_DISPATCH(is_avx512)()) return false;
  if (is_weight_gradient(args)) return std::max(m, n) >= 192 && std::min(m, n) >= 96 && k >= 192;
  return has_rows && m >= 512;
}

// Whether to make a weight gradient dy^T x as (x^T dy)^T. Our own GEMM reads its left operand and copies the right one:
// better the narrower. oneDNN copies a left operand whose columns run along memory, where both are long. Zen 4, 2 threads,
// GFLOP/s of dy^T x -> (x^T dy)^T, float32:
//   ours   dy [25088, 96], x [25088, 384]: 166 -> 201,  [1568, 384], [1568, 1536]: 205 -> 219
//   oneDNN dy [25088, 384], x [25088, 96]: 176 -> 192,  [6272, 576], [6272, 192]: 189 -> 206,  [1568, 1536], [1568, 384]: the same
bool transposing_pays(const MatmulArgs& args) {
  if (!is_weight_gradient(args) || args.bias || args.residual || args.accumulate) return false;
  if (args.activation != Activation::None) return false;
  const int64_t m = args.out.size(0), n = args.out.size(1), k = args.a.size(1);
  return gemm_is_faster(args) ? m < n : m > n && k >= 4 * m;
}

bool fast_matmul(const MatmulArgs& args) {
  if (transposing_pays(args)) {
    static thread_local ScratchBuffer memory;
    const View& out = args.out;
    const View product{memory.reserve<char>(out.numel() * static_cast<int64_t>(size_of(out.dtype))),
                       out.dtype, Shape{out.size(1), out.size(0)}, Shape{out.size(0), 1}};
    if (!fast_matmul({transposed(args.b), transposed(args.a), product, {}, {}})) return false;
    copy({transposed(product), out});
    return true;
  }
  if (!gemm_is_faster(args)) return onednn_matmul(args);
  gemm(args);
  return true;
}

}  // namespace

void matmul(const MatmulArgs& args) {
  // At the speed of memory; what fits in the cache stays there for the product.
  if (args.a_sums) reduce(row_sums(args));
  if (args.before || is_float32_gelu(args)) {
    const View& before = args.before ? args.before : args.out;
    matmul({args.a, args.b, before, args.bias, {}});
    if (is_float32_gelu(args)) return gelu_rows(before, args.out);
    return unary({unary_op(args.activation), before, args.out});
  }
  const bool empty = args.out.numel() == 0 || args.a.size(-1) == 0;
  if (!empty && fast_matmul(args)) return;
  gemm(args);
}

}  // namespace tenon::cpu
#endif
