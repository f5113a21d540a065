// Optimizer steps and other passes over whole lists of tensors, in as few launches as a kernel's arguments allow.
//
// Bound by memory: Adam reads a parameter, its gradient and its two states and writes all but the gradient. A launch's
// argument is a table of tensors; a block finds the one that its chunk of kChunk elements belongs to, and each of its
// threads takes four neighbours at a time. dtypes are looked up at run time, once for a block, so that lists of mixed
// dtypes are one list: arithmetic is float64 for float64 tensors and float32 for the others.
//
// The table travels in the arguments and not in device memory, so that nothing is copied from the host, and a captured
// graph keeps it. What changes from replay to replay it then finds in device memory (AdamArgs::numbers and its kin).
#include <cmath>
#include <vector>

#include "backend/cuda/kernels.h"
#include "backend/cuda/numeric.h"

namespace tenon::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 4096;
constexpr size_t kMostArgumentBytes = 4096;
constexpr int kWidth = 4;  // elements that a thread takes at a time

struct Operand {
  void* data = nullptr;  // null: absent
  DType dtype = DType::Float32;
};
Operand operand_of(const View& v) { return {v.data, v.dtype}; }

struct NoScalars {};

// N operands of one size, updated with scalars of their own.
template <int N, typename Scalars>
struct Item {
  Operand operands[N];
  int64_t size;
  int first_chunk;  // of the launch
  Scalars scalars;
};

template <int N, typename Scalars>
struct Table {
  static constexpr int kMost = static_cast<int>((kMostArgumentBytes - 512) / sizeof(Item<N, Scalars>));
  int count = 0;
  int chunks = 0;
  Item<N, Scalars> items[kMost];

  __device__ __forceinline__ const Item<N, Scalars>& item_of(int chunk) const {
    int low = 0, high = count - 1;  // the last item that begins at or before the chunk
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (items[middle].first_chunk <= chunk) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return items[low];
  }
};

// ---- four elements of any floating dtype ---------------------------------------------------------------------------

// Calls f(S()): with_float_type for the device.
template <typename T, typename F>
__device__ __forceinline__ void with_element_type(DType dtype, F&& f) {
  if constexpr (std::is_same_v<T, double>) {
    return dtype == DType::Float64 ? f(double{}) : f(float{});
  } else {
    switch (dtype) {
      case DType::BFloat16:
        return f(bfloat16{});
      case DType::Float16:
        return f(float16{});
      default:
        return f(float{});
    }
  }
}

template <typename S>
__device__ __forceinline__ bool is_whole(const S* data, int count) {
  return count == kWidth && reinterpret_cast<uintptr_t>(data) % (kWidth * sizeof(S)) == 0;
}

// Elements beyond `count` are 0.
template <typename T>
__device__ __forceinline__ void load(const Operand& from, int64_t begin, int count, T (&x)[kWidth]) {
  with_element_type<T>(from.dtype, [&]<typename S>(S) {
    const S* const data = static_cast<const S*>(from.data) + begin;
    if (is_whole(data, count)) {
      const auto pack = *reinterpret_cast<const Pack<S, kWidth>*>(data);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[i] = widen(pack.elements[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[i] = i < count ? T(widen(data[i])) : T(0);
    }
  });
}

template <typename T>
__device__ __forceinline__ void store(const T (&x)[kWidth], const Operand& to, int64_t begin, int count) {
  with_element_type<T>(to.dtype, [&]<typename S>(S) {
    S* const data = static_cast<S*>(to.data) + begin;
    if (is_whole(data, count)) {
      Pack<S, kWidth> pack;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) pack.elements[i] = narrow<S>(static_cast<Compute<S>>(x[i]));
      *reinterpret_cast<Pack<S, kWidth>*>(data) = pack;
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        if (i < count) data[i] = narrow<S>(static_cast<Compute<S>>(x[i]));
      }
    }
  });
}

// Calls body(begin, count) for the groups of four of the block's chunk that are this thread's.
template <typename ItemType, typename Body>
__device__ __forceinline__ void for_each_group(const ItemType& item, int chunk, Body&& body) {
  const int64_t begin = int64_t{chunk - item.first_chunk} * kChunk;
  const int64_t end = begin + kChunk < item.size ? begin + kChunk : item.size;
  for (int64_t at = begin + int64_t{threadIdx.x} * kWidth; at < end; at += kThreads * kWidth) {
    body(at, end - at < kWidth ? static_cast<int>(end - at) : kWidth);
  }
}

