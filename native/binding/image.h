// Images as JavaScript has them: { data: Uint8Array of [height, width, 3], height, width }.
#pragma once

#include <napi.h>

namespace tenon::binding {

void define_image_functions(Napi::Env env, Napi::Object exports);

}  // namespace tenon::binding
