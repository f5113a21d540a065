// The native module: one def line per op, and the few functions that move data and report state.
#include <napi.h>

#include <cstring>

#include "backend/cpu/device.h"
#include "binding/def.h"
#include "binding/image.h"
#include "binding/instance.h"
#include "ops/ops.h"

namespace tenon::binding {

namespace {

void define_ops(Module& m) {
  m.def<&ops::full>("full", {"device", "shape", "value", "dtype"});
  m.def<&ops::arange>("arange", {"device", "n", "start", "step", "dtype"});
  m.def<&ops::eye>("eye", {"device", "n", "dtype"});
  m.def<&ops::to>("to", {"x", "dtype"});
  m.def<&ops::to_device>("toDevice", {"x", "device"});
  m.def<&ops::clone>("clone", {"x"});
  m.def<&ops::own>("own", {"x"});
  m.def<&ops::copy_into>("copyInto", {"target", "source"});

  m.def<&ops::alias>("alias", {"x"});
  m.def<&ops::written>("written", {"x"});
  m.def<&ops::write_clock>("writeClock", {});
  m.def<&ops::reshape>("reshape", {"x", "shape"});
  m.def<&ops::permute>("permute", {"x", "dims"});
  m.def<&ops::transpose>("transpose", {"x", "dim0", "dim1"});
  m.def<&ops::expand>("expand", {"x", "shape"});
  m.def<&ops::squeeze>("squeeze", {"x", "dims"});
  m.def<&ops::unsqueeze>("unsqueeze", {"x", "dim"});
  m.def<&ops::slice>("slice", {"x", "dim", "start", "stop", "step"});
  m.def<&ops::cat>("cat", {"tensors", "dim"});
  m.def<&ops::pad>("pad", {"x", "before", "after", "value"});
  m.def<&ops::roll>("roll", {"x", "shifts", "dims"});
  m.def<&ops::flip>("flip", {"x", "dims"});

#define TENON_OP(name, Name) m.def<&ops::name>(#name, {"x"});
  TENON_UNARY_OPS(TENON_OP)
#undef TENON_OP
  m.def<&ops::clamp>("clamp", {"x", "min", "max"});
#define TENON_OP(name, Name) m.def<&ops::name>(#name, {"a", "b", "scalar"});
  TENON_BINARY_OPS(TENON_OP)
#undef TENON_OP
  m.def<&ops::where>("where", {"condition", "a", "b", "aScalar", "bScalar"});

  m.def<&ops::sum>("sum", {"x", "dims", "keepdim"});
  m.def<&ops::mean>("mean", {"x", "dims", "keepdim"});
  m.def<&ops::variance>("variance", {"x", "dims", "correction", "keepdim"});
  m.def<&ops::max>("max", {"x", "dims", "keepdim"});
  m.def<&ops::min>("min", {"x", "dims", "keepdim"});
  m.def<&ops::any>("any", {"x", "dims", "keepdim"});
  m.def<&ops::all>("all", {"x", "dims", "keepdim"});
  m.def<&ops::argmax>("argmax", {"x", "dim", "keepdim"});
  m.def<&ops::argmin>("argmin", {"x", "dim", "keepdim"});
  m.def<&ops::cumsum>("cumsum", {"x", "dim", "reverse"});
  m.def<&ops::topk>("topk", {"x", "k", "dim", "largest"});
  m.def<&ops::sum_to>("sumTo", {"x", "shape"});

  m.def<&ops::softmax>("softmax", {"x", "dim", "log"});
  m.def<&ops::softmax_backward>("softmaxBackward", {"y", "dy", "dim", "log"});
  m.def<&ops::logsumexp>("logsumexp", {"x", "dim", "keepdim"});

  m.def<&ops::index_select>("indexSelect", {"x", "index", "dim"});
  m.def<&ops::index_add>("indexAdd", {"x", "index", "src", "dim", "alpha"});
  m.def<&ops::gather>("gather", {"x", "index", "dim"});
  m.def<&ops::scatter_add>("scatterAdd", {"x", "index", "src", "dim"});
  m.def<&ops::one_hot>("oneHot", {"index", "classes", "dtype"});

  m.def<&ops::matmul>("matmul", {"a", "b"});
  m.def<&ops::linear>("linear", {"x", "weight", "bias", "residual", "activation", "needsBefore", "isFixed"});
  m.def<&ops::linear_weight_gradient>("linearWeightGradient", {"dy", "x", "needsDbias", "dtype"});
  m.def<&ops::mlp>("mlp", {"x", "weight1", "bias1", "weight2", "bias2", "residual", "activation",
                           "needsBefore", "isFixed"});
  m.def<&ops::mlp_backward>(
      "mlpBackward", {"dy", "x", "before", "weight1", "weight2", "activation", "needsDx", "needsWeight1",
                      "needsBias1", "needsWeight2", "needsBias2", "dtype"});
  m.def<&ops::layer_norm>("layerNorm", {"x", "residual", "gamma", "beta", "eps", "dtype"});
  m.def<&ops::layer_norm_backward>("layerNormBackward",
                                   {"dy", "s", "gamma", "hasBeta", "mean", "rstd", "dsum"});
  m.def<&ops::conv2d>("conv2d", {"x", "weight", "bias", "residual", "stride", "padding", "dilation", "groups",
                                 "relu", "isFixed"});
  m.def<&ops::conv2d_input_gradient>(
      "conv2dInputGradient", {"dy", "weight", "height", "width", "stride", "padding", "dilation", "groups"});
  m.def<&ops::conv2d_weight_gradient>(
      "conv2dWeightGradient", {"dy", "x", "kernel", "stride", "padding", "dilation", "groups", "needsDbias"});
  m.def<&ops::batch_norm>("batchNorm", {"x", "gamma", "beta", "runningMean", "runningVar", "residual",
                                        "training", "momentum", "eps", "relu"});
  m.def<&ops::batch_norm_backward>(
      "batchNormBackward", {"dy", "x", "y", "gamma", "beta", "mean", "rstd", "training", "needsDresidual"});
  m.def<&ops::max_pool2d>("maxPool2d", {"x", "kernel", "stride", "padding", "dilation", "ceilMode"});
  m.def<&ops::max_pool2d_backward>(
      "maxPool2dBackward", {"dy", "index", "height", "width", "kernel", "stride", "padding", "dilation"});
  m.def<&ops::avg_pool2d>("avgPool2d", {"x", "kernel", "stride", "padding", "ceilMode", "countPadding"});
  m.def<&ops::avg_pool2d_backward>("avgPool2dBackward",
                                   {"dy", "height", "width", "kernel", "stride", "padding", "countPadding"});
  m.def<&ops::adaptive_avg_pool2d>("adaptiveAvgPool2d", {"x", "height", "width"});
  m.def<&ops::adaptive_avg_pool2d_backward>("adaptiveAvgPool2dBackward", {"dy", "height", "width"});
  m.def<&ops::attention>("attention", {"q", "k", "v", "bias", "mask", "scale", "dropout", "seed", "offset"});
  m.def<&ops::attention_backward>("attentionBackward", {"dout", "q", "k", "v", "bias", "mask", "out", "lse",
                                                        "scale", "dropout", "seed", "offset", "needsDbias"});
  m.def<&ops::attention_packed>(
      "attentionPacked", {"qkv", "heads", "queries", "bias", "mask", "scale", "dropout", "seed", "offset"});
  m.def<&ops::attention_packed_backward>(
      "attentionPackedBackward", {"dout", "qkv", "heads", "bias", "mask", "out", "lse", "scale", "dropout",
                                  "seed", "offset", "needsDbias"});
  m.def<&ops::attention_rows>("attentionRows", {"q", "k", "bias", "mask", "rows", "scale"});
  m.def<&ops::window_attention>("windowAttention", {"qkv", "table", "padding", "window", "shift", "scale",
                                                    "dropout", "seed", "offset"});
  m.def<&ops::window_attention_backward>(
      "windowAttentionBackward", {"dout", "qkv", "table", "padding", "out", "lse", "window", "shift", "scale",
                                  "dropout", "seed", "offset", "needsDtable", "needsDpadding"});
  m.def<&ops::cross_entropy>("crossEntropy", {"logits", "labels", "targets", "smoothing", "ignoreIndex",
                                              "reduction", "needsGradient"});

  m.def<&ops::random>("random", {"device", "shape", "kind", "a", "b", "c", "d", "seed", "offset", "dtype"});
  m.def<&ops::permutation>("permutation", {"device", "n", "seed", "offset"});
  m.def<&ops::dropout>("dropout", {"x", "p", "seed", "offset"});
  m.def<&ops::drawn_ones>("drawnOnes", {"n", "p", "seed", "offset"});
  m.def<&ops::interpolate>("interpolate", {"x", "height", "width", "mode", "antialias"});
  m.def<&ops::interpolate_backward>("interpolateBackward", {"dy", "height", "width", "mode", "antialias"});

  m.def<&ops::adam>("adam", {"params", "grads", "m", "v", "copies", "lr", "weightDecay", "beta1", "beta2",
                             "eps", "step", "decoupled", "norm", "maxNorm", "numbers"});
  m.def<&ops::adam_numbers>("adamNumbers", {"lr", "weightDecay", "steps", "beta1", "beta2", "decoupled"});
  m.def<&ops::sgd>("sgd", {"params", "grads", "buffers", "copies", "lr", "weightDecay", "momentum",
                           "nesterov", "firstStep", "norm", "maxNorm", "numbers"});
  m.def<&ops::global_norm>("globalNorm", {"tensors"});
  m.def<&ops::clip>("clip", {"tensors", "norm", "maxNorm"});
  m.def<&ops::lerp>("lerp", {"targets", "sources", "weight", "numbers"});
}

const Tensor& tensor_argument(const Napi::CallbackInfo& info, size_t i) {
  return Convert<Tensor>::from_js(info.Env(), info[i]);
}

// An identifier.
uint32_t number_argument(const Napi::CallbackInfo& info, size_t i) {
  return static_cast<uint32_t>(Convert<uint64_t>::from_js(info.Env(), info[i]));
}

// upload(device, dtype, shape, bytes: ArrayBufferView) -> TensorId; copies the bytes in stream order.
napi_value upload(const Napi::CallbackInfo& info, Instance&) {
  const Napi::Env env = info.Env();
  Device& device = Convert<Device>::from_js(env, info[0]);
  const DType dtype = Convert<DType>::from_js(env, info[1]);
  const auto sizes = Convert<std::vector<int64_t>>::from_js(env, info[2]);
  const Shape shape{std::span<const int64_t>(sizes)};
  if (!info[3].IsTypedArray()) throw TensorError("tensor", code::kValue, "expected a typed array");
  napi_typedarray_type type{};
  size_t length = 0, offset = 0;
  void* data = nullptr;
  napi_value buffer = nullptr;
  napi_get_typedarray_info(env, info[3], &type, &length, &data, &buffer, &offset);
  const size_t bytes = info[3].As<Napi::TypedArray>().ByteLength();
  const size_t expected = static_cast<size_t>(shape.numel()) * size_of(dtype);
  if (bytes != expected) {
    throw TensorError("tensor", code::kShape,
                      ops::text("expected ", shape.numel(), " elements (", expected, " bytes) for shape ",
                                shape, ", got ", bytes, " bytes"));
  }
  const Tensor out = ops::empty(device, shape, dtype);
  device.upload(out.data(), data, bytes);
  return Convert<Tensor>::to_js(env, out);
}

// read(id) -> Promise<ArrayBuffer>: the elements in row-major order.
napi_value read(const Napi::CallbackInfo& info, Instance& instance) {
  const Tensor& given = tensor_argument(info, 0);
  const Tensor x = ops::contiguous(given);
  const size_t bytes = static_cast<size_t>(x.numel()) * size_of(x.dtype());
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), bytes);
  auto [promise, done] = instance.waiter().promise(info.Env(), buffer);
  download(x.device(), buffer.Data(), x.data(), bytes, given.storage()->tasks(), std::move(done));
  return promise;
}