// What clipping multiplies gradients with: NaN where the norm is.
__device__ __forceinline__ double clip_scale(const Operand& norm, double max_norm) {
  if (norm.data == nullptr) return 1;
  const double value = norm.dtype == DType::Float64 ? *static_cast<const double*>(norm.data)
                                                    : double{*static_cast<const float*>(norm.data)};
  const double scale = max_norm / (value + 1e-6);
  return scale > 1 ? 1 : scale;
}

// ---- Adam --------------------------------------------------------------------------------------------------------------

enum : int { kParam, kGrad, kState1, kState2, kCopy };

// The numbers of a tensor's update: those of the arguments, or where there are some, those in device memory.
template <typename Numbers>
struct Changing {
  Numbers given;
  const Numbers* captured;
  __device__ __forceinline__ Numbers now() const { return captured == nullptr ? given : *captured; }
};

template <typename Numbers>
Changing<Numbers> changing(const Numbers& given, const View& captured, size_t i) {
  return {given, captured ? captured.as<const Numbers>() + i : nullptr};
}

template <typename T>
struct AdamConstants {
  T one_minus_beta1, beta2, one_minus_beta2, eps;
  double max_norm;
  Operand norm;
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    adam_kernel(const Table<5, Changing<AdamNumbers>> table, const AdamConstants<T> c) {
  const int chunk = static_cast<int>(blockIdx.x);
  const auto& item = table.item_of(chunk);
  const AdamNumbers numbers = item.scalars.now();
  const T decay = static_cast<T>(numbers.decay), l2 = static_cast<T>(numbers.l2);
  const T step_size = static_cast<T>(numbers.step_size), denominator = static_cast<T>(numbers.denominator);
  const T clip = static_cast<T>(clip_scale(c.norm, c.max_norm));
  for_each_group(item, chunk, [&](int64_t at, int count) {
    T p[kWidth], g[kWidth], m[kWidth], v[kWidth];
    load(item.operands[kParam], at, count, p);
    load(item.operands[kGrad], at, count, g);
    load(item.operands[kState1], at, count, m);
    load(item.operands[kState2], at, count, v);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const T grad = g[i] * clip + p[i] * l2;
      m[i] += (grad - m[i]) * c.one_minus_beta1;
      v[i] = v[i] * c.beta2 + grad * grad * c.one_minus_beta2;
      p[i] = p[i] * decay - m[i] * step_size / (std::sqrt(v[i]) * denominator + c.eps);
    }
    store(p, item.operands[kParam], at, count);
    store(m, item.operands[kState1], at, count);
    store(v, item.operands[kState2], at, count);
    if (item.operands[kCopy].data != nullptr) store(p, item.operands[kCopy], at, count);
  });
}

// ---- SGD -----------------------------------------------------------------------------------------------------------

template <typename T>
struct SgdConstants {
  T momentum;
  bool nesterov, first_step;
  double max_norm;
  Operand norm;
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    sgd_kernel(const Table<5, Changing<SgdNumbers>> table, const SgdConstants<T> c) {
  const int chunk = static_cast<int>(blockIdx.x);
  const auto& item = table.item_of(chunk);
  const SgdNumbers numbers = item.scalars.now();
  const T lr = static_cast<T>(numbers.lr), weight_decay = static_cast<T>(numbers.weight_decay);
  const bool has_buffer = item.operands[kState1].data != nullptr;
  const T clip = static_cast<T>(clip_scale(c.norm, c.max_norm));
  for_each_group(item, chunk, [&](int64_t at, int count) {
    T p[kWidth], g[kWidth], buffer[kWidth] = {};
    load(item.operands[kParam], at, count, p);
    load(item.operands[kGrad], at, count, g);
    if (has_buffer && !c.first_step) load(item.operands[kState1], at, count, buffer);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const T grad = g[i] * clip + p[i] * weight_decay;
      T step = grad;
      if (has_buffer) {
        buffer[i] = c.first_step ? grad : buffer[i] * c.momentum + grad;
        step = c.nesterov ? grad + c.momentum * buffer[i] : buffer[i];
      }
      p[i] -= lr * step;
    }
    store(p, item.operands[kParam], at, count);
    if (has_buffer) store(buffer, item.operands[kState1], at, count);
    if (item.operands[kCopy].data != nullptr) store(p, item.operands[kCopy], at, count);
  });
}

