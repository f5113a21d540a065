// cuBLASLt on the emulator: the functions that Tenon uses, with plain sums. It is strict where the library's documentation
// is: leading dimensions (an epilogue's second matrix wants one that 8 divides), promised alignments, an algorithm for
// another problem, a workspace too small. It wants sums in the computing type. It proposes three algorithms, which differ in
// the time that they take.
//
// Like the library, it has no epilogue in float64, calls a bias beside one row or column invalid, writes sums in D's type, and
// computes GELU by a tanh of 11 bits. For 16-bit matrices that do not all lie at multiples of 16 bytes the library has no
// kernel with an epilogue: a second one does what the epilogue asks, of the product that the first has rounded.
#include "backend/cuda/cublaslt.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <set>
#include <vector>

#include "test/cuda_emulator/libraries.h"
#include "test/elements.h"

namespace tenon::cuda::lt {

struct HandleOpaque {
  void* memory = nullptr;  // of the device, as the library's own
  std::set<cudaStream_t> streams = {};
};
struct DescOpaque {
  ComputeType compute;
  DataType scale;
  int32_t transposed_a = kPlain, transposed_b = kPlain;
  uint32_t epilogue = kNoEpilogue;
  void* vector = nullptr;  // a bias, or where sums go
  void* aux = nullptr;     // the epilogue's second matrix, of D's type and size
  int64_t aux_ld = 0;