// readSync(id) -> ArrayBuffer; blocks until the value is there.
napi_value read_sync(const Napi::CallbackInfo& info, Instance&) {
  const Tensor& given = tensor_argument(info, 0);
  const Tensor x = ops::contiguous(given);
  const size_t bytes = static_cast<size_t>(x.numel()) * size_of(x.dtype());
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), bytes);
  download_now(x.device(), buffer.Data(), x.data(), bytes, given.storage()->tasks());
  return buffer;
}

// synchronize(device) -> Promise<undefined>: settles when everything enqueued so far has run.
napi_value synchronize(const Napi::CallbackInfo& info, Instance& instance) {
  Device& device = Convert<Device>::from_js(info.Env(), info[0]);
  auto [promise, done] = instance.waiter().promise(info.Env(), Napi::Object());
  device.download(nullptr, nullptr, 0, std::move(done));
  return promise;
}

napi_value synchronize_sync(const Napi::CallbackInfo& info, Instance&) {
  Convert<Device>::from_js(info.Env(), info[0]).synchronize();
  return info.Env().Undefined();
}

// settle(): runs to its end what devices were given. Errors are not thrown: the process is about to exit.
napi_value settle(const Napi::CallbackInfo& info, Instance& instance) {
  instance.settle();
  return info.Env().Undefined();
}

