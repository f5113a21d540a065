// Convolutions by cuDNN: the algorithm for each, the fastest that it proposes, timed once and kept (tuning.h).
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/cudnn.h"
#include "backend/cuda/plans.h"
#include "backend/cuda/tuning.h"

namespace tenon::cuda {

enum class Conv2dPass : uint8_t { Forward, InputGradient, WeightGradient };

// y = x * weight, or a gradient of it: the pass says which of the three is written. Images lie channels-last, the weight
// [O, C / groups, kh, kw] by its strides: as [O, kh, kw, C / groups] for the library, contiguous for our own kernels.
struct Convolution {
  Conv2dPass pass;
  View x, weight, y;
  Window window;
  int64_t groups;
  // Forward, what follows the sum: y = x * weight + bias + residual, and its positive part with relu.
  View bias = {}, residual = {};
  bool relu = false;
};

// Does what follows the sum, which is in y; without terms there is no sum, and y is not read.
void finish_convolution(Queue& queue, const Convolution& convolution, bool has_terms);

struct Conv2dAlgorithm {
  int algorithm = 0;
  dnn::Math math = dnn::kDefault;
  size_t workspace = 0;  // bytes
  bool fuses = false;    // does what follows the sum, too
};

struct Conv2dPlan {
  explicit Conv2dPlan(const dnn::Library& library)
      : x(library.DestroyTensorDescriptor),
        y(library.DestroyTensorDescriptor),
        bias(library.DestroyTensorDescriptor),
        weight(library.DestroyFilterDescriptor),
        convolution(library.DestroyConvolutionDescriptor),
        relu(library.DestroyActivationDescriptor) {}

  Owned<dnn::TensorDesc, dnn::Status> x, y, bias;
  Owned<dnn::FilterDesc, dnn::Status> weight;
  Owned<dnn::ConvolutionDesc, dnn::Status> convolution;
  Owned<dnn::ActivationDesc, dnn::Status> relu;
  int algorithm = 0;
  size_t workspace = 0;
  bool fuses = false;
};

// The library's handle on the current device, and what was chosen there.
class Conv2dPlans {
 public:
  explicit Conv2dPlans(cudaStream_t stream);

  // By an algorithm that gives the same bits each time, in a workspace of at most 256 MiB. Null where the library has
  // none, or where an operand lies at no multiple of 16 bytes; one without data counts as aligned.
  const Conv2dPlan* plan(Queue& queue, const Convolution& convolution);

  // With what follows the sum. False where the library refuses the algorithm that it proposed: then nothing has been launched,
  // the plan is gone, and there is none for such a convolution any more.
  bool run(Queue& queue, const Convolution& convolution, const Conv2dPlan& plan, void* workspace);

 private:
  using Key = std::array<int64_t, 19>;

  static Key key_of(const Convolution& convolution);
  std::unique_ptr<Conv2dPlan> make(Queue& queue, const Convolution& convolution, const Key& key);
  std::unique_ptr<Conv2dPlan> describe(const Convolution& convolution) const;
  // What can be used of the library's proposals, best first.
  std::vector<Conv2dAlgorithm> algorithms(const Convolution& convolution, Conv2dPlan& plan) const;
  void take(const Conv2dAlgorithm& algorithm, Conv2dPlan& plan) const;
  dnn::Status execute(Queue& queue, const Convolution& convolution, const Conv2dPlan& plan,
                      void* workspace) const;
  dnn::Status convolve(const Convolution& convolution, const Conv2dPlan& plan, void* workspace) const;
  std::string fastest(Queue& queue, Convolution convolution, const std::vector<Conv2dAlgorithm>& algorithms,
                      Conv2dPlan& plan) const;
  dnn::Status propose(Conv2dPass pass, const Conv2dPlan& plan, int most, int* found,
                      dnn::Proposal* proposals) const;
  dnn::Status measure(Conv2dPass pass, const Conv2dPlan& plan, size_t* bytes) const;

  const dnn::Library& library_ = dnn::library();
  Owned<dnn::Handle, dnn::Status> handle_{library_.Destroy};
  const bool tf32_ = tf32_allowed();
  std::map<Key, std::unique_ptr<Conv2dPlan>> plans_;
  Tuning tuning_;
};

}  // namespace tenon::cuda
