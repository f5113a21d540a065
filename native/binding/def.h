// def<&ops::layer_norm>("layerNorm", {"x", "residual", ...}): binds a C++ function to JavaScript. Its signature is the
// single truth: it decides how arguments are converted, and it is recorded so that scripts/generate-native-types.mjs
// can write the TypeScript types of the native module.
//
// An op that throws becomes a JavaScript TensorError, in `guarded` and nowhere else.
#pragma once

#include <napi.h>

#include <array>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "binding/instance.h"
#include "core/error.h"

namespace tenon::binding {

inline constexpr double kMaxSafeInteger = 9007199254740991.0;

// A JavaScript value in a message: 1.5, 'text', undefined, an array.
inline std::string shown(napi_env env, napi_value value) {
  const Napi::Value js(env, value);
  if (js.IsString()) return std::string("'").append(js.As<Napi::String>().Utf8Value()).append("'");
  if (js.IsArray()) return "an array";
  if (js.IsObject()) return js.IsFunction() ? "a function" : "an object";
  return js.IsSymbol() ? "a symbol" : js.ToString().Utf8Value();
}

[[noreturn]] inline void mismatch(napi_env env, const std::string& expected, napi_value got,
                                  const char* code = code::kValue) {
  throw TensorError(code, "expected " + expected + ", got " + shown(env, got));
}

// Convert<T>::from_js(env, value), Convert<T>::to_js(env, value) and Convert<T>::type(), the TypeScript type.
template <typename T>
struct Convert;

template <>
struct Convert<double> {
  static double from_js(napi_env env, napi_value value) {
    double number = 0;
    if (napi_get_value_double(env, value, &number) != napi_ok) {
      mismatch(env, "a number", value);
    }
    return number;
  }
  static napi_value to_js(napi_env env, double number) { return Napi::Number::New(env, number); }
  static std::string type() { return "number"; }
};

template <>
struct Convert<int64_t> {
  static int64_t from_js(napi_env env, napi_value value) {
    const double number = Convert<double>::from_js(env, value);
    if (number != std::trunc(number) || std::abs(number) > kMaxSafeInteger) {
      mismatch(env, "a whole number", value);
    }
    return static_cast<int64_t>(number);
  }
  static napi_value to_js(napi_env env, int64_t number) {
    return Napi::Number::New(env, static_cast<double>(number));
  }
  static std::string type() { return "number"; }
};

template <>
struct Convert<uint64_t> {
  static uint64_t from_js(napi_env env, napi_value value) {
    const int64_t number = Convert<int64_t>::from_js(env, value);
    if (number < 0) mismatch(env, "0 or more", value);
    return static_cast<uint64_t>(number);
  }
  static std::string type() { return "number"; }
};

template <>
struct Convert<bool> {
  static bool from_js(napi_env env, napi_value value) {
    bool truth = false;
    if (napi_get_value_bool(env, value, &truth) != napi_ok) {
      mismatch(env, "a boolean", value);
    }
    return truth;
  }
  static std::string type() { return "boolean"; }
};

template <>
struct Convert<std::string> {
  static std::string from_js(napi_env env, napi_value value) {
    const Napi::Value text(env, value);
    if (!text.IsString()) mismatch(env, "a string", value);
    return text.As<Napi::String>().Utf8Value();
  }
  static napi_value to_js(napi_env env, const std::string& text) { return Napi::String::New(env, text); }
  static std::string type() { return "string"; }
};

template <>
struct Convert<DType> {
  static DType from_js(napi_env env, napi_value value) {
    const int64_t index = Convert<int64_t>::from_js(env, value);
    if (index < 0 || index >= kDTypeCount) mismatch(env, "a dtype's number", value, code::kDType);
    return static_cast<DType>(index);
  }
  static std::string type() { return "DTypeCode"; }
};

template <>
struct Convert<Device> {
  static Device& from_js(napi_env env, napi_value value) {
    return Instance::of(env).device(static_cast<uint32_t>(Convert<uint64_t>::from_js(env, value)));
  }
  static std::string type() { return "DeviceIndex"; }
};

template <>
struct Convert<Tensor> {
  static const Tensor& from_js(napi_env env, napi_value value) {
    uint32_t id = 0;
    if (napi_get_value_uint32(env, value, &id) != napi_ok) {
      throw TensorError(code::kValue, "expected a tensor, got none");  // what has no identifier
    }
    return Instance::of(env).tensor(id);
  }
  static napi_value to_js(napi_env env, const Tensor& tensor) {
    napi_value result = nullptr;
    if (!tensor) {
      napi_get_undefined(env, &result);
    } else {
      napi_create_uint32(env, Instance::of(env).add(tensor), &result);
    }
    return result;
  }
  static std::string type() { return "TensorId"; }
};

template <typename T>
struct Convert<std::optional<T>> {
  static std::optional<T> from_js(napi_env env, napi_value value) {
    napi_valuetype kind = napi_undefined;
    napi_typeof(env, value, &kind);
    if (kind == napi_undefined || kind == napi_null) return std::nullopt;
    return Convert<T>::from_js(env, value);
  }
  static std::string type() { return Convert<T>::type() + " | undefined"; }
};

template <typename T>
struct Convert<std::vector<T>> {
  static std::vector<T> from_js(napi_env env, napi_value value) {
    uint32_t length = 0;
    if (napi_get_array_length(env, value, &length) != napi_ok) {
      mismatch(env, "an array", value);
    }
    std::vector<T> items;
    items.reserve(length);
    for (uint32_t i = 0; i < length; ++i) {
      napi_value item = nullptr;
      napi_get_element(env, value, i, &item);
      items.push_back(Convert<T>::from_js(env, item));
    }
    return items;
  }
  static napi_value to_js(napi_env env, const std::vector<T>& items) {
    napi_value array = nullptr;
    napi_create_array_with_length(env, items.size(), &array);
    for (uint32_t i = 0; i < items.size(); ++i) {
      napi_set_element(env, array, i, Convert<T>::to_js(env, items[i]));
    }
    return array;
  }
  static std::string type() {
    const std::string item = Convert<T>::type();
    return "readonly " + (item.find('|') == std::string::npos ? item : "(" + item + ")") + "[]";
  }
};

template <typename... T>
struct Convert<std::tuple<T...>> {
  static napi_value to_js(napi_env env, const std::tuple<T...>& values) {
    napi_value array = nullptr;
    napi_create_array_with_length(env, sizeof...(T), &array);
    uint32_t i = 0;
    std::apply(
        [&](const T&... item) { (napi_set_element(env, array, i++, Convert<T>::to_js(env, item)), ...); },
        values);
    return array;
  }
  static std::string type() {
    std::string text;
    ((text += (text.empty() ? "" : ", ") + Convert<T>::type()), ...);
    return "[" + text + "]";
  }
};

// The value of a parameter, whose name goes into the message where it is not what it should be.
template <typename T>
decltype(auto) argument(napi_env env, napi_value value, const char* parameter) {
  try {
    return Convert<std::remove_cvref_t<T>>::from_js(env, value);
  } catch (const TensorError& error) {
    if (!error.op().empty()) throw;
    throw TensorError(error.code(), std::string(error.what()) + " for " + parameter);
  }
}

// Sees the arguments of a call, whose tensors must all be on one device.
class CommonDevice {
 public:
  explicit CommonDevice(const char* op) : op_(op) {}
  void see(const Tensor& x) {
    const Device& device = x.device();
    if (device_ == nullptr) device_ = &device;
    if (device_ == &device) return;
    throw TensorError(op_, code::kDevice,
                      "expected tensors on one device, got " + device_->name() + " and " + device.name());
  }
  void see(const std::optional<Tensor>& x) {
    if (x) see(*x);
  }
  void see(const std::vector<Tensor>& tensors) {
    for (const Tensor& x : tensors) see(x);
  }
  template <typename T>
  void see(const T&) {}  // no tensor

