// Optimizer steps and other passes over whole lists of tensors. The elements of all tensors form one long line that
// is cut into chunks, so that many small tensors cost no more than a few large ones.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/optimizer.cc"
#include "backend/cpu/block.h"
//
#include <algorithm>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {
namespace {

// Calls body(tensor, begin, end) for pieces of at most kBlock elements that cover tensors of the given sizes.
template <typename Sizes, typename Body>
void for_each_piece(const Sizes& sizes, Body&& body) {
  std::vector<int64_t> ends;
  int64_t total = 0;
  for (const int64_t n : sizes) ends.push_back(total += n);
  parallel_for(total, 16384, [&](int64_t begin, int64_t end) {
    auto k = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin());
    for (int64_t at = begin; at < end; ++k) {
      const int64_t start = k == 0 ? 0 : ends[k - 1], stop = std::min(end, ends[k]);
      for (; at < stop; at = std::min(stop, at + kBlock))
        body(k, at - start, std::min(stop, at + kBlock) - start);
    }
  });
}

template <typename List>
std::vector<int64_t> sizes_of(const List& tensors) {
  std::vector<int64_t> sizes;
  for (const auto& t : tensors) {
    if constexpr (std::is_same_v<std::decay_t<decltype(t)>, View>) {
      sizes.push_back(t.numel());
    } else {
      sizes.push_back(t.param.numel());
    }
  }
  return sizes;
}

Tile piece_of(const View& v, int64_t begin, int64_t end) {
  return {v.data, v.dtype, begin, 1, end - begin, 0, 1};
}

double read_scalar(const View& v) {
  return v.dtype == DType::Float64 ? *v.as<const double>() : *v.as<const float>();
}

// What clipping multiplies gradients with: NaN where the norm is.
double clip_scale(const View& norm, double max_norm) {
  const double scale = norm ? max_norm / (read_scalar(norm) + 1e-6) : 1.0;
  return scale > 1 ? 1.0 : scale;
}

void store_copy(const View& copy, const float* param, int64_t begin, int64_t end) {
  if (copy) write_block(param, piece_of(copy, begin, end));
}
void store_copy(const View& copy, const double* param, int64_t begin, int64_t end) {
  with_type(copy.dtype, [&](auto zero) {
    if (copy) convert_run(param, 1, copy.as<decltype(zero)>() + begin, 1, end - begin);
  });
}

template <typename T>
void adam_piece(const AdamArgs& args, const OptimizerTensor& tensor, T scale, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  HWY_ALIGN T scratch[4][kBlock];
  const int64_t n = end - begin;
  const Tile param = piece_of(tensor.param, begin, end);
  const Tile state1 = piece_of(tensor.state1, begin, end), state2 = piece_of(tensor.state2, begin, end);
  const T* g = read_block(piece_of(tensor.grad, begin, end), scratch[0]);
  T* p = const_cast<T*>(read_block(param, scratch[1]));
  T* m = const_cast<T*>(read_block(state1, scratch[2]));
  T* v = const_cast<T*>(read_block(state2, scratch[3]));

  const AdamNumbers numbers =
      adam_numbers(tensor.lr, tensor.weight_decay, args.beta1, args.beta2, args.step, args.decoupled);
  const auto set = [&](double value) { return hn::Set(d, static_cast<T>(value)); };
  const V decay = set(numbers.decay), l2 = set(numbers.l2);
  const V one_minus_beta1 = set(1 - args.beta1), beta2 = set(args.beta2),
          one_minus_beta2 = set(1 - args.beta2);
  const V step_size = set(numbers.step_size), denominator = set(numbers.denominator), eps = set(args.eps);
  const V clip = hn::Set(d, scale);
  const auto update = [&](V pv, V gv, V& mv, V& vv) {
    gv = hn::Mul(gv, clip);
    gv = hn::MulAdd(pv, l2, gv);
    mv = hn::MulAdd(hn::Sub(gv, mv), one_minus_beta1, mv);
    vv = hn::MulAdd(hn::Mul(gv, gv), one_minus_beta2, hn::Mul(vv, beta2));
    const V root = hn::MulAdd(hn::Sqrt(vv), denominator, eps);
    return hn::Sub(hn::Mul(pv, decay), hn::Div(hn::Mul(mv, step_size), root));
  };
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    V mv = hn::LoadU(d, m + i), vv = hn::LoadU(d, v + i);
    const V pv = update(hn::LoadU(d, p + i), hn::LoadU(d, g + i), mv, vv);
    hn::StoreU(mv, d, m + i);
    hn::StoreU(vv, d, v + i);
    hn::StoreU(pv, d, p + i);
  }
  if (i < n) {
    HWY_ALIGN T tail[4][HWY_MAX_BYTES / sizeof(T)] = {};
    const size_t bytes = static_cast<size_t>(n - i) * sizeof(T);
    T* const parts[3] = {p + i, m + i, v + i};
    for (int k = 0; k < 3; ++k) std::memcpy(tail[k], parts[k], bytes);
    std::memcpy(tail[3], g + i, bytes);
    V mv = hn::Load(d, tail[1]), vv = hn::Load(d, tail[2]);
    const V pv = update(hn::Load(d, tail[0]), hn::Load(d, tail[3]), mv, vv);
    hn::Store(pv, d, tail[0]);
    hn::Store(mv, d, tail[1]);
    hn::Store(vv, d, tail[2]);
    for (int k = 0; k < 3; ++k) std::memcpy(parts[k], tail[k], bytes);
  }
  write_block(p, param);
  write_block(m, state1);
  write_block(v, state2);
  if (tensor.copy) store_copy(tensor.copy, p, begin, end);
}

