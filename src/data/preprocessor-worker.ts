/**
 * A thread of a preprocessor: makes of images what a model sees.
 */
import { parentPort, workerData } from 'node:worker_threads';

import type { Image } from './image.js';
import { answerTasks } from './tasks.js';
import { type KnownSource, type ViewOptions, viewOf } from './view.js';

const start = workerData as ViewOptions;

answerTasks<KnownSource, Image>(parentPort, { op: 'Preprocessor', code: 'MEMORY' }, (source) =>
  viewOf(source, start),
);
