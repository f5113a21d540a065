// Convolutions by oneDNN: images as its nhwc, weights in whatever layout the kernel likes best, reordered within the call
// unless it has been kept: weights change with every step of training, and stay in inference.
#include <omp.h>

#include "backend/cpu/onednn.h"
#include "backend/cpu/onednn_plan.h"
#include "backend/divide.h"

namespace tenon::cpu {

namespace {

using dnnl::memory;
using Forward = dnnl::convolution_forward;
using InputGradient = dnnl::convolution_backward_data;
using WeightGradient = dnnl::convolution_backward_weights;

enum class Pass : uint8_t { Forward, InputGradient, WeightGradient };

struct Key {
  int64_t x[4] = {}, y[4] = {}, weight[4] = {};
  int64_t stride[2] = {}, padding[2] = {}, dilation[2] = {};
  int64_t groups = 1, threads = 1;
  DType dtype = DType::Float32;
  Pass pass = Pass::Forward;
  bool bias = false, residual = false, relu = false;
  uint8_t unused[3] = {};
};

struct Plan {
  bool supported = false;
  dnnl::primitive primitive;
  std::unordered_map<int, memory> operands;
  memory weight;          // the caller's, where the primitive wants another layout
  dnnl::reorder reorder;  // of the weight to that layout, or of its gradient back
  size_t reordered_bytes = 0;
  size_t scratch_bytes = 0;
};

// The v2 interface describes an operation, then a primitive; v3 a primitive at once.
template <typename Primitive, typename... Operation>
typename Primitive::primitive_desc describe(const dnnl::engine& engine,
                                            const dnnl::primitive_attr& attributes,
                                            const Forward::primitive_desc* hint,
                                            const Operation&... operation) {
  constexpr bool allow_empty = true;  // "unsupported" gives an empty description, not an exception
  if constexpr (std::is_same_v<Primitive, Forward>) {
#if DNNL_VERSION_MAJOR >= 3
    return {engine, operation..., attributes, allow_empty};
#else
    return {typename Primitive::desc(operation...), attributes, engine, allow_empty};
#endif
  } else {
#if DNNL_VERSION_MAJOR >= 3
    return {engine, operation..., *hint, attributes, allow_empty};
#else
    return {typename Primitive::desc(operation...), attributes, engine, *hint, allow_empty};
#endif
  }
}

constexpr int kResidual = DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1;

class Context {
 public:
  Context() : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

  struct Operand {
    int argument;
    void* data;
  };

  bool run(const Key& key, void* weight, std::initializer_list<Operand> operands, Prepared* kept = nullptr) {
    Plan& plan = plans_.find(key, [this](const Key& wanted) { return make(wanted); });
    if (!plan.supported) return false;
    const bool gradient = key.pass == Pass::WeightGradient;
    const int weight_argument = gradient ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS;
    for (const Operand& operand : operands) {
      if (operand.data != nullptr) plan.operands.at(operand.argument).set_data_handle(operand.data);
    }
    plan.operands.at(DNNL_ARG_SCRATCHPAD).set_data_handle(scratch_.reserve<char>(plan.scratch_bytes));
    memory& own = plan.operands.at(weight_argument);
    const bool reorders = plan.reordered_bytes > 0;
    if (reorders) {
      plan.weight.set_data_handle(weight);
      prepare(own, plan.reordered_bytes, kept, reordered_, [&] {
        if (!gradient) plan.reorder.execute(stream_, plan.weight, own);
      });
    } else {
      own.set_data_handle(weight);
    }
    plan.primitive.execute(stream_, plan.operands);
    if (reorders && gradient) plan.reorder.execute(stream_, own, plan.weight);
    stream_.wait();
    return true;
  }

 private:
  Plan make(const Key& key) const {
    const auto type = *onednn_type(key.dtype);
    const auto image = [type](const int64_t* s) {
      return memory::desc({s[0], s[1], s[2], s[3]}, type, memory::format_tag::nhwc);
    };
    const auto pair = [](const int64_t* values, int64_t less = 0) {
      return memory::dims{values[0] - less, values[1] - less};
    };
    const memory::desc x = image(key.x), y = image(key.y);
    const int64_t* w = key.weight;
    const memory::dims sizes = key.groups > 1 ? memory::dims{key.groups, w[0] / key.groups, w[1], w[2], w[3]}
                                              : memory::dims{w[0], w[1], w[2], w[3]};
    const memory::desc plain(sizes, type,
                             key.groups > 1 ? memory::format_tag::goihw : memory::format_tag::oihw);
    const memory::desc weight(sizes, type, memory::format_tag::any);
    const memory::desc bias = key.bias ? memory::desc({w[0]}, type, memory::format_tag::x) : memory::desc();
    const memory::dims stride = pair(key.stride), padding = pair(key.padding),
                       dilation = pair(key.dilation, 1);  // oneDNN counts from 0
    constexpr auto direct = dnnl::algorithm::convolution_direct;
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);

