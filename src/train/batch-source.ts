/**
 * Where a trainer's images come from: what it needs of a `DataLoader`.
 */
export interface Batch {
  /** `[size, ...shape]`, normalised. Valid until `release()`. */
  readonly images: Float32Array;
  readonly labels: Int32Array;
  /** Positions in the data set. */
  readonly indices: Int32Array;
  readonly size: number;
  /** Channels, height, width. */
  readonly shape: readonly [channels: number, height: number, width: number];
  /** Gives the memory of `images` back. */
  release(): void;
}

/** Batches by epoch: the same epoch gives the same batches. */
export interface BatchSource {
  /** Batches of an epoch. */
  readonly batches: number;
  /** The batches of an epoch, from `firstBatch` on. */
  epoch(epoch: number, firstBatch?: number): AsyncIterable<Batch>;
  readonly stats: { readonly waitSeconds: number };
}