 private:
  const char* op_;
  const Device* device_ = nullptr;
};

// Runs the body of an op; a C++ exception becomes a pending JavaScript TensorError.
template <typename Body>
napi_value guarded(napi_env env, const char* op, Body&& body) {
  try {
    Instance::of(env).begin_call();
    return body();
  } catch (const Napi::Error& error) {
    error.ThrowAsJavaScriptException();
  } catch (...) {
    napi_throw(env, Instance::of(env).to_js_error(env, std::current_exception(), op));
  }
  return nullptr;
}

template <typename Function>
struct Signature;

template <typename R, typename... A>
struct Signature<R (*)(A...)> {
  using Result = R;
  static constexpr size_t arity = sizeof...(A);

  template <R (*function)(A...), size_t... I>
  static napi_value call(napi_env env, const Definition& definition, const napi_value* js,
                         std::index_sequence<I...>) {
    // References where from_js returns them.
    std::tuple<decltype(Convert<std::remove_cvref_t<A>>::from_js(env, js[I]))...> arguments{
        argument<A>(env, js[I], definition.parameters[I])...};
    CommonDevice device(definition.op);
    (device.see(std::get<I>(arguments)), ...);
    if constexpr (std::is_void_v<R>) {
      function(std::get<I>(arguments)...);
      return nullptr;
    } else {
      return Convert<R>::to_js(env, function(std::get<I>(arguments)...));
    }
  }

