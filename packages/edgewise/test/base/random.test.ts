import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError, FormatError } from '../../src/base/errors.ts';
import {
  bernoulli,
  bits,
  cosTurn,
  integerAt,
  integers,
  Key,
  normal,
  permutation,
  rademacher,
  sinTurn,
  threefry2x32,
  truncatedNormal,
  uniform,
} from '../../src/base/random.ts';

const root = Key.fromSeed(20260101);

/** Mean, variance, skewness and kurtosis. */
function moments(values: ArrayLike<number>) {
  const n = values.length;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += values[i] / n;
  let [m2, m3, m4] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    const d = values[i] - mean;
    m2 += (d * d) / n;
    m3 += (d * d * d) / n;
    m4 += (d * d * d * d) / n;
  }
  return { mean, variance: m2, skewness: m3 / m2 ** 1.5, kurtosis: m4 / m2 ** 2 };
}

function chiSquare(counts: ArrayLike<number>, expected: number): number {
  return Array.from(counts).reduce((sum, c) => sum + (c - expected) ** 2 / expected, 0);
}

function correlation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const [ma, mb] = [moments(a), moments(b)];
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += ((a[i] - ma.mean) * (b[i] - mb.mean)) / a.length;
  return sum / Math.sqrt(ma.variance * mb.variance);
}

describe('Threefry-2x32-20', () => {
  // kat_vectors of the Random123 distribution: counter, key, output.
  const vectors = [
    [0, 0, 0, 0, 0x6b200159, 0x99ba4efe],
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x1cb996fc, 0xbb002be7],
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xc4923a9c, 0x483df7a0],
  ];
  it.each(vectors)('known answer for counter %i %i, key %i %i', (c0, c1, k0, k1, r0, r1) => {
    const out = new Uint32Array(2);
    threefry2x32(k0, k1, c0, c1, out);
    expect(Array.from(out)).toEqual([r0, r1]);
  });

  it('numbers consecutive blocks with carry into the high word', () => {
    const run = new Uint32Array(8);
    threefry2x32(5, 6, 0xfffffffe, 7, run, 4);
    const counters = [
      [0xfffffffe, 7],
      [0xffffffff, 7],
      [0, 8],
      [1, 8],
    ];
    const single = counters.flatMap(([c0, c1]) => {
      const out = new Uint32Array(2);
      threefry2x32(5, 6, c0, c1, out);
      return Array.from(out);
    });
    expect(Array.from(run)).toEqual(single);
  });
});

describe('Key', () => {
  it('draws from the generator by a documented counter layout', () => {
    const key = Key.parse('0370734413198a2e');
    const out = new Uint32Array(2);
    threefry2x32(0x13198a2e, 0x03707344, 0, 0, out);
    expect(Array.from(bits(key, new Uint32Array(2)))).toEqual(Array.from(out));
  });

  it('round-trips through text and JSON, with seeds above 32 bits', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.string(), (seed, name) => {
        const key = Key.fromSeed(seed).split(name);
        expect(Key.parse(JSON.parse(JSON.stringify(key))).equals(key)).toBe(true);
        expect(key.toString()).toMatch(/^[0-9a-f]{16}$/);
      }),
    );
    expect(Key.fromSeed(2 ** 40 + 3).toString()).toBe('0000010000000003');
  });

  it('pins the bits of split, so that old runs stay reproducible', () => {
    expect(Key.fromSeed(0).split('layer1.weight').toString()).toBe('6dc47decdd0fbcb2');
    expect(Key.fromSeed(0).split('shuffle', 3).toString()).toBe('605c752f33202d72');
    expect(Array.from(permutation(Key.fromSeed(1), 8))).toEqual([2, 7, 6, 3, 4, 5, 1, 0]);
  });

  it('splits by path: parts compose, and no two of many short paths collide', () => {
    expect(root.split('a', 3, 'b').equals(root.split('a').split(3).split('b'))).toBe(true);
    const parts: (string | number)[] = ['', '\0', '\0\0', 'a', 'b', 'ab', 'ba', 'abc', '\ud800', '\ud801', '1', '0'];
    for (let i = 0; i < 2000; i++) parts.push(i, 2 ** 32 + i, `w${i}`);
    const seen = new Set(parts.map((part) => root.split(part).toString()));
    expect(seen.size).toBe(parts.length);
    expect(seen.has(root.toString())).toBe(false);
  });

  it('siblings, parent and child are uncorrelated', () => {
    const n = 40000;
    const draw = (key: Key) => normal(key, new Float64Array(n));
    const streams = [root, root.split(0), root.split(1), root.split('0'), root.split('a'), Key.fromSeed(20260102)];
    for (let i = 0; i < streams.length; i++) {
      for (let j = 0; j < i; j++) {
        expect(Math.abs(correlation(draw(streams[i]), draw(streams[j])))).toBeLessThan(4 / Math.sqrt(n));
      }
    }
  });

  it('refuses what is not a seed, a part or a key', () => {
    for (const bad of [-1, 1.5, Number.NaN, 2 ** 53]) {
      expect(() => Key.fromSeed(bad)).toThrow(ConfigError);
      expect(() => root.split(bad)).toThrow(ConfigError);
    }
    for (const bad of ['', '123', 'g'.repeat(16), ' 0123456789abcdef'])
      expect(() => Key.parse(bad)).toThrow(FormatError);
  });
});

