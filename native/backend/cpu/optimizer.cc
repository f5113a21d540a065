// Multi-tensor kernels: optimizer updates, the global gradient norm, clipping and moving averages. A model's many
// small tensors are cut into chunks and shared out as one loop, so that a step costs one parallel region.
//
// All are bound by memory: AdamW reads parameter, gradient and two moments and writes three of them back, 28 bytes
// for each float32 parameter.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/optimizer.cc"
#include "backend/cpu/simd.h"
//
#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"
#include "core/error.h"

// Once for all instruction sets: how lists of tensors are cut.
#ifndef TENON_OPTIMIZER_CHUNKS
#define TENON_OPTIMIZER_CHUNKS
namespace tenon::cpu {
namespace {

struct Chunk {
  size_t tensor;
  int64_t begin;
  int64_t end;
};

// Chunks depend on the sizes alone, so that sums over them do not depend on the number of threads.
template <typename Sizes>
std::vector<Chunk> cut(size_t tensors, Sizes&& size_of_tensor) {
  constexpr int64_t kChunk = 16384;
  std::vector<Chunk> chunks;
  for (size_t t = 0; t < tensors; ++t) {
    const int64_t n = size_of_tensor(t);
    for (int64_t begin = 0; begin < n; begin += kChunk)
      chunks.push_back({t, begin, std::min(n, begin + kChunk)});
  }
  return chunks;
}

template <typename Body>
void for_each_chunk(const std::vector<Chunk>& chunks, Body&& body) {
  parallel_for(static_cast<int64_t>(chunks.size()), 2, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(chunks[static_cast<size_t>(i)], static_cast<size_t>(i));
  });
}

// min(1, max_norm / (norm + 1e-6)), as PyTorch; 1 without a norm.
double clip_factor(const View& norm, double max_norm) {
  if (!norm) return 1;
  const double total = norm.dtype == DType::Float64 ? *norm.as<double>() : *norm.as<float>();
  const double factor = max_norm / (total + 1e-6);
  return factor > 1 ? 1 : factor;  // NaN stays NaN
}

// Calls body(T{}) with the type that the dtype is stored in.
template <typename Body>
void with_floating(const char* op, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::Float32:
      return body(float{});
    case DType::Float64:
      return body(double{});
    case DType::BFloat16:
      return body(bfloat16{});
    case DType::Float16:
      return body(float16{});
    default:
      throw TensorError(op, code::kDType, "expected floating-point tensors");
  }
}

}  // namespace
}  // namespace tenon::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// float32 for the 16-bit dtypes.
template <typename T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class D, typename T>
HWY_INLINE hn::Vec<D> load(D d, const T* p) {
  if constexpr (std::is_same_v<T, double>) {
    return hn::LoadU(d, p);
  } else {
    return load_f32(d, p);
  }
}

template <class D, typename T>
HWY_INLINE void store(D d, hn::Vec<D> v, T* p) {
  if constexpr (std::is_same_v<T, double>) {
    hn::StoreU(v, d, p);
  } else {
    store_f32(d, v, p);
  }
}

// Calls body(d, i) for whole vectors, then for single elements.
template <typename C, typename Body>
HWY_INLINE void vectors(int64_t begin, int64_t end, Body&& body) {
  const hn::ScalableTag<C> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = begin;
  for (; i + lanes <= end; i += lanes) body(d, i);
  for (; i < end; ++i) body(hn::CappedTag<C, 1>(), i);
}

struct AdamConstants {
  double beta1, beta2, eps, root_correction2, correction1, factor;
  bool decoupled;
};

