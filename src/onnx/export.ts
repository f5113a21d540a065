/**
 * Models for other runtimes: a forward pass, written down as an ONNX graph.
 */
import type { ModelInfo } from '../models/index.js';
import type { TensorModule } from '../nn/index.js';

/** What is known of a model besides its layers. */
export interface ExportOnnxOptions {
  /** What the model's checkpoint says: the classes and how images are prepared, which the file's metadata then hold. */
  readonly info?: ModelInfo | undefined;
  /** The sizes of one input, without the batch. Default: those of the images that the model is made for, `[C, H, W]`. */
  readonly shape?: readonly number[] | undefined;
  /** What the result is called. Default 'logits', or 'features' for a model without classes. */
  readonly output?: string | undefined;
}

/** An input or a result of an exported model. */
export interface OnnxValue {
  readonly name: string;
  /** `batch` stands for any number of samples. */
  readonly shape: readonly (number | string)[];
}

/** What `exportOnnx` has written. */
export interface OnnxExport {
  readonly path: string;
  /** The file beside it that holds the weights of a model of more than 2 GiB. */
  readonly dataPath?: string;
  /** Of all that was written. */
  readonly bytes: number;
  /** The version of ONNX's operators. */
  readonly opset: number;
  readonly input: OnnxValue;
  readonly output: OnnxValue;
}

/**
 * Writes a model as an ONNX file, which runtimes such as ONNX Runtime run in other languages and in the browser. The model runs
 * twice in evaluation mode, with inputs of different sizes and values; the ops of both runs, which must be the same, become the graph,
 * in float32. Its input is `images`, of any number of samples; its result is `logits`, or `features`. The weights have their names of
 * the state dict; those of linear layers lie as `[in, out]`. Each module is left in its own mode.
 *
 * @throws TensorError VALUE for a model with an op that has no translation, whose ops or sizes depend on the batch or on values of the
 *   input, or that reads values of the input; for a shape or options that make no sense; IO when a file cannot be written
 * @example
 * const { model, info } = await loadPretrained('runs/photos');
 * await exportOnnx('photos.onnx', model, { info });
 */
export async function exportOnnx(
  path: string,
  model: TensorModule,
  options: ExportOnnxOptions = {},
): Promise<OnnxExport> {
  const { exportWithin } = await import('./write.js'); // and with it protobuf, which most programs do not need
  return exportWithin(path, model, options);
}
