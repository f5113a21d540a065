/**
 * Functions of one number that JavaScript lacks, to float64's precision.
 */

/** The error function: by its series, or by the continued fraction of its complement where the series cancels. */
export function erf(x: number): number {
  const size = Math.abs(x);
  if (Number.isNaN(x) || size > 6) return Number.isNaN(x) ? x : Math.sign(x);
  if (size < 2.5) {
    let term = x;
    let total = x;
    for (let n = 1; n < 80; n++) {
      term *= (-x * x) / n;
      total += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * total;
  }
  return Math.sign(x) * (1 - erfc(size));
}

/** The complement 1 - erf(x) for x from 2.5. */
function erfc(x: number): number {
  let fraction = 0;
  for (let n = 80; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

export const silu = (x: number): number => x * sigmoid(x);

/** x times the normal distribution's share below x; the limit at -infinity is 0. */
export function gelu(x: number): number {
  if (x === -Infinity) return 0;
  const z = x / Math.SQRT2;
  return 0.5 * x * (z < -2.5 ? erfc(-z) : 1 + erf(z));
}

export const geluTanh = (x: number): number =>
  0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