template <typename T>
void adam_chunk(const OptimizerTensor& t, const AdamConstants& k, int64_t begin, int64_t end) {
  using C = Compute<T>;
  T* const param = t.param.as<T>();
  const T* const grad = t.grad.as<T>();
  C* const m = t.state1.as<C>();
  C* const v = t.state2.as<C>();
  const C decay = static_cast<C>(k.decoupled ? 1 - t.lr * t.weight_decay : 1);
  const C l2 = static_cast<C>(k.decoupled ? 0 : t.weight_decay);
  const C step = static_cast<C>(t.lr / k.correction1);
  const C scale = static_cast<C>(1 / k.root_correction2);
  const C beta2 = static_cast<C>(k.beta2), gain1 = static_cast<C>(1 - k.beta1),
          gain2 = static_cast<C>(1 - k.beta2);
  const C eps = static_cast<C>(k.eps), factor = static_cast<C>(k.factor);
  vectors<C>(begin, end, [&](auto d, int64_t i) {
    auto p = load(d, param + i);
    auto g = hn::Mul(load(d, grad + i), hn::Set(d, factor));
    g = hn::MulAdd(p, hn::Set(d, l2), g);
    auto first = hn::LoadU(d, m + i);
    auto second = hn::LoadU(d, v + i);
    first = hn::MulAdd(hn::Sub(g, first), hn::Set(d, gain1), first);
    second = hn::MulAdd(hn::Mul(g, g), hn::Set(d, gain2), hn::Mul(second, hn::Set(d, beta2)));
    const auto denominator = hn::MulAdd(hn::Sqrt(second), hn::Set(d, scale), hn::Set(d, eps));
    p = hn::Mul(p, hn::Set(d, decay));
    p = hn::NegMulAdd(hn::Set(d, step), hn::Div(first, denominator), p);
    hn::StoreU(first, d, m + i);
    hn::StoreU(second, d, v + i);
    store(d, p, param + i);
    if (t.copy.dtype == DType::BFloat16 && t.copy) {
      if constexpr (std::is_same_v<C, float>) store_f32(d, p, t.copy.as<bfloat16>() + i);
    } else if (t.copy) {
      if constexpr (std::is_same_v<C, float>) store_f32(d, p, t.copy.as<float16>() + i);
    }
  });
}

void AdamKernel(const AdamArgs& a) {
  const auto step = static_cast<double>(a.step);
  const AdamConstants k{a.beta1,
                        a.beta2,
                        a.eps,
                        std::sqrt(1 - std::pow(a.beta2, step)),
                        1 - std::pow(a.beta1, step),
                        clip_factor(a.norm, a.max_norm),
                        a.decoupled};
  const auto chunks = cut(a.tensors.size(), [&](size_t t) { return a.tensors[t].param.numel(); });
  for_each_chunk(chunks, [&](const Chunk& c, size_t) {
    const OptimizerTensor& t = a.tensors[c.tensor];
    with_floating("adam", t.param.dtype, [&]<typename T>(T) { adam_chunk<T>(t, k, c.begin, c.end); });
  });
}

template <typename T>
void sgd_chunk(const OptimizerTensor& t, const SgdArgs& a, double clip, int64_t begin, int64_t end) {
  using C = Compute<T>;
  T* const param = t.param.as<T>();
  const T* const grad = t.grad.as<T>();
  C* const buffer = t.state1.as<C>();
  const C l2 = static_cast<C>(t.weight_decay), lr = static_cast<C>(t.lr), factor = static_cast<C>(clip);
  const C momentum = static_cast<C>(a.momentum);
  vectors<C>(begin, end, [&](auto d, int64_t i) {
    const auto p = load(d, param + i);
    auto g = hn::MulAdd(p, hn::Set(d, l2), hn::Mul(load(d, grad + i), hn::Set(d, factor)));
    if (buffer != nullptr) {
      const auto before = a.first_step ? hn::Zero(d) : hn::LoadU(d, buffer + i);
      const auto b = hn::MulAdd(before, hn::Set(d, momentum), g);
      hn::StoreU(b, d, buffer + i);
      g = a.nesterov ? hn::MulAdd(b, hn::Set(d, momentum), g) : b;
    }
    const auto updated = hn::NegMulAdd(hn::Set(d, lr), g, p);
    store(d, updated, param + i);
    if (t.copy.dtype == DType::BFloat16 && t.copy) {
      if constexpr (std::is_same_v<C, float>) store_f32(d, updated, t.copy.as<bfloat16>() + i);
    } else if (t.copy) {
      if constexpr (std::is_same_v<C, float>) store_f32(d, updated, t.copy.as<float16>() + i);
    }
  });
}

void SgdKernel(const SgdArgs& a) {
  const double clip = clip_factor(a.norm, a.max_norm);
  const auto chunks = cut(a.tensors.size(), [&](size_t t) { return a.tensors[t].param.numel(); });
  for_each_chunk(chunks, [&](const Chunk& c, size_t) {
    const OptimizerTensor& t = a.tensors[c.tensor];
    with_floating("sgd", t.param.dtype, [&]<typename T>(T) { sgd_chunk<T>(t, a, clip, c.begin, c.end); });
  });
}