napi_value release(const Napi::CallbackInfo& info, Instance& instance) {
  instance.tensors().remove(number_argument(info, 0));
  return info.Env().Undefined();
}

// describe(id) fills the mailbox: dtype, device, number of dimensions, sizes, strides.
napi_value describe(const Napi::CallbackInfo& info, Instance& instance) {
  const Tensor& x = instance.tensors().get(number_argument(info, 0));
  double* out = instance.mailbox();
  *out++ = static_cast<double>(x.dtype());
  *out++ = instance.index_of(x.device());
  *out++ = x.ndim();
  for (const int64_t n : x.shape()) *out++ = static_cast<double>(n);
  for (const int64_t n : x.strides()) *out++ = static_cast<double>(n);
  return info.Env().Undefined();
}

napi_value memory_stats(const Napi::CallbackInfo& info, Instance& instance) {
  const Napi::Env env = info.Env();
  const MemoryStats& stats = Convert<Device>::from_js(env, info[0]).allocator().stats();
  Napi::Object out = Napi::Object::New(env);
  out.Set("current", Convert<int64_t>::to_js(env, static_cast<int64_t>(stats.current)));
  out.Set("peak", Convert<int64_t>::to_js(env, static_cast<int64_t>(stats.peak)));
  out.Set("reserved", Convert<int64_t>::to_js(env, static_cast<int64_t>(stats.reserved)));
  out.Set("reservedPeak", Convert<int64_t>::to_js(env, static_cast<int64_t>(stats.reserved_peak)));
  out.Set("blocks", Convert<int64_t>::to_js(env, static_cast<int64_t>(stats.live)));
  out.Set("allocations", Convert<int64_t>::to_js(env, static_cast<int64_t>(stats.allocations)));
  out.Set("segments", Convert<int64_t>::to_js(env, static_cast<int64_t>(stats.segments)));
  out.Set("tensors", Convert<int64_t>::to_js(env, static_cast<int64_t>(instance.tensors().size())));
  return out;
}

