// The attention kernels' operands in every arrangement, and a plain float64 implementation that holds the whole matrix of
// scores.
#pragma once

#include <memory>
#include <sstream>

#include "core/random.h"
#include "test/kernel_testing.h"

namespace tenon::testing::attention {

enum class Broadcast { Absent, None, Batch, Head, Both, Query, Key };

struct Case {
  int64_t batch = 2, heads = 3, queries = 5, keys = 5, d = 8;
  DType dtype = DType::Float32;
  Broadcast bias = Broadcast::Absent;
  Broadcast mask = Broadcast::Absent;
  double dropout = 0;
  bool packed = false;  // q, k, v and their gradients as windows on [B, N, 3, H, d]; queries == keys
  int64_t gap = 3;      // elements between tokens where not packed

  std::string name() const {
    std::ostringstream text;
    text << "B" << batch << " H" << heads << " Nq" << queries << " Nk" << keys << " d" << d << ' '
         << name_of(dtype) << " bias" << static_cast<int>(bias) << " mask" << static_cast<int>(mask)
         << " dropout" << dropout << (packed ? " packed" : "");
    return text.str();
  }
};

constexpr uint64_t kSeed = 1234, kOffset = 77;

inline View expand(View x, const Shape& shape) {
  for (int i = 0; i < shape.ndim(); ++i) {
    if (x.shape[i] != shape[i]) x.strides[i] = 0;
  }
  x.shape = shape;
  return x;
}

inline Shape broadcast_shape(Broadcast kind, Shape shape) {
  if (kind == Broadcast::Batch || kind == Broadcast::Both) shape[0] = 1;
  if (kind == Broadcast::Head || kind == Broadcast::Both) shape[1] = 1;
  if (kind == Broadcast::Query) shape[2] = 1;
  if (kind == Broadcast::Key) shape[3] = 1;
  return shape;
}

inline View window(const Buffer& packed, int64_t which) {
  const View& x = packed.view();  // [B, N, 3, H, d]
  View w{x.as<char>() + which * x.stride(2) * static_cast<int64_t>(size_of(x.dtype)), x.dtype, {}, {}};
  for (const int i : {0, 3, 1, 4}) {
    w.shape.push_back(x.shape[i]);
    w.strides.push_back(x.strides[i]);
  }
  return w;
}

// One call's tensors. Outputs are NaN until a kernel has run.
struct Problem {
  Case c;
  double scale;
  std::vector<std::unique_ptr<Buffer>> buffers;
  View q, k, v, bias, mask, out, lse, dout, dq, dk, dv, dbias;

  explicit Problem(const Case& options) : c(options), scale(1 / std::sqrt(static_cast<double>(c.d))) {
    const Shape scores{c.batch, c.heads, c.queries, c.keys};
    if (c.packed) {
      const Shape shape{c.batch, c.queries, 3, c.heads, c.d};
      const Buffer& qkv = add(c.dtype, shape).fill_normal(1);
      const Buffer& dqkv = add(c.dtype, shape);
      q = window(qkv, 0), k = window(qkv, 1), v = window(qkv, 2);
      dq = window(dqkv, 0), dk = window(dqkv, 1), dv = window(dqkv, 2);
    } else {
      q = heads(c.queries).fill_normal(1).view();
      k = heads(c.keys).fill_normal(2).view();
      v = heads(c.keys).fill_normal(3).view();
      dq = heads(c.queries).view();
      dk = heads(c.keys).view();
      dv = heads(c.keys).view();
    }
    out = heads(c.queries).view();
    dout = heads(c.queries).fill_normal(4).view();
    const DType wide = c.dtype == DType::Float64 ? DType::Float64 : DType::Float32;
    lse = add(wide, Shape{c.batch, c.heads, c.queries}).view();
    if (c.bias != Broadcast::Absent) {
      bias = expand(add(c.dtype, broadcast_shape(c.bias, scores)).fill_normal(5).view(), scores);
      Shape shape = broadcast_shape(c.bias, scores);
      shape[2] = c.queries, shape[3] = c.keys;
      dbias = add(c.dtype, shape).view();
    }
    if (c.mask != Broadcast::Absent) {
      Buffer& some = add(DType::Bool, broadcast_shape(c.mask, scores));
      std::mt19937 random(6);
      std::vector<double> bits(static_cast<size_t>(some.view().numel()));
      for (double& bit : bits) bit = random() % 4 != 0;
      // The first query attends to nothing.
      if (c.mask != Broadcast::Query) std::fill_n(bits.begin(), some.view().size(3), 0.0);
      mask = expand(some.fill(bits).view(), scores);
    }
  }