// The sum of squares of a chunk, in float64.
template <typename T>
double squares(const T* x, int64_t begin, int64_t end) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> narrow;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto widened = [&](int64_t i) {
    if constexpr (std::is_same_v<T, double>) {
      return hn::LoadU(d, x + i);
    } else {
      return hn::PromoteTo(d, load_f32(narrow, x + i));
    }
  };
  auto a = hn::Zero(d), b = hn::Zero(d);
  int64_t i = begin;
  for (; i + 2 * lanes <= end; i += 2 * lanes) {
    const auto u = widened(i), v = widened(i + lanes);
    a = hn::MulAdd(u, u, a);
    b = hn::MulAdd(v, v, b);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
  for (; i < end; ++i) {
    const auto value = static_cast<double>(static_cast<Compute<T>>(x[i]));
    sum += value * value;
  }
  return sum;
}

void GlobalNormKernel(const GlobalNormArgs& a) {
  const auto chunks = cut(a.tensors.size(), [&](size_t t) { return a.tensors[t].numel(); });
  std::vector<double> sums(chunks.size());
  for_each_chunk(chunks, [&](const Chunk& c, size_t i) {
    const View& x = a.tensors[c.tensor];
    with_floating("globalNorm", x.dtype,
                  [&]<typename T>(T) { sums[i] = squares(x.as<const T>(), c.begin, c.end); });
  });
  double total = 0;
  for (const double s : sums) total += s;
  if (a.norm.dtype == DType::Float64) {
    *a.norm.as<double>() = std::sqrt(total);
  } else {
    *a.norm.as<float>() = static_cast<float>(std::sqrt(total));
  }
}

void ClipKernel(const ClipArgs& a) {
  const double clip = clip_factor(a.norm, a.max_norm);
  const auto chunks = cut(a.tensors.size(), [&](size_t t) { return a.tensors[t].numel(); });
  for_each_chunk(chunks, [&](const Chunk& c, size_t) {
    const View& x = a.tensors[c.tensor];
    with_floating("clip", x.dtype, [&]<typename T>(T) {
      using C = Compute<T>;
      vectors<C>(c.begin, c.end, [&](auto d, int64_t i) {
        store(d, hn::Mul(load(d, x.as<T>() + i), hn::Set(d, static_cast<C>(clip))), x.as<T>() + i);
      });
    });
  });
}

void LerpKernel(const LerpArgs& a) {
  const auto chunks = cut(a.targets.size(), [&](size_t t) { return a.targets[t].numel(); });
  for_each_chunk(chunks, [&](const Chunk& c, size_t) {
    const View& target = a.targets[c.tensor];
    const View& source = a.sources[c.tensor];
    with_floating("lerp", target.dtype, [&]<typename T>(T) {
      using C = Compute<T>;
      vectors<C>(c.begin, c.end, [&](auto d, int64_t i) {
        const auto t = load(d, target.as<T>() + i);
        const auto s = load(d, source.as<const T>() + i);
        store(d, hn::MulAdd(hn::Sub(s, t), hn::Set(d, static_cast<C>(a.weight)), t), target.as<T>() + i);
      });
    });
  });
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(AdamKernel);
HWY_EXPORT(SgdKernel);
HWY_EXPORT(GlobalNormKernel);
HWY_EXPORT(ClipKernel);
HWY_EXPORT(LerpKernel);

void adam(const AdamArgs& args) { HWY_DYNAMIC_DISPATCH(AdamKernel)(args); }
void sgd(const SgdArgs& args) { HWY_DYNAMIC_DISPATCH(SgdKernel)(args); }
void global_norm(const GlobalNormArgs& args) { HWY_DYNAMIC_DISPATCH(GlobalNormKernel)(args); }
void clip(const ClipArgs& args) { HWY_DYNAMIC_DISPATCH(ClipKernel)(args); }
void lerp(const LerpArgs& args) { HWY_DYNAMIC_DISPATCH(LerpKernel)(args); }

}  // namespace tenon::cpu
#endif  // HWY_ONCE
