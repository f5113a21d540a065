// cuDNN on the emulator: the functions that Tenon uses, with plain sums. It is strict where the library's documentation is:
// sizes, types, an algorithm that was not proposed, a workspace too small. Its proposals are as mixed as the library's:
// the two that can be used come last, and of those the first alone takes a bias and an activation. For channels-last
// images it knows no dilation.
#include "backend/cuda/cudnn.h"

#include <cstdio>
#include <cstring>
#include <vector>

#include "test/cuda_emulator/libraries.h"
#include "test/elements.h"

namespace tenon::cuda::dnn {

struct HandleOpaque {
  cudaStream_t stream = nullptr;
};
struct TensorOpaque {
  DataType type = kFloat32;
  int n = 0, c = 0, h = 0, w = 0;  // a filter's n: outputs
  int64_t size() const { return int64_t{n} * c * h * w; }
  // Channels-last.
  int64_t at(int64_t i, int64_t channel, int64_t row, int64_t column) const {
    return ((i * h + row) * w + column) * c + channel;
  }
};
struct FilterOpaque : TensorOpaque {};
struct ConvolutionOpaque {
  int padding[2] = {}, stride[2] = {}, dilation[2] = {};
  int groups = 1;
  Math math = kDefault;
};

struct ActivationOpaque {
  Activation mode{};
};

namespace {

constexpr size_t kWorkspace = 1000;
constexpr int kUsable = 7;  // and the next

DType dtype_of(DataType type) {
  return type == kFloat32 ? DType::Float32 : type == kFloat16 ? DType::Float16 : DType::BFloat16;
}

template <typename T>
Status create(T** made) {
  *made = new T();
  return kSuccess;
}
template <typename T>
Status destroy(T* made) {
  delete made;
  return kSuccess;
}

Status describe(TensorOpaque* desc, DataType type, Format format, int n, int c, int h, int w) {
  if (format != kChannelsLast || n < 1 || c < 1 || h < 1 || w < 1) return kBadParameter;
  *desc = {type, n, c, h, w};
  return kSuccess;
}

Status set_convolution(ConvolutionDesc desc, int padding_h, int padding_w, int stride_h, int stride_w,
                       int dilation_h, int dilation_w, Mode mode, DataType compute) {
  if (mode != kCrossCorrelation || compute != kFloat32) return kBadParameter;
  if (padding_h < 0 || padding_w < 0 || stride_h < 1 || stride_w < 1 || dilation_h < 1 || dilation_w < 1) {
    return kBadParameter;
  }
  *desc = {{padding_h, padding_w}, {stride_h, stride_w}, {dilation_h, dilation_w}};
  return kSuccess;
}

Status check(const TensorOpaque& x, const TensorOpaque& filter, const ConvolutionOpaque& c,
             const TensorOpaque& y) {
  const auto count = [&](int dim, int size, int kernel) {
    return (size + 2 * c.padding[dim] - c.dilation[dim] * (kernel - 1) - 1) / c.stride[dim] + 1;
  };
  if (x.type != filter.type || x.type != y.type || y.n != x.n || y.c != filter.n || c.groups < 1 ||
      filter.c * c.groups != x.c || filter.n % c.groups != 0 || y.h != count(0, x.h, filter.h) ||
      y.w != count(1, x.w, filter.w)) {
    return kBadParameter;
  }
  return c.dilation[0] == 1 && c.dilation[1] == 1 ? kSuccess : kNotSupported;
}

emulator::ConvolutionLibrary& settings() { return emulator::convolution_library(); }

Status propose(Status supported, const ConvolutionOpaque& c, int asked, int* found, Proposal* proposals) {
  if (supported == kBadParameter || asked < 7) return kBadParameter;
  if (settings().refuses_to_propose != 0) return static_cast<Status>(settings().refuses_to_propose);
  constexpr size_t kTooMuch = size_t{1} << 30;
  const Proposal all[] = {{0, kSuccess, 1, kWorkspace, kNonDeterministic, c.math, {}},
                          {1, kNotSupported, -1, kWorkspace, kDeterministic, c.math, {}},
                          {2, kSuccess, 2, kTooMuch, kDeterministic, c.math, {}},
                          {3, kSuccess, 3, kWorkspace, kDeterministic, c.math, {}},  // a lie
                          {4, kSuccess, 3, kWorkspace, kDeterministic, kTensorOpsWithConversion, {}},
                          {kUsable, supported, 4, kWorkspace, kDeterministic, c.math, {}},
                          {kUsable + 1, supported, 5, kWorkspace, kDeterministic, c.math, {}}};
  *found = 0;
  for (const Proposal& proposal : all) proposals[(*found)++] = proposal;
  return kSuccess;
}

Status measure(Status supported, int algorithm, size_t* bytes) {
  if (supported != kSuccess) return supported;
  if (settings().refuses_to_measure != 0) return static_cast<Status>(settings().refuses_to_measure);
  *bytes = algorithm == 2 ? size_t{1} << 30 : kWorkspace;
  return algorithm == 3 ? kNotSupported : kSuccess;
}

enum class Pass { Forward, InputGradient, WeightGradient };

struct Call {
  int algorithm;
  TensorOpaque x, filter, y;
  ConvolutionOpaque c;
  Pass pass;
  const void *x_data, *filter_data, *y_data;
  void* workspace;
  bool fused = false;
  const void* added = nullptr;  // or null
  const void* bias = nullptr;