// reportMemory(): called for every tensor made outside scopes, hence without node-addon-api's wrapping.
napi_value report_memory(napi_env env, napi_callback_info) {
  Instance::of(env).report_memory(env);
  return nullptr;
}

napi_value reset_peak(const Napi::CallbackInfo& info, Instance&) {
  Convert<Device>::from_js(info.Env(), info[0]).allocator().reset_peak();
  return info.Env().Undefined();
}

napi_value set_memory_limit(const Napi::CallbackInfo& info, Instance&) {
  const uint64_t bytes = Convert<uint64_t>::from_js(info.Env(), info[1]);
  Convert<Device>::from_js(info.Env(), info[0]).allocator().set_limit(bytes);
  return info.Env().Undefined();
}

napi_value release_cached(const Napi::CallbackInfo& info, Instance&) {
  Convert<Device>::from_js(info.Env(), info[0]).allocator().release_cached();
  return info.Env().Undefined();
}

// ---- captured steps (binding/capture.h)

napi_value captures(const Napi::CallbackInfo& info, Instance&) {
  return Napi::Boolean::New(info.Env(), Convert<Device>::from_js(info.Env(), info[0]).captures());
}

napi_value begin_capture(const Napi::CallbackInfo& info, Instance& instance) {
  instance.captures().begin(tensor_argument(info, 0));
  return info.Env().Undefined();
}

