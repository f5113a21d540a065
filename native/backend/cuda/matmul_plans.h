// Products by cuBLASLt: what the library proposes for each, asked once and kept.
//
// cuBLASLt counts columns first: to it our out [M, N] is a matrix of N rows, b^T a^T, so b is its first operand.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>

#include "backend/cuda/cublaslt.h"
#include "backend/cuda/plans.h"
#include "core/view.h"

namespace tenon::cuda {

// d = a b + beta c, then the epilogue; views of rank 2, or of rank 3 with a batch. a and b share a type, and c, d and
// `vector` do: the epilogue's bias, or the sums of a's rows that it writes.
struct Product {
  View a, b, c, d, vector;
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
  size_t workspace = 0;  // bytes, at most 32 MiB from Hopper on and 4 MiB before
};

// The library's handle on the current device, and what it has proposed there.
class MatmulPlans {
 public:
  MatmulPlans();

  // The library's first proposal for such a product: for its shapes, strides, types, alignments and epilogue. Operands
  // without data count as aligned. Null where it has none.
  const MatmulPlan* plan(const Product& product);

  void multiply(const Product& product, const MatmulPlan& plan, void* workspace, cudaStream_t stream) const;

 private:
  using Key = std::array<int64_t, 28>;

  static Key key_of(const Product& product);
  std::unique_ptr<MatmulPlan> make(const Product& product) const;
  bool choose(const Product& product, MatmulPlan& plan) const;
  template <typename T>
  void set(const MatmulPlan& plan, lt::DescAttribute attribute, const T& value) const;
  // The vector's address is all that differs between products of one plan.
  void set_vector(const Product& product, const MatmulPlan& plan) const;

  const lt::Library& library_ = lt::library();
  Owned<lt::Handle, lt::Status> handle_{library_.Destroy};
  const uint64_t most_workspace_;
  const bool tf32_;
  std::map<Key, std::unique_ptr<MatmulPlan>> plans_;
};

}  // namespace tenon::cuda
