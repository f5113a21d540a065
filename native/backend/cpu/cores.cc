#include "backend/cpu/cores.h"

#include <omp.h>
#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

namespace tenon::cpu {

namespace {

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

// Version 2: "quota period" in microseconds, or "max period".
double quota_of_v2(const std::filesystem::path& group) {
  std::ifstream file(group / "cpu.max");
  double quota = 0, period = 0;
  return file >> quota >> period && quota > 0 && period > 0 ? quota / period : kUnlimited;
}

// Version 1: a file each, and a quota of -1 for none.
double quota_of_v1(const std::filesystem::path& group) {
  std::ifstream quotas(group / "cpu.cfs_quota_us"), periods(group / "cpu.cfs_period_us");
  double quota = 0, period = 0;
  return quotas >> quota && periods >> period && quota > 0 && period > 0 ? quota / period : kUnlimited;
}

// The least that a group and those around it are granted. Inside a container, only the outermost may be there to see.
template <typename Quota>
double least_of_groups(const std::filesystem::path& root, std::string_view path, Quota&& quota_of) {
  double least = quota_of(root);
  std::filesystem::path group = root;
  for (const std::filesystem::path& part : std::filesystem::path(path).relative_path()) {
    group /= part;
    least = std::min(least, quota_of(group));
  }
  return least;
}

// What stands before `end`, which is removed with it.
std::string_view take_until(std::string_view& text, char end) {
  const std::string_view part = text.substr(0, text.find(end));
  text.remove_prefix(std::min(text.size(), part.size() + 1));
  return part;
}

bool has_cpu(std::string_view controllers) {
  while (!controllers.empty()) {
    if (take_until(controllers, ',') == "cpu") return true;
  }
  return false;
}

// The processors that this process may run on; none where the system does not say. Where OMP_PROC_BIND has bound this thread
// to one of them, OpenMP's places hold them all.
std::set<int> affinity() {
  std::set<int> processors;
  for (int place = 0; place < omp_get_num_places(); ++place) {
    std::vector<int> some(static_cast<size_t>(omp_get_place_num_procs(place)));
    omp_get_place_proc_ids(place, some.data());
    processors.insert(some.begin(), some.end());
  }
#ifdef __linux__
  cpu_set_t set;
  if (processors.empty() && sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
      if (CPU_ISSET(processor, &set)) processors.insert(processor);
    }
  }
#endif
  return processors;
}

}  // namespace

double cgroup_cores(const std::filesystem::path& root, std::string_view memberships) {
  double least = kUnlimited;
  while (!memberships.empty()) {
    std::string_view path = take_until(memberships, '\n');
    take_until(path, ':');  // the hierarchy's number
    const std::string_view controllers = take_until(path, ':');
    if (controllers.empty()) {
      least = std::min(least, least_of_groups(root, path, quota_of_v2));
    } else if (has_cpu(controllers)) {
      least = std::min(least, least_of_groups(root / "cpu", path, quota_of_v1));
    }
  }
  return least;
}

int cores_of(const std::filesystem::path& root, const std::set<int>& processors) {
  std::set<std::string> cores;
  for (const int processor : processors) {
    const std::string name = "cpu" + std::to_string(processor);
    std::ifstream file(root / name / "topology" / "thread_siblings_list");
    std::string siblings;
    cores.insert(std::getline(file, siblings) ? siblings : name);
  }
  return static_cast<int>(cores.size());
}

namespace {

int count_available_cores() {
  const std::set<int> processors = affinity();
  const int cores =
      processors.empty() ? std::max(1, omp_get_num_procs()) : cores_of("/sys/devices/system/cpu", processors);
  std::ifstream file("/proc/self/cgroup");
  const std::string memberships((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const double granted = std::ceil(cgroup_cores("/sys/fs/cgroup", memberships));
  return granted < cores ? std::max(1, static_cast<int>(granted)) : cores;
}

}  // namespace

int available_cores() {
  static const int cores = count_available_cores();
  return cores;
}

}  // namespace tenon::cpu