// ---- norm, clip, lerp ----------------------------------------------------------------------------------------------

// partial[chunk] = the sum of the chunk's squares.
template <typename T>
__global__ void __launch_bounds__(kThreads) sum_squares(const Table<1, NoScalars> table, double* partial) {
  const int chunk = static_cast<int>(blockIdx.x);
  const auto& item = table.item_of(chunk);
  double sum = 0;
  for_each_group(item, chunk, [&](int64_t at, int count) {
    T x[kWidth];
    load(item.operands[0], at, count, x);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  });
  sum = sum_over_block(sum, shared_memory<double>());
  if (threadIdx.x == 0) partial[chunk] = sum;
}

__global__ void __launch_bounds__(kThreads) root_of_sum(const double* partial, int64_t count, Operand norm) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += partial[i];
  const double root = std::sqrt(sum_over_block(sum, shared_memory<double>()));
  if (threadIdx.x != 0) return;
  with_element_type<double>(norm.dtype,
                            [&]<typename S>(S) { *static_cast<S*>(norm.data) = static_cast<S>(root); });
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    clip_kernel(const Table<1, NoScalars> table, const Operand norm, const double max_norm) {
  const double scale = clip_scale(norm, max_norm);
  if (scale == 1) return;
  const int chunk = static_cast<int>(blockIdx.x);
  const auto& item = table.item_of(chunk);
  for_each_group(item, chunk, [&](int64_t at, int count) {
    T x[kWidth];
    load(item.operands[0], at, count, x);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x[i] *= static_cast<T>(scale);
    store(x, item.operands[0], at, count);
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    lerp_kernel(const Table<2, NoScalars> table, const Changing<double> weights) {
  const T weight = static_cast<T>(weights.now());
  const int chunk = static_cast<int>(blockIdx.x);
  const auto& item = table.item_of(chunk);
  for_each_group(item, chunk, [&](int64_t at, int count) {
    T target[kWidth], source[kWidth];
    load(item.operands[0], at, count, target);
    load(item.operands[1], at, count, source);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) target[i] += weight * (source[i] - target[i]);
    store(target, item.operands[0], at, count);
  });
}

// ---- host side -----------------------------------------------------------------------------------------------------

// Calls start(table) for tables that together hold the items of arithmetic T; item_at(i) gives item i. Empty tensors
// take no part.
template <typename T, int N, typename Scalars, typename ItemAt, typename Start>
void for_each_table(size_t count, ItemAt&& item_at, Start&& start) {
  Table<N, Scalars> table;
  for (size_t i = 0; i < count; ++i) {
    Item<N, Scalars> item = item_at(i);
    const bool is_double = item.operands[0].dtype == DType::Float64;
    if (item.size == 0 || is_double != std::is_same_v<T, double>) continue;
    item.first_chunk = table.chunks;
    table.chunks += static_cast<int>(blocks_for(item.size, kChunk));
    table.items[table.count++] = item;
    if (table.count == Table<N, Scalars>::kMost) {
      start(table);
      table = {};
    }
  }
  if (table.count > 0) start(table);
}

template <typename Scalars>
Item<5, Scalars> optimizer_item(const OptimizerTensor& t, const Scalars& scalars) {
  return {{operand_of(t.param), operand_of(t.grad), operand_of(t.state1), operand_of(t.state2),
           operand_of(t.copy)},
          t.param.numel(),
          0,
          scalars};
}

template <typename T>
void adam_of(const AdamArgs& args, Queue& queue) {
  const auto t = [](double x) { return static_cast<T>(x); };
  const AdamConstants<T> constants{t(1 - args.beta1), t(args.beta2), t(1 - args.beta2),
                                   t(args.eps),       args.max_norm, operand_of(args.norm)};
  for_each_table<T, 5, Changing<AdamNumbers>>(
      args.tensors.size(),
      [&](size_t i) {
        const OptimizerTensor& x = args.tensors[i];
        const AdamNumbers numbers =
            adam_numbers(x.lr, x.weight_decay, args.beta1, args.beta2, args.step, args.decoupled);
        return optimizer_item(x, changing(numbers, args.numbers, i));
      },
      [&](const auto& table) {
        launch(queue, "adam", &adam_kernel<T>, table.chunks, kThreads, 0, table, constants);
      });
}

template <typename T>
void sgd_of(const SgdArgs& args, Queue& queue) {
  const SgdConstants<T> constants{static_cast<T>(args.momentum), args.nesterov, args.first_step,
                                  args.max_norm, operand_of(args.norm)};
  for_each_table<T, 5, Changing<SgdNumbers>>(
      args.tensors.size(),
      [&](size_t i) {
        const OptimizerTensor& x = args.tensors[i];
        return optimizer_item(x, changing(SgdNumbers{x.lr, x.weight_decay}, args.numbers, i));
      },
      [&](const auto& table) {
        launch(queue, "sgd", &sgd_kernel<T>, table.chunks, kThreads, 0, table, constants);
      });
}

template <typename T, typename Start>
void for_each_list(const std::vector<View>& tensors, Start&& start) {
  for_each_table<T, 1, NoScalars>(
      tensors.size(),
      [&](size_t i) {
        return Item<1, NoScalars>{{operand_of(tensors[i])}, tensors[i].numel(), 0, {}};
      },
      start);
}

template <typename T>
void lerp_of(const LerpArgs& args, Queue& queue) {
  for_each_table<T, 2, NoScalars>(
      args.targets.size(),
      [&](size_t i) {
        const View &target = args.targets[i], &source = args.sources[i];
        return Item<2, NoScalars>{{operand_of(target), operand_of(source)}, target.numel(), 0, {}};
      },
      [&](const auto& table) {
        launch(queue, "lerp", &lerp_kernel<T>, table.chunks, kThreads, 0, table,
               changing(args.weight, args.numbers, 0));
      });
}

template <typename T>
void clip_of(const ClipArgs& args, Queue& queue) {
  for_each_list<T>(args.tensors, [&](const auto& table) {
    launch(queue, "clip", &clip_kernel<T>, table.chunks, kThreads, 0, table, operand_of(args.norm),
           args.max_norm);
  });
}

}  // namespace

void adam(const AdamArgs& args, void* stream) {
  adam_of<float>(args, queue_of(stream));
  adam_of<double>(args, queue_of(stream));
}

void sgd(const SgdArgs& args, void* stream) {
  sgd_of<float>(args, queue_of(stream));
  sgd_of<double>(args, queue_of(stream));
}

void global_norm(const GlobalNormArgs& args, void* stream) {
  Queue& queue = queue_of(stream);
  constexpr size_t kShared = kThreads / kWarpSize * sizeof(double);
  int64_t chunks = 0;
  for (const View& v : args.tensors) chunks += (v.numel() + kChunk - 1) / kChunk;
  auto* const partial = static_cast<double*>(queue.scratch(static_cast<size_t>(chunks) * sizeof(double)));
  double* next = partial;
  for_each_list<float>(args.tensors, [&](const auto& table) {
    launch(queue, "globalNorm", &sum_squares<float>, table.chunks, kThreads, kShared, table, next);
    next += table.chunks;
  });
  for_each_list<double>(args.tensors, [&](const auto& table) {
    launch(queue, "globalNorm", &sum_squares<double>, table.chunks, kThreads, kShared, table, next);
    next += table.chunks;
  });
  launch(queue, "globalNorm", &root_of_sum, 1, kThreads, kShared, partial, chunks, operand_of(args.norm));
}

void clip(const ClipArgs& args, void* stream) {
  clip_of<float>(args, queue_of(stream));
  clip_of<double>(args, queue_of(stream));
}

void lerp(const LerpArgs& args, void* stream) {
  lerp_of<float>(args, queue_of(stream));
  lerp_of<double>(args, queue_of(stream));
}

}  // namespace tenon::cuda
