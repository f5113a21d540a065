/**
 * The op table on an emulated GPU: each op against its reference, forward and backward, on small samples.
 */
import '../helpers/emulated-cuda.js';

import '../helpers/every-op.js';
