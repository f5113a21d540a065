// Convolution by cuDNN on channels-last images; where it has no algorithm, or refuses the one that it proposed (float64, and
// now and then a dilation, a group size or an address) by kernels of our own (conv2d_direct.h). What follows, bias, residual and ReLU, cuDNN does where there
// are a bias and ReLU and that was faster when timed; else it is done in place (epilogue.h), which reads and writes y once
// more, and in 16 bits sees it rounded.
//
// The library wants a weight [O, kh, kw, C / groups]. Ours is [O, C / groups, kh, kw] and changes with each step of
// training: it is copied within the call, and its gradient back, unless one pixel or one channel makes them the same.
//
// float32 is multiplied in float32; with TENON_TF32=1 in the environment, in TF32. 16-bit types accumulate in float32.
#include <memory>

#include "backend/cuda/conv2d_direct.h"
#include "backend/cuda/conv2d_plans.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

const Conv2dPlan* plan_for(Queue& queue, const Convolution& c) {
  if (c.x.dtype == DType::Float64) return nullptr;
  if (queue.conv2d_plans == nullptr) queue.conv2d_plans = std::make_shared<Conv2dPlans>(queue.stream());
  return queue.conv2d_plans->plan(queue, c);
}

// Whether the library has done it.
bool convolve_by_library(Queue& queue, Convolution c) {
  const View own = c.weight;
  c.weight.strides = channels_last_strides(own.shape);
  const bool copies = !own.is_channels_last();
  if (copies) c.weight.data = nullptr;
  const Conv2dPlan* const plan = plan_for(queue, c);
  if (plan == nullptr) return false;
  const size_t weight_bytes = copies ? scratch_bytes(own) : 0;
  auto* const scratch = static_cast<unsigned char*>(queue.scratch(weight_bytes + plan->workspace));
  if (copies) c.weight.data = scratch;
  const bool makes_weight = c.pass == Conv2dPass::WeightGradient;
  if (copies && !makes_weight) copy({own, c.weight}, &queue);
  if (!queue.conv2d_plans->run(queue, c, *plan, scratch + weight_bytes)) return false;
  if (copies && makes_weight) copy({c.weight, own}, &queue);
  return true;
}

// All operands have elements; c.weight is the caller's.
void convolve(const char* op, const Convolution& c, void* stream) {
  Queue& queue = queue_of(stream);
  if (convolve_by_library(queue, c)) return;
  conv2d_direct(queue, op, c);
  finish_convolution(queue, c, true);
}

}  // namespace

void conv2d(const Conv2dArgs& args, void* stream) {
  if (args.y.numel() == 0) return;
  const Convolution c{Conv2dPass::Forward, args.x,    args.weight,   args.y,   args.window,
                      args.groups,         args.bias, args.residual, args.relu};
  if (args.x.numel() > 0 && args.weight.numel() > 0) return convolve("conv2d", c, stream);
  finish_convolution(queue_of(stream), c, false);
}

void conv2d_input_gradient(const Conv2dInputGradientArgs& args, void* stream) {
  if (args.dx.numel() == 0) return;
  if (args.dy.numel() == 0) return fill({args.dx, 0}, stream);
  convolve("conv2dInputGradient",
           {Conv2dPass::InputGradient, args.dx, args.weight, args.dy, args.window, args.groups}, stream);
}

void conv2d_weight_gradient(const Conv2dWeightGradientArgs& args, void* stream) {
  if (args.dbias) {
    const int64_t O = args.dbias.numel();
    reduce({ReduceOp::Sum,
            {args.dy.data, args.dy.dtype, Shape{O == 0 ? 0 : args.dy.numel() / O, O}, Shape{O, 1}},
            {args.dbias.data, args.dbias.dtype, Shape{1, O}, Shape{O, 1}}},
           stream);
  }
  if (args.dweight.numel() == 0) return;
  if (args.dy.numel() == 0 || args.x.numel() == 0) return fill({args.dweight, 0}, stream);
  convolve("conv2dWeightGradient",
           {Conv2dPass::WeightGradient, args.x, args.dweight, args.dy, args.window, args.groups}, stream);
}

}  // namespace tenon::cuda
