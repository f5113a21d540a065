// Contiguous rows of a float dtype, a vector at a time, computed on as float (or double for double). Read again for
// every instruction set.

#include <limits>

#include "backend/cpu/block.h"

#if defined(TENON_ROWS_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_ROWS_H
#undef TENON_ROWS_H
#else
#define TENON_ROWS_H
#endif

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {

// The type that elements stored as S are computed in.
template <typename S>
using Compute = std::conditional_t<std::is_same_v<S, double>, double, float>;

// A whole vector of a row.
struct Whole {
  template <class D, typename S>
  HWY_INLINE hn::Vec<D> get(D d, const S* p, double = 0) const {
    if constexpr (kIsDouble<D>) {
      return hn::LoadU(d, p);
    } else {
      return load_f32(d, p);
    }
  }
  template <class D, class V, typename S>
  HWY_INLINE void put(D d, V v, S* p) const {
    if constexpr (kIsDouble<D>) {
      hn::StoreU(v, d, p);
    } else {
      store_f32(d, v, p);
    }
  }
  // v, with zeros in the lanes beyond the row.
  template <class D, class V>
  HWY_INLINE V only(D, V v) const {
    return v;
  }
};

// The last n elements of a row, fewer than a vector: lanes beyond the row load `fill` and are not stored.
struct Part {
  int64_t n;

  // Whether the processor reads and writes some lanes of a vector without touching the memory of the others.
  template <class D, typename S>
  static constexpr bool kMasked = !HWY_MEM_OPS_MIGHT_FAULT && std::is_same_v<hn::TFromD<D>, S>;

  template <class D, typename S>
  HWY_INLINE hn::Vec<D> get(D d, const S* p, double fill = 0) const {
    if constexpr (kMasked<D, S>) {
      const auto inside = hn::FirstN(d, static_cast<size_t>(n));
      const auto rest = hn::Set(d, static_cast<S>(fill));
      return hn::IfThenElse(inside, hn::MaskedLoad(inside, d, p), rest);
    }
    S elements[hn::MaxLanes(D())];
    for (S& element : elements) element = convert<S>(fill);
    std::memcpy(static_cast<void*>(elements), p, static_cast<size_t>(n) * sizeof(S));
    return Whole().get(d, elements);
  }
  template <class D, class V, typename S>
  HWY_INLINE void put(D d, V v, S* p) const {
    if constexpr (kMasked<D, S>) return hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(n)), d, p);
    S elements[hn::MaxLanes(D())];
    Whole().put(d, v, elements);
    std::memcpy(static_cast<void*>(p), elements, static_cast<size_t>(n) * sizeof(S));
  }
  template <class D, class V>
  HWY_INLINE V only(D d, V v) const {
    return hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(n)), v);
  }
};

// Calls body(part, i) for the vectors of a row of n elements, i being the first element's index.
template <class D, class Body>
HWY_INLINE void for_vectors(D d, int64_t n, Body&& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(Whole(), i);
  if (i < n) body(Part{n - i}, i);
}

// join(...join(join(start, term(part, i)), ...)) over the vectors of a row of n elements. Four results are built side by
// side, as one alone would wait for each join. term gives `start`'s value in the lanes beyond the row.
template <class D, class V, class Join, class Term>
HWY_INLINE V fold_vectors(D d, int64_t n, V start, Join&& join, Term&& term) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V v0 = start, v1 = start, v2 = start, v3 = start;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    v0 = join(v0, term(Whole(), i));
    v1 = join(v1, term(Whole(), i + lanes));
    v2 = join(v2, term(Whole(), i + 2 * lanes));
    v3 = join(v3, term(Whole(), i + 3 * lanes));
  }
  for (; i + lanes <= n; i += lanes) v0 = join(v0, term(Whole(), i));
  if (i < n) v1 = join(v1, term(Part{n - i}, i));
  return join(join(v0, v1), join(v2, v3));
}

template <class D, class Term>
HWY_INLINE hn::Vec<D> sum_vectors(D d, int64_t n, Term&& term) {
  using V = hn::Vec<D>;
  return fold_vectors(
      d, n, hn::Zero(d), [](V a, V b) { return hn::Add(a, b); },
      [&](auto part, int64_t i) { return part.only(d, term(part, i)); });
}

// The largest of n elements; NaN may go unseen.
template <typename S>
HWY_INLINE Compute<S> max_of_row(const S* HWY_RESTRICT x, int64_t n) {
  const hn::ScalableTag<Compute<S>> d;
  using V = hn::Vec<decltype(d)>;
  constexpr Compute<S> lowest = -std::numeric_limits<Compute<S>>::infinity();
  const V largest = fold_vectors(
      d, n, hn::Set(d, lowest), [](V a, V b) { return hn::Max(a, b); },
      [&](auto part, int64_t i) { return part.get(d, x + i, lowest); });
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

template <class D, class V>
HWY_INLINE hn::TFromD<D> sum_of_lanes(D d, V v) {
  return hn::GetLane(hn::SumOfLanes(d, v));
}

// n elements of a float dtype, `stride` apart, as T. Only double computes on float64.
template <typename T>
HWY_INLINE void read_line(DType dtype, const void* from, int64_t stride, int64_t n, T* to) {
  with_float_type(dtype, [&]<typename S>(S) {
    if constexpr (std::is_same_v<Compute<S>, T>) convert_run(static_cast<const S*>(from), stride, to, 1, n);
  });
}

template <typename T>
HWY_INLINE void write_line(DType dtype, const T* from, int64_t n, void* to, int64_t stride) {
  with_float_type(dtype, [&]<typename S>(S) {
    if constexpr (std::is_same_v<Compute<S>, T>) convert_run(from, 1, static_cast<S*>(to), stride, n);
  });
}

}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_ROWS_H