describe('fills are pure functions of (key, index)', () => {
  it('pins the bits of numbers, so that runs agree between engines and versions', () => {
    const two = Key.fromSeed(2);
    // To the last bit what exactly rounded arithmetic gives; libm differs from the third in its last digit.
    expect(Array.from(normal(two, new Float64Array(4)))).toEqual([
      0.8997077059697866, 0.38438662391313394, -1.7455970740232238, 0.5835574523894128,
    ]);
    expect(Array.from(truncatedNormal(two, new Float64Array(3), 0, 1, 1, Number.POSITIVE_INFINITY))).toEqual([
      1.2957994206179544, 2.046840940496863, 1.5835719700080388,
    ]);
    // Computed apart from this code: 27 bits of lane 0, then 26 of lane 1.
    expect(Array.from(uniform(two, new Float64Array(2)))).toEqual([0.6196419156974787, 0.06426074733475584]);
  });

  it('the low bits of float64 uniforms are of their own', () => {
    const u = uniform(root, new Float64Array(20_000));
    const high = u.map((v) => Math.floor(v * 2 ** 27));
    const low = u.map((v, i) => v * 2 ** 53 - high[i] * 2 ** 26);
    expect(Math.abs(moments(low).mean / 2 ** 26 - 0.5)).toBeLessThan(4.5 * Math.sqrt(1 / 12 / low.length));
    expect(Math.abs(correlation(high, low))).toBeLessThan(4.5 / Math.sqrt(low.length));
  });

  const length = 9001;
  const fills: Record<string, (n: number, start: number) => ArrayLike<number>> = {
    bits: (n, s) => bits(root, new Uint32Array(n), s),
    uniform32: (n, s) => uniform(root, new Float32Array(n), -1, 3, s),
    uniform64: (n, s) => uniform(root, new Float64Array(n), -1, 3, s),
    normal32: (n, s) => normal(root, new Float32Array(n), 1, 2, s),
    normal64: (n, s) => normal(root, new Float64Array(n), 1, 2, s),
    truncated: (n, s) => truncatedNormal(root, new Float32Array(n), 0, 1, -0.5, 2.5, s),
    bernoulli: (n, s) => bernoulli(root, new Uint8Array(n), 0.3, s),
    rademacher: (n, s) => rademacher(root, new Int8Array(n), s),
    integers: (n, s) => integers(root, new Int32Array(n), -5, 3 * 2 ** 30 - 5 - 2 ** 31, s),
  };
  it.each(Object.entries(fills))('%s: any window equals the same part of one long fill', (_, fill) => {
    const whole = Array.from(fill(length, 0));
    expect(new Set(whole).size).toBeGreaterThan(1);
    fc.assert(
      fc.property(fc.nat(length), fc.nat(300), (start, n) => {
        const end = Math.min(length, start + n);
        expect(Array.from(fill(end - start, start))).toEqual(whole.slice(start, end));
      }),
      {
        numRuns: 40,
        examples: [
          [2047, 5],
          [0, 300],
          [4095, 3],
        ],
      },
    );
    const far = 2 ** 40 + 1;
    expect(Array.from(fill(6, far)).slice(1)).toEqual(Array.from(fill(5, far + 1)));
  });

  it('float32 and float64 fills of one key agree', () => {
    const n = 5000;
    const u32 = uniform(root, new Float32Array(n));
    const u64 = uniform(root, new Float64Array(n));
    const z32 = normal(root, new Float32Array(n));
    const z64 = normal(root, new Float64Array(n));
    for (let i = 0; i < n; i++) {
      expect(u32[i]).toBe(Math.floor(u64[i] * 2 ** 24) / 2 ** 24);
      expect(z32[i]).toBe(Math.fround(z64[i]));
    }
  });

  it('integerAt gives the numbers of integers', () => {
    const range = 3 * 2 ** 30;
    const all = integers(root, new Float64Array(500), 0, range);
    for (let i = 0; i < 500; i++) expect(integerAt(root, i, range)).toBe(all[i]);
  });

  it('refuses arguments outside their range', () => {
    const out = new Float32Array(4);
    expect(() => uniform(root, out, 1, 0)).toThrow(ConfigError);
    expect(() => uniform(root, out, 0, Number.POSITIVE_INFINITY)).toThrow(ConfigError);
    expect(() => normal(root, out, 0, -1)).toThrow(ConfigError);
    expect(() => normal(root, out, 0, 1, -1)).toThrow(ConfigError);
    expect(() => truncatedNormal(root, out, 0, 1, 2, 2)).toThrow(ConfigError);
    expect(() => bernoulli(root, out, 1.01)).toThrow(ConfigError);
    expect(() => integers(root, out, 3, 3)).toThrow(ConfigError);
    expect(() => integers(root, out, 0, 2 ** 32 + 1)).toThrow(ConfigError);
    expect(() => permutation(root, -1)).toThrow(ConfigError);
  });
});

