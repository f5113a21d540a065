// Every op, by family. An op checks its arguments, infers shapes, allocates results and enqueues its kernel.
// There are no derivatives here: a backward kernel is an op like any other, and TypeScript's tape calls it.
// All tensors of a call are on one device: binding/def.h checks it once for every op.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "ops/check.h"

namespace tenon::ops {

using Dims = std::vector<int64_t>;
using OptionalTensor = std::optional<Tensor>;

// ---- creation.cc
Tensor full(Device& device, const Dims& shape, double value, DType dtype);
Tensor arange(Device& device, int64_t n, double start, double step, DType dtype);
Tensor eye(Device& device, int64_t n, DType dtype);
Tensor to(const Tensor& x, DType dtype);            // always a new tensor
Tensor to_device(const Tensor& x, Device& device);  // always a new tensor; to or from the CPU it waits for x
Tensor clone(const Tensor& x);
Tensor own(const Tensor& x);  // x itself where it is row-major and alone on its storage, else a copy
void copy_into(const Tensor& target, const Tensor& source);  // in place, converting

// ---- views.cc: no data moves, except where reshape must copy
Tensor reshape(const Tensor& x, const Dims& shape);  // one size may be -1
Tensor permute(const Tensor& x, const Dims& dims);
Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1);
Tensor expand(const Tensor& x, const Dims& shape);  // -1 keeps a size
Tensor squeeze(const Tensor& x, const Dims& dims);  // empty: every dimension of size 1
Tensor unsqueeze(const Tensor& x, int64_t dim);
Tensor slice(const Tensor& x, int64_t dim, int64_t start, int64_t stop, int64_t step);
Tensor alias(const Tensor& x);     // another tensor on the same elements
int64_t written(const Tensor& x);  // when its storage, which views share, was last written in place; 0: never
int64_t write_clock();             // the time of the latest write in place to any tensor of this thread

// ---- layout.cc: data moves
Tensor cat(const std::vector<Tensor>& tensors, int64_t dim);
Tensor pad(const Tensor& x, const Dims& before, const Dims& after, double value);
Tensor roll(const Tensor& x, const Dims& shifts, const Dims& dims);
Tensor flip(const Tensor& x, const Dims& dims);

// ---- elementwise.cc
#define TENON_UNARY_OPS(K) \
  K(neg, Neg)              \
  K(abs, Abs)              \
  K(sign, Sign)            \
  K(exp, Exp)              \
  K(log, Log)              \
  K(sqrt, Sqrt)            \
  K(rsqrt, Rsqrt)          \
  K(tanh, Tanh)            \
  K(sigmoid, Sigmoid)      \
  K(relu, Relu)            \
  K(gelu, Gelu)            \
  K(gelu_tanh, GeluTanh)   \
  K(silu, Silu)            \
  K(sin, Sin)              \
  K(cos, Cos)              \
  K(erf, Erf)              \
  K(logical_not, LogicalNot)

#define TENON_BINARY_OPS(K)               \
  K(add, Add)                             \
  K(sub, Sub)                             \
  K(mul, Mul)                             \
  K(div, Div)                             \
  K(pow, Pow)                             \
  K(maximum, Maximum)                     \
  K(minimum, Minimum)                     \
  K(equal, Equal)                         \
  K(not_equal, NotEqual)                  \
  K(less, Less)                           \
  K(less_equal, LessEqual)                \
  K(greater, Greater)                     \
  K(greater_equal, GreaterEqual)          \
  K(logical_and, LogicalAnd)              \
  K(logical_or, LogicalOr)                \
  K(relu_backward, ReluBackward)          \
  K(gelu_backward, GeluBackward)          \
  K(gelu_tanh_backward, GeluTanhBackward) \
  K(silu_backward, SiluBackward)          \
  K(tanh_backward, TanhBackward)          \
  K(sigmoid_backward, SigmoidBackward)    \
  K(abs_backward, AbsBackward)

#define TENON_OP(name, Name) Tensor name(const Tensor& x);
TENON_UNARY_OPS(TENON_OP)
#undef TENON_OP
Tensor clamp(const Tensor& x, double lo, double hi);