void adam_dispatch(const AdamArgs& args) {
  const double scale = clip_scale(args.norm, args.max_norm);
  for_each_piece(sizes_of(args.tensors), [&](size_t k, int64_t begin, int64_t end) {
    const OptimizerTensor& tensor = args.tensors[k];
    if (tensor.param.dtype == DType::Float64) {
      adam_piece<double>(args, tensor, scale, begin, end);
    } else {
      adam_piece<float>(args, tensor, static_cast<float>(scale), begin, end);
    }
  });
}

template <typename T>
void sgd_piece(const SgdArgs& args, const OptimizerTensor& tensor, T scale, int64_t begin, int64_t end) {
  HWY_ALIGN T scratch[3][kBlock];
  const int64_t n = end - begin;
  const Tile param = piece_of(tensor.param, begin, end);
  const T* g = read_block(piece_of(tensor.grad, begin, end), scratch[0]);
  T* p = const_cast<T*>(read_block(param, scratch[1]));
  const T decay = static_cast<T>(tensor.weight_decay), lr = static_cast<T>(tensor.lr);
  const T momentum = static_cast<T>(args.momentum);
  if (tensor.state1) {
    const Tile state = piece_of(tensor.state1, begin, end);
    T* buffer = args.first_step ? block_of(state, scratch[2]) : const_cast<T*>(read_block(state, scratch[2]));
    for (int64_t i = 0; i < n; ++i) {
      const T grad = g[i] * scale + p[i] * decay;
      buffer[i] = args.first_step ? grad : buffer[i] * momentum + grad;
      p[i] -= lr * (args.nesterov ? grad + momentum * buffer[i] : buffer[i]);
    }
    write_block(buffer, state);
  } else {
    for (int64_t i = 0; i < n; ++i) p[i] -= lr * (g[i] * scale + p[i] * decay);
  }
  write_block(p, param);
  if (tensor.copy) store_copy(tensor.copy, p, begin, end);
}

void sgd_dispatch(const SgdArgs& args) {
  const double scale = clip_scale(args.norm, args.max_norm);
  for_each_piece(sizes_of(args.tensors), [&](size_t k, int64_t begin, int64_t end) {
    const OptimizerTensor& tensor = args.tensors[k];
    if (tensor.param.dtype == DType::Float64) {
      sgd_piece<double>(args, tensor, scale, begin, end);
    } else {
      sgd_piece<float>(args, tensor, static_cast<float>(scale), begin, end);
    }
  });
}

template <typename T>
double sum_of_squares(const View& v, int64_t begin, int64_t end) {
  HWY_ALIGN T scratch[kBlock];
  const T* x = read_block(piece_of(v, begin, end), scratch);
  double lanes[16] = {};
  const int64_t n = end - begin;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int j = 0; j < 16; ++j) lanes[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
  }
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (const double lane : lanes) sum += lane;
  return sum;
}

