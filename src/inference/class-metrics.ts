/**
 * What a confusion matrix says of each class, and of all of them alike.
 *
 * Source: scikit-learn's `precision_recall_fscore_support` and `balanced_accuracy_score`; what is 0 there for want of images
 * is null here.
 */

/** How one class fares. Shares are in [0, 1]. */
export interface ClassMetrics {
  /** Images of the class. */
  readonly images: number;
  /** Share of the images taken for the class that are of it; null where none was taken for it. */
  readonly precision: number | null;
  /** Share of the class's images that were taken for it, its accuracy; null where it has no images. */
  readonly recall: number | null;
  /** `2 precision recall / (precision + recall)`, 0 without a hit; null where neither images nor predictions are of the class. */
  readonly f1: number | null;
}

type Matrix = readonly (readonly number[])[];

/** The metrics of each class. Rows of the confusion matrix are true classes, columns predicted ones. */
export function classMetrics(confusion: Matrix): ClassMetrics[] {
  const predicted = confusion.map(() => 0);
  for (const row of confusion) row.forEach((n, column) => (predicted[column] += n));
  const share = (part: number, whole: number): number | null => (whole === 0 ? null : part / whole);
  return confusion.map((row, label) => {
    const images = row.reduce((sum, n) => sum + n, 0);
    const hits = row[label];
    return {
      images,
      precision: share(hits, predicted[label]),
      recall: share(hits, images),
      f1: share(2 * hits, images + predicted[label]),
    };
  });
}

/** The mean accuracy of the classes that have images. NaN where none has. */
export function balancedAccuracy(perClass: readonly ClassMetrics[]): number {
  const recalls = perClass.flatMap(({ recall }) => (recall === null ? [] : [recall]));
  return recalls.reduce((sum, recall) => sum + recall, 0) / recalls.length;
}

/** Whether a balanced accuracy says more than the accuracy: half a point or more is between them. */
export function saysMore(accuracy: number, balanced: number): boolean {
  return Math.abs(balanced - accuracy) >= 0.005;
}
