#include "ops/ops.h"

namespace tenon::ops {

namespace {

void check_list(const char* op, const char* name, size_t expected, size_t got) {
  if (expected != got) {
    fail(op, code::kValue, "expected ", expected, " ", name, ", one for each parameter, got ", got);
  }
}

void check_in_place(const char* op, const char* name, size_t i, const Tensor& param, const Tensor& x,
                    DType dtype) {
  const std::string label = std::string(name) + " " + std::to_string(i);
  if (x.dtype() != dtype) {
    fail(op, code::kDType, "expected ", label, " to be ", dtype, " for a ", param.dtype(), " parameter, got ",
         x.dtype());
  }
  check_shape(op, label.c_str(), x, param.shape());
  if (x.numel() > 0 && !x.is_contiguous()) {
    fail(op, code::kShape, "expected ", label, " to be contiguous");
  }
}

void check_in_place(const char* op, const char* name, size_t i, const Tensor& param, const Tensor& x) {
  check_in_place(op, name, i, param, x, param.dtype());
}

// The parameter list of an optimizer's call. A gradient that is not contiguous (a transposed view, say) is copied;
// `contiguous_grads` keeps those alive until the launch.
std::vector<OptimizerTensor> optimizer_tensors(
    const char* op, const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
    const std::vector<Tensor>& state1, const std::vector<Tensor>& state2,
    const std::vector<OptionalTensor>& copies, const std::vector<double>& lr,
    const std::vector<double>& weight_decay, std::vector<Tensor>& contiguous_grads) {
  check_list(op, "gradients", params.size(), grads.size());
  check_list(op, "learning rates", params.size(), lr.size());
  check_list(op, "weight decays", params.size(), weight_decay.size());
  if (!state1.empty()) check_list(op, "first states", params.size(), state1.size());
  if (!state2.empty()) check_list(op, "second states", params.size(), state2.size());
  check_list(op, "copies", params.size(), copies.size());
  std::vector<OptimizerTensor> list;
  list.reserve(params.size());
  for (size_t i = 0; i < params.size(); ++i) {
    const Tensor& p = params[i];
    check_floating(op, "parameter", p);
    check_in_place(op, "parameter", i, p, p);
    const Tensor g = contiguous(grads[i]);
    contiguous_grads.push_back(g);
    check_in_place(op, "gradient", i, p, g);
    const DType state = p.dtype() == DType::Float64 ? DType::Float64 : DType::Float32;
    if (!state1.empty()) check_in_place(op, "state", i, p, state1[i], state);
    if (!state2.empty()) check_in_place(op, "state", i, p, state2[i], state);
    if (copies[i]) {
      const DType narrow = copies[i]->dtype() == DType::Float16 ? DType::Float16 : DType::BFloat16;
      check_in_place(op, "copy", i, p, *copies[i], narrow);
    }
    OptimizerTensor entry;
    entry.param = p.view();
    entry.grad = g.view();
    if (!state1.empty()) entry.state1 = state1[i].view();
    if (!state2.empty()) entry.state2 = state2[i].view();
    entry.copy = optional_view(copies[i]);
    entry.lr = lr[i];
    entry.weight_decay = weight_decay[i];
    list.push_back(entry);
    p.storage()->mark_written();
    if (copies[i]) copies[i]->storage()->mark_written();
  }
  return list;
}

// What a captured graph reads in place of the numbers of a call.
void check_numbers(const char* op, const OptionalTensor& numbers, size_t bytes) {
  if (!numbers) return;
  const bool fits = numbers->dtype() == DType::Float64 && numbers->is_contiguous() &&
                    static_cast<size_t>(numbers->numel()) * sizeof(double) == bytes;
  if (!fits) {
    fail(op, code::kShape, "expected ", bytes / sizeof(double), " float64 numbers, got ", numbers->numel(),
         " ", numbers->dtype());
  }
}

}  // namespace

std::vector<double> adam_numbers(const std::vector<double>& lr, const std::vector<double>& weight_decay,
                                 const std::vector<int64_t>& steps, double beta1, double beta2,
                                 bool decoupled) {
  std::vector<double> list;
  for (size_t i = 0; i < lr.size(); ++i) {
    const AdamNumbers n = tenon::adam_numbers(lr[i], weight_decay[i], beta1, beta2, steps[i], decoupled);
    list.insert(list.end(), {n.decay, n.l2, n.step_size, n.denominator});
  }
  return list;
}

void adam(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
          const std::vector<Tensor>& v, const std::vector<OptionalTensor>& copies,
          const std::vector<double>& lr, const std::vector<double>& weight_decay, double beta1, double beta2,
          double eps, int64_t step, bool decoupled, const OptionalTensor& norm, double max_norm,
          const OptionalTensor& numbers) {
  if (params.empty()) return;
  check_numbers("adam", numbers, params.size() * sizeof(AdamNumbers));
  std::vector<Tensor> contiguous_grads;
  check_list("adam", "first states", params.size(), m.size());
  check_list("adam", "second states", params.size(), v.size());
  AdamArgs args{optimizer_tensors("adam", params, grads, m, v, copies, lr, weight_decay, contiguous_grads),
                beta1,
                beta2,
                eps,
                step,
                decoupled,
                optional_view(norm),
                max_norm,
                optional_view(numbers)};
  launch(params.front().device(), "adam", &Kernels::adam, std::move(args));
}

void sgd(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
         const std::vector<Tensor>& buffers, const std::vector<OptionalTensor>& copies,
         const std::vector<double>& lr, const std::vector<double>& weight_decay, double momentum,
         bool nesterov, bool first_step, const OptionalTensor& norm, double max_norm,
         const OptionalTensor& numbers) {
  if (params.empty()) return;
  check_numbers("sgd", numbers, params.size() * sizeof(SgdNumbers));
  if (momentum != 0) check_list("sgd", "momentum buffers", params.size(), buffers.size());
  std::vector<Tensor> contiguous_grads;
  SgdArgs args{
      optimizer_tensors("sgd", params, grads, buffers, {}, copies, lr, weight_decay, contiguous_grads),
      momentum,
      nesterov,
      first_step,
      optional_view(norm),
      max_norm,
      optional_view(numbers)};
  launch(params.front().device(), "sgd", &Kernels::sgd, std::move(args));
}

Tensor global_norm(const std::vector<Tensor>& tensors) {
  if (tensors.empty()) fail("globalNorm", code::kValue, "expected at least one tensor, got none");
  GlobalNormArgs args;
  std::vector<Tensor> copies;
  for (const Tensor& t : tensors) {
    check_floating("globalNorm", "tensor", t);
    copies.push_back(contiguous(t));
    args.tensors.push_back(copies.back().view());
  }
  // The squares of float32 numbers, and so their sum's root, may lie beyond float32.
  Tensor norm = empty(tensors.front().device(), Shape{}, DType::Float64);
  args.norm = norm.view();
  launch(tensors.front().device(), "globalNorm", &Kernels::global_norm, std::move(args));
  return norm;
}

void clip(const std::vector<Tensor>& tensors, const Tensor& norm, double max_norm) {
  if (tensors.empty()) return;
  ClipArgs args;
  for (const Tensor& t : tensors) {
    check_floating("clip", "tensor", t);
    check_in_place("clip", "tensor", args.tensors.size(), t, t);
    args.tensors.push_back(t.view());
    t.storage()->mark_written();
  }
  args.norm = norm.view();
  args.max_norm = max_norm;
  launch(tensors.front().device(), "clip", &Kernels::clip, std::move(args));
}

void lerp(const std::vector<Tensor>& targets, const std::vector<Tensor>& sources, double weight,
          const OptionalTensor& numbers) {
  check_numbers("lerp", numbers, sizeof(double));
  check_list("lerp", "sources", targets.size(), sources.size());
  if (targets.empty()) return;
  LerpArgs args;
  std::vector<Tensor> copies;
  for (size_t i = 0; i < targets.size(); ++i) {
    copies.push_back(contiguous(sources[i]));
    check_in_place("lerp", "source", i, targets[i], copies.back());
    args.targets.push_back(targets[i].view());
    args.sources.push_back(copies.back().view());
    targets[i].storage()->mark_written();
  }
  args.weight = weight;
  args.numbers = optional_view(numbers);
  launch(targets.front().device(), "lerp", &Kernels::lerp, std::move(args));
}

}  // namespace tenon::ops