    Plan plan;
    const auto build = [&]<typename Primitive>(const Primitive&, const auto& description,
                                               const memory::desc& chosen) {
      plan.supported = true;
      plan.primitive = Primitive(description);
      const auto operand = [&](int argument, const memory::desc& d) {
        plan.operands.emplace(argument, memory(d, engine_, DNNL_MEMORY_NONE));
      };
      const bool forward = key.pass == Pass::Forward, gradient = key.pass == Pass::WeightGradient;
      operand(key.pass == Pass::InputGradient ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, x);
      operand(forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, y);
      operand(gradient ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, chosen);
      operand(DNNL_ARG_SCRATCHPAD, description.scratchpad_desc());
      if (key.bias) operand(gradient ? DNNL_ARG_DIFF_BIAS : DNNL_ARG_BIAS, bias);
      if (key.residual) operand(kResidual, y);
      plan.scratch_bytes = description.scratchpad_desc().get_size();
      if (chosen == plain) return;
      plan.weight = memory(plain, engine_, DNNL_MEMORY_NONE);
      const memory own(chosen, engine_, DNNL_MEMORY_NONE);
      plan.reorder = gradient ? dnnl::reorder(own, plan.weight) : dnnl::reorder(plan.weight, own);
      plan.reordered_bytes = chosen.get_size();
    };

