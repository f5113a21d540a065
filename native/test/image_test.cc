// JPEGs by hand, whole, damaged and cut, and resizing against plain sums. Pillow's own results are in test/data.
#include <gtest/gtest.h>

#include <csetjmp>
#include <cstdio>
//
#include <jpeglib.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "core/error.h"
#include "image/jpeg.h"
#include "image/normalize.h"
#include "image/resize.h"

namespace tenon::image {
namespace {

// (7x + 11y + 85c) mod 256
std::vector<uint8_t> pattern(int64_t height, int64_t width) {
  std::vector<uint8_t> data(static_cast<size_t>(height * width * 3));
  for (size_t i = 0; i < data.size(); ++i) {
    const auto at = static_cast<int64_t>(i) / 3;
    data[i] = static_cast<uint8_t>(7 * (at % width) + 11 * (at / width) + 85 * (static_cast<int64_t>(i) % 3));
  }
  return data;
}

// Smooth, so that little is lost.
std::vector<uint8_t> slope(int64_t height, int64_t width) {
  std::vector<uint8_t> data(static_cast<size_t>(height * width * 3));
  for (size_t i = 0; i < data.size(); ++i) {
    const auto at = static_cast<int64_t>(i) / 3;
    data[i] = static_cast<uint8_t>(40 + 100 * (at % width) / width + 80 * (at / width) / height);
  }
  return data;
}

// A file of these pixels; with scans, as progressive.
std::vector<uint8_t> encode(std::vector<uint8_t> pixels, int64_t height, int64_t width,
                            const std::vector<jpeg_scan_info>& scans = {}) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &memory, &size);
  jpeg.image_height = static_cast<JDIMENSION>(height);
  jpeg.image_width = static_cast<JDIMENSION>(width);
  jpeg.input_components = 3;
  jpeg.in_color_space = JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 95, TRUE);
  if (!scans.empty()) {
    jpeg.scan_info = scans.data();
    jpeg.num_scans = static_cast<int>(scans.size());
  }
  jpeg_start_compress(&jpeg, TRUE);
  for (int64_t y = 0; y < height; ++y) {
    JSAMPROW row = pixels.data() + y * width * 3;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  std::vector<uint8_t> file(memory, memory + size);
  std::free(memory);  // which libjpeg has allocated
  return file;
}

// Coefficients in scans of their own, until there are so many scans: at most 3 + 3 x 63.
std::vector<jpeg_scan_info> scans_apart(int apart) {
  std::vector<jpeg_scan_info> scans;
  for (int c = 0; c < 3; ++c) scans.push_back({1, {c, 0, 0, 0}, 0, 0, 0, 0});
  for (int c = 0; c < 3; ++c) {
    for (int k = 1; k < 64; ++k) {
      const int end = static_cast<int>(scans.size()) < apart ? k : 63;
      scans.push_back({1, {c, 0, 0, 0}, k, end, 0, 0});
      k = end;
    }
  }
  return scans;
}

TEST(Jpeg, GivesThePixelsOfAFile) {
  for (const auto& [height, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {17, 33}, {64, 48}}) {
    const std::vector<uint8_t> pixels = slope(height, width), file = encode(pixels, height, width);
    Jpeg jpeg(file.data(), file.size());
    ASSERT_TRUE(jpeg.size());
    EXPECT_EQ(jpeg.size()->height, height);
    EXPECT_EQ(jpeg.size()->width, width);
    std::vector<uint8_t> decoded(pixels.size(), 255);
    ASSERT_TRUE(jpeg.decode(decoded.data()));
    for (size_t i = 0; i < pixels.size(); ++i) ASSERT_NEAR(decoded[i], pixels[i], 6) << i;
  }
}

