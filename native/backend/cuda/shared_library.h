// Libraries that are opened by name when a kernel first needs them: neither the build nor a program that does without
// them asks for one.
#pragma once

#include <string>
#include <vector>

namespace tenon::cuda {

struct LibraryName {
  const char* title;               // "cuDNN 9"
  const char* package;             // of pip
  const char* variable;            // an environment variable that names the file, and then no other is tried
  std::vector<const char*> files;  // newest first
};

// Where it may be, best first: the environment variable; beside the plugin; the `nvidia` packages of pip, in the virtual
// environment, conda's, the user's and the system's; CUDA's folder; where the system looks.
std::vector<std::string> candidates(const LibraryName& name);

// Opens the first that is there, for good.
// @throws TensorError that says what is missing and how to come by it
void* open_library(const char* op, const LibraryName& name);

// @throws TensorError where the library has no such function
void* function_of(const char* op, void* library, const char* function);

}  // namespace tenon::cuda
