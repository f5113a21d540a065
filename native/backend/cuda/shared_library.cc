#include "backend/cuda/shared_library.h"

#include <dlfcn.h>
#include <glob.h>

#include <cstdlib>
#include <filesystem>

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

std::vector<std::string> folders() {
  const std::filesystem::path plugin = file_of(reinterpret_cast<const void*>(&candidates));
  std::vector<std::string> found = {plugin.has_parent_path() ? plugin.parent_path().string() : "."};
  for (const char* prefix : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    const std::string root = variable(prefix);
    if (!root.empty()) found.push_back(root + "/lib/python3*/site-packages/nvidia/*/lib");
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
