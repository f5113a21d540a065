#include "backend/cuda/conv2d_plans.h"

#include <algorithm>
#include <limits>
#include <span>
#include <sstream>
#include <string>

#include "backend/cuda/epilogue.h"
#include "core/error.h"

namespace tenon::cuda {

namespace {

constexpr const char* kOp = "conv2d";

// "cuDNN: CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE", and what more the library has to say.
void expect_success(dnn::Status status) {
  if (status == dnn::kSuccess) return;
  const dnn::Library& library = dnn::library();
  char details[1024] = "";
  library.GetLastErrorString(details, sizeof details);
  const std::string separator = details[0] == '\0' ? "" : ": ";
  throw TensorError(kOp, code::kKernel,
                    std::string("cuDNN: ") + library.GetErrorString(status) + separator + details);
}

// Part of the library, or what it needs, is not installed: kernels of our own would hide that, and be slow.
bool is_missing(dnn::Status status) {
  return status == dnn::kPrerequisiteMissing || status == dnn::kSublibraryUnavailable;
}

// Of all its kinds but these.
bool is_unsupported(dnn::Status status) {
  return status / 1000 == dnn::kNotSupported / 1000 && !is_missing(status);
}

dnn::DataType type_of(DType dtype) {
  switch (dtype) {
    case DType::BFloat16:
      return dnn::kBFloat16;
    case DType::Float16:
      return dnn::kFloat16;
    default:
      return dnn::kFloat32;
  }
}

bool is_aligned(const View& x) { return reinterpret_cast<uintptr_t>(x.data) % 16 == 0; }

// The library counts in int.
bool is_countable(const View& x) { return x.numel() <= std::numeric_limits<int>::max(); }

// In the file of choices: the numbers that the library has for them.
std::string text_of(const Conv2dAlgorithm& a) {
  return "algorithm " + std::to_string(a.algorithm) + " math " + std::to_string(a.math) +
         (a.fuses ? " fused" : "");
}

// The library can follow the sum with a bias, a residual and ReLU, all at once.
bool is_fusible(const Convolution& c) {
  return c.pass == Conv2dPass::Forward && c.relu && c.bias && is_aligned(c.bias) && is_aligned(c.residual);
}

// A channels-last image as the matrix [pixels, channels].
View pixels(const View& image) {
  if (!image) return {};
  const int64_t C = image.size(1);
  return {image.data, image.dtype, Shape{image.numel() / C, C}, Shape{C, 1}};
}

int at(const Shape& shape, int dim) { return static_cast<int>(shape[dim]); }

}  // namespace

void finish_convolution(Queue& queue, const Convolution& c, bool has_terms) {
  if (has_terms && !c.bias && !c.residual && !c.relu) return;
  finish(queue, kOp,
         {has_terms ? pixels(c.y) : View{}, c.bias, pixels(c.residual), pixels(c.y),
          c.relu ? Activation::Relu : Activation::None, true});
}

Conv2dPlans::Conv2dPlans(cudaStream_t stream) {
  expect_success(library_.Create(handle_.out()));
  expect_success(library_.SetStream(handle_, stream));
}

Conv2dPlans::Key Conv2dPlans::key_of(const Convolution& c) {
  Key key{static_cast<int64_t>(c.pass), static_cast<int64_t>(c.x.dtype), c.groups, c.weight.size(0)};
  size_t i = 4;
  for (const int64_t size : c.x.shape) key.at(i++) = size;
  for (const int dim : {2, 3}) key.at(i++) = c.y.size(dim);
  for (const auto* pair : {&c.window.kernel, &c.window.stride, &c.window.padding, &c.window.dilation}) {
    for (const int64_t value : *pair) key.at(i++) = value;
  }
  key.at(i) = (c.bias ? 1 : 0) + (c.residual ? 2 : 0) + (c.relu ? 4 : 0) + (is_fusible(c) ? 8 : 0);
  return key;
}

const Conv2dPlan* Conv2dPlans::plan(Queue& queue, const Convolution& convolution) {
  for (const View* operand : {&convolution.x, &convolution.weight, &convolution.y}) {
    if (!is_aligned(*operand) || !is_countable(*operand)) return nullptr;
  }
  const Key key = key_of(convolution);
  const auto place = plans_.find(key);
  if (place != plans_.end()) return place->second.get();
  return plans_.emplace(key, make(queue, convolution, key)).first->second.get();
}

std::unique_ptr<Conv2dPlan> Conv2dPlans::describe(const Convolution& c) const {
  auto plan = std::make_unique<Conv2dPlan>(library_);
  const dnn::DataType type = type_of(c.x.dtype);
  const auto describe = [&](dnn::TensorDesc* desc, const Shape& s) {
    expect_success(library_.CreateTensorDescriptor(desc));
    expect_success(library_.SetTensor4dDescriptor(*desc, dnn::kChannelsLast, type, at(s, 0), at(s, 1),
                                                  at(s, 2), at(s, 3)));
  };
  describe(plan->x.out(), c.x.shape);
  describe(plan->y.out(), c.y.shape);
  const Shape& w = c.weight.shape;
  expect_success(library_.CreateFilterDescriptor(plan->weight.out()));
  expect_success(library_.SetFilter4dDescriptor(plan->weight, type, dnn::kChannelsLast, at(w, 0), at(w, 1),
                                                at(w, 2), at(w, 3)));
  const auto pair = [](const int64_t(&values)[2], int i) { return static_cast<int>(values[i]); };
  const auto& [kernel, stride, padding, dilation] = c.window;
  expect_success(library_.CreateConvolutionDescriptor(plan->convolution.out()));
  expect_success(library_.SetConvolution2dDescriptor(
      plan->convolution, pair(padding, 0), pair(padding, 1), pair(stride, 0), pair(stride, 1),
      pair(dilation, 0), pair(dilation, 1), dnn::kCrossCorrelation, dnn::kFloat32));
  expect_success(library_.SetConvolutionGroupCount(plan->convolution, static_cast<int>(c.groups)));
  if (is_fusible(c)) {
    describe(plan->bias.out(), Shape{1, c.y.size(1), 1, 1});
    expect_success(library_.CreateActivationDescriptor(plan->relu.out()));
    expect_success(library_.SetActivationDescriptor(plan->relu, dnn::kRelu, dnn::kPropagated, 0));
  }
  return plan;
}

std::vector<Conv2dAlgorithm> Conv2dPlans::algorithms(const Convolution& c, Conv2dPlan& p) const {
  const Conv2dPass pass = c.pass;
  const DType dtype = c.x.dtype;
  std::vector<Conv2dAlgorithm> usable;
  constexpr size_t kMostWorkspace = size_t{256} << 20;
  constexpr int kMost = 16;  // twice what any pass has
  const dnn::Math asked = dtype != DType::Float32 ? dnn::kTensorOps : tf32_ ? dnn::kDefault : dnn::kFma;
  expect_success(library_.SetConvolutionMathType(p.convolution, asked));
  dnn::Proposal proposals[kMost];
  int found = 0;
  const dnn::Status status = propose(pass, p, kMost, &found, proposals);
  if (is_unsupported(status)) return usable;
  expect_success(status);
  dnn::Status missing = dnn::kSuccess;
  const auto works = [&](dnn::Status of) {
    if (is_missing(of)) missing = of;
    return of == dnn::kSuccess;
  };
  for (const dnn::Proposal& proposal : std::span(proposals, static_cast<size_t>(found))) {
    if (!works(proposal.status) || proposal.determinism != dnn::kDeterministic) continue;
    // Nothing is rounded to a narrower type, whatever the library proposes.
    if (proposal.math == dnn::kTensorOpsWithConversion) continue;
    if (asked == dnn::kFma && proposal.math == dnn::kTensorOps) continue;
    const dnn::Math math = asked == dnn::kFma ? dnn::kFma : proposal.math;
    take({proposal.algorithm, math, 0}, p);
    // Not every proposal works: this asks again, for what will run.
    size_t workspace = 0;
    if (works(measure(pass, p, &workspace)) && workspace <= kMostWorkspace) {
      usable.push_back({proposal.algorithm, math, workspace});
    }
  }
  if (usable.empty()) expect_success(missing);
  // The library does not say which of them can do what follows, too: only one that has been timed is taken.
  const size_t plain = is_fusible(c) ? usable.size() : 0;
  for (size_t i = 0; i < plain; ++i) {
    usable.push_back(usable[i]);
    usable.back().fuses = true;
  }
  return usable;
}

void Conv2dPlans::take(const Conv2dAlgorithm& a, Conv2dPlan& p) const {
  expect_success(library_.SetConvolutionMathType(p.convolution, a.math));
  p.algorithm = a.algorithm;
  p.workspace = a.workspace;
  p.fuses = a.fuses;
}

// As text; empty where none runs, or there is no memory to find out. Results go to scratch memory.
std::string Conv2dPlans::fastest(Queue& queue, Convolution c, const std::vector<Conv2dAlgorithm>& algorithms,
                                 Conv2dPlan& p) const {
  size_t workspace = 0;
  for (const Conv2dAlgorithm& a : algorithms) workspace = std::max(workspace, a.workspace);
  View& result = c.pass == Conv2dPass::Forward ? c.y : c.pass == Conv2dPass::InputGradient ? c.x : c.weight;
  const size_t result_bytes = scratch_bytes(result), weight_bytes = scratch_bytes(c.weight);
  unsigned char* const scratch = spare_memory(queue, result_bytes + weight_bytes + workspace);
  if (scratch == nullptr) return "";
  result.data = scratch;
  if (c.weight.data == nullptr) c.weight.data = scratch + result_bytes;
  std::string best;
  float best_time = std::numeric_limits<float>::infinity();
  for (const Conv2dAlgorithm& a : algorithms) {
    take(a, p);
    dnn::Status status = dnn::kSuccess;
    const float time = time_of(queue, kOp, [&] {
      if (status == dnn::kSuccess) status = execute(queue, c, p, scratch + result_bytes + weight_bytes);
    });
    if (status != dnn::kSuccess || time >= best_time * kClearly) continue;
    best_time = time;
    best = text_of(a);
  }
  return best;
}

std::unique_ptr<Conv2dPlan> Conv2dPlans::make(Queue& queue, const Convolution& c, const Key& key) {
  std::unique_ptr<Conv2dPlan> plan = describe(c);
  const std::vector<Conv2dAlgorithm> usable = algorithms(c, *plan);
  if (usable.empty()) return nullptr;
  const Conv2dAlgorithm* chosen = &usable[0];
  if (usable.size() > 1 && tuning_.enabled()) {
    const auto is_usable = [&](const std::string& choice) {
      const auto found = std::find_if(usable.begin(), usable.end(),
                                      [&](const Conv2dAlgorithm& a) { return text_of(a) == choice; });
      if (found != usable.end()) chosen = &*found;
      return found != usable.end();
    };
    std::ostringstream name;
    name << machine("cuDNN", library_.GetVersion()) << ": " << name_of(c.x.dtype) << ' '
         << to_string(c.x.shape) << ' ' << to_string(c.weight.shape) << (tf32_ ? " TF32:" : ":");
    for (const int64_t value : key) name << ' ' << value;
    const auto choice = queue.capturing() ? tuning_.find(name.str(), is_usable)
                                          : tuning_.choose(name.str(), is_usable,
                                                           [&] { return fastest(queue, c, usable, *plan); });
    if (choice) is_usable(*choice);
  }
  take(*chosen, *plan);
  return plan;
}

dnn::Status Conv2dPlans::propose(Conv2dPass pass, const Conv2dPlan& p, int most, int* found,
                                 dnn::Proposal* proposals) const {
  switch (pass) {
    case Conv2dPass::Forward:
      return library_.GetConvolutionForwardAlgorithm_v7(handle_, p.x, p.weight, p.convolution, p.y, most,
                                                        found, proposals);
    case Conv2dPass::InputGradient:
      return library_.GetConvolutionBackwardDataAlgorithm_v7(handle_, p.weight, p.y, p.convolution, p.x, most,
                                                             found, proposals);
    default:
      return library_.GetConvolutionBackwardFilterAlgorithm_v7(handle_, p.x, p.y, p.convolution, p.weight,
                                                               most, found, proposals);
  }
}

dnn::Status Conv2dPlans::measure(Conv2dPass pass, const Conv2dPlan& p, size_t* bytes) const {
  switch (pass) {
    case Conv2dPass::Forward:
      return library_.GetConvolutionForwardWorkspaceSize(handle_, p.x, p.weight, p.convolution, p.y,
                                                         p.algorithm, bytes);
    case Conv2dPass::InputGradient:
      return library_.GetConvolutionBackwardDataWorkspaceSize(handle_, p.weight, p.y, p.convolution, p.x,
                                                              p.algorithm, bytes);
    default:
      return library_.GetConvolutionBackwardFilterWorkspaceSize(handle_, p.x, p.y, p.convolution, p.weight,
                                                                p.algorithm, bytes);
  }
}

bool Conv2dPlans::run(Queue& queue, const Convolution& c, const Conv2dPlan& p, void* workspace) {
  const dnn::Status status = execute(queue, c, p, workspace);
  if (is_unsupported(status)) {
    plans_.at(key_of(c)) = nullptr;
    return false;
  }
  expect_success(status);
  return true;
}

dnn::Status Conv2dPlans::execute(Queue& queue, const Convolution& c, const Conv2dPlan& p,
                                 void* workspace) const {
  const dnn::Status status = convolve(c, p, workspace);
  if (status == dnn::kSuccess && !p.fuses) finish_convolution(queue, c, true);
  return status;
}

dnn::Status Conv2dPlans::convolve(const Convolution& c, const Conv2dPlan& p, void* workspace) const {
  const float one = 1, zero = 0;
  if (p.fuses) {
    const bool adds = static_cast<bool>(c.residual);
    return library_.ConvolutionBiasActivationForward(
        handle_, &one, p.x, c.x.data, p.weight, c.weight.data, p.convolution, p.algorithm, workspace,
        p.workspace, adds ? &one : &zero, p.y, adds ? c.residual.data : c.y.data, p.bias, c.bias.data, p.relu,
        p.y, c.y.data);
  }
  switch (c.pass) {
    case Conv2dPass::Forward:
      return library_.ConvolutionForward(handle_, &one, p.x, c.x.data, p.weight, c.weight.data, p.convolution,
                                         p.algorithm, workspace, p.workspace, &zero, p.y, c.y.data);
    case Conv2dPass::InputGradient:
      return library_.ConvolutionBackwardData(handle_, &one, p.weight, c.weight.data, p.y, c.y.data,
                                              p.convolution, p.algorithm, workspace, p.workspace, &zero, p.x,
                                              c.x.data);
    default:
      return library_.ConvolutionBackwardFilter(handle_, &one, p.x, c.x.data, p.y, c.y.data, p.convolution,
                                                p.algorithm, workspace, p.workspace, &zero, p.weight,
                                                c.weight.data);
  }
}

}  // namespace tenon::cuda
