// Which of several ways to do the same is fastest: timed on the device once, and kept in a file.
//
// Ways differ in how they round, and two runs with one seed must give the same bits. So a choice, once made, stands:
//  - It is kept in a text file, a line each, that every later run reads. Where it can't be kept (a read-only home),
//    nothing is timed: each run takes the library's first proposal.
//  - Who is about to time holds the file's lock and first reads what others have added: processes that start together
//    agree, and don't disturb each other's measurements.
//  - In a process a choice never changes, whatever becomes of the file.
// Another cache may hold other choices: who wants the same bits on two machines copies the file, or sets
// TENON_CUDA_TUNE=0, which neither reads nor times and takes the first proposal.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "backend/cuda/queue.h"

namespace tenon::cuda {

class Tuning {
 public:
  // With the file that the environment names (cache_file), or with none.
  Tuning();

  bool enabled() const { return !path_.empty(); }

  // What was chosen, where it is `usable`: a line may be damaged, or of a library that has changed.
  std::optional<std::string> find(const std::string& key,
                                  const std::function<bool(const std::string& choice)>& usable) const;

  // As find; what is not there is measured now, and kept. Keys and choices are text without tabs and newlines. Nothing
  // where a choice can't be kept, or where measuring gives an empty one.
  std::optional<std::string> choose(const std::string& key,
                                    const std::function<bool(const std::string& choice)>& usable,
                                    const std::function<std::string()>& measure);

 private:
  class LockedFile;

  const std::string path_;
  std::map<std::string, std::string> choices_;
};

// cuda-tuning-1.txt in $TENON_CACHE, $XDG_CACHE_HOME/tenon or ~/.cache/tenon; empty where none of these variables is
// set, or where TENON_CUDA_TUNE is 0.
std::string cache_file();

// What the file holds, without making one; where nothing is timed, no file, and why.
struct KeptChoices {
  std::string file;
  size_t count = 0;
  std::string reason;
};
KeptChoices kept_choices();

// "NVIDIA H100, cuBLASLt 130101": where a choice is good, for keys to begin with.
std::string machine(const char* library, size_t version);

// Scratch memory for results that nobody reads, or null where too little is left: timing must not fail what would fit.
unsigned char* spare_memory(Queue& queue, size_t bytes);

// A way is faster than the best so far where it takes less than this part of its time: measurements vary.
inline constexpr float kClearly = 0.97f;

// How long the device takes for `work`, which queues the same each time, in milliseconds: the mean of a few runs, after
// one that is not counted. Waits for the device.
float time_of(Queue& queue, const char* op, const std::function<void()>& work);

}  // namespace tenon::cuda
