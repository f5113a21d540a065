/**
 * The training loop: forward, loss, backward, update, and what goes with it.
 *
 * The loop stays one step ahead of the device: a step is queued while the one before still runs, and its loss is read
 * when the next has been queued. Nothing waits on the JavaScript thread. On a GPU a step is one CUDA graph.
 */
import { type FloatTensor, snapshot } from '../nn/index.js';
import { argmax, clone, tensor } from '../ops/index.js';
import {
  Adam,
  AdamW,
  Ema,
  GradScaler,
  type Optimizer,
  SGD,
  type StepOptions,
  globalNorm,
} from '../optim/index.js';
import {
  type CapturedStep,
  type Tensor,
  backward,
  capture,
  copyInto,
  detach,
  getRandomState,
  keep,
  manualSeed,
  scope,
  setRandomState,
} from '../tensor/index.js';
import { type OptionNames, expectOptions, expectWhole } from '../tensor/arguments.js';
import { fail, named } from '../tensor/error.js';
import type { BatchSource } from '../data/index.js';
import {
  evaluate,
  type EvaluateOptions,
  type Evaluation,
  type ImageModel,
  type Prediction,
} from '../inference/index.js';
import { imagesOf, targetOf } from '../inference/evaluate.js';
import { expectOutputs } from '../inference/outputs.js';
import { inPrecision } from '../inference/precision.js';
import { settled } from '../inference/settle.js';
import type { TrainingState } from './checkpoint.js';
import { distilledLoss } from './distillation.js';
import { type Target, expectThreshold, labelLoss } from './label-loss.js';
import { isBetter } from './eval-metric.js';
import { FrozenLayers } from './layers.js';
import { type DecayableModel, paramGroups } from './param-groups.js';
import {
  type EpochMetrics,
  type Progress,
  START,
  type StepEvent,
  epochMetrics,
  nextEpoch,
  stepEvent,
} from './progress.js';
import { cosineSchedule } from './schedule.js';
import { type ResolvedTrainerOptions, type TrainerOptions, resolveOptions } from './trainer-options.js';

/** Hooks of a run. Asynchronous ones are waited for. */
export interface TrainerEvents {
  /** After each batch, with its loss. */
  readonly onStep?: (event: StepEvent) => void;
  /** Sees the number of validation images done. */
  readonly onEvaluated?: (images: number) => void;
  /** After the evaluation of an epoch; `best` when it is the best so far, by `evalMetric`. The trainer is idle then: save here. */
  readonly onEpoch?: (metrics: EpochMetrics, best: boolean) => void | Promise<void>;
  /** Every `saveEvery` updates, and when the signal stops the run. The trainer is idle then: save here. */
  readonly onSave?: () => void | Promise<void>;
}

export interface RunOptions extends TrainerEvents {
  readonly classes: number;
  readonly val?: BatchSource | undefined;
  /** Stops after the current step, or within an evaluation, which a later run then repeats. */
  readonly signal?: AbortSignal | undefined;
  /** Updates between two calls of `onSave`; undefined for none within an epoch. */
  readonly saveEvery?: number | undefined;
}

const RUN_OPTIONS = {
  classes: true,
  val: true,
  signal: true,
  saveEvery: true,
  onStep: true,
  onEvaluated: true,
  onEpoch: true,
  onSave: true,
} satisfies OptionNames<RunOptions>;

/** The number of classes, and who watches, of an evaluation in the trainer's precision. */
export interface TrainerEvaluateOptions extends Pick<EvaluateOptions, 'classes' | 'signal'> {
  /** Sees the number of images done. */
  readonly onEvaluated?: ((images: number) => void) | undefined;
  /** Sees each prediction. */
  readonly onPrediction?: ((prediction: Prediction) => void) | undefined;
}

const EVALUATE_OPTIONS = {
  classes: true,
  signal: true,
  onEvaluated: true,
  onPrediction: true,
} satisfies OptionNames<TrainerEvaluateOptions>;

/** What to do about numbers that are none. */
const REMEDY = 'try a lower learning rate, a longer warm-up or gradient clipping';

/** What a step computes for its report, on the device. */
type StepValues = Readonly<Record<'loss' | 'correct', Tensor>>;

