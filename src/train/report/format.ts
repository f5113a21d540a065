/**
 * Numbers as a report shows them. What is not finite is a dash.
 */

/** Between a number and its unit: no line breaks there. */
const SPACE = '\u00a0';

const finite =
  (format: (x: number) => string): ((x: number) => string) =>
  (x) =>
    Number.isFinite(x) ? format(x) : '–';

/** `93.42 %` from a share. */
export const percent = finite((share) => `${(100 * share).toFixed(2)}${SPACE}%`);

/** `93.4 %` from a share. */
export const shortPercent = finite((share) => `${(100 * share).toFixed(1)}${SPACE}%`);

/** `93 %` from a share. */
export const roundPercent = finite((share) => `${Math.round(100 * share)}${SPACE}%`);

/** `1,234,567` */
export const integer = finite((n) => Math.round(n).toLocaleString('en'));

/** `0.1234`, `12.3`, `1,234`: four digits, or three behind the point. */
export const decimal = finite((x) => {
  if (Math.abs(x) >= 1000) return integer(x);
  return x.toFixed(Math.abs(x) >= 100 ? 1 : Math.abs(x) >= 10 ? 2 : 3);
});

/** A rate over many magnitudes: `0.05`, `5e-4`. */
export const scientific = finite((x) => {
  if (x === 0 || Math.abs(x) >= 0.01) return String(Number(x.toPrecision(3)));
  const [digits, power] = x.toExponential(2).split('e');
  return `${Number(digits)}e${power}`;
});

/** `45 s`, `2:03` or `1:02:03` from seconds. */
export const duration = finite((seconds) => {
  if (seconds < 10) return `${seconds.toFixed(1)}${SPACE}s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}${SPACE}s`;
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number): string => String(n).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
});

/** `1.2 GiB` from bytes. */
export const bytes = finite((n) => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = n < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(n) / 10));
  const value = n / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(value < 10 ? 1 : 0)}${SPACE}${units[power]}`;
});

/** `5.72 M` from a count. */
export const count = finite((n) => {
  if (n >= 1e9) return `${(n / 1e9).toFixed(2)}${SPACE}G`;
  if (n >= 1e6) return `${(n / 1e6).toFixed(2)}${SPACE}M`;
  if (n >= 1e4) return `${(n / 1e3).toFixed(1)}${SPACE}k`;
  return integer(n);
});