// One of a and b may be absent: `scalar` stands for it.
#define TENON_OP(name, Name) Tensor name(const OptionalTensor& a, const OptionalTensor& b, double scalar);
TENON_BINARY_OPS(TENON_OP)
#undef TENON_OP

Tensor where(const Tensor& condition, const OptionalTensor& a, const OptionalTensor& b, double a_scalar,
             double b_scalar);

// ---- reduce.cc; empty dims mean all
Tensor sum(const Tensor& x, const Dims& dims, bool keepdim);
Tensor mean(const Tensor& x, const Dims& dims, bool keepdim);
Tensor variance(const Tensor& x, const Dims& dims, double correction, bool keepdim);
Tensor max(const Tensor& x, const Dims& dims, bool keepdim);
Tensor min(const Tensor& x, const Dims& dims, bool keepdim);
Tensor any(const Tensor& x, const Dims& dims, bool keepdim);
Tensor all(const Tensor& x, const Dims& dims, bool keepdim);
Tensor argmax(const Tensor& x, int64_t dim, bool keepdim);
Tensor argmin(const Tensor& x, int64_t dim, bool keepdim);
Tensor cumsum(const Tensor& x, int64_t dim, bool reverse);
std::tuple<Tensor, Tensor> topk(const Tensor& x, int64_t k, int64_t dim, bool largest);
Tensor sum_to(const Tensor& x, const Dims& shape);  // the reverse of broadcasting to x's shape

// ---- softmax.cc
Tensor softmax(const Tensor& x, int64_t dim, bool log);
Tensor softmax_backward(const Tensor& y, const Tensor& dy, int64_t dim, bool log);
Tensor logsumexp(const Tensor& x, int64_t dim, bool keepdim);

// ---- indexing.cc
Tensor index_select(const Tensor& x, const Tensor& index, int64_t dim);
Tensor index_add(const Tensor& x, const Tensor& index, const Tensor& src, int64_t dim, double alpha);
Tensor gather(const Tensor& x, const Tensor& index, int64_t dim);
Tensor scatter_add(const Tensor& x, const Tensor& index, const Tensor& src, int64_t dim);
Tensor one_hot(const Tensor& index, int64_t classes, DType dtype);

// ---- matmul.cc
Tensor matmul(const Tensor& a, const Tensor& b);
// activation(x w^T + bias) + residual, and what goes into the activation (absent unless asked for and there is one); w is
// [out, in]; activation is "none", "gelu", "geluTanh", "relu" or "silu". 16-bit x and w take a float32 bias and a float32
// residual; with the latter the result is float32.
std::tuple<Tensor, Tensor> linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                  const OptionalTensor& residual, const std::string& activation,
                                  bool needs_before, bool is_fixed);
// dy^T x, and dy summed over its rows (absent unless asked for): the gradients of linear's weight and bias, in the dtype of
// both or, of 16-bit ones, in float32
std::tuple<Tensor, Tensor> linear_weight_gradient(const Tensor& dy, const Tensor& x, bool needs_dbias,
                                                  DType dtype);

// ---- mlp.cc
// activation(x w1^T + b1) w2^T + b2 + residual, and what goes into the activation (absent unless asked for)
std::tuple<Tensor, Tensor> mlp(const Tensor& x, const Tensor& weight1, const OptionalTensor& bias1,
                               const Tensor& weight2, const OptionalTensor& bias2,
                               const OptionalTensor& residual, const std::string& activation,
                               bool needs_before, bool is_fixed);
// dx, and the gradients of w1, b1, w2 and b2 in `dtype` as above; each absent unless asked for
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> mlp_backward(
    const Tensor& dy, const Tensor& x, const Tensor& before, const Tensor& weight1, const Tensor& weight2,
    const std::string& activation, bool needs_dx, bool needs_weight1, bool needs_bias1, bool needs_weight2,
    bool needs_bias2, DType dtype);

// ---- layer_norm.cc
// y in `dtype`, the sum x + residual (absent without a residual), mean, rstd
std::tuple<Tensor, Tensor, Tensor, Tensor> layer_norm(const Tensor& x, const OptionalTensor& residual,
                                                      const OptionalTensor& gamma, const OptionalTensor& beta,
                                                      double eps, DType dtype);