/** Values of a step on their way from the device. */
interface Pending extends StepValues {
  readonly images: number;
  readonly batch: number;
  readonly step: number;
  readonly lr: number;
}

/**
 * Trains a classifier of images, on the device that the model is on.
 *
 * @example
 * const trainer = new Trainer(model, { epochs: 10, lr: 1e-3, warmupEpochs: 1, smoothing: 0.1 });
 * await trainer.run(trainLoader, { classes: 10, val: valLoader, onEpoch: (m) => console.log(m.valAccuracy) });
 */
export class Trainer {
  readonly model: ImageModel & DecayableModel;
  readonly options: ResolvedTrainerOptions;
  readonly optimizer: Optimizer;
  readonly ema: Ema | undefined;
  /** Of losses in float16. */
  readonly scaler: GradScaler | undefined;
  /** Where the run stands. */
  progress: Progress = { ...START };
  private readonly frozen: FrozenLayers;
  /** Of the run. */
  private classes = 0;
  /** On the model's device. */
  private readonly classWeights: Tensor<'float32'> | undefined;
  /**
   * A batch that makes an update. Undefined where that is no graph: a scaler decides on the host, and gradients that
   * batches share stay from one to the next. The teacher runs before it, because its logits may come from the disk.
   */
  private readonly step:
    CapturedStep<[images: FloatTensor, target: Target, ...taught: FloatTensor[]], StepValues> | undefined;

  constructor(model: ImageModel & DecayableModel, options: TrainerOptions) {
    this.model = model;
    this.options = resolveOptions(options);
    this.frozen = new FrozenLayers('Trainer', model, this.options.freezeLayers);
    try {
      this.optimizer = this.makeOptimizer();
    } catch (error) {
      this.frozen.thaw();
      throw error;
    }
    const { modelEmaDecay: decay, modelEmaWarmup: warmup } = this.options;
    this.ema = decay === undefined ? undefined : new Ema(model.stateDict(), { decay, warmup });
    this.scaler = this.options.precision === 'fp16' ? new GradScaler() : undefined;
    const { classWeights } = this.options;
    this.classWeights = classWeights && keep(tensor([...classWeights], { device: model.device }));
    const { noGraph, gradAccumSteps } = this.options;
    if (!noGraph && gradAccumSteps === 1 && this.scaler === undefined) {
      this.step = capture((images, target, ...[taught]) => {
        const values = this.accumulate(images, target, taught, 1);
        this.applyUpdate();
        return values;
      });
    }
    manualSeed(this.options.seed);
  }

  private makeOptimizer(): Optimizer {
    const { opt, lr, weightDecay, layerDecay, momentum, optBetas } = this.options;
    const groups = named('Trainer', 'paramGroups', () =>
      paramGroups(this.model, weightDecay, { layerDecay }),
    );
    switch (opt) {
      case 'adamw':
        return new AdamW(groups, { lr, betas: optBetas });
      case 'adam':
        return new Adam(groups, { lr, betas: optBetas });
      case 'sgd':
        return new SGD(groups, { lr, momentum, nesterov: momentum > 0 });
    }
  }

  /**
   * Trains from where the run stands to its end, or until the signal. Returns whether it reached the end.
   *
   * @throws TensorError VALUE when the loss or a weight is not finite: the weights are lost, the last checkpoint is not; when the
   *   model's outputs, or `classWeights`, are not `classes`, or `bceTargetThresh` makes all of them targets, or none; when
   *   `patience` has no `val` to go by
   */
  async run(train: BatchSource, options: RunOptions): Promise<boolean> {
    expectOptions('Trainer', options, RUN_OPTIONS);
    expectWhole('Trainer', 'classes', options.classes, 1);
    expectThreshold('Trainer', 'bceTargetThresh', this.options, options.classes);
    const weights = this.options.classWeights?.length ?? options.classes;
    if (weights !== options.classes) {
      fail(
        'Trainer',
        'VALUE',
        `expected ${options.classes} classWeights, one for each class, got ${weights}`,
      );
    }
    if (this.options.patience !== undefined && options.val === undefined) {
      fail('Trainer', 'VALUE', 'expected validation images (val) for patience, got none');
    }
    this.classes = options.classes;
    return settled(this.model.device, () => this.runEpochs(train, options));
  }

