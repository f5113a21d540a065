// Pillow's resize, bit for bit: separable and antialiased, with weights of 22 fractional bits, first along rows and then along
// columns, rounded to 8 bits in between. A pixel has three channels, red, green and blue.
//
// Source: Pillow, src/libImaging/Resample.c.
#pragma once

#include <cstdint>
#include <string_view>

namespace tenon::image {

enum class Filter : uint8_t { Nearest, Bilinear, Bicubic, Lanczos };

// By Pillow's name; throws TensorError VALUE for any other.
Filter filter_named(std::string_view name);

// Pixels [height, width, 3] somewhere in memory; the next row is `stride` bytes on.
struct Pixels {
  const uint8_t* data = nullptr;
  int64_t height = 0, width = 0, stride = 0;
};

// A part of an image, in pixels and parts of them.
struct Box {
  float left = 0, top = 0, right = 0, bottom = 0;
};

// A part of the result.
struct Window {
  int64_t top = 0, left = 0, height = 0, width = 0;
};

// Of `box` of an image made into height x width pixels, those in `window`, to out [window.height, window.width, 3]. The box lies
// within the image, the window within the result, and neither is empty.
void resize(const Pixels& image, const Box& box, Filter filter, int64_t height, int64_t width,
            const Window& window, uint8_t* out);

}  // namespace tenon::image