  bool has_aux() const { return epilogue == kGeluTanhSlope || (epilogue & ~kBias) == kGeluTanhAux; }
};
struct LayoutOpaque {
  DataType type;
  int64_t rows, columns, ld;
  int32_t batch = 1;
  int64_t stride = 0;
};
struct PreferenceOpaque {
  uint64_t workspace = 0;
  uint32_t reductions = 7;  // all there are
  uint32_t alignments[4] = {256, 256, 256, 256};
};

namespace {

constexpr Status kNotInitialized = static_cast<Status>(1), kExecutionFailed = static_cast<Status>(13);
constexpr uint64_t kWorkspace = 1000;
constexpr int kAlgorithms = 3;
// Of the algorithm, among its words.
constexpr int kNumber = 5;
constexpr int kAuxAlignment = 6;

DType dtype_of(DataType type) {
  switch (type) {
    case kFloat64:
      return DType::Float64;
    case kFloat16:
      return DType::Float16;
    case kBFloat16:
      return DType::BFloat16;
    default:
      return DType::Float32;
  }
}

template <typename T>
Status create(T** made, T value) {
  *made = new T(value);
  return kSuccess;
}
template <typename T>
Status destroy(T* made) {
  delete made;
  return kSuccess;
}

template <typename T>
Status take(T& target, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return kInvalidValue;
  std::memcpy(&target, value, bytes);
  return kSuccess;
}

Status set_desc(Desc desc, DescAttribute attribute, const void* value, size_t bytes) {
  switch (attribute) {
    case kTransA:
      return take(desc->transposed_a, value, bytes);
    case kTransB:
      return take(desc->transposed_b, value, bytes);
    case kEpilogue:
      return take(desc->epilogue, value, bytes);
    case kBiasPointer:
      return take(desc->vector, value, bytes);
    case kAuxPointer:
      return take(desc->aux, value, bytes);
    case kAuxLd:
      return take(desc->aux_ld, value, bytes);
  }
  return kInvalidValue;
}

Status set_layout(Layout layout, LayoutAttribute attribute, const void* value, size_t bytes) {
  return attribute == kBatchCount ? take(layout->batch, value, bytes) : take(layout->stride, value, bytes);
}

Status set_preference(Preference preference, PreferenceAttribute attribute, const void* value, size_t bytes) {
  if (attribute == kMaxWorkspace) return take(preference->workspace, value, bytes);
  if (attribute == kReductions) return take(preference->reductions, value, bytes);
  return take(preference->alignments[attribute - kAlignmentA], value, bytes);
}

bool valid(const Desc desc, const Layout a, const Layout b, const Layout c, const Layout d) {
  for (const Layout x : {a, b, c, d}) {
    if (x->rows < 1 || x->columns < 1 || x->ld < x->rows || x->batch != d->batch) return false;
  }
  const bool widens = d->type == kFloat32 && size_of(dtype_of(a->type)) == 2;
  if (a->type != b->type || c->type != d->type || (a->type != d->type && !widens)) return false;
  if (desc->has_aux() && (d->batch != 1 || desc->aux_ld < d->rows || desc->aux_ld % 8 != 0)) return false;
  const bool wide = d->type == kFloat64;
  if (desc->scale != (wide ? kFloat64 : kFloat32) || (desc->compute == kCompute64) != wide) return false;
  const auto size = [](Layout x, int32_t transposed, bool first) {
    return (transposed == kTransposed) == first ? x->columns : x->rows;
  };
  return size(a, desc->transposed_a, true) == d->rows && size(b, desc->transposed_b, false) == d->columns &&
         size(a, desc->transposed_a, false) == size(b, desc->transposed_b, true) && c->rows == d->rows &&
         c->columns == d->columns;
}

// That of an epilogue's second matrix is promised by the address it has while algorithms are proposed.
uint64_t aux_alignment(Desc desc) {
  constexpr uintptr_t kMost = 256;
  const auto address = reinterpret_cast<uintptr_t>(desc->aux);
  if (!desc->has_aux()) return 0;
  return address == 0 ? kMost : std::min(address & (~address + 1), kMost);
}

// What an algorithm was proposed for; the promised alignments follow.
uint64_t fingerprint(Desc desc, Layout a, Layout b, Layout c, Layout d) {
  uint64_t hash = desc->epilogue + (desc->has_aux() ? static_cast<uint64_t>(desc->aux_ld) << 32 : 0);
  for (const Layout x : {a, b, c, d}) {
    for (const int64_t value : {int64_t{x->type}, x->rows, x->columns, x->ld, int64_t{x->batch}, x->stride}) {
      hash = hash * 1000003 + static_cast<uint64_t>(value);
    }
  }
  return hash;
}

Status heuristic(Handle, Desc desc, Layout a, Layout b, Layout c, Layout d, Preference preference, int asked,
                 HeuristicResult* results, int* found) {
  *found = 0;
  if (asked < 1 || !valid(desc, a, b, c, d)) return kInvalidValue;
  if (preference->reductions != kInComputeType) return kInvalidValue;
  if ((desc->epilogue & kBias) != 0 && (d->rows == 1 || d->columns == 1)) return kInvalidValue;
  if (desc->epilogue != kNoEpilogue && d->type == kFloat64) return kNotSupported;
  if (desc->epilogue == kSumsOfB && d->batch != 1) return kNotSupported;
  if (preference->workspace < kWorkspace) return kNotSupported;
  *found = std::min(asked, kAlgorithms);
  for (int n = 0; n < *found; ++n) {
    results[n] = {{{fingerprint(desc, a, b, c, d)}}, kWorkspace, kSuccess, 1, {}};
    for (int i = 0; i < 4; ++i) results[n].algorithm.data[i + 1] = preference->alignments[i];
    results[n].algorithm.data[kNumber] = static_cast<uint64_t>(n);
    results[n].algorithm.data[kAuxAlignment] = aux_alignment(desc);
  }
  return kSuccess;
}

Status check(Handle, Desc desc, Layout a, Layout b, Layout c, Layout d, const Algorithm* algorithm,
             HeuristicResult* result) {
  if (!valid(desc, a, b, c, d) || algorithm->data[0] != fingerprint(desc, a, b, c, d)) return kInvalidValue;
  if (algorithm->data[kNumber] >= kAlgorithms) return kNotSupported;
  result->workspace = kWorkspace;
  result->state = kSuccess;
  return kSuccess;
}

double rounded(DType dtype, double value) {
  double memory = 0;
  testing::store(dtype, &memory, 0, value);
  return testing::load(dtype, &memory, 0);
}

// Of GELU's tanh form. The library has tanh.approx.f32, whose relative error is up to 2^-11.
double tanh_in_gelu(double x) {
  return testing::to_tf32(std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

double gelu_tanh(double x) { return 0.5 * x * (1 + tanh_in_gelu(x)); }

double gelu_tanh_slope(double x) {
  const double t = tanh_in_gelu(x);
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}

struct Call {
  uint64_t algorithm;
  DescOpaque desc;
  LayoutOpaque a, b, c, d;
  const void *a_data, *b_data, *c_data;
  void *d_data, *workspace;
  double alpha, beta;

  // Whether an epilogue takes a second kernel.
  bool in_two_passes() const {
    const auto size = static_cast<int64_t>(size_of(dtype_of(d.type)));
    if (size != 2 || desc.epilogue == kNoEpilogue || desc.epilogue == kSumsOfB) return false;
    const auto fits = [size](const LayoutOpaque& x, const void* data) {
      return reinterpret_cast<uintptr_t>(data) % 16 == 0 && x.ld * size % 16 == 0 &&
             x.stride * size % 16 == 0;
    };
    return !fits(a, a_data) || !fits(b, b_data) || !fits(d, d_data) || (beta != 0 && !fits(c, c_data));
  }
  // What becomes of an element of the product.
  double finish(double value, int64_t row, int64_t column) const {
    const DType dtype = dtype_of(d.type);
    const int64_t at = column * desc.aux_ld + row;
    if (in_two_passes()) value = rounded(dtype, value);
    if (desc.epilogue == kGeluTanhSlope) return value * gelu_tanh_slope(testing::load(dtype, desc.aux, at));
    if ((desc.epilogue & kBias) != 0) value += testing::load(dtype, desc.vector, row);
    if (desc.has_aux()) testing::store(dtype, desc.aux, at, value);
    if ((desc.epilogue & kRelu) != 0) return value < 0 ? 0 : value;
    return (desc.epilogue & kGeluTanh) != 0 ? gelu_tanh(value) : value;
  }
  // An operand of one product, the terms of a sum one behind the other.
  std::vector<double> gather(const LayoutOpaque& x, const void* data, int64_t batch, bool columns) const {
    std::vector<double> elements;
    const int64_t sums = columns ? x.columns : x.rows, terms = columns ? x.rows : x.columns;
    for (int64_t i = 0; i < sums; ++i) {
      for (int64_t k = 0; k < terms; ++k) {
        const int64_t at = columns ? i * x.ld + k : k * x.ld + i;
        const double value = testing::load(dtype_of(x.type), data, batch * x.stride + at);
        elements.push_back(desc.compute == kComputeTF32 ? testing::to_tf32(value) : value);
      }
    }
    return elements;
  }
  void operator()() const {
    std::memset(workspace, 0xff, kWorkspace);
    emulator::MatmulLibrary& library = emulator::matmul_library();
    library.algorithm = algorithm;
    library.epilogue = desc.epilogue;
    const bool only_bias = desc.epilogue == kBias;
    emulator::spend((desc.epilogue == kNoEpilogue ? library.plain
                     : only_bias                  ? library.biased
                                                  : library.fused)[algorithm]);
    const DType dtype = dtype_of(d.type);
    for (int64_t batch = 0; batch < d.batch; ++batch) {
      const std::vector<double> left = gather(a, a_data, batch, desc.transposed_a == kTransposed);
      const std::vector<double> right = gather(b, b_data, batch, desc.transposed_b == kPlain);
      const int64_t terms = static_cast<int64_t>(left.size()) / d.rows;
      for (int64_t column = 0; column < d.columns; ++column) {
        if (desc.epilogue == kSumsOfB) {
          const auto begin = right.begin() + column * terms;
          testing::store(dtype, desc.vector, column, std::accumulate(begin, begin + terms, 0.0));
        }
        for (int64_t row = 0; row < d.rows; ++row) {
          const double* const x = left.data() + row * terms;
          double value = alpha * std::inner_product(x, x + terms, right.data() + column * terms, 0.0);
          if (beta != 0) value += beta * testing::load(dtype, c_data, batch * c.stride + column * c.ld + row);
          testing::store(dtype, d_data, batch * d.stride + column * d.ld + row, finish(value, row, column));
        }
      }
    }
  }
};

Status multiply(Handle handle, Desc desc, const void* alpha, const void* a, Layout a_layout, const void* b,
                Layout b_layout, const void* beta, const void* c, Layout c_layout, void* d, Layout d_layout,
                const Algorithm* algorithm, void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  if (!valid(desc, a_layout, b_layout, c_layout, d_layout) || workspace_bytes < kWorkspace ||
      reinterpret_cast<uintptr_t>(workspace) % 16 != 0 ||
      algorithm->data[0] != fingerprint(desc, a_layout, b_layout, c_layout, d_layout) ||
      algorithm->data[kNumber] >= kAlgorithms) {
    return kInvalidValue;
  }
  const void* const pointers[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    if (reinterpret_cast<uintptr_t>(pointers[i]) % algorithm->data[i + 1] != 0) return kInvalidValue;
  }
  if (desc->has_aux() && (desc->aux == nullptr ||
                          reinterpret_cast<uintptr_t>(desc->aux) % algorithm->data[kAuxAlignment] != 0)) {
    return kInvalidValue;
  }
  if (emulator::is_lost(stream)) return kExecutionFailed;  // this runtime is not told
  handle->streams.insert(stream);
  const DType scale = dtype_of(desc->scale);
  emulator::launch(stream, "cublasLtMatmul", 1, 1, 0,
                   Call{algorithm->data[kNumber], *desc, *a_layout, *b_layout, *c_layout, *d_layout, a, b, c,
                        d, workspace, testing::load(scale, alpha, 0), testing::load(scale, beta, 0)});
  return kSuccess;
}

}  // namespace

const Library& library() {
  static const Library instance = [] {
    Library l;
    l.Create = [](Handle* handle) {
      void* memory = nullptr;
      if (cudaMalloc(&memory, 1) != cudaSuccess) return kNotInitialized;
      return create(handle, HandleOpaque{memory});
    };
    l.Destroy = [](Handle handle) {
      if (!std::ranges::all_of(handle->streams, &emulator::is_stream)) ++emulator::late_handles();
      static_cast<void>(cudaFree(handle->memory));
      return destroy(handle);
    };
    l.MatmulDescCreate = [](Desc* desc, ComputeType compute, DataType scale) {
      return create(desc, DescOpaque{compute, scale});
    };
    l.MatmulDescDestroy = &destroy<DescOpaque>;
    l.MatmulDescSetAttribute = &set_desc;
    l.MatrixLayoutCreate = [](Layout* layout, DataType type, uint64_t rows, uint64_t columns, int64_t ld) {
      return create(layout,
                    LayoutOpaque{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), ld});
    };
    l.MatrixLayoutDestroy = &destroy<LayoutOpaque>;
    l.MatrixLayoutSetAttribute = &set_layout;
    l.MatmulPreferenceCreate = [](Preference* preference) { return create(preference, PreferenceOpaque{}); };
    l.MatmulPreferenceDestroy = &destroy<PreferenceOpaque>;
    l.MatmulPreferenceSetAttribute = &set_preference;
    l.MatmulAlgoGetHeuristic = &heuristic;
    l.MatmulAlgoCheck = &check;
    l.Matmul = &multiply;
    l.GetStatusString = [](Status status) {
      return status == kNotSupported ? "the requested functionality is not supported"
                                     : "the function failed to launch on the GPU";
    };
    l.GetVersion = [] { return size_t{130101}; };
    return l;
  }();
  return instance;
}

}  // namespace tenon::cuda::lt

namespace tenon::emulator {

int& late_handles() {
  static int count = 0;
  return count;
}

MatmulLibrary& matmul_library() {
  static MatmulLibrary instance;
  return instance;
}

}  // namespace tenon::emulator