  /** Whether nothing is left to train: after the last epoch, or as many without a better one as `patience` says. */
  get isComplete(): boolean {
    const { epochs, patience = Infinity } = this.options;
    const { epoch, bestEpoch } = this.progress;
    return epoch >= epochs || (bestEpoch !== null && epoch - 1 - bestEpoch >= patience);
  }

  private async runEpochs(train: BatchSource, options: RunOptions): Promise<boolean> {
    const { epochs, gradAccumSteps, warmupEpochs, lr, minLr, warmupLr } = this.options;
    const perEpoch = Math.ceil(train.batches / gradAccumSteps);
    if (perEpoch === 0) fail('Trainer', 'VALUE', 'expected at least one batch of training images, got none');
    const lrAt = cosineSchedule({
      lr,
      minLr,
      warmupLr,
      steps: perEpoch * epochs,
      warmupSteps: Math.round(perEpoch * warmupEpochs),
    });
    while (!this.isComplete) {
      this.frozen.train();
      const finished = await this.trainEpoch(train, lrAt, options);
      await this.checkWeights(); // before an evaluation, or a checkpoint that would replace a good one
      const ended = finished ? await this.endEpoch(lrAt(this.progress.step - 1), options) : undefined;
      if (ended === undefined) {
        await options.onSave?.();
        return false;
      }
      await options.onEpoch?.(ended.metrics, ended.best);
    }
    return true;
  }

  /** Runs the rest of an epoch. Returns false when the signal stopped it. */
  private async trainEpoch(
    train: BatchSource,
    lrAt: (step: number) => number,
    options: RunOptions,
  ): Promise<boolean> {
    const { progress } = this;
    const { gradAccumSteps } = this.options;
    const { device } = this.model;
    const waitedBefore = train.stats.waitSeconds - progress.waitSeconds;
    const startedBefore = performance.now() / 1000 - progress.seconds;
    const clock = (): void => {
      progress.seconds = performance.now() / 1000 - startedBefore;
      progress.waitSeconds = train.stats.waitSeconds - waitedBefore;
    };
    const finish = async (pending: Pending): Promise<void> => {
      const loss = await this.finishStep(pending);
      clock();
      options.onStep?.(stepEvent(progress, { ...pending, loss, batches: train.batches }));
    };

    const teacher = this.options.distillation?.teacher;
    await teacher?.cache?.begin(progress.epoch, progress.batch);
    let before: Pending | undefined;
    let group = -1;
    for await (const batch of train.epoch(progress.epoch, progress.batch)) {
      const groupStart = batch.number - (batch.number % gradAccumSteps);
      // A group whose last batch was left out, all of it damaged, makes no update.
      if (groupStart !== group) this.optimizer.zeroGrad();
      group = groupStart;
      const groupSize = Math.min(gradAccumSteps, train.batches - groupStart);
      const updates = batch.number === groupStart + groupSize - 1;
      const lr = lrAt(progress.step);
      this.optimizer.setLearningRate(lr);
      const recalled = await teacher?.recall(batch);
      const values = scope(() => {
        const images = imagesOf(batch, device);
        const target = targetOf(batch, device);
        batch.release();
        const taught = teacher && (recalled ?? teacher.call(images));
        if (taught !== undefined && recalled === undefined) teacher?.cache?.write(keep(clone(taught)));
        if (this.step === undefined) return this.accumulate(images, target, taught, 1 / groupSize);
        return taught === undefined ? this.step(images, target) : this.step(images, target, taught);
      });
      recalled?.dispose();
      if (updates && this.step === undefined) await this.update();
      progress.batch = batch.number + 1;
      if (updates) progress.step += 1;
      const pending = { ...values, images: batch.size, batch: progress.batch, step: progress.step, lr };
      if (before !== undefined) await finish(before);
      before = pending;

      const stops = options.signal?.aborted === true;
      const saves = updates && options.saveEvery !== undefined && progress.step % options.saveEvery === 0;
      if (!updates || !(stops || saves)) continue;
      await finish(before);
      before = undefined;
      if (stops) return false;
      if (progress.batch === train.batches) break; // the epoch's own end saves
      await this.checkWeights();
      await options.onSave?.();
    }
    if (before !== undefined) await finish(before);
    await teacher?.cache?.finish();
    clock();
    return true;
  }

