#include "backend/cuda/shared_library.h"

#include <dlfcn.h>
#include <glob.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "core/error.h"

namespace tenon::cuda {

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::vector<std::string> files(const std::string& pattern) {
  std::vector<std::string> found;
  glob_t matches{};
  if (glob(pattern.c_str(), 0, nullptr, &matches) == 0) {
    found.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  }
  globfree(&matches);
  return found;
}

// The folder above the bin/ of the first python3 on the PATH, or nothing.
std::string python_prefix() {
  std::istringstream path(variable("PATH"));
  for (std::string folder; std::getline(path, folder, ':');) {
    std::error_code ignored;
    const std::filesystem::path bin(folder);
    if (!folder.empty() && std::filesystem::exists(bin / "python3", ignored)) return bin.parent_path();
  }
  return "";
}

std::vector<std::string> folders() {
  const std::filesystem::path plugin = file_of(reinterpret_cast<const void*>(&candidates));
  std::vector<std::string> found = {plugin.has_parent_path() ? plugin.parent_path().string() : "."};
  for (const std::string& prefix : {variable("VIRTUAL_ENV"), variable("CONDA_PREFIX"), python_prefix()}) {
    const std::string folder = prefix + "/lib/python3*/site-packages/nvidia/*/lib";
    if (!prefix.empty() && std::find(found.begin(), found.end(), folder) == found.end())
      found.push_back(folder);
  }
  found.push_back(variable("HOME") + "/.local/lib/python3*/site-packages/nvidia/*/lib");
  found.emplace_back("/usr/local/lib/python3*/*-packages/nvidia/*/lib");
  found.emplace_back("/usr/local/cuda/lib64");
  return found;
}

}  // namespace

std::vector<std::string> candidates(const LibraryName& name) {
  if (const std::string chosen = variable(name.variable); !chosen.empty()) return {chosen};
  std::vector<std::string> paths;
  for (const char* file : name.files) {
    for (const std::string& folder : folders()) {
      for (const std::string& path : files(folder + "/" + file)) paths.push_back(path);
    }
    paths.emplace_back(file);
  }
  return paths;
}

void* open_library(const LibraryName& name) {
  std::string tried;
  for (const std::string& path : candidates(name)) {
    if (void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) return library;
    tried += (tried.empty() ? "" : "; ") + std::string(dlerror());
  }
  throw TensorError(name.op, code::kKernel,
                    std::string("expected ") + name.title + " (by `pip install " + name.package +
                        "`, or the file that " + name.variable + " names), got: " + tried);
}

void* function_of(const LibraryName& name, void* library, const char* function) {
  const std::string symbol = std::string(name.prefix) + function;
  void* const found = dlsym(library, symbol.c_str());
  if (found == nullptr) {
    throw TensorError(name.op, code::kKernel, "expected a library with " + symbol + ", got: " + dlerror());
  }
  return found;
}

std::string file_of(const void* function) {
  Dl_info info;
  return dladdr(function, &info) == 0 || info.dli_fname == nullptr ? "" : info.dli_fname;
}

}  // namespace tenon::cuda