// One partial sum per block of each tensor, so that the order of summation does not depend on the thread count.
void global_norm_dispatch(const GlobalNormArgs& args) {
  std::vector<int64_t> first_block;
  int64_t blocks = 0;
  for (const View& v : args.tensors) {
    first_block.push_back(blocks);
    blocks += (v.numel() + kBlock - 1) / kBlock;
  }
  std::vector<double> partial(static_cast<size_t>(blocks));
  parallel_for(blocks, 16, [&](int64_t begin, int64_t end) {
    auto k = static_cast<size_t>(std::upper_bound(first_block.begin(), first_block.end(), begin) -
                                 first_block.begin() - 1);
    for (int64_t b = begin; b < end; ++b) {
      while (k + 1 < first_block.size() && first_block[k + 1] <= b) ++k;
      const View& v = args.tensors[k];
      const int64_t from = (b - first_block[k]) * kBlock, to = std::min(v.numel(), from + kBlock);
      partial[static_cast<size_t>(b)] = v.dtype == DType::Float64 ? sum_of_squares<double>(v, from, to)
                                                                  : sum_of_squares<float>(v, from, to);
    }
  });
  double sum = 0;
  for (const double p : partial) sum += p;
  with_type(args.norm.dtype,
            [&](auto zero) { *args.norm.as<decltype(zero)>() = convert<decltype(zero)>(std::sqrt(sum)); });
}

template <typename T>
void scale_piece(const View& v, T scale, int64_t begin, int64_t end) {
  HWY_ALIGN T scratch[kBlock];
  const Tile tile = piece_of(v, begin, end);
  T* x = const_cast<T*>(read_block(tile, scratch));
  for (int64_t i = 0; i < end - begin; ++i) x[i] *= scale;
  write_block(x, tile);
}

void clip_dispatch(const ClipArgs& args) {
  const double scale = clip_scale(args.norm, args.max_norm);
  if (scale == 1) return;
  for_each_piece(sizes_of(args.tensors), [&](size_t k, int64_t begin, int64_t end) {
    const View& v = args.tensors[k];
    if (v.dtype == DType::Float64) {
      scale_piece<double>(v, scale, begin, end);
    } else {
      scale_piece<float>(v, static_cast<float>(scale), begin, end);
    }
  });
}

template <typename T>
void lerp_piece(const View& target, const View& source, T weight, int64_t begin, int64_t end) {
  HWY_ALIGN T scratch[2][kBlock];
  const Tile tile = piece_of(target, begin, end);
  T* t = const_cast<T*>(read_block(tile, scratch[0]));
  const T* s = read_block(piece_of(source, begin, end), scratch[1]);
  for (int64_t i = 0; i < end - begin; ++i) t[i] += weight * (s[i] - t[i]);
  write_block(t, tile);
}

void lerp_dispatch(const LerpArgs& args) {
  for_each_piece(sizes_of(args.targets), [&](size_t k, int64_t begin, int64_t end) {
    if (args.targets[k].dtype == DType::Float64) {
      lerp_piece<double>(args.targets[k], args.sources[k], args.weight, begin, end);
    } else {
      lerp_piece<float>(args.targets[k], args.sources[k], static_cast<float>(args.weight), begin, end);
    }
  });
}

}  // namespace
}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tenon::cpu {

HWY_EXPORT(adam_dispatch);
HWY_EXPORT(sgd_dispatch);
HWY_EXPORT(global_norm_dispatch);
HWY_EXPORT(clip_dispatch);
HWY_EXPORT(lerp_dispatch);

void adam(const AdamArgs& args) { HWY_DYNAMIC_DISPATCH(adam_dispatch)(args); }
void sgd(const SgdArgs& args) { HWY_DYNAMIC_DISPATCH(sgd_dispatch)(args); }
void global_norm(const GlobalNormArgs& args) { HWY_DYNAMIC_DISPATCH(global_norm_dispatch)(args); }
void clip(const ClipArgs& args) { HWY_DYNAMIC_DISPATCH(clip_dispatch)(args); }
void lerp(const LerpArgs& args) { HWY_DYNAMIC_DISPATCH(lerp_dispatch)(args); }

}  // namespace tenon::cpu
#endif
