#include "backend/cuda/matmul_plans.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "backend/cuda/queue.h"

namespace tenon::cuda {

namespace {

constexpr const char* kOp = "matmul";

lt::DataType type_of(DType dtype) {
  switch (dtype) {
    case DType::Float64:
      return lt::kFloat64;
    case DType::BFloat16:
      return lt::kBFloat16;
    case DType::Float16:
      return lt::kFloat16;
    default:
      return lt::kFloat32;
  }
}

uint64_t most_workspace() { return uint64_t{compute_capability(kOp) >= 90 ? 32u : 4u} << 20; }

}  // namespace

void expect_success(lt::Status status) {
  if (status == lt::kSuccess) return;
  throw TensorError(kOp, code::kKernel, std::string("cuBLASLt: ") + lt::library().GetStatusString(status));
}

int64_t alignment_of(const void* data) {
  constexpr uintptr_t kMost = 256;
  const auto address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t lowest = address & (~address + 1);
  return static_cast<int64_t>(lowest == 0 ? kMost : std::min(lowest, kMost));
}

std::optional<Matrix> matrix_of(const View& x) {
  const int64_t rows = x.size(-2), columns = x.size(-1), row = x.stride(-2), column = x.stride(-1);
  const int64_t batch = x.ndim() == 3 && x.size(0) > 1 ? x.stride(0) : 0;
  if (batch < 0) return std::nullopt;
  // Rows of x one behind the other are columns to the library.
  if ((columns == 1 || column == 1) && (rows == 1 || row >= columns)) {
    return Matrix{columns, rows, rows == 1 ? columns : row, batch, false};
  }
  if ((rows == 1 || row == 1) && (columns == 1 || column >= rows)) {
    return Matrix{rows, columns, columns == 1 ? rows : column, batch, true};
  }
  return std::nullopt;
}

MatmulPlans::MatmulPlans() : most_workspace_(most_workspace()), tf32_(tf32_allowed()) {
  expect_success(library_.Create(handle_.out()));
}

template <typename T>
void MatmulPlans::set(const MatmulPlan& plan, lt::DescAttribute attribute, const T& value) const {
  expect_success(library_.MatmulDescSetAttribute(plan.desc, attribute, &value, sizeof(T)));
}

void MatmulPlans::set_addresses(const Product& p, const MatmulPlan& plan) const {
  if (p.vector) set(plan, lt::kBiasPointer, static_cast<const void*>(p.vector.data));
  if (p.aux) set(plan, lt::kAuxPointer, static_cast<const void*>(p.aux.data));
}

std::unique_ptr<MatmulPlan> MatmulPlans::describe(const Product& p) const {
  auto plan = std::make_unique<MatmulPlan>(library_);
  const bool wide = p.d.dtype == DType::Float64, tf32 = p.a.dtype == DType::Float32 && tf32_;
  const lt::ComputeType compute = wide ? lt::kCompute64 : tf32 ? lt::kComputeTF32 : lt::kCompute32;
  expect_success(library_.MatmulDescCreate(plan->desc.out(), compute, wide ? lt::kFloat64 : lt::kFloat32));
  const auto describe = [&](lt::Layout* layout, const View& x) {
    const Matrix m = *matrix_of(x);
    expect_success(library_.MatrixLayoutCreate(layout, type_of(x.dtype), static_cast<uint64_t>(m.rows),
                                               static_cast<uint64_t>(m.columns), m.ld));
    if (p.d.ndim() != 3) return;
    const auto batch = static_cast<int32_t>(p.d.size(0));
    expect_success(library_.MatrixLayoutSetAttribute(*layout, lt::kBatchCount, &batch, sizeof(batch)));
    expect_success(library_.MatrixLayoutSetAttribute(*layout, lt::kBatchStride, &m.batch_stride,
                                                     sizeof(m.batch_stride)));
  };
  describe(plan->a.out(), p.a);
  describe(plan->b.out(), p.b);
  describe(plan->c.out(), p.c);
  describe(plan->d.out(), p.d);
  set(*plan, lt::kTransA, matrix_of(p.b)->transposed ? lt::kTransposed : lt::kPlain);
  set(*plan, lt::kTransB, matrix_of(p.a)->transposed ? lt::kTransposed : lt::kPlain);
  set(*plan, lt::kEpilogue, p.epilogue);
  if (p.aux) set(*plan, lt::kAuxLd, matrix_of(p.aux)->ld);
  set_addresses(p, *plan);
  return plan;
}

std::vector<MatmulPlan::Proposal> MatmulPlans::propose(const Product& p, const MatmulPlan& plan,
                                                       int most) const {
  Owned<lt::Preference, lt::Status> preference(library_.MatmulPreferenceDestroy);
  expect_success(library_.MatmulPreferenceCreate(preference.out()));
  const auto prefer = [&](lt::PreferenceAttribute attribute, const auto& value) {
    expect_success(library_.MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
  };
  prefer(lt::kMaxWorkspace, most_workspace_);
  prefer(lt::kReductions, lt::kInComputeType);  // 16-bit types are summed in float32
  const std::pair<lt::PreferenceAttribute, const void*> operands[] = {{lt::kAlignmentA, p.b.data},
                                                                      {lt::kAlignmentB, p.a.data},
                                                                      {lt::kAlignmentC, p.c.data},
                                                                      {lt::kAlignmentD, p.d.data}};
  for (const auto& [attribute, data] : operands) prefer(attribute, static_cast<uint32_t>(alignment_of(data)));
  std::vector<lt::HeuristicResult> results(static_cast<size_t>(most));
  int found = 0;
  const lt::Status status = library_.MatmulAlgoGetHeuristic(handle_, plan.desc, plan.b, plan.a, plan.c,
                                                            plan.d, preference, most, results.data(), &found);
  // A library may call one row or column with an epilogue invalid, where it has no kernel for that.
  const bool has_none =
      status == lt::kNotSupported || (status == lt::kInvalidValue && p.epilogue != lt::kNoEpilogue);
  if (has_none) return {};
  expect_success(status);
  std::vector<MatmulPlan::Proposal> proposals;
  for (const lt::HeuristicResult& result : std::span(results).first(static_cast<size_t>(found))) {
    if (result.state == lt::kSuccess) proposals.push_back({result.algorithm, result.workspace});
  }
  return proposals;
}

std::optional<MatmulPlan::Proposal> MatmulPlans::check_algorithm(const MatmulPlan& plan,
                                                                 const lt::Algorithm& algorithm) const {
  lt::HeuristicResult result{};
  const lt::Status status =
      library_.MatmulAlgoCheck(handle_, plan.desc, plan.b, plan.a, plan.c, plan.d, &algorithm, &result);
  if (status != lt::kSuccess || result.workspace > most_workspace_) return std::nullopt;
  return MatmulPlan::Proposal{algorithm, result.workspace};
}

lt::Status MatmulPlans::multiply(const Product& p, const MatmulPlan& plan, void* workspace,
                                 cudaStream_t stream) const {
  set_addresses(p, plan);
  // Both factors in the type of the scale.
  const double wide[] = {1, p.beta};
  const float narrow[] = {1, static_cast<float>(p.beta)};
  const bool is_wide = p.d.dtype == DType::Float64;
  const void* const alpha = is_wide ? static_cast<const void*>(&wide[0]) : &narrow[0];
  const void* const beta = is_wide ? static_cast<const void*>(&wide[1]) : &narrow[1];
  return library_.Matmul(handle_, plan.desc, alpha, p.b.data, plan.b, p.a.data, plan.a, beta, p.c.data,
                         plan.c, p.d.data, plan.d, &plan.algorithm, workspace, plan.workspace, stream);
}

}  // namespace tenon::cuda
