// Products by cuBLASLt: how they are described to it, what it proposes for each, and the plans that were chosen.
//
// cuBLASLt counts columns first: to it our out [M, N] is a matrix of N rows, b^T a^T, so b is its first operand.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/cuda/cublaslt.h"
#include "backend/cuda/plans.h"
#include "backend/cuda/tuning.h"
#include "core/view.h"

namespace tenon::cuda {

// d = a b + beta c, then the epilogue; views of rank 2, or of rank 3 with a batch. a and b share a type, and c, d and
// `vector` do: the epilogue's bias, or the sums of a's rows that it writes. So does aux, its second matrix.
struct Product {
  View a, b, c, d, vector, aux;
  double beta = 0;
  uint32_t epilogue = lt::kNoEpilogue;
};

// A matrix as the library sees it, columns first.
struct Matrix {
  int64_t rows, columns, ld, batch_stride;
  bool transposed;  // what is stored is the transpose of what multiplies
};

// None where the strides are not ones that the library takes: one of the two is 1, the other as large as a row or more.
std::optional<Matrix> matrix_of(const View& x);

// Throws unless a call of the library succeeded.
void expect_success(lt::Status status);

// Of an address, in bytes, as far as the library cares.
int64_t alignment_of(const void* data);

// How much of what follows a product rides in the library's epilogue.
enum class Fuses : uint8_t { Nothing, Bias, All };

struct MatmulPlan {
  explicit MatmulPlan(const lt::Library& library)
      : desc(library.MatmulDescDestroy),
        a(library.MatrixLayoutDestroy),
        b(library.MatrixLayoutDestroy),
        c(library.MatrixLayoutDestroy),
        d(library.MatrixLayoutDestroy) {}

  Owned<lt::Desc, lt::Status> desc;
  Owned<lt::Layout, lt::Status> a, b, c, d;
  lt::Algorithm algorithm{};
  size_t workspace = 0;
  Fuses fuses = Fuses::All;

  struct Proposal {
    lt::Algorithm algorithm;
    size_t workspace;  // bytes, at most 32 MiB from Hopper on and 4 MiB before
  };
  void take(const Proposal& proposal) {
    algorithm = proposal.algorithm;
    workspace = proposal.workspace;
  }
};

// The library's handle on the current device.
class MatmulPlans {
 public:
  using Key = std::array<int64_t, 35>;  // of a call, see matmul.cc

  MatmulPlans();

  // A plan for such a product, but for the algorithm.
  std::unique_ptr<MatmulPlan> describe(const Product& product) const;

  // What the library proposes, best first, for the product's shapes, strides, types, alignments and epilogue. Operands
  // without data count as aligned.
  std::vector<MatmulPlan::Proposal> propose(const Product& product, const MatmulPlan& plan, int most) const;

  // The algorithm as a proposal, where it fits the plan.
  std::optional<MatmulPlan::Proposal> check_algorithm(const MatmulPlan& plan,
                                                      const lt::Algorithm& algorithm) const;

  lt::Status multiply(const Product& product, const MatmulPlan& plan, void* workspace,
                      cudaStream_t stream) const;

  bool tf32() const { return tf32_; }
  size_t version() const { return library_.GetVersion(); }

  std::map<Key, std::unique_ptr<MatmulPlan>> chosen;
  Tuning tuning;

 private:
  template <typename T>
  void set(const MatmulPlan& plan, lt::DescAttribute attribute, const T& value) const;
  // The epilogue's addresses are all that differs between products of one plan.
  void set_addresses(const Product& product, const MatmulPlan& plan) const;

  const lt::Library& library_ = lt::library();
  Owned<lt::Handle, lt::Status> handle_{library_.Destroy};
  const uint64_t most_workspace_;
  const bool tf32_;
};

}  // namespace tenon::cuda
