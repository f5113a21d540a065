/**
 * A rectangle of an image.
 */
import type { Image } from './image.js';

/** The pixels of a rectangle; what lies outside the image is `fill`. */
export function cut(image: Image, top: number, left: number, height: number, width: number, fill = 0): Image {
  if (top === 0 && left === 0 && height === image.height && width === image.width) return image;
  const data = new Uint8Array(height * width * 3);
  if (fill !== 0) data.fill(fill);
  const fromX = Math.max(0, left);
  const toX = Math.min(image.width, left + width);
  for (let y = Math.max(0, top); y < Math.min(image.height, top + height) && toX > fromX; y++) {
    const row = image.data.subarray((y * image.width + fromX) * 3, (y * image.width + toX) * 3);
    data.set(row, ((y - top) * width + fromX - left) * 3);
  }
  return { data, height, width };
}
