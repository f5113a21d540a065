// Libraries that are opened by name when a kernel first needs them: neither the build nor a program that does without
// them asks for one.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace tenon::cuda {

struct LibraryName {
  const char* title;               // "cuDNN 9"
  const char* package;             // of pip
  const char* variable;            // an environment variable that names the file, and then no other is tried
  std::vector<const char*> files;  // newest first
  const char* op;                  // that needs it
  const char* prefix;              // of its functions' names
};

// Where it may be, best first: the environment variable; beside the plugin; the `nvidia` packages of pip, in the virtual
// environment, conda's, that of the python3 on the PATH, the user's and the system's; CUDA's folder; where the system looks.
std::vector<std::string> candidates(const LibraryName& name);

// Opens the first that is there, for good.
// @throws TensorError that says what is missing and how to come by it
void* open_library(const LibraryName& name);

// @throws TensorError where the library has no such function
void* function_of(const LibraryName& name, void* library, const char* function);

// The file that holds a function.
std::string file_of(const void* function);

// `struct Library` with a pointer to each function of a list of F(name, (parameters)), which return a Status, to each of a
// list of F(result, name, (parameters)), and to GetVersion. visit(name, pointer) is called for each.
#define TENON_LIBRARY(LIST, OTHERS)            \
  struct Library {                             \
    LIST(TENON_LIBRARY_MEMBER)                 \
    OTHERS(TENON_LIBRARY_OTHER_MEMBER)         \
    size_t (*GetVersion)() = nullptr;          \
    template <typename Visit>                  \
    void visit_functions(const Visit& visit) { \
      LIST(TENON_LIBRARY_VISIT)                \
      OTHERS(TENON_LIBRARY_VISIT_OTHER)        \
      visit("GetVersion", GetVersion);         \
    }                                          \
  };
#define TENON_LIBRARY_MEMBER(name, parameters) Status(*name) parameters = nullptr;
#define TENON_LIBRARY_OTHER_MEMBER(result, name, parameters) result(*name) parameters = nullptr;
#define TENON_LIBRARY_VISIT(name, parameters) visit(#name, name);
#define TENON_LIBRARY_VISIT_OTHER(result, name, parameters) visit(#name, name);

// @throws TensorError as open_library and function_of do
template <typename Library>
Library load_library(const LibraryName& name) {
  void* const file = open_library(name);
  Library library;
  library.visit_functions([&]<typename Function>(const char* function, Function& pointer) {
    pointer = reinterpret_cast<Function>(function_of(name, file, function));
  });
  return library;
}

}  // namespace tenon::cuda
