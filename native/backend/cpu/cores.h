// How many cores a process may use.
#pragma once

#include <filesystem>
#include <set>
#include <string_view>

namespace tenon::cpu {

// At least 1: the cores of this process's affinity, or fewer where a control group (a container's --cpus, a pod's limit) grants
// less time. Processors that are hyperthreads of one core count once: they share what multiplies, and the first and second
// caches, so that a second one takes from the first as much as it adds. Counted once, as a thread count is for a device's life.
int available_cores();

// How many cores these processors belong to. `root` is sysfs's folder of processors; one that it does not describe is a core.
int cores_of(const std::filesystem::path& root, const std::set<int>& processors);

// The cores whose time the control groups grant, or infinity. `root` is where they are mounted, `memberships` what
// /proc/self/cgroup says: a line "id:controllers:path" for each hierarchy. See cgroups(7).
double cgroup_cores(const std::filesystem::path& root, std::string_view memberships);

}  // namespace tenon::cpu