    if (key.pass == Pass::Forward) {
      dnnl::post_ops post_ops;
      if (key.residual) post_ops.append_binary(dnnl::algorithm::binary_add, y);
      if (key.relu) append_activation(post_ops, dnnl::algorithm::eltwise_relu);
      attributes.set_post_ops(post_ops);
      const auto description =
          describe<Forward>(engine_, attributes, nullptr, dnnl::prop_kind::forward_inference, direct, x,
                            weight, bias, y, stride, dilation, padding, padding);
      if (is_optimised(description)) build(Forward(), description, description.weights_desc());
      return plan;
    }
    const auto hint =
        describe<Forward>(engine_, attributes, nullptr, dnnl::prop_kind::forward_training, direct, x, weight,
                          memory::desc(), y, stride, dilation, padding, padding);
    if (!hint) return plan;
    if (key.pass == Pass::InputGradient) {
      const auto description = describe<InputGradient>(engine_, attributes, &hint, direct, x, weight, y,
                                                       stride, dilation, padding, padding);
      if (is_optimised(description)) build(InputGradient(), description, description.weights_desc());
    } else {
      const auto description = describe<WeightGradient>(engine_, attributes, &hint, direct, x, weight, bias,
                                                        y, stride, dilation, padding, padding);
      if (is_optimised(description)) build(WeightGradient(), description, description.diff_weights_desc());
    }
    return plan;
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  PlanCache<Key, Plan> plans_;
  ScratchBuffer scratch_;
  ScratchBuffer reordered_;
};

Key key_of(Pass pass, const View& x, const View& weight, const View& y, const Window& window,
           int64_t groups) {
  Key key;
  std::copy_n(x.shape.begin(), 4, key.x);
  std::copy_n(y.shape.begin(), 4, key.y);
  std::copy_n(weight.shape.begin(), 4, key.weight);
  std::copy_n(window.stride, 2, key.stride);
  std::copy_n(window.padding, 2, key.padding);
  std::copy_n(window.dilation, 2, key.dilation);
  key.groups = groups;
  key.threads = omp_get_max_threads();
  key.dtype = x.dtype;
  key.pass = pass;
  return key;
}

Context& context() {
  static thread_local Context instance;
  return instance;
}

// Where oneDNN 2.6 is wrong (conv2d_test.cc).

// It sums bfloat16 in pairs, and behind an odd number of them takes whatever lies there.
bool has_pairs(DType dtype, int64_t summed) { return dtype != DType::BFloat16 || summed % 2 == 0; }

// It adds a residual in the wrong place where windows lie in the padding alone, where a row has fewer of them than pixels
// of padding on its left, where they are dilated, and to pointwise products of an odd number of bfloat16.
bool adds_residual(const Conv2dArgs& args) {
  const auto& [kernel, stride, padding, dilation] = args.window;
  const bool meets_image = padding[0] < kernel[0] && padding[1] < kernel[1];
  const bool outgrows_padding = args.y.size(3) >= padding[1];
  return meets_image && outgrows_padding && has_pairs(args.x.dtype, args.weight.size(1)) &&
         dilation[0] == 1 && dilation[1] == 1;
}

bool is_pointwise(const Window& window) { return window.kernel[0] == 1 && window.kernel[1] == 1; }

// It leaves the gradient of a bfloat16 tap as it was in memory where that meets the padding alone.
bool writes_every_tap(const Conv2dWeightGradientArgs& args) {
  if (args.x.dtype != DType::BFloat16) return true;
  const auto& [kernel, stride, padding, dilation] = args.window;
  for (const int dim : {0, 1}) {
    const int64_t pixels = args.x.size(2 + dim), windows = args.dy.size(2 + dim);
    for (int64_t tap = 0; tap < kernel[dim]; ++tap) {
      const int64_t first = tap * dilation[dim] - padding[dim];  // its pixel in the first window
      const int64_t before = first < 0 ? (-first + stride[dim] - 1) / stride[dim] : 0;
      if (before >= windows || first + before * stride[dim] >= pixels) return false;
    }
  }
  return true;
}

}  // namespace

bool onednn_conv2d(const Conv2dArgs& args) {
  if (!onednn_multiplies(args.x.dtype) || (args.residual && !adds_residual(args))) return false;
  Key key = key_of(Pass::Forward, args.x, args.weight, args.y, args.window, args.groups);
  key.bias = static_cast<bool>(args.bias);
  key.residual = static_cast<bool>(args.residual);
  key.relu = args.relu;
  return context().run(key, args.weight.data,
                       {{DNNL_ARG_SRC, args.x.data},
                        {DNNL_ARG_DST, args.y.data},
                        {DNNL_ARG_BIAS, args.bias.data},
                        {kResidual, args.residual.data}},
                       args.prepared_weight);
}

size_t onednn_prepared_bytes(const Conv2dArgs& args) {
  if (!onednn_multiplies(args.x.dtype) || (args.residual && !adds_residual(args))) return 0;
  if (args.x.numel() == 0 || args.y.numel() == 0 || !has_sets(dnnl::cpu_isa::avx2)) return 0;
  // Whole blocks of the channels of each group; where there are no groups, as large as those of products.
  const int64_t block = args.groups == 1 ? 64 : 16;
  const int64_t channels =
      round_up(args.weight.size(0) / args.groups, block) * round_up(args.weight.size(1), 16);
  const int64_t taps = args.weight.size(2) * args.weight.size(3);
  return static_cast<size_t>(args.groups * channels * taps) * size_of(args.x.dtype);
}

bool onednn_conv2d_input_gradient(const Conv2dInputGradientArgs& args) {
  if (!onednn_multiplies(args.dx.dtype)) return false;
  if (is_pointwise(args.window) && !has_pairs(args.dx.dtype, args.weight.size(0) / args.groups)) return false;
  const Key key = key_of(Pass::InputGradient, args.dx, args.weight, args.dy, args.window, args.groups);
  return context().run(key, args.weight.data,
                       {{DNNL_ARG_DIFF_SRC, args.dx.data}, {DNNL_ARG_DIFF_DST, args.dy.data}});
}

bool onednn_conv2d_weight_gradient(const Conv2dWeightGradientArgs& args) {
  if (!onednn_multiplies(args.x.dtype) || !writes_every_tap(args)) return false;
  Key key = key_of(Pass::WeightGradient, args.x, args.dweight, args.dy, args.window, args.groups);
  key.bias = static_cast<bool>(args.dbias);
  return context().run(key, args.dweight.data,
                       {{DNNL_ARG_SRC, args.x.data},
                        {DNNL_ARG_DIFF_DST, args.dy.data},
                        {DNNL_ARG_DIFF_BIAS, args.dbias.data}});
}

}  // namespace tenon::cpu
