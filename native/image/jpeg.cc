#include "image/jpeg.h"

#include <csetjmp>
#include <cstdio>
//
#include <jpeglib.h>

#include <algorithm>

#ifndef LIBJPEG_TURBO_VERSION
#error "jpeglib.h is not libjpeg-turbo's, whose pixels other programs have too: install libjpeg-turbo"
#endif

namespace tenon::image {

namespace {

// A file may say its pixels anew again and again, at no cost in bytes. Those of cameras do so ten times.
constexpr int kMostScans = 100;

}  // namespace

struct Jpeg::Decoder {
  jpeg_decompress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf leave{};

  // libjpeg's way out of an error. Nothing with a destructor may live in between.
  static void give_up(j_common_ptr jpeg) { std::longjmp(static_cast<Decoder*>(jpeg->client_data)->leave, 1); }
};

Jpeg::Jpeg(const uint8_t* bytes, size_t size) : decoder_(std::make_unique<Decoder>()) {
  jpeg_decompress_struct& jpeg = decoder_->jpeg;
  jpeg.err = jpeg_std_error(&decoder_->errors);
  jpeg.client_data = decoder_.get();
  decoder_->errors.error_exit = &Decoder::give_up;
  decoder_->errors.output_message = [](j_common_ptr) {};
  if (setjmp(decoder_->leave) != 0) return;
  jpeg_create_decompress(&jpeg);
  decoder_->progress.progress_monitor = [](j_common_ptr common) {
    if (reinterpret_cast<j_decompress_ptr>(common)->input_scan_number > kMostScans) Decoder::give_up(common);
  };
  jpeg.progress = &decoder_->progress;
  jpeg_mem_src(&jpeg, bytes, size);
  jpeg_read_header(&jpeg, TRUE);
  const bool is_grey = jpeg.jpeg_color_space == JCS_GRAYSCALE && jpeg.num_components == 1;
  const bool is_colour = jpeg.jpeg_color_space == JCS_YCbCr && jpeg.num_components == 3;
  if (!is_grey && !is_colour) return;
  size_ = JpegSize{static_cast<int64_t>(jpeg.image_height), static_cast<int64_t>(jpeg.image_width)};
}

Jpeg::~Jpeg() { jpeg_destroy_decompress(&decoder_->jpeg); }

bool Jpeg::decode(uint8_t* pixels) {
  jpeg_decompress_struct& jpeg = decoder_->jpeg;
  if (!size_ || setjmp(decoder_->leave) != 0) return false;
  jpeg.out_color_space = JCS_RGB;
  jpeg_start_decompress(&jpeg);
  while (jpeg.output_scanline < jpeg.output_height) {
    constexpr JDIMENSION kRows = 16;  // those of a block
    JSAMPROW rows[kRows];
    const JDIMENSION count = std::min(kRows, jpeg.output_height - jpeg.output_scanline);
    for (JDIMENSION i = 0; i < count; ++i)
      rows[i] = pixels + (size_t{jpeg.output_scanline} + i) * jpeg.output_width * 3;
    jpeg_read_scanlines(&jpeg, rows, count);
  }
  jpeg_finish_decompress(&jpeg);
  return decoder_->errors.num_warnings == 0;
}

}  // namespace tenon::image