  /** One batch: forward, and backward of its share of the update. */
  private accumulate(
    images: FloatTensor,
    target: Target,
    taught: FloatTensor | undefined,
    share: number,
  ): StepValues {
    const { loss, logits } = inPrecision(this.options.precision, () => this.loss(images, target, taught));
    const part = share === 1 ? loss : loss.mul(share);
    backward(this.scaler?.scale(part) ?? part);
    // Of a mixed image, the class with the larger share counts.
    const labels = target.ndim === 2 ? argmax(target, { dim: 1 }) : target.to('int64');
    const hits = argmax(detach(logits), { dim: 1 }).equal(labels);
    return { loss: detach(loss), correct: hits.to('float32').sum() };
  }

  /** Updates the weights by the gradients that batches have left. With a scaler it waits for them. */
  private async update(): Promise<void> {
    if (this.scaler === undefined) {
      this.applyUpdate();
      return;
    }
    await this.scaler.step(this.optimizer, this.stepOptions);
    this.scaler.update();
    if (this.scaler.getScale() < 1) {
      fail(
        'Trainer',
        'VALUE',
        `expected finite gradients, got overflow without a loss scale; ${REMEDY}, or bf16`,
      );
    }
    this.endUpdate();
  }

  /** The same without a scaler: nothing waits. */
  private applyUpdate(): void {
    scope(() => void this.optimizer.step(this.stepOptions));
    this.endUpdate();
  }

  private endUpdate(): void {
    this.optimizer.zeroGrad();
    this.ema?.update();
  }

  private get stepOptions(): StepOptions {
    const { clipGrad } = this.options;
    return clipGrad === undefined ? {} : { maxNorm: clipGrad };
  }

  /** The loss of a batch, and the logits to count hits with. */
  private loss(
    images: FloatTensor,
    target: Target,
    taught: FloatTensor | undefined,
  ): { loss: FloatTensor; logits: FloatTensor } {
    const { distillation } = this.options;
    const base = (logits: FloatTensor): FloatTensor => {
      expectOutputs('Trainer', logits.shape, this.classes);
      return labelLoss(logits, target, this.options, this.classWeights);
    };
    if (distillation !== undefined && taught !== undefined) {
      return distilledLoss(this.model, images, taught, base, distillation);
    }
    const logits = this.model.call(images);
    return { loss: base(logits), logits };
  }

  /** Reads what a step computed. */
  private async finishStep(pending: Pending): Promise<number> {
    const [loss, correct] = (await Promise.all([pending.loss.item(), pending.correct.item()])) as [
      number,
      number,
    ];
    pending.loss.dispose();
    pending.correct.dispose();
    if (!Number.isFinite(loss)) {
      fail(
        'Trainer',
        'VALUE',
        `expected a finite loss, got ${loss} at epoch ${this.progress.epoch + 1}, batch ${pending.batch}; ` +
          REMEDY,
      );
    }
    this.progress.lossSum += loss * pending.images;
    this.progress.correct += correct;
    this.progress.images += pending.images;
    return loss;
  }

  /** A finite loss can still have a gradient that is not, which the next loss would show. */
  private async checkWeights(): Promise<void> {
    const norm = scope(() => keep(globalNorm(this.model.parameters())));
    const value = await norm.item();
    norm.dispose();
    if (Number.isFinite(value)) return;
    const { epoch, batch } = this.progress;
    fail(
      'Trainer',
      'VALUE',
      `expected finite weights, got ${value} after epoch ${epoch + 1}, batch ${batch}; ${REMEDY}`,
    );
  }

