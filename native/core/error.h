// The one exception type of the native code. A message is one sentence that names the op, what was expected and
// what came; `code` is stable for programs to test.
#pragma once

#include <cctype>
#include <stdexcept>
#include <string>
#include <utility>

namespace tenon {

// "layer_norm" -> "layerNorm": ops bear their TypeScript names in messages.
inline std::string camel_case(const std::string& snake) {
  std::string out;
  for (size_t i = 0; i < snake.size(); ++i) {
    if (snake[i] == '_' && i + 1 < snake.size()) {
      out += static_cast<char>(std::toupper(static_cast<unsigned char>(snake[++i])));
    } else {
      out += snake[i];
    }
  }
  return out;
}

class TensorError : public std::runtime_error {
 public:
  TensorError(const std::string& op, std::string code, const std::string& message)
      : std::runtime_error(camel_case(op) + ": " + message), op_(camel_case(op)), code_(std::move(code)) {}

  // Thrown below the ops: the binding, which knows the op that was called, puts its name before the message.
  TensorError(std::string code, const std::string& message)
      : std::runtime_error(message), code_(std::move(code)) {}

  const std::string& op() const { return op_; }  // empty where it is not known
  const std::string& code() const { return code_; }

 private:
  std::string op_;
  std::string code_;
};

// Codes: SHAPE, DTYPE, DEVICE, VALUE (an argument out of range), INDEX (a dim, or an index, that a tensor lacks), DISPOSED,
// MEMORY (out of memory), KERNEL (a kernel or a library failed), IO.
namespace code {
inline constexpr const char* kShape = "SHAPE";
inline constexpr const char* kDType = "DTYPE";
inline constexpr const char* kDevice = "DEVICE";
inline constexpr const char* kValue = "VALUE";
inline constexpr const char* kIndex = "INDEX";
inline constexpr const char* kDisposed = "DISPOSED";
inline constexpr const char* kMemory = "MEMORY";
inline constexpr const char* kKernel = "KERNEL";
}  // namespace code

}  // namespace tenon
