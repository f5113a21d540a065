// out = activation(a b + bias) + residual: oneDNN where it has an optimised kernel, our own GEMM elsewhere and where it
// is faster.
//
// Exact GELU after a float32 product is ours: oneDNN's epilogue takes longer than reading and writing the product again.
// [3152, 192] x [192, 768], 2 threads, Zen 4: 4.4 ms without GELU, 5.2 with oneDNN's, 4.85 with ours. It is so where the
// product itself is kept for the gradient, too.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/matmul.cc"
#include "backend/cpu/activation.h"
//
#include "backend/cpu/block.h"
//
#include <algorithm>

#include "backend/cpu/iterate.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/scratch.h"
#include "backend/divide.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

void gelu_row(const float* x, float* out, int64_t n) {
  map_vectors(
      out, n, [](auto d, auto v) HWY_ATTR { return gelu_at(d, v).value; }, x);
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

// No result, or sums of nothing.
bool is_empty(const MatmulArgs& args) { return args.out.numel() == 0 || args.a.size(-1) == 0; }

// A product whose GELU is ours.
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
// with 2 threads on Zen 4, 225 GFLOP/s possible; oneDNN -> ours. Most is gained where operands come from memory. On Emerald
// Rapids, beside other work, ours has 1.0 to 1.2 of oneDNN's speed over 25088 rows, 0.85 to 1.05 over 788 to 3152.
//
// AVX-512:
//   x w^T  [25088, 96] x [96, 384]: 200 -> 223,    [25088, 384] x [384, 96]: 200 -> 228,   [1568, 384] x [384, 1536]: 211 -> 220
//          [2048, 2048] x [2048, 2048]: 214 -> 220, [1576, 1024] x [1024, 4096]: 207 -> 217, [3152, 768] x [768, 192]: 221 -> 224
//          [392, 768] x [768, 2304]: the same,     [392, 3072] x [3072, 768]: 216 -> 203,  [64, 768] x [768, 768]: 193 -> 183
//   dy w   [25088, 96] x [96, 384]: 198 -> 222,    [1568, 1152] x [1152, 384]: 210 -> 221, [392, 2304] x [2304, 768]: 221 -> 211
//   dy^T x [288, 25088] x [25088, 96]: 138 -> 206, [384, 25088] x [25088, 96]: 157 -> 208, [768, 197] x [197, 3072]: 188 -> 219
//          [2048, 2048] x [2048, 2048]: 204 -> 223, [576, 6272] x [6272, 192]: 184 -> 210, [288, 8320] x [8320, 96]: 153 -> 211
//          [96, 25088] x [25088, 96]: 142 -> 177,  [128, 8320] x [8320, 64]: 221 -> 192,   [768, 64] x [64, 768]: 225 -> 218
//
// AVX2:
//   x w^T  [25088, 96] x [96, 384]: 204 -> 222,    [25088, 384] x [384, 96]: 144 -> 219,   [1576, 1024] x [1024, 1024]: 208 -> 219
//          [392, 768] x [768, 768]: the same,      [64, 384] x [384, 1152]: 211 -> 198
//   dy w   [25088, 384] x [384, 96]: 144 -> 219,   [1576, 576] x [576, 192]: the same
//   dy^T x [288, 25088] x [25088, 96]: 215 -> 196, [576, 6272] x [6272, 192]: 215 -> 200
bool gemm_is_faster(const MatmulArgs& args) {
  if (args.out.ndim() != 2) return false;
  if (args.a.dtype == DType::BFloat16) return !onednn_multiplies(DType::BFloat16);
  if (args.a.dtype != DType::Float32 || args.out.dtype != DType::Float32) return false;
  const int64_t m = args.out.size(0), n = args.out.size(1), k = args.a.size(1);
  const bool has_rows = args.a.stride(1) == 1;
  if (HWY_DYNAMIC_DISPATCH(is_avx2)()) return has_rows && m >= 192;
  if (!HWY_DYNAMIC_DISPATCH(is_avx512)()) return false;
  if (is_weight_gradient(args)) {
    const int64_t wide = std::max(m, n), narrow = std::min(m, n);
    constexpr int64_t kCached = 1 << 21;  // elements of operands; those of more come from memory
    if (wide < 192) return wide >= 96 && narrow >= 48 && (m + n) * k > kCached;
    return narrow >= 96 && k >= 192;
  }
  return has_rows && m >= 512;
}

// Whether to make a weight gradient dy^T x as (x^T dy)^T. Our own GEMM reads its left operand and copies the right one:
// better the narrower, where there are rows enough to make up for turning the result. oneDNN copies a left operand whose
// columns run along memory, where both are long. Zen 4, 2 threads, GFLOP/s of dy^T x -> (x^T dy)^T, float32:
//   ours   dy [25088, 96], x [25088, 384]: 163 -> 208,  [768, 197], [197, 3072]: 219 -> 224 before the result is turned
//          dy [25088, 96], x [25088, 48]: 143 -> 180, as its panels of b are 32 columns wide
//   oneDNN dy [25088, 384], x [25088, 96]: 176 -> 192,  [6272, 576], [6272, 192]: 189 -> 206,  [1568, 1536], [1568, 384]: the same
bool transposing_pays(const MatmulArgs& args, bool ours) {
  if (!is_weight_gradient(args) || args.bias || args.residual || args.accumulate) return false;
  if (args.activation != Activation::None) return false;
  const int64_t m = args.out.size(0), n = args.out.size(1), k = args.a.size(1);
  if (!ours) return m > n && k >= 4 * m;
  // Panels of b are whole ones: columns that are not there cost as much as those that are.
  const int64_t now = m * round_up(n, kWidestPanel), turned = n * round_up(m, kWidestPanel);
  return (turned < now || (turned == now && m < n)) && k >= 2048;
}

struct Way {
  bool ours = false;        // by our own GEMM, not oneDNN's
  bool transposed = false;  // as (b^T a^T)^T
};

Way fastest_way(const MatmulArgs& args) {
  const bool ours = gemm_is_faster(args);
  return {ours, transposing_pays(args, ours)};
}

// False where oneDNN has no optimised kernel.
bool fast_matmul(const MatmulArgs& args, Way way) {
  if (way.transposed) {
    static thread_local ScratchBuffer memory;
    const View& out = args.out;
    const View product{memory.reserve<char>(out.numel() * static_cast<int64_t>(size_of(out.dtype))),
                       out.dtype, Shape{out.size(1), out.size(0)}, Shape{out.size(0), 1}};
    const MatmulArgs turned{transposed(args.b), transposed(args.a), product, {}, {}};
    if (!fast_matmul(turned, fastest_way(turned))) return false;
    copy({transposed(product), out});
    return true;
  }
  if (!way.ours) return onednn_matmul(args);
  gemm(args);
  return true;
}

}  // namespace

