// Where libraries are looked for, in folders of the test's own.
#include "backend/cuda/shared_library.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include "core/error.h"

namespace tenon::cuda {
namespace {

const LibraryName kName{"Thing 2 or 3",     "nvidia-thing",
                        "TENON_TEST_THING", {"libthing.so.3", "libthing.so.2"},
                        "matmul",           "thing"};

class SharedLibrary : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) / ("tenon_shared_library" + std::to_string(getpid()));
    std::filesystem::remove_all(folder_);
    for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX", "HOME", "PATH"})
      set(variable, folder_ / variable);
    unsetenv(kName.variable);
  }
  void TearDown() override {
    std::filesystem::remove_all(folder_);
    for (const auto& [variable, value] : before_) {
      value ? setenv(variable.c_str(), value->c_str(), 1) : unsetenv(variable.c_str());
    }
  }
  void set(const char* variable, const std::string& value) {
    const char* const before = std::getenv(variable);
    before_.try_emplace(variable, before == nullptr ? std::nullopt : std::optional<std::string>(before));
    setenv(variable, value.c_str(), 1);
  }
  std::string make(const std::string& path) {
    const std::filesystem::path file = folder_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << "no library";
    return file.string();
  }

  std::filesystem::path folder_;
  std::map<std::string, std::optional<std::string>> before_;
};

TEST_F(SharedLibrary, IsLookedForInThePackagesOfPipAndThenBySystemNewestFirst) {
  const std::string packages = "/lib/python3.11/site-packages/nvidia/";
  const std::string user = make("HOME/.local" + packages + "thing/lib/libthing.so.3");
  const std::string conda = make("CONDA_PREFIX" + packages + "cu13/lib/libthing.so.3");
  const std::string own = make("VIRTUAL_ENV" + packages + "cu13/lib/libthing.so.3");
  const std::string old = make("VIRTUAL_ENV" + packages + "thing/lib/libthing.so.2");
  EXPECT_EQ(candidates(kName),
            (std::vector<std::string>{own, conda, user, "libthing.so.3", old, "libthing.so.2"}));
}

TEST_F(SharedLibrary, IsLookedForBesideThePythonOnThePathOnce) {
  const std::string packages = "/lib/python3.12/site-packages/nvidia/cu13/lib/libthing.so.3";
  const std::string conda = make("CONDA_PREFIX" + packages), python = make("python" + packages);
  make("other" + packages);
  for (const char* prefix : {"python", "other"}) make(std::string(prefix) + "/bin/python3");
  const auto path = [&](const std::string& first) {
    return (folder_ / "none/bin").string() + ":" + first + "/bin:" + (folder_ / "other/bin").string();
  };
  set("PATH", path(folder_ / "python"));
  EXPECT_EQ(candidates(kName), (std::vector<std::string>{conda, python, "libthing.so.3", "libthing.so.2"}));
  set("VIRTUAL_ENV", folder_ / "python");  // activated, as it is on the PATH too
  EXPECT_EQ(candidates(kName), (std::vector<std::string>{python, conda, "libthing.so.3", "libthing.so.2"}));
}

TEST_F(SharedLibrary, IsTheOneThatTheVariableNamesAndNoOther) {
  const std::string chosen = make("chosen.so");
  make("VIRTUAL_ENV/lib/python3.11/site-packages/nvidia/cu13/lib/libthing.so.3");
  set(kName.variable, chosen);
  EXPECT_EQ(candidates(kName), std::vector<std::string>{chosen});
}

TEST_F(SharedLibrary, ThatIsMissingIsOneSentence) {
  set(kName.variable, folder_ / "none.so");
  try {
    open_library(kName);
    FAIL();
  } catch (const TensorError& error) {
    EXPECT_EQ(error.what(),
              "matmul: expected Thing 2 or 3 (by `pip install nvidia-thing`, or "
              "the file that TENON_TEST_THING names), got: " +
                  (folder_ / "none.so").string() +
                  ": cannot open shared object file: No such file or directory");
    EXPECT_EQ(error.code(), "KERNEL");
  }
}

// A library of three functions, as Library structs are made for.
using Status = double;
#define TENON_TEST_FUNCTIONS(F) F(sqrt, (double x)) F(cbrt, (double x))
#define TENON_TEST_OTHERS(F) F(long, lround, (double x))
TENON_LIBRARY(TENON_TEST_FUNCTIONS, TENON_TEST_OTHERS)

TEST_F(SharedLibrary, HasItsFunctionsOrSaysWhichIsMissing) {
  const LibraryName math{"libm", "none", "TENON_TEST_THING", {"libm.so.6"}, "matmul", ""};
  Library library;
  void* const file = open_library(math);
  std::string names;
  library.visit_functions([&]<typename Function>(const char* name, Function& pointer) {
    names += std::string(name) + " ";
    if (std::string(name) != "GetVersion") {
      pointer = reinterpret_cast<Function>(function_of(math, file, name));
    }
  });
  EXPECT_EQ(names, "sqrt cbrt lround GetVersion ");
  EXPECT_EQ(library.sqrt(49), 7);
  EXPECT_EQ(library.lround(2.6), 3);
  EXPECT_NE(file_of(reinterpret_cast<const void*>(library.cbrt)).find("libm.so"), std::string::npos);
  try {
    load_library<Library>(math);
    FAIL();
  } catch (const TensorError& error) {
    EXPECT_EQ(std::string(error.what()).rfind("matmul: expected a library with GetVersion, got: ", 0), 0u);
  }
}

}  // namespace
}  // namespace tenon::cuda
