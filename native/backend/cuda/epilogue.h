// What follows a product of matmul or conv2d and is in no library's epilogue: one kernel each, which may work in place.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/queue.h"

namespace tenon::cuda {

// out = activation(product + bias) + residual, or with residual_first activation(product + bias + residual). Matrices
// or batches of them, whose rows are contiguous but for the residual's; 16-bit ones may have a product in float32.
struct Epilogue {
  View product;  // absent: zero
  View bias;     // of a row, or absent
  View residual;
  View out;
  Activation activation = Activation::None;
  bool residual_first = false;
  View before = {};  // as out, or absent: product + bias is written there too
};

void finish(Queue& queue, const char* op, const Epilogue& epilogue);

// The product is in dbefore; a and b are not read.
void finish_backward(Queue& queue, const char* op, const MatmulActivationBackwardArgs& args);

}  // namespace tenon::cuda