// dx, dgamma, dbeta (absent without gamma or beta)
std::tuple<Tensor, Tensor, Tensor> layer_norm_backward(const Tensor& dy, const Tensor& s,
                                                       const OptionalTensor& gamma, bool has_beta,
                                                       const Tensor& mean, const Tensor& rstd,
                                                       const OptionalTensor& dsum);

// ---- conv2d.cc: results are channels-last; stride, padding and dilation are of rows and columns
// relu(x * weight + bias + residual), or the same without relu
Tensor conv2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
              const OptionalTensor& residual, const Dims& stride, const Dims& padding, const Dims& dilation,
              int64_t groups, bool relu, bool is_fixed);
Tensor conv2d_input_gradient(const Tensor& dy, const Tensor& weight, int64_t height, int64_t width,
                             const Dims& stride, const Dims& padding, const Dims& dilation, int64_t groups);
// dweight, dbias (absent unless asked for)
std::tuple<Tensor, Tensor> conv2d_weight_gradient(const Tensor& dy, const Tensor& x, const Dims& kernel,
                                                  const Dims& stride, const Dims& padding,
                                                  const Dims& dilation, int64_t groups, bool needs_dbias);

// ---- batch_norm.cc
// y, mean, rstd; dimension 1 has the channels. In training the running statistics, if any, move in place.
std::tuple<Tensor, Tensor, Tensor> batch_norm(const Tensor& x, const OptionalTensor& gamma,
                                              const OptionalTensor& beta, const OptionalTensor& running_mean,
                                              const OptionalTensor& running_var,
                                              const OptionalTensor& residual, bool training, double momentum,
                                              double eps, bool relu);
// dx, dgamma, dbeta, dresidual (absent unless asked for); y is given where relu was
std::tuple<Tensor, Tensor, Tensor, Tensor> batch_norm_backward(
    const Tensor& dy, const Tensor& x, const OptionalTensor& y, const OptionalTensor& gamma,
    const OptionalTensor& beta, const Tensor& mean, const Tensor& rstd, bool training, bool needs_dresidual);

// ---- pool2d.cc
// y, and the pixel of each maximum
std::tuple<Tensor, Tensor> max_pool2d(const Tensor& x, const Dims& kernel, const Dims& stride,
                                      const Dims& padding, const Dims& dilation, bool ceil_mode);
Tensor max_pool2d_backward(const Tensor& dy, const Tensor& index, int64_t height, int64_t width,
                           const Dims& kernel, const Dims& stride, const Dims& padding, const Dims& dilation);
Tensor avg_pool2d(const Tensor& x, const Dims& kernel, const Dims& stride, const Dims& padding,
                  bool ceil_mode, bool count_padding);
Tensor avg_pool2d_backward(const Tensor& dy, int64_t height, int64_t width, const Dims& kernel,
                           const Dims& stride, const Dims& padding, bool count_padding);
Tensor adaptive_avg_pool2d(const Tensor& x, int64_t height, int64_t width);
Tensor adaptive_avg_pool2d_backward(const Tensor& dy, int64_t height, int64_t width);

// ---- attention.cc
// q [B, H, Nq, d], k and v [B, H, Nk, d] -> out [B, H, Nq, d] (stored as [B, Nq, H, d]) and lse [B, H, Nq]
std::tuple<Tensor, Tensor> attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                     const OptionalTensor& bias, const OptionalTensor& mask, double scale,
                                     double dropout, uint64_t seed, uint64_t offset);
// dq, dk, dv, dbias (absent unless asked for)
std::tuple<Tensor, Tensor, Tensor, Tensor> attention_backward(
    const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& bias,
    const OptionalTensor& mask, const Tensor& out, const Tensor& lse, double scale, double dropout,
    uint64_t seed, uint64_t offset, bool needs_dbias);
// The packed form: qkv [B, N, 3 * H * d] -> out [B, queries, H * d] and lse, without a copy of q, k or v; only the
// first `queries` tokens attend.
std::tuple<Tensor, Tensor> attention_packed(const Tensor& qkv, int64_t heads, int64_t queries,
                                            const OptionalTensor& bias, const OptionalTensor& mask,
                                            double scale, double dropout, uint64_t seed, uint64_t offset);
