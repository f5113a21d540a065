#include "backend/plugin.h"

#include <dlfcn.h>

#include <cstring>
#include <filesystem>

namespace tenon {

OpenedPlugin open_plugin(const std::string& path) {
  OpenedPlugin opened;
  if (std::error_code ignored; !std::filesystem::exists(path, ignored)) {
    opened.reason = "Tenon was built without it: " + path + " does not exist (npm run build:cuda makes it)";
    return opened;
  }
  // Kept open: its threads and the devices' code must outlive whoever opened it.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    opened.reason = dlerror();
    return opened;
  }
  const auto function = reinterpret_cast<const Plugin* (*)()>(dlsym(library, kPluginFunction));
  if (function == nullptr) {
    opened.reason = path + " is no plugin of Tenon: it has no function " + kPluginFunction;
    return opened;
  }
  const Plugin* plugin = function();
  if (std::strcmp(plugin->sources, TENON_PLUGIN_SOURCES) != 0) {
    opened.reason = path + " and the addon were built from different sources: build both again";
    return opened;
  }
  char reason[512] = "";
  opened.devices = plugin->device_count(reason, sizeof reason);
  opened.reason = reason;
  if (opened.devices > 0) opened.plugin = plugin;
  return opened;
}

}  // namespace tenon
