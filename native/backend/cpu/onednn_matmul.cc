#include "backend/cpu/onednn.h"

#include <omp.h>

#include <algorithm>
#include <string>

#include "backend/cpu/onednn_plan.h"
#include "backend/cpu/processor.h"
#include "backend/divide.h"

namespace tenon::cpu {

namespace {

using dnnl::memory;

// The interfaces of v2 and v3 differ in how a primitive is described.
dnnl::matmul::primitive_desc describe(const dnnl::engine& engine, const memory::desc& a,
                                      const memory::desc& b, const std::optional<memory::desc>& bias,
                                      const memory::desc& out, const dnnl::primitive_attr& attributes) {
  constexpr bool allow_empty = true;  // "unsupported" gives an empty description, not an exception
#if DNNL_VERSION_MAJOR >= 3
  return bias ? dnnl::matmul::primitive_desc(engine, a, b, *bias, out, attributes, allow_empty)
              : dnnl::matmul::primitive_desc(engine, a, b, out, attributes, allow_empty);
#else
  const auto desc = bias ? dnnl::matmul::desc(a, b, *bias, out) : dnnl::matmul::desc(a, b, out);
  return {desc, attributes, engine, allow_empty};
#endif
}

// ---- what makes two calls use the same primitive ------------------------------------------------------------------

enum class Residual : uint8_t { None, Add, InPlace };

struct Key {
  int64_t batch = 1, m = 0, k = 0, n = 0;
  int64_t a_strides[3] = {}, b_strides[3] = {}, out_strides[3] = {};
  int64_t threads = 0;
  DType in = DType::Float32, out = DType::Float32, bias_dtype = DType::Float32;
  Activation activation = Activation::None;
  Residual residual = Residual::None;
  bool bias = false, accumulate = false, packed = false;
};

// The strides of x as [batch, rows, columns] where a dimension of size 1 gets the stride that it would have in
// row-major order; false where oneDNN cannot take them: it wants a unit stride, and from dimension to dimension (the
// matrices behind each other, or between the rows of one) steps over all of those before.
bool matrix_strides(const View& x, int64_t* strides) {
  const int64_t rows = x.size(-2), columns = x.size(-1), matrices = x.ndim() == 3 ? x.size(0) : 1;
  const int64_t batch = matrices > 1 ? x.stride(0) : 0;
  int64_t row = x.stride(-2), column = x.stride(-1);
  if (columns == 1) column = 1;
  if (rows == 1) row = column == 1 ? columns : 1;
  const bool row_major = column == 1 && row >= columns;
  const bool column_major = row == 1 && column >= rows;
  strides[0] = batch;
  strides[1] = row;
  strides[2] = column;
  const auto fits = [batch, matrices](int64_t inner, int64_t outer, int64_t stride) {
    return batch == 0 || batch >= outer * stride || (batch >= inner && stride >= matrices * batch);
  };
  return (row_major && fits(columns, rows, row)) || (column_major && fits(rows, columns, column));
}

// oneDNN 3.7 takes the vectors of a product with one row or one column for runs, whatever their strides.
bool has_runs_as_vectors(const Key& key) {
  return (key.m > 1 || (key.a_strides[2] == 1 && key.out_strides[2] == 1)) &&
         (key.n > 1 || (key.b_strides[1] == 1 && key.out_strides[1] == 1));
}

// Whether oneDNN 2.6's kernels reach an operand by the 32 bits that they count bytes with: they crash, or leave a part of the
// result out, where rows of one tile are 2 GiB apart. Sums of 16-bit results have 4 bytes.
bool is_within_reach(int64_t rows, int64_t columns, const int64_t* strides) {
  constexpr int64_t kTile = 64, kReach = int64_t{1} << 31, kBytes = 4;
  const auto steps = [kTile](int64_t n) { return std::min(n, kTile) - 1; };
  return std::max(rows, columns) < kReach &&
         steps(rows) * strides[1] + steps(columns) * strides[2] < kReach / kBytes;
}

// Whether to reorder b into the layout that the primitive likes best, within the call: it costs one pass over b and
// pays when many rows of out share that. Measured on AVX-512 (oneDNN 2.6, huge pages), 2 threads, GFLOP/s plain -> packed:
//   Zen 5, float32 x w^T   [3152, 192] x [192, 768]: 405 -> 515,  [197, 192] x [192, 576]: 352 -> 351
//          float32 dy^T x  [96, 8320] x [8320, 96]:  478 -> 319
//          bfloat16 x w^T  [3152, 192] x [192, 768]: 1025 -> 1059, [788, 192] x [192, 576]: 1026 -> 982
//          bfloat16 dy^T x [96, 8320] x [8320, 96]:  742 -> 422
//   Zen 4, float32 dy w    [1576, 384] x [384, 1536]: 205 -> 209,  [1576, 2304] x [2304, 768]: 212 -> 222,
//                          [256, 768] x [768, 768]: 210 -> 198
//          where b's rows are whole pages apart, so that a column of it falls into few sets of the cache:
//                          [1576, 768] x [768, 3072]: 203 -> 219, [392, 768] x [768, 3072]: 173 -> 210,
//                          [256, 768] x [768, 3072]: 204 -> 198
bool packing_pays(const Key& key) {
  if (key.batch > 1) return false;
  if (key.in != DType::Float32) return key.m >= 2048;
  if (key.b_strides[2] != 1) return key.m >= 512;
  constexpr int64_t kPage = 4096 / sizeof(float);
  const bool pages_apart = key.b_strides[1] % kPage == 0;
  return key.m >= (pages_apart ? 384 : 1024) && key.k <= 2 * key.m;
}

// ---- primitives, created once per key and executor thread -----------------------------------------------------------

// A primitive and its operands, whose addresses are set before each execution.
struct Plan {
  bool supported = false;
  dnnl::matmul primitive;
  std::unordered_map<int, memory> operands;
  dnnl::reorder pack;  // b to the primitive's own layout, when the key asks for it
  memory b;            // the caller's b, when packed
  size_t packed_bytes = 0;
  int64_t scratch_bytes = 0;
};

constexpr int kResidualOperand = DNNL_ARG_SRC_1;

class Context {
 public:
  Context() : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

