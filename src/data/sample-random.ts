/**
 * The random numbers of one sample: xoshiro128** seeded by splitmix32 from (seed, epoch, index), so that an image is
 * augmented the same by any worker, in any order.
 *
 * Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021.
 */
export class SampleRandom {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  constructor(seed: number, epoch: number, index: number) {
    let state = 0;
    const mix = (value: number): number => {
      state = (state + 0x9e3779b9 + value) | 0;
      let z = state ^ (state >>> 16);
      z = Math.imul(z, 0x21f0aaad);
      z ^= z >>> 15;
      z = Math.imul(z, 0x735a2d97);
      return z ^ (z >>> 15);
    };
    // A seed may have 53 bits; two words hold it.
    for (const word of [seed, Math.floor(seed / 2 ** 32), epoch, index]) state = mix(word | 0);
    this.a = mix(1);
    this.b = mix(2);
    this.c = mix(3);
    this.d = mix(4) | 1; // the four must not all be zero
  }

  /** 32 random bits. */
  private next(): number {
    const product = Math.imul(this.b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9);
    const shifted = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= shifted;
    this.d = (this.d << 11) | (this.d >>> 21);
    return result >>> 0;
  }

  /** Uniform in [0, 1), with 32 bits. */
  uniform(): number {
    return this.next() / 2 ** 32;
  }

  /** Uniform in [low, high). */
  range(low: number, high: number): number {
    return low + (high - low) * this.uniform();
  }

  /** A whole number from 0 to n - 1. */
  int(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** Puts an array in random order, in place (Fisher and Yates), and returns it. */
  shuffle<A extends number[] | Int32Array>(values: A): A {
    for (let i = values.length - 1; i > 0; i--) {
      const j = this.int(i + 1);
      const swapped = values[i];
      values[i] = values[j];
      values[j] = swapped;
    }
    return values;
  }

  /** Normal with mean 0 and standard deviation 1 (Box-Muller). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Fills a part of an array with such numbers, two from each pair of uniform ones: twice as fast as one by one. */
  fillNormal(values: Float32Array, start: number, end: number): void {
    for (let i = start; i < end; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
      const angle = 2 * Math.PI * this.uniform();
      values[i] = radius * Math.cos(angle);
      if (i + 1 < end) values[i + 1] = radius * Math.sin(angle);
    }
  }

  /** From 0 to 1 by the Beta distribution of two equal parameters above 0: `a / (a + b)` of two Gamma numbers. */
  beta(alpha: number): number {
    const [a, b] = [this.logGamma(alpha), this.logGamma(alpha)];
    return 1 / (1 + Math.exp(b - a));
  }

  /** The logarithm of a Gamma number, which a small shape brings near 0. Source: Marsaglia and Tsang, 2000. */
  private logGamma(shape: number): number {
    if (shape < 1) return this.logGamma(shape + 1) + Math.log(1 - this.uniform()) / shape;
    const d = shape - 1 / 3;
    const c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = this.normal();
      const v = (1 + c * x) ** 3;
      if (v > 0 && Math.log(1 - this.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) {
        return Math.log(d * v);
      }
    }
  }
}
