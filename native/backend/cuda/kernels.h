// CUDA's kernels, one per entry of backend.h that has been written; each lives in the file that bears its name.
#pragma once

#include "backend/backend.h"

namespace tenon::cuda {

void attention(const AttentionArgs& args, void* stream);
void attention_backward(const AttentionBackwardArgs& args, void* stream);
void attention_rows(const AttentionRowsArgs& args, void* stream);
void layer_norm(const LayerNormArgs& args, void* stream);
void layer_norm_backward(const LayerNormBackwardArgs& args, void* stream);

}  // namespace tenon::cuda
