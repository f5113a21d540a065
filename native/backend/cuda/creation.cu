// fill and arange: they only write, in 16-byte accesses where the output is contiguous.
#include "backend/cuda/elementwise.h"
#include "backend/cuda/kernels.h"

namespace tenon::cuda {
namespace {

template <typename S>
__global__ void __launch_bounds__(kThreads)
    arange_kernel(S* out, int64_t count, int64_t stride, double start, double step) {
  for (int64_t i = thread_of_grid(); i < count; i += threads_of_grid()) {
    out[i * stride] = convert<S>(start + static_cast<double>(i) * step);
  }
}

// A fill is a map whose input is absent.
template <typename T>
struct Constant {
  T value;
  __device__ T operator()(T) const { return value; }
};

}  // namespace

void fill(const FillArgs& args, void* stream) {
  with_bits(args.out.dtype, [&]<typename T>(T) {
    map<T, T, 1>(queue_of(stream), "fill", args.out, {View{}},
                 Constant<T>{bits_of<T>(args.out.dtype, args.value)});
  });
}

void arange(const ArangeArgs& args, void* stream) {
  const int64_t count = args.out.numel();
  if (count == 0) return;
  Queue& queue = queue_of(stream);
  with_type(args.out.dtype, [&]<typename S>(S) {
    launch_over(queue, "arange", &arange_kernel<S>, count, args.out.as<S>(), count, args.out.stride(0),
                args.start, args.step);
  });
}

}  // namespace tenon::cuda
