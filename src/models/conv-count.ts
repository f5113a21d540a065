/**
 * Counts a convolutional network layer by layer, from its settings alone.
 */
/** One convolution. */
export interface CountedConv {
  readonly kernel: number;
  readonly stride?: number;
  readonly groups?: number;
  readonly bias?: boolean;
  /** Followed by batch norm. Default true. */
  readonly norm?: boolean;
}

/** Walks through a network with the map that each layer leaves. Every window has a padding of half its kernel. */
export class ConvCounter {
  parameters = 0;
  macs = 0;

  constructor(public map: readonly [height: number, width: number]) {}

  /** A convolution, and the map after it. */
  conv(inChans: number, outChans: number, options: CountedConv): void {
    const { kernel, stride = 1, groups = 1, bias = false, norm = true } = options;
    this.shrink(kernel, stride);
    const weights = (inChans / groups) * outChans * kernel ** 2;
    this.parameters += weights + (bias ? outChans : 0) + (norm ? 2 * outChans : 0);
    this.macs += weights * this.map[0] * this.map[1];
  }

  /** A window without weights. */
  shrink(kernel: number, stride: number): void {
    const after = (n: number): number => Math.floor((n + 2 * Math.floor(kernel / 2) - kernel) / stride) + 1;
    this.map = [after(this.map[0]), after(this.map[1])];
  }

  /** A branch that leaves the map alone. */
  aside(count: () => void): void {
    const { map } = this;
    count();
    this.map = map;
  }

  /** A linear layer with bias on the pooled features; none for no classes. */
  head(channels: number, classes: number): void {
    if (classes === 0) return;
    this.parameters += (channels + 1) * classes;
    this.macs += channels * classes;
  }
}
