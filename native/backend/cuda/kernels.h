// CUDA's kernels, one per entry of backend.h that has been written; each lives in the file that bears its name.
#pragma once

#include "backend/backend.h"

namespace tenon::cuda {

void attention(const AttentionArgs& args, void* stream);
void attention_backward(const AttentionBackwardArgs& args, void* stream);
void attention_rows(const AttentionRowsArgs& args, void* stream);
void fill(const FillArgs& args, void* stream);
void arange(const ArangeArgs& args, void* stream);
void copy(const CopyArgs& args, void* stream);
void unary(const UnaryArgs& args, void* stream);
void binary(const BinaryArgs& args, void* stream);
void where(const WhereArgs& args, void* stream);
void reduce(const ReduceArgs& args, void* stream);
void cumsum(const CumsumArgs& args, void* stream);
void topk(const TopkArgs& args, void* stream);
void index_select(const IndexSelectArgs& args, void* stream);
void index_add(const IndexAddArgs& args, void* stream);
void gather(const GatherArgs& args, void* stream);
void scatter_add(const ScatterAddArgs& args, void* stream);
void one_hot(const OneHotArgs& args, void* stream);
void layer_norm(const LayerNormArgs& args, void* stream);
void layer_norm_backward(const LayerNormBackwardArgs& args, void* stream);
void cross_entropy(const CrossEntropyArgs& args, void* stream);
void logsumexp(const LogsumexpArgs& args, void* stream);
void adam(const AdamArgs& args, void* stream);
void clip(const ClipArgs& args, void* stream);
void global_norm(const GlobalNormArgs& args, void* stream);
void lerp(const LerpArgs& args, void* stream);
void sgd(const SgdArgs& args, void* stream);
void softmax(const SoftmaxArgs& args, void* stream);
void softmax_backward(const SoftmaxBackwardArgs& args, void* stream);

}  // namespace tenon::cuda
