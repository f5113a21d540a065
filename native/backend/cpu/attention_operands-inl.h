// In what form attention's products take their operands, per instruction set. Included after attention_tiles-inl.h.
//
// Rows: one element of T after the other, whatever the tensors hold. Pairs: bfloat16, two in the place of a float, which an
// instruction of newer AVX-512 processors multiplies by two others and adds to a float32 sum: twice the products in the same
// time. A pair goes along the dimension that is summed over; where there is an odd number, its other half is zero.
#if defined(TENON_ATTENTION_OPERANDS_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TENON_ATTENTION_OPERANDS_H
#undef TENON_ATTENTION_OPERANDS_H
#else
#define TENON_ATTENTION_OPERANDS_H
#endif

#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace tenon::cpu::HWY_NAMESPACE {

// A left operand, and how far its rows are apart.
template <typename T>
struct LeftOperand {
  const T* data;
  int64_t stride;
};

template <typename T>
struct Rows : MultiplyAdd {
  // Whether rows that were packed as a left operand serve as a right one.
  static constexpr bool kOneForm = true;
  static int64_t depth(int64_t n) { return n; }
  // What queries are multiplied by; the rest is left to the scores.
  static T scale_of_rows(T scale) { return scale; }

  // Rows [first, first + count) of x, times scale, and rows of zeros up to `padded`: for a sum over columns.
  static void pack_left(const HeadRows& x, int64_t first, int64_t count, int64_t padded, int64_t columns,
                        T scale, T* HWY_RESTRICT to, int64_t stride) {
    pack_rows(x, first, count, padded, columns, scale, to, stride);
  }
  // The same rows for a sum over them.
  static void pack_right(const HeadRows& x, int64_t first, int64_t count, int64_t columns, T* HWY_RESTRICT to,
                         int64_t stride) {
    pack_rows(x, first, count, count, columns, T{1}, to, stride);
  }
  // Scores [rows, n] for a sum over n, or (transposed) for one over rows.
  static LeftOperand<T> left_of(const T* scores, int64_t stride, int64_t, int64_t, ScratchBuffer&) {
    return {scores, stride};
  }
  static LeftOperand<T> transposed_left_of(const T* scores, int64_t stride, int64_t, int64_t,
                                           ScratchBuffer&) {
    return {scores, stride};
  }
};

#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86_64

// The intrinsics want more than this target's flags; multiplies_pairs() says whether there are such instructions.
struct Pairs {
  static constexpr bool kOneForm = false;
  static int64_t depth(int64_t n) { return ceil_div(n, 2); }
  // A power of 2 costs no accuracy.
  static float scale_of_rows(float scale) {
    int exponent;
    return std::frexp(scale, &exponent) == 0.5f ? scale : 1;
  }

  template <class V>
  static HWY_INLINE V add(V left, V right, V sum) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(left.raw), "v"(right.raw));
    return sum;
  }

  static void pack_left(const HeadRows& x, int64_t first, int64_t count, int64_t padded, int64_t columns,
                        float scale, float* HWY_RESTRICT to, int64_t stride) {
    for (int64_t i = 0; i < padded; ++i) {
      auto* const row = reinterpret_cast<uint16_t*>(to + i * stride);
      const int64_t given = i < count ? columns : 0;
      if (given > 0) {
        const auto* const from = x.row<const bfloat16>(first + i);
        if (scale == 1) {
          std::memcpy(row, from, static_cast<size_t>(given) * sizeof(bfloat16));
        } else {
          int64_t j = 0;
          for (; j + kLanes <= given; j += kLanes)
            hn::StoreU(halves(hn::Mul(load_f32(kFloats, from + j), hn::Set(kFloats, scale))), kHalves,
                       row + j);
          for (; j < given; ++j)
            reinterpret_cast<bfloat16*>(row)[j] = bfloat16(static_cast<float>(from[j]) * scale);
        }
      }
      std::fill(row + given, row + 2 * round_up(depth(columns), kLanes), uint16_t{0});
    }
  }

  static void pack_right(const HeadRows& x, int64_t first, int64_t count, int64_t columns,
                         float* HWY_RESTRICT to, int64_t stride) {
    for (int64_t i = 0; i < count; i += 2) {
      const auto* const even = x.row<const uint16_t>(first + i);
      const auto* const odd = i + 1 < count ? x.row<const uint16_t>(first + i + 1) : nullptr;
      auto* const row = reinterpret_cast<uint32_t*>(to + i / 2 * stride);
      int64_t j = 0;
      for (; j + kLanes <= columns; j += kLanes) {
        const auto second = odd == nullptr ? hn::Zero(kHalves) : hn::LoadU(kHalves, odd + j);
        hn::Store(together(hn::LoadU(kHalves, even + j), second), kWords, row + j);
      }
      for (; j < columns; ++j) row[j] = even[j] | static_cast<uint32_t>(odd == nullptr ? 0 : odd[j]) << 16;
      std::fill(row + columns, row + round_up(columns, kLanes), 0u);
    }
  }

  static LeftOperand<float> left_of(const float* HWY_RESTRICT scores, int64_t stride, int64_t rows, int64_t n,
                                    ScratchBuffer& memory) {
    const int64_t pairs = packed_stride<float>(depth(n));
    auto* const to = memory.reserve<float>(rows * pairs);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < n; j += kLanes) {
        const auto inside = hn::FirstN(kFloats, static_cast<size_t>(std::min(n - j, kLanes)));
        const auto value = hn::IfThenElseZero(inside, hn::Load(kFloats, scores + i * stride + j));
        hn::StoreU(halves(value), kHalves, reinterpret_cast<uint16_t*>(to + i * pairs) + j);
      }
    }
    return {to, pairs};
  }

  static LeftOperand<float> transposed_left_of(const float* HWY_RESTRICT scores, int64_t stride, int64_t rows,
                                               int64_t n, ScratchBuffer& memory) {
    auto* const to = memory.reserve<float>(depth(rows) * stride);
    for (int64_t i = 0; i < rows; i += 2) {
      auto* const row = reinterpret_cast<uint32_t*>(to + i / 2 * stride);
      const float* const even = scores + i * stride;
      for (int64_t j = 0; j < n; j += kLanes) {
        const auto second = i + 1 < rows ? hn::Load(kFloats, even + stride + j) : hn::Zero(kFloats);
        hn::Store(together(halves(hn::Load(kFloats, even + j)), halves(second)), kWords, row + j);
      }
    }
    return {to, stride};
  }

 private:
  static constexpr hn::ScalableTag<float> kFloats{};
  static constexpr hn::Rebind<uint16_t, hn::ScalableTag<float>> kHalves{};
  static constexpr hn::ScalableTag<uint32_t> kWords{};
  static constexpr int64_t kLanes = HWY_LANES(float);

  // Rounded to nearest even; NaN stays NaN.
  static HWY_INLINE hn::Vec<decltype(kHalves)> halves(hn::Vec<decltype(kFloats)> values) {
    hn::Vec<decltype(kHalves)> rounded;
    asm("vcvtneps2bf16 %1, %0" : "=v"(rounded.raw) : "v"(values.raw));
    return rounded;
  }
  static HWY_INLINE hn::Vec<decltype(kWords)> together(hn::Vec<decltype(kHalves)> even,
                                                       hn::Vec<decltype(kHalves)> odd) {
    return hn::Or(hn::PromoteTo(kWords, even), hn::ShiftLeft<16>(hn::PromoteTo(kWords, odd)));
  }
};

#else

using Pairs = Rows<float>;

#endif

}  // namespace tenon::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TENON_ATTENTION_OPERANDS_H
