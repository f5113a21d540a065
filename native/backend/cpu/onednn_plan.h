// What the files that call oneDNN share: its dtypes, the differences of its v2 and v3 interfaces, and primitives that
// are made once per key and thread. No other file includes oneDNN's headers.
#pragma once

#include <cstring>
#include <functional>
#include <list>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "backend/backend.h"
#include "backend/cpu/scratch.h"
#include "core/dtype.h"

namespace tenon::cpu {

inline std::optional<dnnl::memory::data_type> onednn_type(DType dtype) {
  switch (dtype) {
    case DType::Float32:
      return dnnl::memory::data_type::f32;
    case DType::BFloat16:
      return dnnl::memory::data_type::bf16;
    case DType::Float16:
      return dnnl::memory::data_type::f16;
    default:
      return std::nullopt;
  }
}

// Whether oneDNN uses these sets of instructions here.
inline bool has_sets(dnnl::cpu_isa isa) {
  static const auto effective = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto sets = static_cast<unsigned>(isa);
  return (effective & sets) == sets;
}

inline void append_activation(dnnl::post_ops& post_ops, dnnl::algorithm algorithm, float alpha = 0.f) {
#if DNNL_VERSION_MAJOR >= 3
  post_ops.append_eltwise(algorithm, alpha, 0.f);
#else
  post_ops.append_eltwise(1.f, algorithm, alpha, 0.f);
#endif
}

// Whether a description is of an optimised kernel: "ref..." is orders of magnitude slower than our own code, and what is
// called "gemm..." multiplies by plain loops where oneDNN generates no code for it (on arm64, where "gemm:ref" convolutions of
// 2.6 also add a residual in the wrong places).
template <typename Description>
bool is_optimised(const Description& description) {
  if (!description) return false;
  const std::string_view name = description.impl_info_str();
#if defined(__x86_64__)
  return !name.starts_with("ref");
#else
  return !name.starts_with("ref") && !name.starts_with("gemm");
#endif
}

// Memory for an operand in the layout that a primitive wants, which takes `bytes`: `kept`, or where that is absent or too small
// `scratch`. Calls fill(), which reads the operand, unless it is there already.
template <typename Fill>
void prepare(dnnl::memory& own, size_t bytes, Prepared* kept, ScratchBuffer& scratch, Fill&& fill) {
  if (kept == nullptr || kept->bytes < bytes) {
    own.set_data_handle(scratch.reserve<char>(static_cast<int64_t>(bytes)));
    return fill();
  }
  own.set_data_handle(kept->data);
  const dnnl::memory::desc layout = own.get_desc();
  const auto* const found = std::any_cast<dnnl::memory::desc>(&kept->layout);
  if (found != nullptr && *found == layout) return;
  kept->layout.reset();  // until it is whole
  fill();
  kept->layout = layout;
}

// Primitives by what makes two calls use the same one: everything but the addresses. A key is compared and hashed as
// bytes, so it has no padding.
template <typename Key, typename Plan>
class PlanCache {
  static_assert(std::has_unique_object_representations_v<Key>);

 public:
  template <typename Make>
  Plan& find(const Key& key, Make&& make) {
    const std::string_view bytes = bytes_of(key);
    if (const auto found = index_.find(bytes); found != index_.end()) {
      recent_.splice(recent_.begin(), recent_, found->second);
      return found->second->second;
    }
    recent_.emplace_front(key, make(key));
    index_.emplace(bytes_of(recent_.front().first), recent_.begin());
    if (recent_.size() > kMaxPlans) {
      index_.erase(bytes_of(recent_.back().first));
      recent_.pop_back();
    }
    return recent_.front().second;
  }

 private:
  static constexpr size_t kMaxPlans = 1024;
  using Recent = std::list<std::pair<Key, Plan>>;  // the latest used first

  static std::string_view bytes_of(const Key& key) {
    return {reinterpret_cast<const char*>(&key), sizeof(Key)};
  }

  Recent recent_;
  std::unordered_map<std::string_view, typename Recent::iterator> index_;
};

}  // namespace tenon::cpu
