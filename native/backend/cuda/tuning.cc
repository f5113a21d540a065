#include "backend/cuda/tuning.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "backend/cuda/handles.h"

namespace tenon::cuda {

namespace {

// The first line of the file: another one is not ours, or of another version.
constexpr const char* kTitle = "Tenon's choices of CUDA algorithms, version 1. May be deleted.";

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// A file that breaks off in a line, or has others of ours, is read as far as it makes sense.
std::map<std::string, std::string> parse(const std::string& text) {
  std::map<std::string, std::string> choices;
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    const size_t tab = line.find('\t');
    if (tab != std::string::npos && !lines.eof()) choices[line.substr(0, tab)] = line.substr(tab + 1);
  }
  return choices;
}

bool is_ours(const std::string& text) { return text.empty() || text.starts_with(std::string(kTitle) + "\n"); }

}  // namespace

// Read, and appended to, by one process at a time. The lock goes with the descriptor.
class Tuning::LockedFile {
 public:
  explicit LockedFile(const std::string& path) {
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
    constexpr mode_t kMode = 0644;
    descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, kMode);
    if (descriptor_ < 0) return;
    while (flock(descriptor_, LOCK_EX) != 0) {
      if (errno != EINTR) return;
    }
    usable_ = read_all() && is_ours(text_);
  }
  ~LockedFile() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  LockedFile(const LockedFile&) = delete;
  LockedFile& operator=(const LockedFile&) = delete;

  explicit operator bool() const { return usable_; }
  const std::string& text() const { return text_; }

  // All of the line, or nothing.
  bool append(const std::string& line) {
    std::string added = text_.empty() ? std::string(kTitle) + "\n" : text_.ends_with('\n') ? "" : "\n";
    added += line + "\n";
    const ssize_t written = write(descriptor_, added.data(), added.size());
    if (written == static_cast<ssize_t>(added.size())) return true;
    static_cast<void>(ftruncate(descriptor_, static_cast<off_t>(text_.size())) == 0);
    return false;
  }

 private:
  bool read_all() {
    constexpr size_t kBlock = 65536;
    std::string block(kBlock, '\0');
    for (;;) {
      const ssize_t bytes = pread(descriptor_, block.data(), block.size(), static_cast<off_t>(text_.size()));
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes <= 0) return bytes == 0;
      text_.append(block, 0, static_cast<size_t>(bytes));
    }
  }

  int descriptor_ = -1;
  bool usable_ = false;
  std::string text_;
};

std::string cache_file() {
  if (variable("TENON_CUDA_TUNE") == "0") return "";
  std::string folder = variable("TENON_CACHE");
  if (folder.empty() && !variable("XDG_CACHE_HOME").empty()) folder = variable("XDG_CACHE_HOME") + "/tenon";
  if (folder.empty() && !variable("HOME").empty()) folder = variable("HOME") + "/.cache/tenon";
  return folder.empty() ? "" : folder + "/cuda-tuning-1.txt";
}

KeptChoices kept_choices() {
  const std::string path = cache_file();
  if (path.empty()) {
    return {"", 0,
            variable("TENON_CUDA_TUNE") == "0" ? "TENON_CUDA_TUNE is 0"
                                               : "none of TENON_CACHE, XDG_CACHE_HOME and HOME is set"};
  }
  if (access(path.c_str(), F_OK) == 0) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    if (access(path.c_str(), R_OK | W_OK) != 0) return {"", 0, path + " can't be read and written"};
    if (!is_ours(text.str())) return {"", 0, path + " is another program's"};
    return {path, parse(text.str()).size(), ""};
  }
  std::filesystem::path folder = std::filesystem::absolute(path).parent_path();  // the nearest that is there
  while (access(folder.c_str(), F_OK) != 0 && folder.has_relative_path()) folder = folder.parent_path();
  if (!std::filesystem::is_directory(folder) || access(folder.c_str(), W_OK) != 0) {
    return {"", 0, path + " can't be written"};
  }
  return {path, 0, ""};
}

Tuning::Tuning() : path_(cache_file()) {
  if (!enabled()) return;
  if (const LockedFile file(path_); file) choices_ = parse(file.text());
}

std::optional<std::string> Tuning::find(const std::string& key,
                                        const std::function<bool(const std::string&)>& usable) const {
  const auto found = choices_.find(key);
  if (found == choices_.end() || !usable(found->second)) return std::nullopt;
  return found->second;
}

std::optional<std::string> Tuning::choose(const std::string& key,
                                          const std::function<bool(const std::string&)>& usable,
                                          const std::function<std::string()>& measure) {
  if (auto found = find(key, usable)) return found;
  if (!enabled()) return std::nullopt;
  LockedFile file(path_);
  if (!file) return std::nullopt;
  choices_ = parse(file.text());
  if (auto found = find(key, usable)) return found;
  const std::string choice = measure();
  if (choice.empty() || !file.append(key + "\t" + choice)) return std::nullopt;
  choices_[key] = choice;
  return choice;
}

std::string machine(const char* library, size_t version) {
  int device = 0;
  cudaDeviceProp properties{};
  check(cudaGetDevice(&device), library);
  check(cudaGetDeviceProperties(&properties, device), library);
  return std::string(properties.name) + ", " + library + " " + std::to_string(version);
}

unsigned char* spare_memory(Queue& queue, size_t bytes) {
  try {
    return static_cast<unsigned char*>(queue.scratch(bytes));
  } catch (const TensorError& error) {
    if (error.code() != code::kMemory) throw;
    return nullptr;
  }
}

float time_of(Queue& queue, const char* op, const std::function<void()>& work) {
  constexpr int kRuns = 5;
  const EventHandle begin = make_timer(), end = make_timer();
  work();  // loads its kernels
  check(cudaEventRecord(begin.get(), queue.stream()), op);
  for (int i = 0; i < kRuns; ++i) work();
  check(cudaEventRecord(end.get(), queue.stream()), op);
  check(cudaEventSynchronize(end.get()), op);
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), op);
  return milliseconds / kRuns;
}

}  // namespace tenon::cuda