  bool run(const Key& key, const MatmulArgs& args) {
    Plan& plan = plans_.find(key, [this](const Key& wanted) { return make(wanted); });
    if (!plan.supported) return false;
    auto& operands = plan.operands;
    operands.at(DNNL_ARG_SRC).set_data_handle(args.a.data);
    operands.at(DNNL_ARG_DST).set_data_handle(args.out.data);
    if (key.bias) operands.at(DNNL_ARG_BIAS).set_data_handle(args.bias.data);
    if (key.residual == Residual::Add)
      operands.at(residual_argument(key)).set_data_handle(args.residual.data);
    operands.at(DNNL_ARG_SCRATCHPAD).set_data_handle(scratch_.reserve<char>(plan.scratch_bytes));
    if (plan.packed_bytes > 0) {
      memory& packed = operands.at(DNNL_ARG_WEIGHTS);
      prepare(packed, plan.packed_bytes, args.prepared_b, packed_, [&] {
        plan.b.set_data_handle(args.b.data);
        plan.pack.execute(stream_, plan.b, packed);
      });
    } else {
      operands.at(DNNL_ARG_WEIGHTS).set_data_handle(args.b.data);
    }
    plan.primitive.execute(stream_, operands);
    stream_.wait();
    return true;
  }

 private:
  // The residual is the last post-op; the activation, if any, precedes it.
  static int residual_argument(const Key& key) {
    return DNNL_ARG_ATTR_MULTIPLE_POST_OP(key.activation == Activation::None ? 0 : 1) | kResidualOperand;
  }

  Plan make(const Key& key) const {
    const bool batched = key.batch > 1;
    const auto desc = [batched, &key](int64_t rows, int64_t columns, memory::data_type type,
                                      const int64_t* strides) {
      if (!batched) return memory::desc({rows, columns}, type, memory::dims{strides[1], strides[2]});
      const int64_t batch = strides[0] == 0 ? 1 : key.batch;  // oneDNN broadcasts a size of 1
      const int64_t stride = strides[0] == 0 ? rows * columns : strides[0];
      return memory::desc({batch, rows, columns}, type, memory::dims{stride, strides[1], strides[2]});
    };
    const auto type = *onednn_type(key.in);
    const memory::desc a = desc(key.m, key.k, type, key.a_strides);
    const memory::desc b = desc(key.k, key.n, type, key.b_strides);
    const memory::desc out = desc(key.m, key.n, *onednn_type(key.out), key.out_strides);
    std::optional<memory::desc> bias;
    if (key.bias) {
      const int64_t row[3] = {0, key.n, 1};
      bias = desc(1, key.n, *onednn_type(key.bias_dtype), row);
    }

    dnnl::post_ops post_ops;
    switch (key.activation) {
      case Activation::None:
        break;
      case Activation::Gelu:
        append_activation(post_ops, dnnl::algorithm::eltwise_gelu_erf);
        break;
      case Activation::GeluTanh:
        append_activation(post_ops, dnnl::algorithm::eltwise_gelu_tanh);
        break;
      case Activation::Relu:
        append_activation(post_ops, dnnl::algorithm::eltwise_relu);
        break;
      case Activation::Silu:
        append_activation(post_ops, dnnl::algorithm::eltwise_swish, 1.f);
        break;
    }
    if (key.residual == Residual::Add) post_ops.append_binary(dnnl::algorithm::binary_add, out);
    if (key.residual == Residual::InPlace || key.accumulate) post_ops.append_sum(1.f);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(post_ops);
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);