  std::vector<double> load(const TensorOpaque& t, const void* data, bool is_output) const {
    std::vector<double> elements(static_cast<size_t>(t.size()));
    for (size_t i = 0; i < elements.size() && !is_output; ++i) {
      const double value = testing::load(dtype_of(t.type), data, static_cast<int64_t>(i));
      elements[i] = t.type == kFloat32 && c.math != kFma ? testing::to_tf32(value) : value;
    }
    return elements;
  }
  static void store(const TensorOpaque& t, const void* data, const std::vector<double>& elements) {
    for (size_t i = 0; i < elements.size(); ++i) {
      testing::store(dtype_of(t.type), const_cast<void*>(data), static_cast<int64_t>(i), elements[i]);
    }
  }
  void operator()() const {
    std::memset(workspace, 0xff, kWorkspace);
    emulator::ConvolutionLibrary& library = settings();
    library.algorithm = algorithm;
    library.fused = fused;
    emulator::spend(fused ? library.fused_time : library.times[static_cast<size_t>(algorithm - kUsable)]);
    std::vector<double> xs = load(x, x_data, pass == Pass::InputGradient),
                        ws = load(filter, filter_data, pass == Pass::WeightGradient),
                        ys = load(y, y_data, pass == Pass::Forward);
    for (int image = 0; image < y.n; ++image) {
      for (int o = 0; o < y.c; ++o) {
        for (int i = 0; i < y.h; ++i) {
          for (int j = 0; j < y.w; ++j) visit(xs, ws, ys, image, o, i, j);
        }
      }
    }
    if (pass == Pass::Forward) store(y, y_data, ys);
    if (pass == Pass::InputGradient) store(x, x_data, xs);
    if (pass == Pass::WeightGradient) store(filter, filter_data, ws);
  }
  void visit(std::vector<double>& xs, std::vector<double>& ws, std::vector<double>& ys, int image, int o,
             int i, int j) const {
    const int64_t at = y.at(image, o, i, j);
    double& out = ys[static_cast<size_t>(at)];
    add(xs, ws, out, image, o, i, j);
    if (!fused) return;
    out += testing::load(dtype_of(y.type), bias, o);
    if (added != nullptr) out += testing::load(dtype_of(y.type), added, at);
    out = out < 0 ? 0 : out;  // keeps NaN
  }
  // The terms between one output and its inputs.
  void add(std::vector<double>& xs, std::vector<double>& ws, double& out, int image, int o, int i,
           int j) const {
    const int first = o / (filter.n / c.groups) * filter.c;
    for (int a = 0; a < filter.h; ++a) {
      for (int b = 0; b < filter.w; ++b) {
        const int row = i * c.stride[0] - c.padding[0] + a, column = j * c.stride[1] - c.padding[1] + b;
        if (row < 0 || row >= x.h || column < 0 || column >= x.w) continue;
        for (int k = 0; k < filter.c; ++k) {
          double& in = xs[static_cast<size_t>(x.at(image, first + k, row, column))];
          double& weight = ws[static_cast<size_t>(filter.at(o, k, a, b))];
          if (pass == Pass::Forward) out += in * weight;
          if (pass == Pass::InputGradient) in += out * weight;
          if (pass == Pass::WeightGradient) weight += out * in;
        }
      }
    }
  }
};

Status run(Handle handle, const void* alpha, const void* beta, size_t workspace_bytes, const Call& call) {
  const bool is_float32 = call.x.type == kFloat32;
  if (check(call.x, call.filter, call.c, call.y) != kSuccess ||
      (call.algorithm != kUsable && call.algorithm != kUsable + 1) || workspace_bytes < kWorkspace ||
      (call.c.math == kTensorOps) == is_float32 || *static_cast<const float*>(alpha) != 1 ||
      *static_cast<const float*>(beta) != 0) {
    return kBadParameter;
  }
  for (const void* data :
       {call.x_data, call.filter_data, call.y_data, static_cast<const void*>(call.workspace)}) {
    if (reinterpret_cast<uintptr_t>(data) % 16 != 0) return kBadParameter;
  }
  ++settings().asked;
  if (settings().refuses_to_run != 0) return static_cast<Status>(settings().refuses_to_run);
  emulator::launch(handle->stream, "cudnnConvolution", 1, 1, 0, call);
  return kSuccess;
}

}  // namespace

const Library& library() {
  static const Library instance = [] {
    Library l;
    l.Create = &create<HandleOpaque>;
    l.Destroy = [](Handle handle) {
      if (!emulator::is_stream(handle->stream)) ++emulator::late_handles();
      return destroy(handle);
    };
    l.SetStream = [](Handle handle, cudaStream_t stream) {
      handle->stream = stream;
      return kSuccess;
    };
    l.CreateTensorDescriptor = &create<TensorOpaque>;
    l.DestroyTensorDescriptor = &destroy<TensorOpaque>;
    l.SetTensor4dDescriptor = [](TensorDesc desc, Format format, DataType type, int n, int c, int h, int w) {
      return describe(desc, type, format, n, c, h, w);
    };
    l.CreateFilterDescriptor = &create<FilterOpaque>;
    l.DestroyFilterDescriptor = &destroy<FilterOpaque>;
    l.SetFilter4dDescriptor = [](FilterDesc desc, DataType type, Format format, int k, int c, int h, int w) {
      return describe(desc, type, format, k, c, h, w);
    };
    l.CreateConvolutionDescriptor = &create<ConvolutionOpaque>;
    l.DestroyConvolutionDescriptor = &destroy<ConvolutionOpaque>;
    l.SetConvolution2dDescriptor = &set_convolution;
    l.SetConvolutionGroupCount = [](ConvolutionDesc desc, int groups) {
      desc->groups = groups;
      return kSuccess;
    };
    l.SetConvolutionMathType = [](ConvolutionDesc desc, Math math) {
      desc->math = math;
      return kSuccess;
    };
    l.GetConvolutionForwardAlgorithm_v7 = [](Handle, TensorDesc x, FilterDesc w, ConvolutionDesc c,
                                             TensorDesc y, int asked, int* found, Proposal* proposals) {
      return propose(check(*x, *w, *c, *y), *c, asked, found, proposals);
    };
    l.GetConvolutionBackwardDataAlgorithm_v7 = [](Handle, FilterDesc w, TensorDesc dy, ConvolutionDesc c,
                                                  TensorDesc dx, int asked, int* found, Proposal* proposals) {
      return propose(check(*dx, *w, *c, *dy), *c, asked, found, proposals);
    };
    l.GetConvolutionBackwardFilterAlgorithm_v7 =
        [](Handle, TensorDesc x, TensorDesc dy, ConvolutionDesc c, FilterDesc dw, int asked, int* found,
           Proposal* proposals) { return propose(check(*x, *dw, *c, *dy), *c, asked, found, proposals); };
    l.GetConvolutionForwardWorkspaceSize = [](Handle, TensorDesc x, FilterDesc w, ConvolutionDesc c,
                                              TensorDesc y, int algorithm, size_t* bytes) {
      return measure(check(*x, *w, *c, *y), algorithm, bytes);
    };
    l.GetConvolutionBackwardDataWorkspaceSize = [](Handle, FilterDesc w, TensorDesc dy, ConvolutionDesc c,
                                                   TensorDesc dx, int algorithm, size_t* bytes) {
      return measure(check(*dx, *w, *c, *dy), algorithm, bytes);
    };
    l.GetConvolutionBackwardFilterWorkspaceSize = [](Handle, TensorDesc x, TensorDesc dy, ConvolutionDesc c,
                                                     FilterDesc dw, int algorithm, size_t* bytes) {
      return measure(check(*x, *dw, *c, *dy), algorithm, bytes);
    };
    l.ConvolutionForward = [](Handle handle, const void* alpha, TensorDesc x_desc, const void* x,
                              FilterDesc w_desc, const void* w, ConvolutionDesc c, int algorithm,
                              void* workspace, size_t bytes, const void* beta, TensorDesc y_desc, void* y) {
      return run(handle, alpha, beta, bytes,
                 {algorithm, *x_desc, *w_desc, *y_desc, *c, Pass::Forward, x, w, y, workspace});
    };
    l.CreateActivationDescriptor = &create<ActivationOpaque>;
    l.DestroyActivationDescriptor = &destroy<ActivationOpaque>;
    l.SetActivationDescriptor = [](ActivationDesc desc, Activation mode, NaN nan, double) {
      desc->mode = mode;
      return mode == kRelu && nan == kPropagated ? kSuccess : kBadParameter;
    };
    l.ConvolutionBiasActivationForward =
        [](Handle handle, const void* alpha, TensorDesc x_desc, const void* x, FilterDesc w_desc,
           const void* w, ConvolutionDesc c, int algorithm, void* workspace, size_t bytes, const void* beta,
           TensorDesc added_desc, const void* added, TensorDesc bias_desc, const void* bias,
           ActivationDesc activation, TensorDesc y_desc, void* y) {
          const auto same = [](const TensorOpaque& a, const TensorOpaque& b) {
            return a.type == b.type && a.n == b.n && a.c == b.c && a.h == b.h && a.w == b.w;
          };
          const float factor = *static_cast<const float*>(beta), zero = 0;
          if (!same(*added_desc, *y_desc) || !same(*bias_desc, {y_desc->type, 1, y_desc->c, 1, 1}) ||
              activation->mode != kRelu || (factor != 0 && factor != 1) ||
              reinterpret_cast<uintptr_t>(added) % 16 != 0 || reinterpret_cast<uintptr_t>(bias) % 16 != 0) {
            return kBadParameter;
          }
          if (algorithm != kUsable) return kNotSupported;
          return run(handle, alpha, &zero, bytes,
                     {algorithm, *x_desc, *w_desc, *y_desc, *c, Pass::Forward, x, w, y, workspace, true,
                      factor == 0 ? nullptr : added, bias});
        };
    l.ConvolutionBackwardData = [](Handle handle, const void* alpha, FilterDesc w_desc, const void* w,
                                   TensorDesc dy_desc, const void* dy, ConvolutionDesc c, int algorithm,
                                   void* workspace, size_t bytes, const void* beta, TensorDesc dx_desc,
                                   void* dx) {
      return run(handle, alpha, beta, bytes,
                 {algorithm, *dx_desc, *w_desc, *dy_desc, *c, Pass::InputGradient, dx, w, dy, workspace});
    };
    l.ConvolutionBackwardFilter = [](Handle handle, const void* alpha, TensorDesc x_desc, const void* x,
                                     TensorDesc dy_desc, const void* dy, ConvolutionDesc c, int algorithm,
                                     void* workspace, size_t bytes, const void* beta, FilterDesc dw_desc,
                                     void* dw) {
      return run(handle, alpha, beta, bytes,
                 {algorithm, *x_desc, *dw_desc, *dy_desc, *c, Pass::WeightGradient, x, dw, dy, workspace});
    };
    l.GetErrorString = [](Status status) {
      return status == kSublibraryUnavailable ? "CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE"
                                              : "CUDNN_STATUS_OTHER";
    };
    l.GetLastErrorString = [](char* text, size_t bytes) {
      std::snprintf(text, bytes, "%s", settings().last_error);
    };
    l.GetVersion = [] { return size_t{92400}; };
    return l;
  }();
  return instance;
}

}  // namespace tenon::cuda::dnn

namespace tenon::emulator {

ConvolutionLibrary& convolution_library() {
  static ConvolutionLibrary instance;
  return instance;
}

}  // namespace tenon::emulator
