/** Some images and their classes, ready for a model. */
export interface Batch {
  /** `[size, ...shape]`, normalised. Valid until `release()`, or the end of the epoch. */
  readonly images: Float32Array;
  /** `[size]` */
  readonly labels: Int32Array;
  /** Of mixed images: the share of each class, `[size, classes]`. Take these for the loss, in place of the labels. */
  readonly targets?: Float32Array;
  /** Positions in the data set, `[size]`. */
  readonly indices: Int32Array;
  readonly size: number;
  /** Place in the epoch, from 0. */
  readonly number: number;
  readonly shape: readonly [channels: number, height: number, width: number];
  /** Gives the memory of `images` back to be filled anew. */
  readonly release: () => void;
}

/** Batches by epoch: the same epoch gives the same batches. What training needs of a `DataLoader`. */
export interface BatchSource {
  /** Batches of an epoch. */
  readonly batches: number;
  /** The batches of an epoch, from `firstBatch` on. */
  epoch(epoch: number, firstBatch?: number): AsyncIterable<Batch>;
  /** `waitSeconds`: how long batches were waited for, in all. */
  readonly stats: { readonly waitSeconds: number };
}