void matmul(const MatmulArgs& args, const FinishRow& finish) {
  if (is_empty(args) || gemm_is_faster(args) || !onednn_matmul(args)) return gemm(args, finish);
  const int64_t columns = args.out.size(1);
  parallel_for(args.out.size(0), std::max<int64_t>(1, kElementwiseGrain / columns),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) finish(i, 0, columns);
               });
}

size_t prepared_bytes(const MatmulArgs& args) {
  return is_empty(args) || gemm_is_faster(args) ? 0 : onednn_prepared_bytes(args);
}

void matmul(const MatmulArgs& args) {
  if (args.before || is_float32_gelu(args)) {
    const View& before = args.before ? args.before : args.out;
    MatmulArgs product{args.a, args.b, before, args.bias, {}};
    product.prepared_b = args.prepared_b;
    if (is_float32_gelu(args)) {
      const auto gelu = HWY_DYNAMIC_DISPATCH(gelu_row);
      return matmul(product, [&](int64_t row, int64_t column, int64_t n) {
        gelu(before.as<float>() + row * before.stride(0) + column,
             args.out.as<float>() + row * args.out.stride(0) + column, n);
      });
    }
    matmul(product);
    return unary({unary_op(args.activation), before, args.out});
  }
  const Way way = is_empty(args) ? Way{} : fastest_way(args);
  if (way.ours && !way.transposed && is_weight_gradient(args)) return gemm(args);
  MatmulArgs product = args;
  product.a_sums = {};
  // At the speed of memory; what fits in the cache stays there for the product.
  if (args.a_sums) reduce(row_sums(args));
  if (is_empty(args) || !fast_matmul(product, way)) gemm(product);
}

}  // namespace tenon::cpu
#endif
