// JPEG files as pixels, by libjpeg-turbo.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace tenon::image {

struct JpegSize {
  int64_t height, width;
};

// One file. Only what needs no interpretation is decoded: grey or YCbCr, undamaged. A refusal says nothing of the reason.
class Jpeg {
 public:
  // Reads the header. `bytes` must outlive the object.
  Jpeg(const uint8_t* bytes, size_t size);
  ~Jpeg();
  Jpeg(const Jpeg&) = delete;
  Jpeg& operator=(const Jpeg&) = delete;

  // Nothing: refused.
  std::optional<JpegSize> size() const { return size_; }

  // All pixels, [height, width, 3], 8 bits each; grey is repeated. Whether it succeeded: where not, some are unwritten. Once only.
  bool decode(uint8_t* pixels);

 private:
  struct Decoder;
  std::unique_ptr<Decoder> decoder_;
  std::optional<JpegSize> size_;
};

}  // namespace tenon::image