    const memory::desc weights = key.packed ? memory::desc({key.k, key.n}, type, memory::format_tag::any) : b;
    const auto description = describe(engine_, a, weights, bias, out, attributes);
    Plan plan;
    if (!is_optimised(description)) return plan;
    plan.supported = true;
    plan.primitive = dnnl::matmul(description);
    const auto operand = [this](const memory::desc& d) { return memory(d, engine_, DNNL_MEMORY_NONE); };
    plan.operands.emplace(DNNL_ARG_SRC, operand(a));
    plan.operands.emplace(DNNL_ARG_WEIGHTS, operand(description.weights_desc()));
    plan.operands.emplace(DNNL_ARG_DST, operand(out));
    plan.operands.emplace(DNNL_ARG_SCRATCHPAD, operand(description.scratchpad_desc()));
    if (bias) plan.operands.emplace(DNNL_ARG_BIAS, operand(*bias));
    if (key.residual == Residual::Add) plan.operands.emplace(residual_argument(key), operand(out));
    plan.scratch_bytes = static_cast<int64_t>(description.scratchpad_desc().get_size());
    if (description.weights_desc() != b) {
      plan.b = operand(b);
      plan.pack = dnnl::reorder(plan.b, plan.operands.at(DNNL_ARG_WEIGHTS));
      plan.packed_bytes = description.weights_desc().get_size();
    }
    return plan;
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  PlanCache<Key, Plan> plans_;
  ScratchBuffer scratch_;
  ScratchBuffer packed_;
};

}  // namespace

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->patch);
}

bool onednn_has_tiles() { return has_sets(dnnl::cpu_isa::avx512_core_amx); }

bool onednn_multiplies(DType dtype) {
  if (dtype == DType::BFloat16) return onednn_has_tiles() || multiplies_pairs();
  return onednn_type(dtype).has_value();
}

size_t onednn_prepared_bytes(const MatmulArgs& args) {
  constexpr int64_t kFewestRows = 16;
  if (!has_sets(dnnl::cpu_isa::avx512_core) || args.out.ndim() != 2 || args.out.size(0) < kFewestRows)
    return 0;
  if (args.b.dtype == DType::Float16 || !onednn_multiplies(args.b.dtype)) return 0;
  // Whole blocks of 64 columns, and of 16 rows or pairs of rows.
  const int64_t rows = round_up(args.b.size(0), 32), columns = round_up(args.b.size(1), 64);
  return static_cast<size_t>(rows * columns) * size_of(args.b.dtype);
}

bool onednn_matmul(const MatmulArgs& args) {
  const View &a = args.a, &b = args.b, &out = args.out;
  if (!onednn_multiplies(a.dtype) || a.dtype != b.dtype || !onednn_type(out.dtype)) return false;
  Key key;
  key.batch = out.ndim() == 3 ? out.size(0) : 1;
  key.m = out.size(-2);
  key.k = a.size(-1);
  key.n = out.size(-1);
  if (!matrix_strides(a, key.a_strides) || !matrix_strides(b, key.b_strides) ||
      !matrix_strides(out, key.out_strides)) {
    return false;
  }
  if (key.batch > 1 && key.a_strides[0] == 0 && key.b_strides[0] == 0)
    return false;  // no operand has the batch
  if (!has_runs_as_vectors(key)) return false;
  if (!is_within_reach(key.m, key.k, key.a_strides) || !is_within_reach(key.k, key.n, key.b_strides) ||
      !is_within_reach(key.m, key.n, key.out_strides)) {
    return false;
  }
  key.threads = omp_get_max_threads();
  key.in = a.dtype;
  key.out = out.dtype;
  key.activation = args.activation;
  key.accumulate = args.accumulate;
  if (args.bias) {
    if (!onednn_type(args.bias.dtype) || (args.bias.stride(0) != 1 && key.n != 1)) return false;
    key.bias = true;
    key.bias_dtype = args.bias.dtype;
  }
  if (args.residual) {
    int64_t strides[3];
    if (args.residual.dtype != out.dtype || !matrix_strides(args.residual, strides) ||
        !std::equal(strides, strides + 3, key.out_strides)) {
      return false;
    }
    key.residual = args.residual.data == out.data ? Residual::InPlace : Residual::Add;
  }
  key.packed = args.prepared_b != nullptr || packing_pays(key);

  static thread_local Context context;
  return context.run(key, args);
}

}  // namespace tenon::cpu
