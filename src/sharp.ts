/**
 * sharp, for image files of every format: the only importer of it. It takes as long to load as the rest of a worker's start, and so
 * is loaded when an image first needs it.
 */
import type Sharp from 'sharp';

let loading: Promise<typeof Sharp> | undefined;

/** Loads it once, with its settings. */
export function loadSharp(): Promise<typeof Sharp> {
  return (loading ??= load());
}

async function load(): Promise<typeof Sharp> {
  const { default: sharp } = await import('sharp');
  sharp.cache(false); // every image is read once
  sharp.concurrency(1); // the loader's workers are the parallelism
  return sharp;
}
