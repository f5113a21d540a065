// Selecting and scattering by index. An index that is the same for all lines (index_select, index_add) is one that is
// repeated by strides of 0, so that one kernel gathers and one scatters.
//
// Gathering is bound by memory: a thread copies 16 bytes where a run of x has one index. Scattering adds in the order
// of the source without atomics: a thread owns a line of the output, or the part of it that lies in a range of
// indices, and goes through all indices of the line; neighbouring threads own neighbouring lines.
#include "backend/cuda/data_error.h"
#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

struct Index {
  const void* data;
  bool wide;  // int64, not int32
  __device__ __forceinline__ int64_t operator[](int64_t at) const {
    return wide ? static_cast<const int64_t*>(data)[at] : static_cast<const int32_t*>(data)[at];
  }
};

Index index_of(const View& view) { return {view.data, view.dtype == DType::Int64}; }

// Strides of what is one along every dimension but `dim`.
Shape only(const Shape& shape, int dim, int64_t stride) {
  Shape strides = shape;
  for (int d = 0; d < shape.ndim(); ++d) strides[d] = d == dim ? stride : 0;
  return strides;
}

Shape with(Shape values, int dim, int64_t value) {
  values[dim] = value;
  return values;
}

template <typename T>
struct Gather {
  IndexCheck check;
  T* out;
  Index index;
  const T* x;
  Loops<3> loops;  // of packs of out, of the index, and of x at index 0
  int64_t tail;    // as in Map
  int64_t stride;  // of x along dim
};

template <int kWidth, typename T>
__global__ void __launch_bounds__(kThreads) gather_kernel(const Gather<T> g) {
  for_packs<kWidth>(g.loops, g.tail, [&](auto width, const Offsets<3>& at) {
    using P = Pack<T, width.value>;
    const int64_t i = g.index[at.at[1]];
    if (!g.check(i)) return;
    *reinterpret_cast<P*>(g.out + at.at[0]) = *reinterpret_cast<const P*>(g.x + at.at[2] + i * g.stride);
  });
}

void run_gather(Queue& queue, const char* op, const View& x, const View& index, const Shape& index_strides,
                const View& out, int dim) {
  if (out.numel() == 0) return;
  with_bits(x.dtype, [&]<typename T>(T) {
    constexpr int kWidth = kFullWidth<T>;
    Gather<T> g{IndexCheck{op, x.size(dim), queue.data_error()},
                out.as<T>(),
                index_of(index),
                x.as<const T>(),
                Loops<3>(out.shape, {out.strides, index_strides, with(x.strides, dim, 0)}),
                0,
                x.stride(dim)};
    if (rows_take_packs<kWidth>(g.loops, g.out) && packs_lie_whole<kWidth>(g.loops, 2, g.x) &&
        g.loops.strides[0][1] == 0 && g.stride % kWidth == 0) {
      g.tail = take_packs<kWidth>(g.loops);
      launch_over(queue, op, &gather_kernel<kWidth, T>, std::max(g.loops.count, g.tail), g);
    } else {
      launch_over(queue, op, &gather_kernel<1, T>, g.loops.count, g);
    }
  });
}

// What the factor of a source is: float64's own precision, else float32's.
template <typename S>
using Factor = std::conditional_t<std::is_same_v<S, double>, double, float>;

template <typename S>
struct Scatter {
  IndexCheck check;
  S* out;
  Index index;
  const S* src;
  Loops<3> lines;                           // of out, of the index and of src
  int64_t count, index_stride, src_stride;  // along the line
  int64_t size, out_stride;                 // of the output's line
  int64_t parts;                            // ranges of indices
  Factor<S> alpha;                          // of src, for floats
};

