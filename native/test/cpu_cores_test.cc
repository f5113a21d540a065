#include "backend/cpu/cores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <string>

namespace tenon::cpu {
namespace {

namespace fs = std::filesystem;

// A folder of files as the kernel shows them.
class Cores : public ::testing::Test {
 protected:
  Cores()
      : root_(fs::path(::testing::TempDir()) /
              ("tenon-" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()))) {
    fs::remove_all(root_);
  }
  ~Cores() override { fs::remove_all(root_); }

  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }

  fs::path root_;
};

class CgroupCores : public Cores {
 protected:
  double cores(const std::string& memberships) const { return cgroup_cores(root_, memberships); }
};

TEST_F(CgroupCores, AreUnlimitedWhereNothingSaysOtherwise) {
  EXPECT_TRUE(std::isinf(cores("")));
  EXPECT_TRUE(std::isinf(cores("0::/a/b\n")));
  EXPECT_TRUE(std::isinf(cores("nonsense\n4:memory:/a\n7:cpu:/a")));
  write("cpu.max", "max 100000\n");
  write("a/cpu.max", "");
  write("cpu/cpu.cfs_quota_us", "-1\n");
  write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_TRUE(std::isinf(cores("0::/a\n7:cpu,cpuacct:/\n")));
}

TEST_F(CgroupCores, OfVersionTwoAreTheLeastOfAGroupAndThoseAroundIt) {
  write("pod/cpu.max", "250000 100000\n");
  write("pod/container/cpu.max", "max 100000\n");
  write("pod/other/cpu.max", "50000 100000\n");
  EXPECT_EQ(cores("0::/pod/container\n"), 2.5);
  EXPECT_EQ(cores("0::/pod/other"), 0.5);
  EXPECT_TRUE(std::isinf(cores("0::/\n")));
}

TEST_F(CgroupCores, AreTheRootsWhereAContainerDoesNotSeeItsPath) {
  write("cpu.max", "400000 200000\n");
  EXPECT_EQ(cores("0::/system.slice/docker-1f0.scope\n"), 2);
}

TEST_F(CgroupCores, OfVersionOneAreTheCpuControllers) {
  write("cpu/docker/1f0/cpu.cfs_quota_us", "150000\n");
  write("cpu/docker/1f0/cpu.cfs_period_us", "100000\n");
  write("cpuset/docker/1f0/cpu.cfs_quota_us", "1000\n");
  EXPECT_EQ(cores("9:name=systemd:/\n5:cpuset:/docker/1f0\n3:cpu,cpuacct:/docker/1f0\n0::/\n"), 1.5);
}

TEST_F(Cores, CountHyperthreadsOnce) {
  for (const int processor : {0, 1, 2, 3}) {
    const int core = processor % 2;
    write("cpu" + std::to_string(processor) + "/topology/thread_siblings_list",
          std::to_string(core) + "," + std::to_string(core + 2) + "\n");
  }
  write("cpu4/topology/thread_siblings_list", "4\n");
  EXPECT_EQ(cores_of(root_, {0, 1, 2, 3}), 2);
  EXPECT_EQ(cores_of(root_, {0, 2}), 1);
  EXPECT_EQ(cores_of(root_, {1, 2}), 2);
  EXPECT_EQ(cores_of(root_, {0, 1, 2, 3, 4}), 3);
  EXPECT_EQ(cores_of(root_, {4, 7, 8}), 3) << "of 7 and 8 nothing is known";
}

TEST(AvailableCores, AreAtLeastOne) { EXPECT_GE(available_cores(), 1); }

}  // namespace
}  // namespace tenon::cpu