// dqkv, dbias
std::tuple<Tensor, Tensor> attention_packed_backward(const Tensor& dout, const Tensor& qkv, int64_t heads,
                                                     const OptionalTensor& bias, const OptionalTensor& mask,
                                                     const Tensor& out, const Tensor& lse, double scale,
                                                     double dropout, uint64_t seed, uint64_t offset,
                                                     bool needs_dbias);
Tensor attention_rows(const Tensor& q, const Tensor& k, const OptionalTensor& bias,
                      const OptionalTensor& mask, const Tensor& rows, double scale);

// ---- window_attention.cc
// qkv [B, H, W, 3 * heads * d], table [(2 h - 1) (2 w - 1), heads] -> out [B, H, W, heads * d] and lse [B, heads, H, W];
// window and shift are [h, w] and less; padding [3 * heads * d] is what positions outside the map hold
std::tuple<Tensor, Tensor> window_attention(const Tensor& qkv, const Tensor& table,
                                            const OptionalTensor& padding, const Dims& window,
                                            const Dims& shift, double scale, double dropout, uint64_t seed,
                                            uint64_t offset);
// dqkv, dtable, dpadding (the last two absent unless asked for)
std::tuple<Tensor, Tensor, Tensor> window_attention_backward(
    const Tensor& dout, const Tensor& qkv, const Tensor& table, const OptionalTensor& padding,
    const Tensor& out, const Tensor& lse, const Dims& window, const Dims& shift, double scale, double dropout,
    uint64_t seed, uint64_t offset, bool needs_dtable, bool needs_dpadding);

// ---- cross_entropy.cc
// loss and, when asked for, its gradient; exactly one of labels and targets; reduction is "none", "mean" or "sum"
std::tuple<Tensor, Tensor> cross_entropy(const Tensor& logits, const OptionalTensor& labels,
                                         const OptionalTensor& targets, double smoothing,
                                         int64_t ignore_index, const std::string& reduction,
                                         bool needs_gradient);

// ---- random.cc
Tensor random(Device& device, const Dims& shape, const std::string& kind, double a, double b, double c,
              double d, uint64_t seed, uint64_t offset, DType dtype);
Tensor permutation(Device& device, int64_t n, uint64_t seed, uint64_t offset);
// Where n draws of random's 'bernoulli' are 1, without a device: for what the host has to know.
std::vector<int64_t> drawn_ones(int64_t n, double p, uint64_t seed, uint64_t offset);
Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t offset);

// ---- interpolate.cc
Tensor interpolate(const Tensor& x, int64_t height, int64_t width, const std::string& mode, bool antialias);
Tensor interpolate_backward(const Tensor& dy, int64_t height, int64_t width, const std::string& mode,
                            bool antialias);

// ---- optimizer.cc: in place; states are float32 (float64 for float64 parameters), copies 16-bit or absent
// For each parameter the members of AdamNumbers, in a row.
std::vector<double> adam_numbers(const std::vector<double>& lr, const std::vector<double>& weight_decay,
                                 const std::vector<int64_t>& steps, double beta1, double beta2,
                                 bool decoupled);
void adam(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
          const std::vector<Tensor>& v, const std::vector<OptionalTensor>& copies,
          const std::vector<double>& lr, const std::vector<double>& weight_decay, double beta1, double beta2,
          double eps, int64_t step, bool decoupled, const OptionalTensor& norm, double max_norm,
          const OptionalTensor& numbers);
void sgd(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
         const std::vector<Tensor>& buffers, const std::vector<OptionalTensor>& copies,
         const std::vector<double>& lr, const std::vector<double>& weight_decay, double momentum,
         bool nesterov, bool first_step, const OptionalTensor& norm, double max_norm,
         const OptionalTensor& numbers);
Tensor global_norm(const std::vector<Tensor>& tensors);
void clip(const std::vector<Tensor>& tensors, const Tensor& norm, double max_norm);
void lerp(const std::vector<Tensor>& targets, const std::vector<Tensor>& sources, double weight,
          const OptionalTensor& numbers);

}  // namespace tenon::ops