  /** Evaluates and turns to the next epoch. Returns undefined when the signal stopped the evaluation. */
  private async endEpoch(
    lr: number,
    options: RunOptions,
  ): Promise<{ metrics: EpochMetrics; best: boolean } | undefined> {
    const { progress } = this;
    const { val, classes, signal, onEvaluated } = options;
    let evaluation: Evaluation | undefined;
    try {
      evaluation = val && (await this.evaluate(val, { classes, signal, onEvaluated }));
    } catch (error) {
      if (signal?.aborted === true && error === signal.reason) return undefined;
      throw error;
    }
    const best = evaluation === undefined || isBetter(this.options.evalMetric, evaluation, progress);
    if (best) {
      progress.bestAccuracy = evaluation?.accuracy ?? null;
      progress.bestBalancedAccuracy = evaluation?.balancedAccuracy ?? null;
      progress.bestLoss = evaluation?.loss ?? null;
      progress.bestEpoch = progress.epoch;
    }
    this.progress = nextEpoch(progress);
    return { metrics: epochMetrics(progress, lr, evaluation), best };
  }

  /** Evaluates the averaged weights where there are some, else the weights. */
  async evaluate(source: BatchSource, options: TrainerEvaluateOptions): Promise<Evaluation> {
    expectOptions('Trainer', options, EVALUATE_OPTIONS);
    const { classes, signal, onEvaluated, onPrediction } = options;
    const run = (): Promise<Evaluation> =>
      evaluate(this.model, source, {
        classes,
        precision: this.options.precision,
        signal,
        ...(onEvaluated && { onProgress: onEvaluated }),
        ...(onPrediction && { onPrediction }),
      });
    if (this.ema === undefined) return run();
    const own = this.model.stateDict();
    const saved = snapshot(own);
    const put = (values: Readonly<Record<string, Tensor>>): void => {
      for (const [name, target] of Object.entries(own)) copyInto(target, values[name]);
    };
    put(this.ema.averages);
    try {
      return await run();
    } finally {
      put(saved);
      for (const tensor of Object.values(saved)) tensor.dispose();
    }
  }

  /** The weights to ship: the averages where there are some. References, not copies. */
  get weights(): Readonly<Record<string, Tensor>> {
    return this.ema?.averages ?? this.model.stateDict();
  }

  /** Everything that a checkpoint stores. References: save before the next step. */
  state(): TrainingState {
    const optimizer = this.optimizer.stateDict();
    return {
      tensors: {
        ...prefixed('model.', this.model.stateDict()),
        ...prefixed('optimizer.', optimizer.tensors),
        ...prefixed('ema.', this.ema?.averages ?? {}),
      },
      values: {
        optimizer: optimizer.values,
        emaSteps: this.ema?.steps ?? 0,
        scaler: this.scaler?.stateDict(),
        random: getRandomState(),
        progress: { ...this.progress },
      },
    };
  }

  /**
   * Continues from a stored state.
   * @throws TensorError VALUE or SHAPE when it belongs to another model or optimizer
   */
  loadState({ tensors, values }: TrainingState): void {
    this.model.loadStateDict(withPrefix('model.', tensors));
    this.optimizer.loadStateDict({ tensors: withPrefix('optimizer.', tensors), values: values.optimizer });
    const averages = withPrefix('ema.', tensors);
    if (this.ema !== undefined) {
      for (const [name, target] of Object.entries(this.ema.averages)) {
        copyInto(
          target,
          averages[name] ?? fail('Trainer', 'VALUE', `expected a tensor ema.${name} in the state`),
        );
      }
      this.ema.steps = values.emaSteps;
    }
    this.scaler?.loadStateDict(
      values.scaler ?? fail('Trainer', 'VALUE', 'expected the state of a gradient scaler, got none'),
    );
    setRandomState(values.random);
    this.progress = { ...START, ...values.progress };
  }

  /** Frees the optimizer's state and the averages; the model stays, and what `freezeLayers` froze may train again. */
  dispose(): void {
    this.frozen.thaw();
    this.step?.dispose();
    this.optimizer.dispose();
    this.ema?.dispose();
    this.classWeights?.dispose();
  }
}

function prefixed(prefix: string, tensors: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(tensors).map(([name, value]) => [prefix + name, value]));
}

function withPrefix(prefix: string, tensors: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(tensors)
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, value]) => [name.slice(prefix.length), value]),
  );
}
