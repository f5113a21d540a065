/**
 * Numbers for people.
 */
import type { SkippedImage } from '../data/index.js';
import { saysMore } from '../inference/class-metrics.js';

/** `1:02:03` or `2:03` from seconds. */
export function formatTime(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const whole = Math.round(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number): string => String(n).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** `1.2 GiB` from bytes. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = bytes === 0 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[power]}`;
}

/** `5.72 M` from a count. */
export function formatCount(n: number): string {
  if (n >= 1e9) return `${(n / 1e9).toFixed(2)} G`;
  if (n >= 1e6) return `${(n / 1e6).toFixed(2)} M`;
  if (n >= 1e3) return `${(n / 1e3).toFixed(1)} k`;
  return String(n);
}

/** `1 class` or `2 classes`. */
export function plural(n: number, one: string, more = `${one}s`): string {
  return `${n} ${n === 1 ? one : more}`;
}

/** Damaged images that were left out, as a line: how many, and the first of them. */
export function describeSkipped(skipped: readonly SkippedImage[]): string {
  const [{ path, reason }] = skipped;
  const such = skipped.length === 1 ? '' : 'such as ';
  return `Skipped ${plural(skipped.length, 'damaged image')}, ${such}${path} (${reason})`;
}

/** `, balanced 71.2 %` behind an accuracy; nothing where that says no more, as with about as many images of each class. */
export function formatBalanced(accuracy: number, balanced = accuracy): string {
  return saysMore(accuracy, balanced) ? `, balanced ${formatShare(balanced)}` : '';
}

/** `97.3 %` from a share. */
export function formatShare(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