// endCapture(kept: TensorId[]) -> the number of the captured step
napi_value end_capture(const Napi::CallbackInfo& info, Instance& instance) {
  const auto kept = Convert<std::vector<Tensor>>::from_js(info.Env(), info[0]);
  return Convert<int64_t>::to_js(info.Env(), instance.captures().end(instance.tensors(), kept));
}

napi_value abandon_capture(const Napi::CallbackInfo& info, Instance& instance) {
  instance.captures().abandon(instance.tensors());
  return info.Env().Undefined();
}

napi_value mark_writes(const Napi::CallbackInfo& info, Instance& instance) {
  instance.captures().mark_writes(number_argument(info, 0));
  return info.Env().Undefined();
}

napi_value launch_capture(const Napi::CallbackInfo& info, Instance& instance) {
  instance.captures().launch(number_argument(info, 0));
  return info.Env().Undefined();
}

napi_value release_capture(const Napi::CallbackInfo& info, Instance& instance) {
  instance.captures().release(number_argument(info, 0));
  return info.Env().Undefined();
}

// write(id, numbers: Float64Array): into the beginning of a float64 tensor, in stream order.
napi_value write(const Napi::CallbackInfo& info, Instance&) {
  const Tensor& x = tensor_argument(info, 0);
  const auto numbers = info[1].As<Napi::Float64Array>();
  x.device().upload(x.data(), numbers.Data(), numbers.ByteLength());
  return info.Env().Undefined();
}

// setCudaPath(path): where tenon_cuda.so is looked for.
napi_value set_cuda_path(const Napi::CallbackInfo& info, Instance& instance) {
  instance.set_cuda_path(Convert<std::string>::from_js(info.Env(), info[0]));
  return info.Env().Undefined();
}

// cudaInfo() -> { reason, devices: [{ name, bytes, capability }] }; the reason is empty where there are devices.
napi_value cuda_info(const Napi::CallbackInfo& info, Instance& instance) {
  const Napi::Env env = info.Env();
  const OpenedPlugin& cuda = instance.cuda();
  Napi::Array devices = Napi::Array::New(env);
  for (int i = 0; i < cuda.devices; ++i) {
    PluginDevice description{};
    cuda.plugin->describe(i, &description);
    Napi::Object device = Napi::Object::New(env);
    device.Set("name", description.name);
    device.Set("bytes", static_cast<double>(description.bytes));
    device.Set("capability", ops::text(description.major, ".", description.minor));
    devices.Set(static_cast<uint32_t>(i), device);
  }
  Napi::Object out = Napi::Object::New(env);
  out.Set("reason", cuda.reason);
  out.Set("devices", devices);
  return out;
}