TEST(Jpeg, GivesProgressiveFilesTheSamePixels) {
  const std::vector<uint8_t> pixels = pattern(40, 56), plain = encode(pixels, 40, 56),
                             progressive = encode(pixels, 40, 56, scans_apart(90));
  std::vector<uint8_t> first(pixels.size()), second(pixels.size());
  ASSERT_TRUE(Jpeg(plain.data(), plain.size()).decode(first.data()));
  ASSERT_TRUE(Jpeg(progressive.data(), progressive.size()).decode(second.data()));
  EXPECT_EQ(first, second);
}

TEST(Jpeg, RefusesMoreScansThanFilesHave) {
  const std::vector<uint8_t> pixels = pattern(40, 56);
  const std::vector<uint8_t> file = encode(pixels, 40, 56, scans_apart(1000));
  std::vector<uint8_t> decoded(pixels.size());
  EXPECT_FALSE(Jpeg(file.data(), file.size()).decode(decoded.data()));
}

TEST(Jpeg, RefusesEveryCutFile) {
  const std::vector<uint8_t> pixels = pattern(24, 24);
  for (const std::vector<uint8_t>& file : {encode(pixels, 24, 24), encode(pixels, 24, 24, scans_apart(8))}) {
    std::vector<uint8_t> decoded(pixels.size());
    for (size_t size = 0; size + 2 < file.size(); ++size) {
      const std::vector<uint8_t> cut(file.begin(), file.begin() + static_cast<int64_t>(size));
      Jpeg jpeg(cut.data(), cut.size());
      EXPECT_FALSE(jpeg.size() && jpeg.decode(decoded.data())) << size << " of " << file.size();
    }
  }
}

// What bytes come to is libjpeg's to say: here only that nothing is written beyond the pixels, and that errors find their way.
TEST(Jpeg, SurvivesDamage) {
  const std::vector<uint8_t> pixels = pattern(24, 24);
  const std::vector<uint8_t> whole[] = {encode(pixels, 24, 24), encode(pixels, 24, 24, scans_apart(8))};
  std::mt19937 random(1);
  int refused = 0;
  for (int i = 0; i < 4000; ++i) {
    std::vector<uint8_t> file = whole[i % 2];
    for (int k = 0; k <= i % 4; ++k) file[random() % file.size()] = static_cast<uint8_t>(random());
    Jpeg jpeg(file.data(), file.size());
    if (!jpeg.size() || jpeg.size()->height * jpeg.size()->width > 1 << 20) {
      ++refused;
      continue;
    }
    std::vector<uint8_t> decoded(static_cast<size_t>(jpeg.size()->height * jpeg.size()->width * 3));
    if (!jpeg.decode(decoded.data())) ++refused;
  }
  EXPECT_GT(refused, 1000);
  EXPECT_LT(refused, 4000);
}

Pixels pixels_of(const std::vector<uint8_t>& data, int64_t height, int64_t width) {
  return {data.data(), height, width, 3 * width};
}

std::vector<uint8_t> resized(const Pixels& image, const Box& box, Filter filter, int64_t height,
                             int64_t width, const Window& window) {
  std::vector<uint8_t> out(static_cast<size_t>(3 * window.height * window.width), 77);
  resize(image, box, filter, height, width, window, out.data());
  return out;
}

std::vector<uint8_t> resized(const Pixels& image, Filter filter, int64_t height, int64_t width) {
  const Box all{0, 0, static_cast<float>(image.width), static_cast<float>(image.height)};
  return resized(image, all, filter, height, width, {0, 0, height, width});
}

// Bilinear weights of one output of a line, in float64.
double bilinear(const std::vector<double>& line, int64_t out_size, int64_t i) {
  const auto in_size = static_cast<double>(line.size());
  const double scale = in_size / static_cast<double>(out_size), wide = std::max(1.0, scale);
  const double centre = (static_cast<double>(i) + 0.5) * scale;
  double sum = 0, total = 0;
  for (size_t k = 0; k < line.size(); ++k) {
    const double weight = std::max(0.0, 1 - std::abs((static_cast<double>(k) + 0.5 - centre) / wide));
    sum += weight * line[k];
    total += weight;
  }
  return sum / total;
}

