// Permutations: the order of random 64-bit keys, by a bitonic sort (Batcher 1968). Entries are compared by key and then by
// index, a total order, so that the result does not hang on the steps of the sort; which steps there are depends on n
// alone.
//
// A block sorts a tile of 2048 entries in shared memory. Larger n take log2(n / 2048) rounds of merging: steps whose
// partners lie in one tile are taken in shared memory, all in one launch; each of the others reads and writes the
// entries once. A million takes 54 launches.
#include <algorithm>
#include <bit>

#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/random.h"

namespace tenon::cuda {
namespace {

constexpr int64_t kLargestTile = 2048;

struct alignas(16) Entry {
  uint64_t key;
  int64_t index;

  __device__ __forceinline__ bool before(const Entry& other) const {
    return key != other.key ? key < other.key : index < other.index;
  }
};

struct Sort {
  Entry* entries;  // [whole]; null where one tile holds all
  int64_t* out;
  int64_t stride, n;
  int64_t whole;  // n, rounded up to a power of two
  int tile;
  RandomPlace place;
};

// In a round of size r, neighbouring runs of r entries come out in ascending and descending order by turns.
__device__ __forceinline__ void order(Entry& a, Entry& b, bool ascending) {
  if (b.before(a) != ascending) return;
  const Entry other = a;
  a = b;
  b = other;
}

// The lower partner of pair `i`, `distance` (a power of two) from the other.
template <typename Index>
__device__ __forceinline__ Index lower_of_pair(Index i, Index distance) {
  return 2 * i - (i & (distance - 1));
}

// The steps of a round with distances up to `distance`, on the tile that holds entries `begin` and on.
__device__ __forceinline__ void steps_in_tile(Entry* tile, const Sort& s, int64_t begin, int64_t round,
                                              int distance) {
  for (; distance > 0; distance /= 2) {
    for (int i = static_cast<int>(threadIdx.x); i < s.tile / 2; i += static_cast<int>(blockDim.x)) {
      const int low = lower_of_pair(i, distance);
      order(tile[low], tile[low + distance], ((begin + low) & round) == 0);
    }
    __syncthreads();
  }
}

// What lies in shared memory: to the other rounds or, after the last, to the result.
__device__ __forceinline__ void store_tile(const Entry* tile, const Sort& s, int64_t begin, bool last) {
  for (int i = static_cast<int>(threadIdx.x); i < s.tile; i += static_cast<int>(blockDim.x)) {
    if (!last) {
      s.entries[begin + i] = tile[i];
    } else if (begin + i < s.n) {
      s.out[(begin + i) * s.stride] = tile[i].index;
    }
  }
}

__global__ void __launch_bounds__(kThreads) sort_tiles(const Sort s) {
  Entry* const tile = shared_memory<Entry>();
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * s.tile;
  const RandomPlace place = s.place.now();
  for (int i = static_cast<int>(threadIdx.x); i < s.tile; i += static_cast<int>(blockDim.x)) {
    Entry entry{~uint64_t{0}, begin + i};  // beyond n: behind all others
    if (entry.index < s.n) {
      const uint64_t at = place.offset + static_cast<uint64_t>(entry.index);
      entry.key = uint64_t{random_word(place.seed, at)} << 32 | random_word(place.seed, at, 1);
    }
    tile[i] = entry;
  }
  __syncthreads();
  for (int round = 2; round <= s.tile; round *= 2) steps_in_tile(tile, s, begin, round, round / 2);
  store_tile(tile, s, begin, s.tile == s.whole);
}

__global__ void __launch_bounds__(kThreads)
    step_in_memory(const Sort s, const int64_t round, const int64_t distance) {
  for (int64_t i = thread_of_grid(); i < s.whole / 2; i += threads_of_grid()) {
    const int64_t low = lower_of_pair(i, distance);
    order(s.entries[low], s.entries[low + distance], (low & round) == 0);
  }
}

__global__ void __launch_bounds__(kThreads) merge_in_tiles(const Sort s, const int64_t round) {
  Entry* const tile = shared_memory<Entry>();
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * s.tile;
  for (int i = static_cast<int>(threadIdx.x); i < s.tile; i += static_cast<int>(blockDim.x)) {
    tile[i] = s.entries[begin + i];
  }
  __syncthreads();
  steps_in_tile(tile, s, begin, round, s.tile / 2);
  store_tile(tile, s, begin, round == s.whole);
}

}  // namespace

void permutation(const PermutationArgs& args, void* stream) {
  const int64_t n = args.out.numel();
  if (n == 0) return;
  Queue& queue = queue_of(stream);
  const auto whole = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n)));
  const int64_t tile = std::min(whole, kLargestTile);
  Sort s{nullptr,
         args.out.as<int64_t>(),
         args.out.stride(0),
         n,
         whole,
         static_cast<int>(tile),
         {args.seed, args.offset, queue.random()}};
  if (tile < whole)
    s.entries = static_cast<Entry*>(queue.scratch(static_cast<size_t>(whole) * sizeof(Entry)));
  const int64_t blocks = whole / tile;
  const auto threads = static_cast<unsigned>(std::clamp<int64_t>(tile / 2, kWarpSize, kThreads));
  const size_t shared = static_cast<size_t>(tile) * sizeof(Entry);
  launch(queue, "permutation", &sort_tiles, blocks, threads, shared, s);
  for (int64_t round = 2 * tile; round <= whole; round *= 2) {
    for (int64_t distance = round / 2; distance >= tile; distance /= 2) {
      launch_over(queue, "permutation", &step_in_memory, whole / 2, s, round, distance);
    }
    launch(queue, "permutation", &merge_in_tiles, blocks, threads, shared, s, round);
  }
}

}  // namespace tenon::cuda
