#include "binding/image.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "binding/def.h"
#include "binding/instance.h"
#include "core/error.h"
#include "image/jpeg.h"
#include "image/normalize.h"
#include "image/resize.h"

namespace tenon::binding {

namespace {

Napi::Uint8Array bytes_argument(const Napi::CallbackInfo& info, size_t i) {
  if (!info[i].IsTypedArray() || info[i].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    mismatch(info.Env(), "bytes", info[i]);
  return info[i].As<Napi::Uint8Array>();
}

template <typename T>
std::vector<T> numbers_argument(const Napi::CallbackInfo& info, size_t i, size_t count) {
  auto numbers = Convert<std::vector<T>>::from_js(info.Env(), info[i]);
  if (numbers.size() != count)
    mismatch(info.Env(), std::to_string(count) + " numbers", Napi::Number::New(info.Env(), numbers.size()));
  return numbers;
}

Napi::Object image_of(Napi::Env env, const image::JpegSize& size) {
  const auto bytes = static_cast<size_t>(size.height) * static_cast<size_t>(size.width) * 3;
  Napi::Object out = Napi::Object::New(env);
  out.Set("data", Napi::Uint8Array::New(env, bytes));
  out.Set("height", static_cast<double>(size.height));
  out.Set("width", static_cast<double>(size.width));
  return out;
}

uint8_t* pixels_of(const Napi::Object& image) { return image.Get("data").As<Napi::Uint8Array>().Data(); }

// A file that is ours to decode, and has at most so many pixels; or null.
std::unique_ptr<image::Jpeg> open_jpeg(const Napi::CallbackInfo& info) {
  const Napi::Uint8Array bytes = bytes_argument(info, 0);
  const int64_t most = Convert<int64_t>::from_js(info.Env(), info[1]);
  auto jpeg = std::make_unique<image::Jpeg>(bytes.Data(), bytes.ByteLength());
  if (!jpeg->size() || jpeg->size()->height * jpeg->size()->width > most) return nullptr;
  return jpeg;
}

// decodeJpegSync(bytes, maxPixels) -> image, or undefined for what is another decoder's to read or to refuse.
napi_value decode_jpeg_sync(const Napi::CallbackInfo& info, Instance&) {
  const std::unique_ptr<image::Jpeg> jpeg = open_jpeg(info);
  if (jpeg == nullptr) return info.Env().Undefined();
  const Napi::Object out = image_of(info.Env(), *jpeg->size());
  return jpeg->decode(pixels_of(out)) ? napi_value(out) : napi_value(info.Env().Undefined());
}

// A file that one of libuv's threads decodes. The bytes and the image stay until it has.
class Decoding : public Napi::AsyncWorker {
 public:
  Decoding(Napi::Env env, std::unique_ptr<image::Jpeg> jpeg, const Napi::Object& bytes)
      : AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        jpeg_(std::move(jpeg)),
        bytes_(Napi::Persistent(bytes)) {
    const Napi::Object out = image_of(env, *jpeg_->size());
    pixels_ = pixels_of(out);
    image_ = Napi::Persistent(out);
  }
  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override { whole_ = jpeg_->decode(pixels_); }
  void OnOK() override { deferred_.Resolve(whole_ ? napi_value(image_.Value()) : Env().Undefined()); }

 private:
  Napi::Promise::Deferred deferred_;
  std::unique_ptr<image::Jpeg> jpeg_;
  Napi::ObjectReference bytes_, image_;
  uint8_t* pixels_ = nullptr;
  bool whole_ = false;
};

// decodeJpeg(bytes, maxPixels) -> a promise of the same.
napi_value decode_jpeg(const Napi::CallbackInfo& info, Instance&) {
  std::unique_ptr<image::Jpeg> jpeg = open_jpeg(info);
  if (jpeg == nullptr) {
    const auto nothing = Napi::Promise::Deferred::New(info.Env());
    nothing.Resolve(info.Env().Undefined());
    return nothing.Promise();
  }
  auto* const decoding =
      new Decoding(info.Env(), std::move(jpeg), info[0].As<Napi::Object>());  // ends itself
  const Napi::Promise promise = decoding->promise();
  decoding->Queue();
  return promise;
}

bool lies_within(const image::Window& part, int64_t height, int64_t width) {
  return part.top >= 0 && part.left >= 0 && part.height > 0 && part.width > 0 &&
         part.top <= height - part.height && part.left <= width - part.width;
}

image::Window window_argument(const Napi::CallbackInfo& info, size_t i) {
  const auto numbers = numbers_argument<int64_t>(info, i, 4);
  return {numbers[0], numbers[1], numbers[2], numbers[3]};
}

// resizeImage(data, [height, width], part, box, filter, [height, width], window) -> the pixels of the window: see image/resize.h.
// `part` of the image, [top, left, height, width], is taken as all of it; the box, [left, top, right, bottom], lies in that.
napi_value resize_image(const Napi::CallbackInfo& info, Instance&) {
  const Napi::Env env = info.Env();
  const Napi::Uint8Array data = bytes_argument(info, 0);
  const auto size = numbers_argument<int64_t>(info, 1, 2), to = numbers_argument<int64_t>(info, 5, 2);
  const image::Window part = window_argument(info, 2), window = window_argument(info, 6);
  const auto edges = numbers_argument<double>(info, 3, 4);
  const image::Filter filter = image::filter_named(Convert<std::string>::from_js(env, info[4]));
  constexpr int64_t kMost = int64_t{1} << 30;
  if (!lies_within(part, size[0], size[1]) || std::max({size[0], size[1], to[0], to[1]}) > kMost ||
      data.ByteLength() != static_cast<size_t>(3 * size[0] * size[1]))
    throw TensorError(code::kShape, "expected a part within the image's pixels");
  const image::Box box{static_cast<float>(edges[0]), static_cast<float>(edges[1]),
                       static_cast<float>(edges[2]), static_cast<float>(edges[3])};
  if (!(box.left >= 0 && box.top >= 0 && box.left < box.right && box.top < box.bottom &&
        box.right <= static_cast<float>(part.width) && box.bottom <= static_cast<float>(part.height)))
    throw TensorError(code::kValue, "expected a box within the image");
  if (!lies_within(window, to[0], to[1])) throw TensorError(code::kShape, "expected a window of the result");
  const int64_t stride = 3 * size[1];
  const image::Pixels pixels{data.Data() + part.top * stride + 3 * part.left, part.height, part.width,
                             stride};
  Napi::Uint8Array out =
      Napi::Uint8Array::New(env, static_cast<size_t>(3 * window.height) * static_cast<size_t>(window.width));
  image::resize(pixels, box, filter, to[0], to[1], window, out.Data());
  return out;
}

// normalizeImage(data, mean, std, out: Float32Array, offset): see image/normalize.h; to out from there on.
napi_value normalize_image(const Napi::CallbackInfo& info, Instance&) {
  const Napi::Env env = info.Env();
  const Napi::Uint8Array data = bytes_argument(info, 0);
  const auto mean = numbers_argument<double>(info, 1, 3), std = numbers_argument<double>(info, 2, 3);
  if (!info[3].IsTypedArray() || info[3].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
    mismatch(env, "a Float32Array", info[3]);
  auto out = info[3].As<Napi::Float32Array>();
  const uint64_t offset = Convert<uint64_t>::from_js(env, info[4]);
  const size_t room = out.ElementLength(), bytes = data.ByteLength();
  if (bytes % 3 != 0 || offset > room || bytes > room - offset)
    throw TensorError(code::kShape, "expected room for the pixels");
  image::normalize(data.Data(), static_cast<int64_t>(bytes / 3), mean.data(), std.data(),
                   out.Data() + offset);
  return env.Undefined();
}

}  // namespace

void define_image_functions(Napi::Env env, Napi::Object exports) {
  define<&decode_jpeg_sync>(env, exports, "decodeJpegSync", "decodeImage");
  define<&decode_jpeg>(env, exports, "decodeJpeg", "decodeImage");
  define<&resize_image>(env, exports, "resizeImage", "resize");
  define<&normalize_image>(env, exports, "normalizeImage", "normalizeInto");
}

}  // namespace tenon::binding