  void forward() const {
    run(&Kernels::attention, {q, k, v, bias, mask, out, lse, scale, c.dropout, kSeed, kOffset});
  }
  void backward() const {
    run(&Kernels::attention_backward,
        {q, k, v, bias, mask, out, dout, lse, dq, dk, dv, dbias, scale, c.dropout, kSeed, kOffset});
  }
  // Of all that forward and backward write.
  std::vector<double> results() const {
    std::vector<double> all;
    for (const View& view : {out, lse, dq, dk, dv, dbias}) {
      if (!view) continue;
      const auto some = values(view);
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }
  bool intact() const {
    return std::all_of(buffers.begin(), buffers.end(), [](const auto& b) { return b->intact(); });
  }

 private:
  Buffer& add(DType dtype, const Shape& shape) {
    return *buffers.emplace_back(std::make_unique<Buffer>(dtype, shape));
  }
  // [B, H, N, d] on memory [B, N, H, d] with a gap after every token
  Buffer& heads(int64_t n) {
    const int64_t token = c.heads * c.d + c.gap;
    return *buffers.emplace_back(
        std::make_unique<Buffer>(c.dtype, Shape{c.batch, c.heads, n, c.d}, Shape{n * token, c.d, token, 1}));
  }
};

struct Expected {
  std::vector<double> p, out, lse, dq, dk, dv, dbias;
};

inline Expected reference(const Problem& x) {
  const Case& c = x.c;
  const auto q = values(x.q), k = values(x.k), v = values(x.v), dout = values(x.dout);
  const auto bias = x.bias ? values(x.bias) : std::vector<double>();
  const auto mask = x.mask ? values(x.mask) : std::vector<double>();
  const auto size = [](const View& view) { return static_cast<size_t>(view.numel()); };
  const size_t M = size_t(c.queries), N = size_t(c.keys), d = size_t(c.d), heads = size_t(c.batch * c.heads);
  Expected e;
  e.p.resize(heads * M * N);
  e.out.resize(size(x.q)), e.dq.resize(size(x.q)), e.lse.resize(heads * M);
  e.dk.resize(size(x.k)), e.dv.resize(size(x.v)), e.dbias.resize(x.dbias ? size(x.dbias) : 0);
  for (size_t g = 0; g < heads; ++g) {
    const size_t b = g / size_t(c.heads), h = g % size_t(c.heads);
    for (size_t i = 0; i < M; ++i) {
      const double* qi = &q[(g * M + i) * d];
      double* p = &e.p[(g * M + i) * N];
      double most = -INFINITY, total = 0;
      for (size_t j = 0; j < N; ++j) {
        const size_t at = (g * M + i) * N + j;
        p[j] = 0;
        for (size_t l = 0; l < d; ++l) p[j] += qi[l] * k[(g * N + j) * d + l];
        p[j] = p[j] * x.scale + (x.bias ? bias[at] : 0);
        if (x.mask && mask[at] == 0) p[j] = -INFINITY;
        most = std::max(most, p[j]);
      }
      for (size_t j = 0; j < N; ++j) total += p[j] = most == -INFINITY ? 0 : std::exp(p[j] - most);
      for (size_t j = 0; j < N && total > 0; ++j) p[j] /= total;
      e.lse[g * M + i] = most + std::log(total);
      std::vector<double> keep(N, 1.0), dp(N, 0.0);
      double delta = 0;
      for (size_t j = 0; j < N; ++j) {
        const uint64_t index = kOffset + (g * M + i) * N + j;
        if (c.dropout > 0) {
          const bool kept = Philox::word(kSeed, index) >= static_cast<uint32_t>(std::ldexp(c.dropout, 32));
          keep[j] = kept ? 1 / (1 - c.dropout) : 0;
        }
        for (size_t l = 0; l < d; ++l) {
          const double vj = v[(g * N + j) * d + l], gradient = dout[(g * M + i) * d + l];
          e.out[(g * M + i) * d + l] += p[j] * keep[j] * vj;
          e.dv[(g * N + j) * d + l] += p[j] * keep[j] * gradient;
          dp[j] += gradient * vj * keep[j];
        }
        delta += p[j] * dp[j];
      }
      for (size_t j = 0; j < N; ++j) {
        const double ds = p[j] * (dp[j] - delta);
        for (size_t l = 0; l < d; ++l) {
          e.dq[(g * M + i) * d + l] += x.scale * ds * k[(g * N + j) * d + l];
          e.dk[(g * N + j) * d + l] += x.scale * ds * qi[l];
        }
        if (x.dbias) {
          const size_t bb = x.dbias.size(0) == 1 ? 0 : b, hb = x.dbias.size(1) == 1 ? 0 : h;
          e.dbias[((bb * size_t(x.dbias.size(1)) + hb) * M + i) * N + j] += ds;
        }
      }
    }
  }
  return e;
}

inline double attention_tolerance(DType dtype) {
  switch (dtype) {
    case DType::Float64:
      return 1e-13;
    case DType::BFloat16:
      return 8e-3;  // dout out is computed from rounded out
    case DType::Float16:
      return 1e-3;
    default:
      return 2e-6;
  }
}

// Forward and backward against the reference.
inline void check(const Problem& x, const Expected& e) {
  const Case& c = x.c;
  x.forward();
  x.backward();
  const double most = attention_tolerance(c.dtype);
  EXPECT_LT(relative_error(values(x.out), e.out), most);
  for (size_t i = 0; i < e.lse.size(); ++i) {
    const double lse = load(x.lse.dtype, x.lse.data, static_cast<int64_t>(i));
    if (std::isinf(e.lse[i])) {
      ASSERT_EQ(lse, e.lse[i]) << i;
    } else {
      ASSERT_NEAR(lse, e.lse[i], c.dtype == DType::Float64 ? 1e-13 : 4e-6) << i;
    }
  }
  EXPECT_TRUE(x.intact());
  EXPECT_LT(relative_error(values(x.dv), e.dv), most);
  if (c.keys > 1) {  // else dS is 0 but for rounding
    EXPECT_LT(relative_error(values(x.dq), e.dq), 2 * most);
    EXPECT_LT(relative_error(values(x.dk), e.dk), 2 * most);
    if (x.dbias) {
      EXPECT_LT(relative_error(values(x.dbias), e.dbias), 2 * most);
    }
  } else {
    for (const double value : values(x.dq)) EXPECT_NEAR(value, 0, 8 * most);
  }
}

inline void check(const Case& c) {
  SCOPED_TRACE(c.name());
  const Expected e = reference(Problem(c));
  in_every_way(c.dtype, [&] { check(Problem(c), e); });
}

}  // namespace tenon::testing::attention
