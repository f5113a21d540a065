// The contract of a device: one function per kernel. To port Tenon to a new device, fill in a `Kernels` table.
//
// Rules for every kernel
//  - Arguments are checked before it is called: shapes agree, dtypes are supported, all views live on the device.
//    The only errors left to a kernel are those that depend on data (an index out of range) or on the device.
//  - It writes every element of its outputs, never reads them first (unless it says "adds"), and never aliases
//    them with inputs except where an argument says "may be x".
//  - It allocates no tensors and decides no policy. A CPU kernel may keep thread-local scratch.
//  - Views may have any strides, unless the comment says "contiguous" or "rows" (last dimension has stride 1).
//  - "float dtypes" are float32, float64, bfloat16 and float16. 16-bit kernels accumulate in float32.
//  - Results do not depend on timing: sums run in a fixed order for a given thread count.
//  - A size of zero is legal everywhere.
#pragma once

#include <any>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/view.h"
#include "core/windows.h"

namespace tenon {

// ---- creation and copies ---------------------------------------------------------------------------------------

struct FillArgs {
  View out;
  double value = 0;
};

struct ArangeArgs {
  View out;  // [n]: start + i * step
  double start = 0;
  double step = 1;
};

// dst = src converted to dst's dtype; same shapes. float -> integer truncates and saturates (NaN
// gives 0), anything -> bool is (x != 0).
struct CopyArgs {
  View src;
  View dst;
};

// ---- elementwise -----------------------------------------------------------------------------------------------

enum class UnaryOp : uint8_t {
  Neg,
  Abs,
  Sign,
  Exp,
  Log,
  Sqrt,
  Rsqrt,
  Tanh,
  Sigmoid,
  Relu,
  Gelu,
  GeluTanh,
  Silu,
  Sin,
  Cos,
  Erf,
  LogicalNot,  // bool
  Clamp,       // to [a, b]
  Pow,         // x ** a
};

struct UnaryArgs {
  UnaryOp op;
  View x;
  View out;  // may be x
  double a = 0;
  double b = 0;
};

enum class BinaryOp : uint8_t {
  Add,
  Sub,
  Mul,
  Div,
  Pow,
  Maximum,
  Minimum,
  Equal,
  NotEqual,
  Less,
  LessEqual,
  Greater,
  GreaterEqual,  // out is bool
  LogicalAnd,
  LogicalOr,  // bool
  // Derivatives: a is the gradient of the output, b the saved input x (or output y where it says so).
  ReluBackward,
  GeluBackward,
  GeluTanhBackward,
  SiluBackward,
  TanhBackward /* y */,
  SigmoidBackward /* y */,
  AbsBackward,
};

// Operands are expanded to out's shape (stride 0). An absent operand (data == nullptr) stands for `scalar`.
struct BinaryArgs {
  BinaryOp op;
  View a;
  View b;
  View out;  // may be a or b when their strides equal out's
  double scalar = 0;
};

// out = condition ? a : b, operands expanded as in BinaryArgs; an absent a or b stands for its scalar.
struct WhereArgs {
  View condition;  // bool
  View a;
  View b;
  View out;
  double a_scalar = 0;
  double b_scalar = 0;
};

// ---- reductions ------------------------------------------------------------------------------------------------

enum class ReduceOp : uint8_t { Sum, Mean, Var, Max, Min, ArgMax, ArgMin, Any, All };

// out has x's rank, with size 1 where a dimension is reduced. ArgMax/ArgMin reduce one dimension (`dim`), write
// int64 and pick the first of equals; NaN counts as the largest for Max/ArgMax and wins Min/ArgMin too.
// Sums are pairwise or wider-typed so that float32 keeps 1e-6 relative over millions of elements; Sum of 16-bit floats may
// go into float32.
struct ReduceArgs {
  ReduceOp op;
  View x;
  View out;
  double correction = 0;  // Var divides by (n - correction)
  int dim = -1;           // ArgMax, ArgMin
};

struct CumsumArgs {
  View x;
  View out;
  int dim = 0;
  bool reverse = false;
};

// softmax or log-softmax along `dim`; float dtypes.
struct SoftmaxArgs {
  View x;
  View out;
  int dim = -1;
  bool log = false;
};

struct SoftmaxBackwardArgs {
  View y;  // the forward's output
  View dy;
  View dx;
  int dim = -1;
  bool log = false;
};

// out = log(sum(exp(x))) along dim; out has size 1 there.
struct LogsumexpArgs {
  View x;
  View out;
  int dim = -1;
};

// The k largest (or smallest) of the last dimension, sorted, the first of equals first.
struct TopkArgs {
  View x;        // [..., n]
  View values;   // [..., k]
  View indices;  // [..., k] int64
  bool largest = true;
};

// ---- indexing; index tensors are int32 or int64; an index outside [0, n) is an INDEX error ----------------------

// out[..., i, ...] = x[..., index[i], ...] along dim; index is 1-D.
struct IndexSelectArgs {
  View x;
  View index;
  View out;
  int dim = 0;
};

// Adds: out[..., index[i], ...] += alpha src[..., i, ...], in the order of i. alpha is 1 unless they are floats.
struct IndexAddArgs {
  View out;
  View index;
  View src;
  int dim = 0;
  double alpha = 1;
};

// out[i][j] = x[index[i][j]][j] for dim 0, and so on (PyTorch's gather).
struct GatherArgs {
  View x;
  View index;
  View out;
  int dim = 0;
};

// Adds: out[index[i][j]][j] += src[i][j] for dim 0, in row-major order of src.
struct ScatterAddArgs {
  View out;
  View index;
  View src;
  int dim = 0;
};

// out[..., c] = (index[...] == c)
struct OneHotArgs {
  View index;
  View out;
};

// ---- matmul ----------------------------------------------------------------------------------------------------

enum class Activation : uint8_t { None, Gelu, GeluTanh, Relu, Silu };

inline UnaryOp unary_op(Activation activation) {
  switch (activation) {
    case Activation::Gelu:
      return UnaryOp::Gelu;
    case Activation::GeluTanh:
      return UnaryOp::GeluTanh;
    case Activation::Silu:
      return UnaryOp::Silu;
    default:
      return UnaryOp::Relu;
  }
}

// Room for a copy of an operand in a layout of the kernel's own, kept from call to call while the operand is not written: the
// first call makes the copy, the others find it. Kernels alone look at `layout`, one after the other.
struct Prepared {
  void* data = nullptr;
  size_t bytes = 0;
  std::any layout;  // of the copy; empty where there is none yet
};

// out = activation(a b + bias) + residual, or, with accumulate, out += a b.
// a and b share a dtype, which out has too, or float32 for 16-bit ones; bias and residual have out's.
// All three are [M, K], [K, N], [M, N], or [batch, ...] of rank 3 with a batch stride of 0 where one is broadcast.
// One of the last two strides of a and of b is 1 (a transposed operand needs no copy); out's rows are contiguous.
// A layer's weight gradient is dy^T x, and its bias gradient the sums of that a's rows: a kernel has them at hand.
struct MatmulArgs {
  View a;
  View b;
  View out;
  View bias;      // [N] or absent
  View residual;  // shape of out, or absent; may be out
  Activation activation = Activation::None;
  bool accumulate = false;
  View a_sums = {};  // [M] of out's dtype, or absent: sum_k a[m, k]; for operands of rank 2
  // a b + bias, or absent; out's dtype and shape, of rank 2 and contiguous as out is then. With an activation, whose
  // gradient needs it, and without a residual.
  View before = {};
  Prepared* prepared_b = nullptr;  // or absent
};

// What fills in a_sums where a kernel has a pass of its own for it.
inline ReduceArgs row_sums(const MatmulArgs& args) {
  const View& sums = args.a_sums;
  return {ReduceOp::Sum, args.a, {sums.data, sums.dtype, Shape{args.a.size(0), 1}, Shape{sums.stride(0), 1}}};
}

// The way back through the product behind an activation, and the activation: dbefore = (a b) activation'(before), where
// a b is the gradient of after = activation(before), which is made again. a and b as in MatmulArgs, of rank 2; the others
// are contiguous [M, N] of their dtype. The activation is not None.
struct MatmulActivationBackwardArgs {
  Activation activation;
  View a;
  View b;
  View before;
  View after;  // or absent
  View dbefore;
};

// ---- normalisation ---------------------------------------------------------------------------------------------

// s = x + residual; y = (s - mean) * rstd * gamma + beta over the last dimension. All contiguous [rows, C].
// Statistics are float32 (float64 for float64 input).
struct LayerNormArgs {
  View x;
  View residual;  // or absent
  View gamma;     // [C] or absent
  View beta;      // [C] or absent
  View sum;       // s, written when residual is given
  View y;         // of x's dtype, or 16-bit where x is float32
  View mean;      // [rows]
  View rstd;      // [rows]
  double eps = 1e-6;
};

// dx = the gradient of s, plus dsum where given (the gradient that reached s directly).
struct LayerNormBackwardArgs {
  View dy;  // of s's dtype, or 16-bit where s is float32
  View s;   // the normalised input (x, or x + residual)
  View gamma;
  View mean;
  View rstd;
  View dsum;  // or absent
  View dx;
  View dgamma;  // [C] or absent
  View dbeta;   // [C] or absent
};

// ---- convolution, batch normalisation, pooling --------------------------------------------------------------------
//
// Images are [B, C, H, W] and lie channels-last: the C values of a pixel are neighbours, then come W, H and B, packed
// (is_channels_last in core/view.h). So a chain of these kernels never permutes.

// How a kernel moves over an image: along rows, then along columns.
struct Window {
  int64_t kernel[2] = {1, 1};
  int64_t stride[2] = {1, 1};
  int64_t padding[2] = {0, 0};  // on either side
  int64_t dilation[2] = {1, 1};
};

// y = x * weight + bias + residual, and its positive part with relu. Output channel o sees the input channels of its
// group: weight is [O, C / groups, kh, kw], contiguous. In 16 bits the sum may be rounded before what is added to it.
struct Conv2dArgs {
  View x;  // [B, C, H, W] channels-last
  View weight;
  View bias;      // [O], contiguous, or absent
  View residual;  // as y, or absent
  View y;         // [B, O, h, w] channels-last
  Window window;
  int64_t groups = 1;
  bool relu = false;
  Prepared* prepared_weight = nullptr;  // or absent
};

struct Conv2dInputGradientArgs {
  View dy;
  View weight;
  View dx;
  Window window;
  int64_t groups = 1;
};

struct Conv2dWeightGradientArgs {
  View dy;
  View x;
  View dweight;
  View dbias;  // [O] or absent
  Window window;
  int64_t groups = 1;
};

// y = (x - mean) * rstd * gamma + beta + residual for each of C columns, and its positive part with relu.
// All contiguous [rows, C]. In training mean and rstd are those of the columns, and the running statistics move towards
// them by `momentum` (the variance divided by rows - 1); else they come from the running statistics.
struct BatchNormArgs {
  View x;
  View residual;      // or absent
  View gamma;         // [C] or absent
  View beta;          // [C] or absent
  View running_mean;  // [C], or absent in training
  View running_var;
  View y;
  View mean;  // [C] float32 (float64 for float64)
  View rstd;  // [C]
  double eps = 1e-5;
  double momentum = 0.1;
  bool training = true;
  bool relu = false;
};

// With g = dy, or with y its part where y > 0: dx in training through the statistics, dresidual = g.
struct BatchNormBackwardArgs {
  View dy;
  View x;
  View y;  // the forward's, where it had relu; or absent
  View gamma;
  View mean;
  View rstd;
  View dx;
  View dresidual;  // or absent
  View dgamma;     // [C] or absent
  View dbeta;      // [C] or absent
  bool training = true;
};

// The largest element under the window, the first of equals, NaN being the largest; -infinity where it meets no pixel.
struct MaxPool2dArgs {
  View x;
  View y;
  View index;  // int32, as y: the pixel h * W + w that was chosen
  Window window;
};

struct MaxPool2dBackwardArgs {
  View dy;
  View index;
  View dx;
  Window window;
};

// The mean under the window, which with `adaptive` covers rows [floor(i H / h), ceil((i + 1) H / h)), and columns
// alike. Zeros beyond the image count where count_padding says so, up to the padding.
struct AvgPool2dArgs {
  View x;
  View y;
  Window window;
  bool adaptive = false;
  bool count_padding = true;
};

struct AvgPool2dBackwardArgs {
  View dy;
  View dx;
  Window window;
  bool adaptive = false;
  bool count_padding = true;
};

// ---- attention -------------------------------------------------------------------------------------------------

// out = dropout(softmax(scale q k^T + bias, masked)) v, never holding an Nq x Nk matrix.
// q [B, H, Nq, d], k and v [B, H, Nk, d], out [B, H, Nq, d]: any strides with the last one 1, so that they can be
// windows on a packed [B, N, 3, H, d] projection and out a window on [B, N, H * d]. d <= 256.
// bias (the tensors' dtype) and mask (bool, true = attend) are [B, H, Nq, Nk] with stride 0 where broadcast.
// A query whose keys are all masked gives zeros and lse = -inf.
struct AttentionArgs {
  View q;
  View k;
  View v;
  View bias;  // or absent
  View mask;  // or absent
  View out;
  View lse;  // [B, H, Nq] float32 (float64 for float64): log of the softmax's denominator, contiguous
  double scale = 1;
  double dropout = 0;  // probability of dropping; element (b, h, i, j) draws as DropoutArgs at its flat index
  uint64_t seed = 0;
  uint64_t offset = 0;
};

struct AttentionBackwardArgs {
  View q;
  View k;
  View v;
  View bias;
  View mask;
  View out;
  View dout;  // strides as out's
  View lse;
  View dq;  // strides as q's, k's, v's kind: windows on a packed gradient
  View dk;
  View dv;
  View
      dbias;  // or absent; contiguous, [Bb, Hb, Nq, Nk] with Bb in {1, B}, Hb in {1, H}: summed in a fixed order
  double scale = 1;
  double dropout = 0;
  uint64_t seed = 0;
  uint64_t offset = 0;
};

// The attention probabilities of chosen queries: out[b, h, r, :] = softmax row of query rows[r] (without dropout).
struct AttentionRowsArgs {
  View q;
  View k;
  View bias;
  View mask;
  View rows;  // [R] int64
  View out;   // [B, H, R, Nk] contiguous
  double scale = 1;
};

// Attention inside Swin's windows, straight from the projection and back to the map, with nothing rolled, partitioned or
// masked in between: for a window's positions i and j
//   out_i = sum_j dropout(softmax_j(scale q_i k_j + table[offset(i, j)] + (side(i) == side(j) ? 0 : -100))) v_j.
// Everything is contiguous; d <= 256.
struct WindowAttentionArgs {
  View qkv;      // [B, H, W, 3 * heads * d], ordered (q, k, v), head, d
  View table;    // [windows.offsets(), heads]
  View padding;  // [3 * heads * d]: q, k and v of positions outside the map; absent: zeros
  View out;      // [B, H, W, heads * d]
  View lse;      // [B, heads, H, W] float32 (float64 for float64): log of the softmax's denominator
  Windows windows;
  double scale = 1;
  double dropout = 0;  // element (b * windows + window, head, i, j) draws as DropoutArgs at its flat index
  uint64_t seed = 0;
  uint64_t offset = 0;
};

struct WindowAttentionBackwardArgs {
  View qkv;
  View table;
  View padding;
  View out;
  View dout;
  View lse;
  View dqkv;
  View dtable;    // or absent; summed in a fixed order
  View dpadding;  // or absent
  Windows windows;
  double scale = 1;
  double dropout = 0;
  uint64_t seed = 0;
  uint64_t offset = 0;
};

// ---- losses ----------------------------------------------------------------------------------------------------

enum class Reduction : uint8_t { None, Mean, Sum };

// Cross-entropy of logits [N, K] (contiguous) with class indices [N] or with soft targets [N, K]:
//   (1 - smoothing) * -log p[label] + smoothing * mean_c(-log p[c]),  or  sum_c -target[c] log p[c].
// Rows whose label is ignore_index count for nothing; Mean divides by the rows that count.
// dlogits holds d(loss)/d(logits), scaled for the reduction (for None: of each row's own loss).
struct CrossEntropyArgs {
  View logits;
  View labels;   // int64 or int32, or absent
  View targets;  // logits' dtype, or absent
  View loss;     // [] or, for None, [N]; float32 for 16-bit logits
  View dlogits;  // or absent
  double smoothing = 0;
  int64_t ignore_index = -100;
  Reduction reduction = Reduction::Mean;
};

// ---- random numbers: Philox4x32-10, element i of a call uses counter offset + i (see core/random.h) -------------

// With j = offset + i, w[j] the word of plane 0 and v[j] the word of plane 1 at j:
enum class RandomKind : uint8_t {
  Uniform,  // [a, b): a + (b - a) u, u the upper 24 bits of w[j] (float64: w[j] and the upper 21 of v[j])
  Normal,   // mean a, standard deviation b: Box-Muller on the pair w[j & ~1], w[j | 1]: the first is the
  // radius, sqrt(-2 log((w + 1) / 2^32)), the second the angle; even j take its cosine, odd its sine
  TruncatedNormal,  // mean a, standard deviation b, truncated to [c, d]: the inverse distribution function, to 2e-9
                    // relative, at a point between its values at c and d, (w[j] + 0.5) / 2^32 of the way
  Bernoulli,        // 1 with probability a: w[j] < a 2^32
  RandInt,  // integers in [a, b): the upper half of w[j] (b - a), or of the 64-bit (w[j], v[j]) (b - a)
            // where b - a exceeds 2^32
};

struct RandomArgs {
  RandomKind kind;
  View out;  // contiguous
  double a = 0;
  double b = 1;
  double c = 0;
  double d = 0;
  uint64_t seed = 0;
  uint64_t offset = 0;
};

// The order of the 64-bit keys (w[offset + i], v[offset + i]); of equal keys the first i comes first.
struct PermutationArgs {
  View out;  // [n] int64
  uint64_t seed = 0;
  uint64_t offset = 0;
};

// out = keep ? x / (1 - p) : 0, keep drawn per element: w[offset + i] >= p 2^32; the same call on dy is its backward. Contiguous.
struct DropoutArgs {
  View x;
  View out;  // may be x
  double p = 0;
  uint64_t seed = 0;
  uint64_t offset = 0;
};

// ---- images ----------------------------------------------------------------------------------------------------

enum class Interpolation : uint8_t { Nearest, Bilinear, Bicubic };

// x [B, C, H, W] -> out [B, C, h, w], contiguous, half-pixel centres (align_corners = false).
// Without antialias: PyTorch's (bicubic a = -0.75, border taps clamped). With: Pillow's and PyTorch's antialiased
// filter (bicubic a = -0.5, support scaled when shrinking, weights renormalised at the border).
struct InterpolateArgs {
  View x;
  View out;
  Interpolation mode = Interpolation::Bilinear;
  bool antialias = false;
};

struct InterpolateBackwardArgs {
  View dy;
  View dx;
  Interpolation mode = Interpolation::Bilinear;
  bool antialias = false;
};

// ---- optimizers: one call updates every parameter; contiguous; state is float32 (float64 for float64) ------------

struct OptimizerTensor {
  View param;  // updated in place
  View grad;
  View state1;  // Adam's m, SGD's momentum buffer (absent without momentum); updated in place
  View state2;  // Adam's v; updated in place
  View copy;    // a 16-bit copy of the new parameter, or absent
  double lr = 0;
  double weight_decay = 0;
};

// In a captured graph the learning rate and what else changes from replay to replay come from the device: `numbers` then
// holds, in float64, for each tensor the members of AdamNumbers or SgdNumbers, for LerpArgs the weight. Only a device that
// captures gets them.

struct AdamNumbers {
  double decay, l2, step_size, denominator;
};

struct SgdNumbers {
  double lr, weight_decay;
};

// Adam and AdamW exactly as PyTorch: decoupled decay first, eps after the bias correction.
//   g += l2 p;  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2;  p = decay p - step_size m / (denominator sqrt(v) + eps)
struct AdamArgs {
  std::vector<OptimizerTensor> tensors;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  int64_t step = 1;  // counts from 1
  bool decoupled = true;
  View norm;  // [] float32: global gradient norm, or absent: no clipping
  double max_norm = 0;
  View numbers = {};  // or absent: those of the learning rates, the weight decays and the step
};

inline AdamNumbers adam_numbers(double lr, double weight_decay, double beta1, double beta2, int64_t step,
                                bool decoupled) {
  const auto t = static_cast<double>(step);
  return {decoupled ? 1 - lr * weight_decay : 1, decoupled ? 0 : weight_decay, lr / (1 - std::pow(beta1, t)),
          1 / std::sqrt(1 - std::pow(beta2, t))};
}

struct SgdArgs {
  std::vector<OptimizerTensor> tensors;
  double momentum = 0;
  bool nesterov = false;
  bool first_step = false;  // the buffer starts as the gradient
  View norm;
  double max_norm = 0;
  View numbers = {};
};

// norm = sqrt(sum of squares of all elements of all tensors), summed in a fixed order in float64.
struct GlobalNormArgs {
  std::vector<View> tensors;
  View norm;  // []
};

// Every tensor times min(1, max_norm / (norm + 1e-6)), in place.
struct ClipArgs {
  std::vector<View> tensors;
  View norm;
  double max_norm = 0;
};

// target += weight * (source - target), pair by pair, in place: the exponential moving average of weights.
struct LerpArgs {
  std::vector<View> targets;
  std::vector<View> sources;
  double weight = 0;
  View numbers = {};
};

// ---- the table -------------------------------------------------------------------------------------------------

#define TENON_KERNELS(K)                                      \
  K(fill, FillArgs)                                           \
  K(arange, ArangeArgs)                                       \
  K(copy, CopyArgs)                                           \
  K(unary, UnaryArgs)                                         \
  K(binary, BinaryArgs)                                       \
  K(where, WhereArgs)                                         \
  K(reduce, ReduceArgs)                                       \
  K(cumsum, CumsumArgs)                                       \
  K(softmax, SoftmaxArgs)                                     \
  K(softmax_backward, SoftmaxBackwardArgs)                    \
  K(logsumexp, LogsumexpArgs)                                 \
  K(topk, TopkArgs)                                           \
  K(index_select, IndexSelectArgs)                            \
  K(index_add, IndexAddArgs)                                  \
  K(gather, GatherArgs)                                       \
  K(scatter_add, ScatterAddArgs)                              \
  K(one_hot, OneHotArgs)                                      \
  K(matmul, MatmulArgs)                                       \
  K(matmul_activation_backward, MatmulActivationBackwardArgs) \
  K(layer_norm, LayerNormArgs)                                \
  K(layer_norm_backward, LayerNormBackwardArgs)               \
  K(conv2d, Conv2dArgs)                                       \
  K(conv2d_input_gradient, Conv2dInputGradientArgs)           \
  K(conv2d_weight_gradient, Conv2dWeightGradientArgs)         \
  K(batch_norm, BatchNormArgs)                                \
  K(batch_norm_backward, BatchNormBackwardArgs)               \
  K(max_pool2d, MaxPool2dArgs)                                \
  K(max_pool2d_backward, MaxPool2dBackwardArgs)               \
  K(avg_pool2d, AvgPool2dArgs)                                \
  K(avg_pool2d_backward, AvgPool2dBackwardArgs)               \
  K(attention, AttentionArgs)                                 \
  K(attention_backward, AttentionBackwardArgs)                \
  K(attention_rows, AttentionRowsArgs)                        \
  K(window_attention, WindowAttentionArgs)                    \
  K(window_attention_backward, WindowAttentionBackwardArgs)   \
  K(cross_entropy, CrossEntropyArgs)                          \
  K(random, RandomArgs)                                       \
  K(permutation, PermutationArgs)                             \
  K(dropout, DropoutArgs)                                     \
  K(interpolate, InterpolateArgs)                             \
  K(interpolate_backward, InterpolateBackwardArgs)            \
  K(adam, AdamArgs)                                           \
  K(sgd, SgdArgs)                                             \
  K(global_norm, GlobalNormArgs)                              \
  K(clip, ClipArgs)                                           \
  K(lerp, LerpArgs)

// `stream` is the device's own handle (a cudaStream_t on CUDA; nothing on the CPU, whose executor calls the kernel).
struct Kernels {
#define TENON_KERNEL(name, Args) void (*name)(const Args& args, void* stream) = nullptr;
  TENON_KERNELS(TENON_KERNEL)
#undef TENON_KERNEL
};

}  // namespace tenon