describe('distributions', () => {
  const n = 400_000;

  it('bits: every bit is fair, bytes are uniform, neighbours independent', () => {
    const words = bits(root, new Uint32Array(n));
    for (let bit = 0; bit < 32; bit++) {
      let ones = 0;
      for (const word of words) ones += (word >>> bit) & 1;
      expect(Math.abs(ones / n - 0.5)).toBeLessThan(4.5 / (2 * Math.sqrt(n)));
    }
    const counts = new Uint32Array(256);
    for (const byte of new Uint8Array(words.buffer)) counts[byte]++;
    const chi = chiSquare(counts, (4 * n) / 256);
    expect(Math.abs(chi - 255)).toBeLessThan(4.5 * Math.sqrt(2 * 255));
    expect(Math.abs(correlation(words.subarray(1), words.subarray(0, n - 1)))).toBeLessThan(4.5 / Math.sqrt(n));
  });

  it.each([Float32Array, Float64Array])('uniform has the right range, moments and distribution', (Type) => {
    const u = uniform(root, new Type(n), 0, 1);
    const { mean, variance } = moments(u);
    expect(Math.abs(mean - 0.5)).toBeLessThan(4.5 * Math.sqrt(1 / 12 / n));
    expect(Math.abs(variance - 1 / 12)).toBeLessThan(4.5 * Math.sqrt(1 / 180 / n));
    const sorted = Float64Array.from(u).sort();
    let ks = 0;
    for (let i = 0; i < n; i++) ks = Math.max(ks, Math.abs(sorted[i] - i / n), Math.abs(sorted[i] - (i + 1) / n));
    expect(ks * Math.sqrt(n)).toBeLessThan(1.95);
    expect(sorted[0]).toBeGreaterThanOrEqual(0);
    expect(sorted[n - 1]).toBeLessThan(1);
  });

  it('normal is Box-Muller of the words, to the last bits of a double', () => {
    const words = bits(root, new Uint32Array(20000));
    const z = normal(root, new Float64Array(20000));
    let worst = 0;
    for (let i = 0; i < 20000; i += 2) {
      const radius = Math.sqrt(-2 * Math.log((words[i] + 1) / 2 ** 32));
      const angle = (2 * Math.PI * words[i + 1]) / 2 ** 32;
      worst = Math.max(
        worst,
        Math.abs(z[i] - radius * Math.cos(angle)) / Math.max(1, radius),
        Math.abs(z[i + 1] - radius * Math.sin(angle)) / Math.max(1, radius),
      );
    }
    expect(worst).toBeLessThan(1e-15);
  });

  it('cosTurn and sinTurn are exact where they must be', () => {
    expect([0, 0x40000000, 0x80000000, 0xc0000000].map(cosTurn)).toEqual([1, -0, -1, 0]);
    expect([0x40000000, 0xc0000000].map(sinTurn)).toEqual([1, -1]);
    for (const w of [1, 0x1fffffff, 0x20000000, 0x20000001, 0xffffffff, 0x9abcdef0]) {
      expect(cosTurn(w) ** 2 + sinTurn(w) ** 2).toBeCloseTo(1, 15);
      expect(cosTurn(w)).toBeCloseTo(Math.cos((2 * Math.PI * w) / 2 ** 32), 15);
    }
  });

  it('normal has the moments and tails of a normal', () => {
    const z = normal(root, new Float32Array(n), 3, 2);
    const { mean, variance, skewness, kurtosis } = moments(z);
    expect(Math.abs(mean - 3)).toBeLessThan((4.5 * 2) / Math.sqrt(n));
    expect(Math.abs(variance / 4 - 1)).toBeLessThan(4.5 * Math.sqrt(2 / n));
    expect(Math.abs(skewness)).toBeLessThan(4.5 * Math.sqrt(6 / n));
    expect(Math.abs(kurtosis - 3)).toBeLessThan(4.5 * Math.sqrt(24 / n));
    const tails = [
      [1, 0.317310508],
      [2, 0.045500264],
      [3, 0.002699796],
      [4, 0.0000633425],
    ];
    for (const [k, p] of tails) {
      const share = z.reduce((count, v) => count + (Math.abs(v - 3) > 2 * k ? 1 : 0), 0) / n;
      expect(Math.abs(share - p)).toBeLessThan(4.5 * Math.sqrt(p / n));
    }
    const even = z.filter((_, i) => i % 2 === 0);
    const odd = z.filter((_, i) => i % 2 === 1);
    expect(Math.abs(correlation(even, odd))).toBeLessThan(4.5 / Math.sqrt(n / 2));
    const square = (v: number) => v * v;
    expect(Math.abs(correlation(even.map(square), odd.map(square)))).toBeLessThan(0.02);
  });

  const inf = Number.POSITIVE_INFINITY;
  it.each([
    [-2, 2],
    [-1, 0.5],
    [0, 1],
    [-0.1, inf],
    [-inf, inf],
    [0.5, 0.7],
    [2, inf],
    [3, 3.2],
    [4, 9],
    [-inf, -2.5],
    [-6, -5],
    [-inf, 0],
  ])('truncatedNormal on [%d, %d] has the mean and variance of the integral', (lo, hi) => {
    const count = 100_000;
    const z = truncatedNormal(root, new Float64Array(count), 0, 1, lo, hi);
    // Moments by the trapezoid rule on a range that holds all the mass.
    const a = Math.max(lo, -12);
    const b = Math.min(hi, 12);
    const steps = 200_000;
    let [mass, first, second, fourth] = [0, 0, 0, 0];
    const at = (i: number) => a + ((b - a) * i) / steps;
    for (let i = 0; i <= steps; i++) {
      const w = Math.exp(-(at(i) ** 2) / 2 + Math.min(a * a, b * b) / 2) * (i === 0 || i === steps ? 0.5 : 1);
      mass += w;
      first += w * at(i);
    }
    const mean = first / mass;
    for (let i = 0; i <= steps; i++) {
      const w = Math.exp(-(at(i) ** 2) / 2 + Math.min(a * a, b * b) / 2) * (i === 0 || i === steps ? 0.5 : 1);
      second += w * (at(i) - mean) ** 2;
      fourth += w * (at(i) - mean) ** 4;
    }
    const variance = second / mass;
    const got = moments(z);
    expect(Math.abs(got.mean - mean)).toBeLessThan(4.5 * Math.sqrt(variance / count));
    expect(Math.abs(got.variance - variance)).toBeLessThan(4.5 * Math.sqrt((fourth / mass - variance ** 2) / count));
    expect(z.every((v) => v >= lo && v <= hi)).toBe(true);
  });

  it('truncatedNormal scales and shifts', () => {
    const z = truncatedNormal(root, new Float64Array(1000), 0, 1, 1, 2);
    const scaled = truncatedNormal(root, new Float64Array(1000), 10, 3, 1, 2);
    for (let i = 0; i < 1000; i++) expect(scaled[i]).toBe(10 + 3 * z[i]);
  });

  it('bernoulli and rademacher have the right rates, and p = 0 and 1 are certain', () => {
    const share = bernoulli(root, new Uint8Array(n), 0.2).reduce((a, b) => a + b, 0) / n;
    expect(Math.abs(share - 0.2)).toBeLessThan(4.5 * Math.sqrt(0.16 / n));
    expect(bernoulli(root, new Uint8Array(1000), 0).every((v) => v === 0)).toBe(true);
    expect(bernoulli(root, new Uint8Array(1000), 1).every((v) => v === 1)).toBe(true);
    const signs = rademacher(root, new Float32Array(n));
    expect(signs.every((v) => v === 1 || v === -1)).toBe(true);
    expect(Math.abs(moments(signs).mean)).toBeLessThan(4.5 / Math.sqrt(n));
    for (const lag of [1, 2, 31, 32, 64]) {
      expect(Math.abs(correlation(signs.subarray(lag), signs.subarray(0, n - lag)))).toBeLessThan(
        4.5 / Math.sqrt(n - lag),
      );
    }
  });

  it('integers are unbiased where a plain remainder would favour the low third two to one', () => {
    const range = 3 * 2 ** 30;
    const values = integers(root, new Float64Array(90_000), 0, range);
    const thirds = [0, 0, 0];
    for (const v of values) thirds[Math.floor(v / 2 ** 30)]++;
    expect(chiSquare(thirds, 30_000)).toBeLessThan(21); // 99.997 % of chi-square with 2 degrees of freedom.
    const dice = integers(root, new Int32Array(60_000), 1, 7);
    const faces = new Uint32Array(7);
    for (const v of dice) faces[v]++;
    expect(faces[0]).toBe(0);
    expect(chiSquare(faces.subarray(1), 10_000)).toBeLessThan(30);
    expect(integers(root, new Uint32Array(100), 0, 2 ** 32)).toEqual(bits(root, new Uint32Array(100)));
  });

  it('permutation is a permutation, and all orders of 4 are equally likely', () => {
    const long = permutation(root, 10_007);
    expect(Array.from(long).sort((a, b) => a - b)).toEqual(Array.from({ length: 10_007 }, (_, i) => i));
    expect(Array.from(permutation(root, 0))).toEqual([]);
    expect(Array.from(permutation(root, 1))).toEqual([0]);
    const counts = new Map<string, number>();
    const trials = 24_000;
    for (let i = 0; i < trials; i++) {
      const order = permutation(root.split(i), 4).join('');
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    expect(chiSquare([...counts.values()], trials / 24)).toBeLessThan(23 + 4.5 * Math.sqrt(46));
  });
});