  static std::vector<std::string> types() { return {Convert<std::remove_cvref_t<A>>::type()...}; }
  static std::string result() {
    if constexpr (std::is_void_v<R>) {
      return "void";
    } else {
      return Convert<R>::type();
    }
  }
};

template <auto function>
napi_value invoke(napi_env env, napi_callback_info info) {
  using S = Signature<decltype(function)>;
  std::array<napi_value, S::arity> arguments{};
  size_t count = S::arity;
  void* data = nullptr;
  napi_get_cb_info(env, info, &count, arguments.data(), nullptr, &data);
  const auto& definition = *static_cast<const Definition*>(data);
  return guarded(env, definition.op, [&]() -> napi_value {
    if (count < S::arity) {
      throw TensorError(code::kValue,
                        "expected " + std::to_string(S::arity) + " arguments, got " + std::to_string(count));
    }
    return S::template call<function>(env, definition, arguments.data(),
                                      std::make_index_sequence<S::arity>());
  });
}

// The functions of the module and their schema, filled while the addon initialises.
class Module {
 public:
  Module(Napi::Env env, Napi::Object exports)
      : env_(env), exports_(exports), schema_(Napi::Array::New(env)) {}

  // The name is a literal, in snake or camel case.
  template <auto function>
  void def(const char* op, std::initializer_list<const char*> parameters) {
    const std::string name = camel_case(op);
    using S = Signature<decltype(function)>;
    if (parameters.size() != S::arity) {
      throw Napi::Error::New(env_, "binding: " + name + " names the wrong number of parameters");
    }
    napi_value js = nullptr;
    const Definition& definition = Instance::of(env_).definitions().emplace_back(Definition{op, parameters});
    napi_create_function(env_, name.c_str(), name.size(), &invoke<function>,
                         const_cast<Definition*>(&definition), &js);
    exports_.Set(name, js);

    Napi::Array list = Napi::Array::New(env_);
    const std::vector<std::string> types = S::types();
    size_t i = 0;
    for (const char* parameter : parameters) {
      Napi::Object entry = Napi::Object::New(env_);
      entry.Set("name", parameter);
      entry.Set("type", types[i]);
      list.Set(static_cast<uint32_t>(i++), entry);
    }
    Napi::Object entry = Napi::Object::New(env_);
    entry.Set("name", name);
    entry.Set("parameters", list);
    entry.Set("result", S::result());
    schema_.Set(schema_.Length(), entry);
  }

  Napi::Array schema() const { return schema_; }

 private:
  Napi::Env env_;
  Napi::Object exports_;
  Napi::Array schema_;
};

// A function that takes its arguments itself. `op` is what errors name where they do not name one.
template <napi_value (*body)(const Napi::CallbackInfo&, Instance&)>
void define(Napi::Env env, Napi::Object exports, const char* name, const char* op = nullptr) {
  const auto call = [](const Napi::CallbackInfo& info) {
    const auto* named = static_cast<const char*>(info.Data());
    return Napi::Value(info.Env(),
                       guarded(info.Env(), named, [&] { return body(info, Instance::of(info.Env())); }));
  };
  exports.Set(name, Napi::Function::New(env, call, name, const_cast<char*>(op == nullptr ? name : op)));
}

}  // namespace tenon::binding