// cudaDetails() -> { libraries: [{ name, version, file, reason }], tuning: { file, choices, reason } }; undefined where
// CUDA is off. A file is empty where the reason is not.
napi_value cuda_details(const Napi::CallbackInfo& info, Instance& instance) {
  const Napi::Env env = info.Env();
  const OpenedPlugin& cuda = instance.cuda();
  if (cuda.devices == 0) return env.Undefined();
  const PluginDetails details = cuda.plugin->details();
  Napi::Array libraries = Napi::Array::New(env);
  for (const PluginLibrary& found : details.libraries) {
    Napi::Object library = Napi::Object::New(env);
    library.Set("name", found.name);
    library.Set("version", found.version);
    library.Set("file", found.file);
    library.Set("reason", found.reason);
    libraries.Set(libraries.Length(), library);
  }
  Napi::Object tuning = Napi::Object::New(env);
  tuning.Set("file", details.tuning_file);
  tuning.Set("choices", static_cast<double>(details.tuning_choices));
  tuning.Set("reason", details.tuning_reason);
  Napi::Object out = Napi::Object::New(env);
  out.Set("libraries", libraries);
  out.Set("tuning", tuning);
  return out;
}

// launchedKernels(device): those of backend.h that the device was given since the last call.
napi_value launched_kernels(const Napi::CallbackInfo& info, Instance&) {
  const Napi::Env env = info.Env();
  Napi::Array names = Napi::Array::New(env);
  for (const char* name : Convert<Device>::from_js(env, info[0]).take_launched())
    names.Set(names.Length(), name);
  return names;
}

napi_value cpu_info(const Napi::CallbackInfo& info, Instance&) {
  const cpu::CpuInfo cpu = cpu::info();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("cores", cpu.cores);
  out.Set("threads", cpu.threads);
  out.Set("instructionSet", cpu.instruction_set);
  out.Set("bfloat16", cpu.bfloat16);
  out.Set("oneDNN", cpu.onednn);
  return out;
}

napi_value set_error_class(const Napi::CallbackInfo& info, Instance& instance) {
  instance.set_error_class(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* instance = new Instance(env);
  napi_set_instance_data(env, instance, nullptr, nullptr);
  // A cleanup hook rather than the instance data's finalizer: it runs while the waiter's function is still valid.
  napi_add_env_cleanup_hook(
      env, [](void* data) { delete static_cast<Instance*>(data); }, instance);

  Module module(env, exports);
  define_ops(module);
  exports.Set("schema", module.schema());
  exports.Set("mailbox", instance->mailbox_array(env));
  define<&upload>(env, exports, "upload", "tensor");
  define<&read>(env, exports, "read");
  define<&read_sync>(env, exports, "readSync");
  define<&synchronize>(env, exports, "synchronize");
  define<&synchronize_sync>(env, exports, "synchronizeSync");
  define<&settle>(env, exports, "settle");
  define<&release>(env, exports, "release");
  define<&describe>(env, exports, "describe");
  define<&memory_stats>(env, exports, "memoryStats");
  napi_value report = nullptr;
  napi_create_function(env, "reportMemory", NAPI_AUTO_LENGTH, &report_memory, nullptr, &report);
  exports.Set("reportMemory", report);
  define<&reset_peak>(env, exports, "resetPeak");
  define<&set_memory_limit>(env, exports, "setMemoryLimit");
  define<&release_cached>(env, exports, "releaseCached");
  define<&captures>(env, exports, "captures");
  define<&begin_capture>(env, exports, "beginCapture");
  define<&end_capture>(env, exports, "endCapture");
  define<&abandon_capture>(env, exports, "abandonCapture");
  define<&mark_writes>(env, exports, "markWrites");
  define<&launch_capture>(env, exports, "launchCapture");
  define<&release_capture>(env, exports, "releaseCapture");
  define<&write>(env, exports, "write");
  define<&set_cuda_path>(env, exports, "setCudaPath");
  define<&cuda_info>(env, exports, "cudaInfo");
  define<&cuda_details>(env, exports, "cudaDetails");
  define<&launched_kernels>(env, exports, "launchedKernels");
  define<&cpu_info>(env, exports, "cpuInfo");
  define<&set_error_class>(env, exports, "setErrorClass");
  define_image_functions(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(tenon, init)

}  // namespace tenon::binding
