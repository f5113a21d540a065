/**
 * The cases of every op; test/cuda/ops.ts fails where a file is missing.
 */
import '../ops/arithmetic.js';
import '../ops/attention.js';
import '../ops/batch-norm.js';
import '../ops/binary-cross-entropy.js';
import '../ops/checkpoint.js';
import '../ops/comparison.js';
import '../ops/conv2d.js';
import '../ops/creation.js';
import '../ops/cross-entropy.js';
import '../ops/dropout.js';
import '../ops/einops.js';
import '../ops/einsum.js';
import '../ops/indexing.js';
import '../ops/interpolate.js';
import '../ops/join.js';
import '../ops/layer-norm.js';
import '../ops/linear.js';
import '../ops/matmul.js';
import '../ops/mlp.js';
import '../ops/pad.js';
import '../ops/pool2d.js';
import '../ops/random.js';
import '../ops/reduce.js';
import '../ops/scan.js';
import '../ops/shape.js';
import '../ops/slice.js';
import '../ops/softmax.js';
import '../ops/tensor.js';
import '../ops/unary.js';
import '../ops/where.js';
import '../ops/window-attention.js';
