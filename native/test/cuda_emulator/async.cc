#include "test/cuda_emulator/async.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <sstream>

#include "test/cuda_emulator/scheduler.h"

namespace tenon::emulator {

namespace {

constexpr unsigned kWarpsOfGroup = 4, kRows = 16;  // of a warp in a product of 64
constexpr unsigned kDepth = 16;                    // a product's K
constexpr unsigned kChunk = 16;                    // bytes that a swizzle keeps together

struct Mbarrier {
  unsigned arrivals = 0;  // that end a phase
  unsigned pending = 0;   // of them, in this phase
  int64_t bytes = 0;      // that copies are still to bring in this phase
  unsigned phase = 0;
  bool known = false;  // to the copy engine
};

struct BoxCopy {
  TensorMap map;
  const unsigned char* from = nullptr;  // bytes that lie together, instead of a map
  std::array<int, 5> coordinates{};
  unsigned to = 0;
  unsigned bytes = 0;
  const void* barrier = nullptr;
  Where where;
  std::unique_ptr<char> edge = std::make_unique<char>();  // to the thread sanitizer, from its issue to itself
};

// Sums that products are at work on: a warp's 16 rows.
struct Flight {
  std::array<float*, kWarpSize> lanes{};
  unsigned columns = 0, products = 0;  // that are not done
  std::vector<float> sums;             // [16, columns]
};

struct Pending {
  Product product{};
  std::array<std::array<uint32_t, 4>, kWarpSize> registers{};  // of a
  unsigned group = 0;
  bool read = false;
  std::vector<float> a, b;  // [16, 16] and [16, columns], once read
  Where where;
};

struct WarpProducts {
  std::vector<Pending> pending;
  std::map<const float*, Flight> flights;
  unsigned group = 0;   // of the next product
  bool fenced = false;  // since the registers may have been touched
  size_t issued = 0;
};

// What all four warps must give.
struct Issue {
  Where where;
  uint64_t a, b;
  unsigned columns;
  bool operator==(const Issue& other) const {
    return a == other.a && b == other.b && columns == other.columns && where.line() == other.where.line();
  }
};

}  // namespace

struct AsyncWork {
  std::map<const void*, Mbarrier> mbarriers;
  std::vector<BoxCopy> copies;
  std::vector<WarpProducts> warps;
  std::vector<std::vector<Issue>> groups;
  std::vector<unsigned char> seen;  // shared memory as the async proxy knows it
};

namespace {

AsyncWork& work() {
  if (!scheduler.async) {
    scheduler.async = std::make_shared<AsyncWork>();
    scheduler.async->warps.resize(scheduler.warps.size());
    scheduler.async->groups.resize((scheduler.warps.size() + kWarpsOfGroup - 1) / kWarpsOfGroup);
    scheduler.async->seen.assign(scheduler.shared_bytes, 0xff);
  }
  return *scheduler.async;
}

bool at_once() {
  return scheduler.order == Order::Reverse ||
         (scheduler.order == Order::Shuffled && scheduler.random() % 2 == 0);
}

Mbarrier& mbarrier_at(const void* barrier, Where where) {
  const auto found = work().mbarriers.find(barrier);
  if (found == work().mbarriers.end()) fail("an mbarrier that was not initialised", where);
  return found->second;
}

// Ends the phase where nothing is missing.
void settle(const void* at, Mbarrier& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  ++barrier.phase;
  barrier.pending = barrier.arrivals;
  for (const auto& fiber : scheduler.fibers) {
    if (fiber->state == State::AtMbarrier && fiber->mbarrier == at) fiber->state = State::Ready;
  }
}

void store_chunk(Quiet& quiet, unsigned to, const unsigned char* bytes) {
  quiet.writes(scheduler.shared + to, kChunk);
  std::memcpy(scheduler.shared + to, bytes, kChunk);
  std::memcpy(work().seen.data() + to, bytes, kChunk);
}

void perform_box(Quiet& quiet, const BoxCopy& copy) {
  const TensorMap& map = copy.map;
  const unsigned row_bytes = map.box[0] * map.element_bytes;
  unsigned rows = 1;
  for (unsigned d = 1; d < map.rank; ++d) rows *= map.box[d];
  std::vector<unsigned char> line(row_bytes);
  for (unsigned row = 0; row < rows; ++row) {
    const unsigned char* from = map.data;
    bool inside = true;
    for (unsigned d = 1, rest = row; d < map.rank; rest /= map.box[d++]) {
      const int64_t at = copy.coordinates[d] + static_cast<int64_t>(rest % map.box[d]);
      if (at < 0 || static_cast<uint64_t>(at) >= map.sizes[d]) {
        inside = false;
      } else {
        from += static_cast<uint64_t>(at) * map.strides[d - 1];
      }
    }
    std::fill(line.begin(), line.end(), static_cast<unsigned char>(0));
    const int64_t begin = std::max<int64_t>(0, copy.coordinates[0]);
    const int64_t end =
        std::min<int64_t>(static_cast<int64_t>(map.sizes[0]), copy.coordinates[0] + map.box[0]);
    if (inside && begin < end) {
      std::memcpy(line.data() + (begin - copy.coordinates[0]) * map.element_bytes,
                  from + begin * map.element_bytes, static_cast<size_t>((end - begin) * map.element_bytes));
    }
    for (unsigned at = 0; at < row_bytes; at += kChunk) {
      store_chunk(quiet, swizzled(copy.to + row * row_bytes + at, map.swizzle), line.data() + at);
    }
  }
}

void perform(Quiet& quiet, const BoxCopy& copy) {
  TENON_ACQUIRE(copy.edge.get());
  if (copy.from == nullptr) {
    perform_box(quiet, copy);
  } else {
    for (unsigned at = 0; at < copy.bytes; at += kChunk) {
      unsigned char chunk[kChunk];
      std::memcpy(chunk, copy.from + at, kChunk);
      store_chunk(quiet, copy.to + at, chunk);
    }
  }
  Mbarrier& barrier = work().mbarriers.at(copy.barrier);
  barrier.bytes -= copy.bytes;
  TENON_RELEASE(&barrier);
  settle(copy.barrier, barrier);
}

void issue(Quiet& quiet, BoxCopy copy, void* to, void* barrier, Where where) {
  copy.to = shared_address(to, where);
  copy.barrier = barrier;
  copy.where = where;
  if (!mbarrier_at(barrier, where).known) {
    fail("a copy to an mbarrier whose initialisation no fence.proxy.async has followed", where);
  }
  if (copy.to + copy.bytes > scheduler.shared_bytes) fail("a copy beyond the end of shared memory", where);
  TENON_RELEASE(copy.edge.get());
  if (at_once()) return perform(quiet, copy);
  work().copies.push_back(std::move(copy));
}

// ---- matrices in shared memory

// A matrix descriptor of the PTX ISA.
struct Descriptor {
  unsigned start, leading, stride, base;
  Swizzle swizzle;