// a + alpha b
template <typename S>
__device__ __forceinline__ S sum(S a, S b, Factor<S> alpha) {
  if constexpr (std::is_same_v<S, Bool>) {
    return Bool{static_cast<uint8_t>(a.byte | b.byte)};
  } else if constexpr (std::is_integral_v<S>) {
    using U = std::make_unsigned_t<S>;
    return static_cast<S>(static_cast<U>(a) + static_cast<U>(b));
  } else {
    return convert<S>(value_of(a) + alpha * value_of(b));
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads) scatter_kernel(const Scatter<S> s) {
  for (int64_t task = thread_of_grid(); task < s.lines.count * s.parts; task += threads_of_grid()) {
    const int64_t part = task / s.lines.count;
    const int64_t first = s.size * part / s.parts, last = s.size * (part + 1) / s.parts;
    const Offsets<3> at = locate(s.lines, task % s.lines.count);
    for (int64_t j = 0; j < s.count; ++j) {
      const int64_t i = s.index[at.at[1] + j * s.index_stride];
      if (!s.check(i) || i < first || i >= last) continue;
      S& target = s.out[at.at[0] + i * s.out_stride];
      target = sum(target, s.src[at.at[2] + j * s.src_stride], s.alpha);
    }
  }
}

void run_scatter(Queue& queue, const char* op, const View& out, const View& index, const Shape& index_strides,
                 const View& src, int dim, double alpha) {
  if (src.numel() == 0) return;
  Shape shape = src.shape, out_line = out.strides, index_line = index_strides, src_line = src.strides;
  for (Shape* s : {&shape, &out_line, &index_line, &src_line}) s->erase(dim);
  with_type(out.dtype, [&]<typename S>(S) {
    Scatter<S> s{IndexCheck{op, out.size(dim), queue.data_error()},
                 out.as<S>(),
                 index_of(index),
                 src.as<const S>(),
                 Loops<3>(shape, {out_line, index_line, src_line}),
                 src.size(dim),
                 index_strides[dim],
                 src.stride(dim),
                 out.size(dim),
                 out.stride(dim),
                 1,
                 static_cast<Factor<S>>(alpha)};
    // Ranges of at least 8 places, until there are 1024 threads for each multiprocessor.
    const int64_t wanted = int64_t{1024} * queue.multiprocessors() / s.lines.count;
    s.parts = std::clamp<int64_t>(std::min(wanted, s.size / 8), 1, 64);
    launch_over(queue, op, &scatter_kernel<S>, s.lines.count * s.parts, s);
  });
}

template <typename S>
__global__ void __launch_bounds__(kThreads)
    one_hot_kernel(S* out, const Index index, const Loops<3> loops, const IndexCheck check) {
  for (int64_t i = thread_of_grid(); i < loops.count; i += threads_of_grid()) {
    const Offsets<3> at = locate(loops, i);  // of out, of the index, and the class
    const int64_t hot = index[at.at[1]];
    out[at.at[0]] = convert<S>(static_cast<uint8_t>(hot == at.at[2]));
    check(hot);
  }
}

}  // namespace

void index_select(const IndexSelectArgs& args, void* stream) {
  run_gather(queue_of(stream), "index_select", args.x, args.index,
             only(args.out.shape, args.dim, args.index.stride(0)), args.out, args.dim);
}

void gather(const GatherArgs& args, void* stream) {
  run_gather(queue_of(stream), "gather", args.x, args.index, args.index.strides, args.out, args.dim);
}

void index_add(const IndexAddArgs& args, void* stream) {
  run_scatter(queue_of(stream), "index_add", args.out, args.index,
              only(args.src.shape, args.dim, args.index.stride(0)), args.src, args.dim, args.alpha);
}

void scatter_add(const ScatterAddArgs& args, void* stream) {
  run_scatter(queue_of(stream), "scatter_add", args.out, args.index, args.index.strides, args.src, args.dim,
              1);
}

void one_hot(const OneHotArgs& args, void* stream) {
  const View& out = args.out;
  if (out.numel() == 0) return;
  Queue& queue = queue_of(stream);
  Shape index_strides = args.index.strides;
  index_strides.push_back(0);
  const int last = out.ndim() - 1;
  const Loops<3> loops(out.shape, {out.strides, index_strides, only(out.shape, last, 1)});
  with_type(out.dtype, [&]<typename S>(S) {
    launch_over(queue, "one_hot", &one_hot_kernel<S>, loops.count, out.as<S>(), index_of(args.index), loops,
                IndexCheck{"one_hot", out.size(last), queue.data_error()});
  });
}

}  // namespace tenon::cuda
