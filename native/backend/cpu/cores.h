// How many cores a process may use.
#pragma once

#include <filesystem>
#include <string_view>

namespace tenon::cpu {

// At least 1: the cores of its affinity, or fewer where a control group (a container's --cpus, a pod's limit) grants less time.
int available_cores();

// The cores whose time the control groups grant, or infinity. `root` is where they are mounted, `memberships` what
// /proc/self/cgroup says: a line "id:controllers:path" for each hierarchy. See cgroups(7).
double cgroup_cores(const std::filesystem::path& root, std::string_view memberships);

}  // namespace tenon::cpu