// But for two roundings, each of at most half a level.
TEST(Resize, IsTheWeightedMean) {
  constexpr int64_t kHeight = 37, kWidth = 150;
  const std::vector<uint8_t> data = pattern(kHeight, kWidth);
  for (const auto& [height, width] : std::vector<std::pair<int64_t, int64_t>>{{9, 31}, {80, 201}, {37, 19}}) {
    const std::vector<uint8_t> out =
        resized(pixels_of(data, kHeight, kWidth), Filter::Bilinear, height, width);
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; x += 5) {
        for (int64_t c = 0; c < 3; ++c) {
          std::vector<double> column;
          for (int64_t row = 0; row < kHeight; ++row) {
            std::vector<double> line;
            for (int64_t i = 0; i < kWidth; ++i) line.push_back(data[3 * (row * kWidth + i) + c]);
            column.push_back(bilinear(line, width, x));
          }
          ASSERT_NEAR(out[3 * (y * width + x) + c], bilinear(column, height, y), 1.001) << y << " " << x;
        }
      }
    }
  }
}

TEST(Resize, GivesTheSameBitsInWindowsAndOfParts) {
  constexpr int64_t kHeight = 61, kWidth = 83;
  const std::vector<uint8_t> data = pattern(kHeight, kWidth);
  const Pixels image = pixels_of(data, kHeight, kWidth);
  for (const Filter filter : {Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos}) {
    const std::vector<uint8_t> all = resized(image, filter, 40, 130);
    const Window window{7, 11, 20, 50};
    const std::vector<uint8_t> some = resized(image, {0, 0, kWidth, kHeight}, filter, 40, 130, window);
    for (int64_t y = 0; y < window.height; ++y) {
      for (int64_t i = 0; i < 3 * window.width; ++i)
        ASSERT_EQ(some[3 * y * window.width + i], all[3 * ((y + window.top) * 130 + window.left) + i]);
    }
    // A part is read by its stride, as if it had been cut out.
    std::vector<uint8_t> cut;
    for (int64_t y = 5; y < 45; ++y)
      cut.insert(cut.end(), data.begin() + 3 * (y * kWidth + 9), data.begin() + 3 * (y * kWidth + 79));
    const Pixels part{data.data() + 3 * (5 * kWidth + 9), 40, 70, 3 * kWidth};
    EXPECT_EQ(resized(part, filter, 33, 33), resized(pixels_of(cut, 40, 70), filter, 33, 33));
    EXPECT_EQ(resized(part, filter, 40, 33), resized(pixels_of(cut, 40, 70), filter, 40, 33));
    EXPECT_EQ(resized(part, filter, 33, 70), resized(pixels_of(cut, 40, 70), filter, 33, 70));
    EXPECT_EQ(resized(part, filter, 40, 70), cut);
  }
}

TEST(Resize, KeepsAColourAtAnySize) {
  const std::vector<uint8_t> data(size_t{3} * 200 * 3, 255);
  for (const Filter filter : {Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos}) {
    for (const int64_t size : {1, 2, 15, 16, 17, 300}) {
      const std::vector<uint8_t> out = resized(pixels_of(data, 3, 200), filter, size, size);
      EXPECT_EQ(out, std::vector<uint8_t>(static_cast<size_t>(3 * size * size), 255));
    }
  }
  EXPECT_THROW(filter_named("cubic"), TensorError);
}

TEST(Normalize, IsTheFormula) {
  const std::vector<uint8_t> data = pattern(5, 9);
  const double mean[] = {0.485, 0.456, 0.406}, std[] = {0.229, 0.224, 0.225};
  std::vector<float> out(data.size());
  normalize(data.data(), 45, mean, std, out.data());
  for (int64_t i = 0; i < 45; ++i) {
    for (int64_t c = 0; c < 3; ++c)
      EXPECT_NEAR(out[c * 45 + i], (data[3 * i + c] / 255.0 - mean[c]) / std[c], 1e-6);
  }
}

}  // namespace
}  // namespace tenon::image