  Descriptor(uint64_t bits, Where where)
      : start((bits & 0x3fff) << 4),
        leading((bits >> 16 & 0x3fff) << 4),
        stride((bits >> 32 & 0x3fff) << 4),
        base(bits >> 49 & 7) {
    constexpr Swizzle kModes[] = {Swizzle::None, Swizzle::Of128Bytes, Swizzle::Of64Bytes, Swizzle::Of32Bytes};
    swizzle = kModes[bits >> 62];
    const unsigned pattern = 128u << static_cast<unsigned>(swizzle);  // 256, 512 or 1024 bytes
    if (swizzle != Swizzle::None && (base != 0 || start % pattern >= 128)) {
      fail("a matrix that does not begin in the first row of a swizzle's pattern", where);
    }
  }

  // The address of element (i, k), i along M or N.
  unsigned at(unsigned i, unsigned k, bool transposed) const {
    const unsigned chunks = 1u << static_cast<unsigned>(swizzle);  // of 16 bytes that swizzle together
    unsigned address = start;
    if (!transposed) {
      address += i / 8 * stride + i % 8 * chunks * kChunk;
      address += swizzle == Swizzle::None ? k / 8 * leading + k % 8 * 2 : k * 2;
    } else {
      const unsigned width = 8 * chunks;  // elements
      address += k % 8 * chunks * kChunk + i % width * 2;
      address +=
          swizzle == Swizzle::None ? i / 8 * stride + k / 8 * leading : i / width * leading + k / 8 * stride;
    }
    return swizzled(address, swizzle);
  }
};

float load_element(unsigned address, const Pending& p) {
  if (address + 2 > scheduler.shared_bytes) fail("a product reads beyond the end of shared memory", p.where);
  const unsigned char* const from = scheduler.shared + address;
  const unsigned char* const known = work().seen.data() + address;
  if (from[0] != known[0] || from[1] != known[1]) {
    fail("a product reads what ordinary stores wrote to shared memory with no fence.proxy.async behind",
         p.where);
  }
  uint16_t bits = 0;
  std::copy_n(from, 2, reinterpret_cast<unsigned char*>(&bits));
  return p.product.widen(bits);
}

// Reads the operands of the warp's 16 rows.
void read_operands(Quiet& quiet, unsigned warp, Pending& p) {
  const unsigned columns = p.product.columns;
  p.a.resize(size_t{kRows} * kDepth);
  p.b.resize(size_t{kDepth} * columns);
  const auto mark = [&](unsigned address) {
    if (address % kChunk == 0) quiet.reads(scheduler.shared + address, kChunk);
  };
  if (p.product.a_registers == nullptr) {
    const Descriptor a(p.product.a, p.where);
    const unsigned first = warp % kWarpsOfGroup * kRows;
    for (unsigned i = 0; i < kRows; ++i) {
      for (unsigned k = 0; k < kDepth; ++k) {
        const unsigned address = a.at(first + i, k, p.product.transposed_a);
        mark(address);
        p.a[i * kDepth + k] = load_element(address, p);
      }
    }
  } else {
    for (unsigned l = 0; l < kWarpSize; ++l) {
      for (unsigned r = 0; r < 4; ++r) {
        const unsigned i = l / 4 + r % 2 * 8, k = l % 4 * 2 + r / 2 * 8;
        p.a[i * kDepth + k] = p.product.widen(static_cast<uint16_t>(p.registers[l][r]));
        p.a[i * kDepth + k + 1] = p.product.widen(static_cast<uint16_t>(p.registers[l][r] >> 16));
      }
    }
  }
  const Descriptor b(p.product.b, p.where);
  for (unsigned j = 0; j < columns; ++j) {
    for (unsigned k = 0; k < kDepth; ++k) {
      const unsigned address = b.at(j, k, p.product.transposed_b);
      mark(address);
      p.b[k * columns + j] = load_element(address, p);
    }
  }
  p.read = true;
}

// A lane's sum `n` is at this row and column of the warp's 16 rows.
size_t place_of(unsigned lane, unsigned n, unsigned columns) {
  return size_t{lane / 4 + n / 2 % 2 * 8} * columns + n / 4 * 8 + lane % 4 * 2 + n % 2;
}

constexpr uint32_t kInFlight = 0x7fdeadff;  // a NaN that no kernel makes
float in_flight() {
  float value = 0;
  std::memcpy(&value, &kInFlight, sizeof value);
  return value;
}

void take_sums(Flight& flight) {
  flight.sums.resize(size_t{kRows} * flight.columns);
  for (unsigned l = 0; l < kWarpSize; ++l) {
    for (unsigned n = 0; n < flight.columns / 2; ++n) {
      flight.sums[place_of(l, n, flight.columns)] = flight.lanes[l][n];
      flight.lanes[l][n] = in_flight();
    }
  }
}

void give_sums(const Flight& flight, Where where) {
  for (unsigned l = 0; l < kWarpSize; ++l) {
    for (unsigned n = 0; n < flight.columns / 2; ++n) {
      if (std::memcmp(&flight.lanes[l][n], &kInFlight, sizeof kInFlight) != 0) {
        fail("sums were written between a product and the wait for it", where);
      }
      flight.lanes[l][n] = flight.sums[place_of(l, n, flight.columns)];
    }
  }
}

void run(Quiet& quiet, unsigned warp, WarpProducts& products, Pending& p) {
  if (!p.read) read_operands(quiet, warp, p);
  const auto found = products.flights.find(p.product.sums);
  Flight& flight = found->second;
  const unsigned columns = flight.columns;
  if (!p.product.accumulates) std::fill(flight.sums.begin(), flight.sums.end(), 0.0f);
  for (unsigned i = 0; i < kRows; ++i) {
    float* const to = flight.sums.data() + size_t{i} * columns;
    for (unsigned k = 0; k < kDepth; ++k) {
      const float factor = p.a[i * kDepth + k];
      const float* const b = p.b.data() + size_t{k} * columns;
      for (unsigned j = 0; j < columns; ++j) to[j] += factor * b[j];
    }
  }
  if (--flight.products > 0) return;
  give_sums(flight, p.where);
  products.flights.erase(found);
}

unsigned own_warp() { return static_cast<unsigned>(scheduler.current->warp - scheduler.warps.data()); }

// Meets the other lanes, as all of wgmma's instructions do.
void converge(Where where, const std::function<void(const unsigned char*)>& at_last) {
  exchange(0xffffffffu, nullptr, 0, where, at_last);
}

// The lanes of a warp have given the addresses of their products.
void issue_product(Quiet& quiet, const std::array<const Product*, kWarpSize>& lanes, Where where) {
  const unsigned warp = own_warp();
  WarpProducts& products = work().warps[warp];
  const Product& first = *lanes[0];
  const unsigned group = warp / kWarpsOfGroup;
  if ((group + 1) * kWarpsOfGroup > scheduler.warps.size()) {
    fail("a product of a warpgroup that lacks warps", where);
  }
  if (first.columns % 8 != 0 || first.columns == 0 || first.columns > 256) {
    fail("a product of " + std::to_string(first.columns) + " columns", where);
  }
  for (const Product* lane : lanes) {
    if (lane->a != first.a || lane->b != first.b || lane->accumulates != first.accumulates) {
      fail("the lanes of a warp give other descriptors to a product", where);
    }
  }
  const Issue own{where, first.a_registers == nullptr ? first.a : 0, first.b, first.columns};
  auto& log = work().groups[group];
  if (products.issued == log.size()) {
    log.push_back(own);
  } else if (!(log[products.issued] == own)) {
    fail("the warps of a warpgroup issue other products, one of them that of " +
             describe(log[products.issued].where) + ",",
         where);
  }
  ++products.issued;

  const bool in_flight_already = products.flights.contains(first.sums);
  if ((!in_flight_already || first.a_registers != nullptr) && !products.fenced) {
    fail("a product whose registers may have been touched since the last wgmma.fence", where);
  }
  Flight& flight = products.flights[first.sums];
  if (!in_flight_already) {
    flight.columns = first.columns;
    for (unsigned l = 0; l < kWarpSize; ++l) flight.lanes[l] = lanes[l]->sums;
    take_sums(flight);
  } else if (flight.columns != first.columns) {
    fail("products of several shapes share sums", where);
  }
  ++flight.products;

  Pending p;
  p.product = first;
  p.group = products.group;
  p.where = where;
  for (unsigned l = 0; l < kWarpSize && first.a_registers != nullptr; ++l) {
    std::copy_n(lanes[l]->a_registers, 4, p.registers[l].begin());
  }
  if (at_once()) read_operands(quiet, warp, p);
  products.pending.push_back(std::move(p));
}

}  // namespace

// ---- mbarriers

void init_mbarrier(void* barrier, unsigned arrivals, Where where) {
  const Quiet quiet;
  if (shared_address(barrier, where) % 8 != 0)
    fail("an mbarrier at an address that 8 does not divide", where);
  if (arrivals == 0) fail("an mbarrier that expects nobody", where);
  work().mbarriers[barrier] = {.arrivals = arrivals, .pending = arrivals};
}

void arrive_at_mbarrier(void* barrier, unsigned bytes, Where where) {
  Mbarrier& b = mbarrier_at(barrier, where);
  if (b.pending == 0) fail("more arrivals at an mbarrier than it expects in a phase", where);
  TENON_RELEASE(&b);
  b.bytes += bytes;
  --b.pending;
  settle(barrier, b);
}

void wait_for_mbarrier(void* barrier, unsigned parity, Where where) {
  Mbarrier& b = mbarrier_at(barrier, where);
  while (b.phase % 2 == parity) {
    Fiber& fiber = *scheduler.current;
    fiber.state = State::AtMbarrier;
    fiber.mbarrier = barrier;
    fiber.where = where;
    switch_to_host();
  }
  TENON_ACQUIRE(&b);
}

void fence_async_proxy() {
  const Quiet quiet;
  AsyncWork& all = work();
  std::copy_n(scheduler.shared, all.seen.size(), all.seen.begin());
  for (auto& [at, barrier] : all.mbarriers) barrier.known = true;
}

std::string describe_mbarriers() {
  std::string text;
  const void* last = nullptr;
  for (const auto& fiber : scheduler.fibers) {
    if (fiber->state != State::AtMbarrier || fiber->mbarrier == last) continue;
    last = fiber->mbarrier;
    const Mbarrier& b = work().mbarriers.at(last);
    text += ", thread " + describe(fiber->index) + " waits at " + describe(fiber->where) +
            " for the mbarrier at byte " +
            std::to_string(static_cast<const unsigned char*>(last) - scheduler.shared) + ", which lacks " +
            std::to_string(b.pending) + " arrivals and " + std::to_string(b.bytes) + " bytes";
  }
  return text;
}

bool make_progress() {
  if (!scheduler.async) return false;
  Quiet quiet;
  auto& copies = scheduler.async->copies;
  std::vector<size_t> wanted;
  for (size_t i = 0; i < copies.size(); ++i) {
    const bool awaited =
        std::any_of(scheduler.fibers.begin(), scheduler.fibers.end(), [&](const auto& fiber) {
          return fiber->state == State::AtMbarrier && fiber->mbarrier == copies[i].barrier;
        });
    if (awaited) wanted.push_back(i);
  }
  if (wanted.empty()) return false;
  const size_t at = wanted[scheduler.order == Order::Shuffled ? scheduler.random() % wanted.size() : 0];
  const BoxCopy copy = std::move(copies[at]);
  copies.erase(copies.begin() + static_cast<ptrdiff_t>(at));
  perform(quiet, copy);
  return true;
}

void forget_async() {
  const Quiet quiet;
  if (!scheduler.async) return;
  for ([[maybe_unused]] auto& [at, barrier] : scheduler.async->mbarriers) TENON_ACQUIRE(&barrier);
  scheduler.async.reset();
}

void check_async_end() {
  if (!scheduler.async) return;
  const AsyncWork& all = *scheduler.async;
  if (!all.copies.empty()) {
    fail("a block ends before a copy that it issued", all.copies.front().where);
  }
  for (size_t w = 0; w < all.warps.size(); ++w) {
    if (!all.warps[w].pending.empty()) {
      fail("a block ends before a product that it issued", all.warps[w].pending.front().where);
    }
    const auto& log = all.groups[w / kWarpsOfGroup];
    if (all.warps[w].issued != log.size()) {
      fail("warp " + std::to_string(w) + " lacks the product of its warpgroup",
           log[all.warps[w].issued].where);
    }
  }
}

// ---- copies

void load_box(void* to, const void* map, const int* coordinates, unsigned rank, void* barrier, Where where) {
  Quiet quiet;
  BoxCopy copy;
  std::memcpy(&copy.map, map, sizeof copy.map);
  if (copy.map.magic != TensorMap::kMagic || copy.map.rank != rank) {
    fail("a copy by what is no tensor map of " + std::to_string(rank) + " dimensions", where);
  }
  if (shared_address(to, where) % 128 != 0) {
    fail("a copy of a box to an address of shared memory that 128 does not divide", where);
  }
  std::copy_n(coordinates, rank, copy.coordinates.begin());
  copy.bytes = copy.map.element_bytes;
  for (unsigned d = 0; d < rank; ++d) copy.bytes *= copy.map.box[d];
  issue(quiet, std::move(copy), to, barrier, where);
}

void load_bytes(void* to, const void* from, unsigned bytes, void* barrier, Where where) {
  if (shared_address(to, where) % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0) {
    fail("a bulk copy whose addresses or size 16 does not divide", where);
  }
  Quiet quiet;
  BoxCopy copy;
  copy.from = static_cast<const unsigned char*>(from);
  copy.bytes = bytes;
  issue(quiet, std::move(copy), to, barrier, where);
}

// ---- products

unsigned shared_address(const void* pointer, Where where) {
  const auto* const bytes = static_cast<const unsigned char*>(pointer);
  if (bytes < scheduler.shared || bytes >= scheduler.shared + scheduler.shared_bytes) {
    fail("an address that is not in shared memory", where);
  }
  return static_cast<unsigned>(bytes - scheduler.shared);
}

void multiply_on_warpgroup(const Product& product, Where where) {
  const Product* own = &product;
  exchange(0xffffffffu, &own, sizeof own, where, [&](const unsigned char* given) {
    std::array<const Product*, kWarpSize> lanes{};
    for (unsigned l = 0; l < kWarpSize; ++l)
      std::memcpy(&lanes[l], given + l * kMaxExchange, sizeof lanes[l]);
    Quiet quiet;
    issue_product(quiet, lanes, where);
  });
}

void fence_products(Where where) {
  converge(where, [](const unsigned char*) {
    const Quiet quiet;
    work().warps[own_warp()].fenced = true;
  });
}

void commit_products(Where where) {
  converge(where, [](const unsigned char*) { ++work().warps[own_warp()].group; });
}

void wait_for_products(unsigned groups_left, Where where) {
  converge(where, [&](const unsigned char*) {
    Quiet quiet;
    WarpProducts& products = work().warps[own_warp()];
    auto& pending = products.pending;
    const auto done = [&](const Pending& p) { return products.group - p.group > groups_left; };
    for (Pending& p : pending) {
      if (done(p)) run(quiet, own_warp(), products, p);
    }
    std::erase_if(pending, done);
    products.fenced = false;
  });
}

}  // namespace tenon::emulator
