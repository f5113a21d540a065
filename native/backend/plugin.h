// A backend in a shared library of its own, opened at run time where its hardware may be: what it exports, and how it is
// opened. Both sides are built from the same sources, which they check; then they share the classes of device.h.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "backend/device.h"

namespace tenon {

// One device, for the user.
struct PluginDevice {
  char name[256];
  size_t bytes;  // of memory
  int major;     // compute capability
  int minor;
};

// A library that kernels ask for when they first need it.
struct PluginLibrary {
  std::string name;
  std::string version;  // "13.1.1"
  std::string file;     // empty: it can't be had, and `reason` says why
  std::string reason;
};

// What a backend uses beside its devices, for the user.
struct PluginDetails {
  std::vector<PluginLibrary> libraries;
  std::string
      tuning_file;  // where choices of algorithms are kept; empty: nothing is timed, and the reason says why
  std::string tuning_reason;  // one clause
  size_t tuning_choices = 0;  // that it holds
};

// What the exported function tenon_plugin() returns, in the layout of C. It lives as long as the process.
struct Plugin {
  const char* sources;  // hash of the headers that both sides share; always the first member
  // How many devices can be used; where none can, `reason` says why in a few words.
  int (*device_count)(char* reason, size_t capacity);
  void (*describe)(int index, PluginDevice* description);
  // Opens the libraries.
  PluginDetails (*details)();
  // Throws TensorError. The caller deletes the device.
  Device* (*make_device)(int index);
};

inline constexpr const char* kPluginFunction = "tenon_plugin";

// A plugin that could be opened, or why not.
struct OpenedPlugin {
  const Plugin* plugin = nullptr;  // null: it cannot be used
  int devices = 0;
  std::string reason;  // one clause, where there are no devices
};

OpenedPlugin open_plugin(const std::string& path);

}  // namespace tenon
