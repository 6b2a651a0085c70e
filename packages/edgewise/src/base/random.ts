/**
 * @file Random numbers as pure functions of (key, index).
 *
 * Generator: Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011), checked against the Random123 known-answer vectors. It is a keyed permutation of a 64-bit counter, so every
 * number can be computed alone, in any order, and nothing has a hidden state that a resumed run would have to restore.
 *
 * Every function here uses only integer operations and the exactly rounded `+ - * / sqrt` of IEEE 754; `Math.log`,
 * `Math.sin` and `Math.cos`, whose last bits differ between engines (and between versions of V8), are not used. The
 * same key gives the same bits on every machine.
 *
 * Layout of the counter's high word, which keeps uses of one key apart:
 * `0 | 10 bits lane | 21 bits block index` for numbers (lane 0 first, others for low-order bits and redraws),
 * `10...` for {@link Key.split} by integer, `11...` for {@link Key.split} by name.
 */
import { ConfigError, FormatError } from './errors.ts';

/** Arrays that real-valued fills write into. */
export type FloatArray = Float32Array | Float64Array;
/** Arrays that integer-valued fills write into. */
export type NumberArray = FloatArray | Int8Array | Int16Array | Int32Array | Uint8Array | Uint16Array | Uint32Array;

const TWO32 = 4294967296;
const TWO_M32 = 1 / 4294967296;
const TWO_M24 = 1 / 16777216;
const TWO_M53 = 1 / 9007199254740992;
const CHUNK = 2048;
const LAST_LANE = 1023;
const wordBuffer = new Uint32Array(CHUNK + 2);
const lowWordBuffer = new Uint32Array(CHUNK + 2);
const gaussBuffer = new Float64Array(CHUNK + 2);
const block = new Uint32Array(2);

/**
 * Writes `count` consecutive blocks of Threefry-2x32-20 under the key words (k0, k1): block b, for the counter
 * (c0 + b, c1) with carry, goes to `out[2 b]`, `out[2 b + 1]`.
 */
export function threefry2x32(k0: number, k1: number, c0: number, c1: number, out: Uint32Array, count = 1): void {
  const k2 = 0x1bd11bda ^ k0 ^ k1;
  let low = c0 | 0;
  let high = c1 | 0;
  for (let b = 0; b < 2 * count; b += 2) {
    let x0 = (low + k0) | 0;
    let x1 = (high + k1) | 0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 13) | (x1 >>> 19)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 15) | (x1 >>> 17)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 26) | (x1 >>> 6)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 6) | (x1 >>> 26)) ^ x0;
    x0 = (x0 + k1) | 0;
    x1 = (x1 + k2 + 1) | 0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 17) | (x1 >>> 15)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 29) | (x1 >>> 3)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 16) | (x1 >>> 16)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 24) | (x1 >>> 8)) ^ x0;
    x0 = (x0 + k2) | 0;
    x1 = (x1 + k0 + 2) | 0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 13) | (x1 >>> 19)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 15) | (x1 >>> 17)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 26) | (x1 >>> 6)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 6) | (x1 >>> 26)) ^ x0;
    x0 = (x0 + k0) | 0;
    x1 = (x1 + k1 + 3) | 0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 17) | (x1 >>> 15)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 29) | (x1 >>> 3)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 16) | (x1 >>> 16)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 24) | (x1 >>> 8)) ^ x0;
    x0 = (x0 + k1) | 0;
    x1 = (x1 + k2 + 4) | 0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 13) | (x1 >>> 19)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 15) | (x1 >>> 17)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 26) | (x1 >>> 6)) ^ x0;
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << 6) | (x1 >>> 26)) ^ x0;
    out[b] = x0 + k2;
    out[b + 1] = x1 + k0 + 5;
    low = (low + 1) | 0;
    if (low === 0) high = (high + 1) | 0;
  }
}

/**
 * An immutable 64-bit key. Keys form a tree: `Key.fromSeed(7).split('shuffle', epoch)` depends on nothing but the seed
 * and the path, so adding a consumer of randomness never changes what another one draws. Use a key for one fill only:
 * two fills of the same key are made of the same bits.
 */
export class Key {
  /** Low and high 32 bits, as unsigned integers. */
  readonly words: readonly [number, number];

  private constructor(k0: number, k1: number) {
    this.words = [k0 >>> 0, k1 >>> 0];
    Object.freeze(this.words);
  }

  /** The root key of a run. `seed` is an integer in [0, 2^53). */
  static fromSeed(seed: number): Key {
    checkIndex(seed, 'the seed');
    return new Key(seed % TWO32, Math.floor(seed / TWO32));
  }

  /** The inverse of {@link Key.toString}; a {@link FormatError} for anything but 16 hexadecimal digits. */
  static parse(text: string): Key {
    if (!/^[0-9a-f]{16}$/i.test(text)) {
      throw new FormatError(`A random key is 16 hexadecimal digits, not ${JSON.stringify(text)}.`);
    }
    return new Key(Number.parseInt(text.slice(8), 16), Number.parseInt(text.slice(0, 8), 16));
  }

  /**
   * The key at `path` below this one. A part is a name or an integer in [0, 2^53); `split('a', 3)` is
   * `split('a').split(3)`, and `split(1)` is not `split('1')`.
   */
  split(...path: readonly (string | number)[]): Key {
    let [k0, k1] = this.words;
    for (const part of path) {
      if (typeof part === 'number') {
        checkIndex(part, 'the integer a key is split by');
        threefry2x32(k0, k1, part % TWO32, 0x80000000 | Math.floor(part / TWO32), block);
      } else {
        // Two UTF-16 units a word, each word keyed by the state so far; the length at the end makes it prefix-free.
        for (let i = 0; i < part.length; i += 2) {
          const pair = part.charCodeAt(i) | ((i + 1 < part.length ? part.charCodeAt(i + 1) : 0) << 16);
          threefry2x32(k0, k1, pair, 0xc0000000 | (i >>> 1), block);
          [k0, k1] = block;
        }
        threefry2x32(k0, k1, part.length, 0xa0000000, block);
      }
      [k0, k1] = block;
    }
    return new Key(k0, k1);
  }

  equals(other: Key): boolean {
    return this.words[0] === other.words[0] && this.words[1] === other.words[1];
  }

  /** 16 hexadecimal digits, most significant first. */
  toString(): string {
    return hex(this.words[1]) + hex(this.words[0]);
  }

  toJSON(): string {
    return this.toString();
  }
}

/** Fills `out` with words `start`, `start + 1`, ... of the key's stream: independent, uniform 32-bit integers. */
export function bits(key: Key, out: Uint32Array, start = 0): Uint32Array {
  checkIndex(start, 'start');
  for (let i = 0; i < out.length; i += CHUNK) {
    const count = Math.min(CHUNK, out.length - i);
    const base = wordsInto(wordBuffer, key, 0, start + i, count);
    out.set(wordBuffer.subarray(base, base + count), i);
  }
  return out;
}

/**
 * Fills `out` with independent uniform numbers in [lo, hi); rounding can give `hi` itself where `lo` is not 0.
 * Resolution 2^-24 of the range in float32, 2^-53 in float64; the float32 number is the float64 one cut to 24 bits.
 * Element i is number `start + i` of the key's stream, so a long fill may be done in pieces.
 */
export function uniform<T extends FloatArray>(key: Key, out: T, lo = 0, hi = 1, start = 0): T {
  checkIndex(start, 'start');
  if (!(Number.isFinite(lo) && Number.isFinite(hi) && lo <= hi)) {
    throw new ConfigError(`uniform needs finite lo <= hi, got lo = ${lo}, hi = ${hi}.`);
  }
  const span = hi - lo;
  const wide = out instanceof Float64Array;
  for (let i = 0; i < out.length; i += CHUNK) {
    const count = Math.min(CHUNK, out.length - i);
    const base = wordsInto(wordBuffer, key, 0, start + i, count);
    if (wide) {
      wordsInto(lowWordBuffer, key, 1, start + i, count);
      for (let j = 0; j < count; j++) {
        const fraction = (wordBuffer[base + j] >>> 5) * 67108864 + (lowWordBuffer[base + j] >>> 6);
        out[i + j] = lo + span * (fraction * TWO_M53);
      }
    } else {
      for (let j = 0; j < count; j++) out[i + j] = lo + span * ((wordBuffer[base + j] >>> 8) * TWO_M24);
    }
  }
  return out;
}

/**
 * Fills `out` with independent normal numbers (Box and Muller 1958, on 32-bit uniforms: the largest possible is
 * 6.66 standard deviations). Float32 and float64 fills of the same key agree up to rounding. Element i is number
 * `start + i` of the key's stream.
 */
export function normal<T extends FloatArray>(key: Key, out: T, mean = 0, std = 1, start = 0): T {
  checkIndex(start, 'start');
  checkNormal('normal', mean, std);
  for (let i = 0; i < out.length; i += CHUNK) {
    const count = Math.min(CHUNK, out.length - i);
    const base = wordsInto(wordBuffer, key, 0, start + i, count);
    const words = base + count + ((base + count) & 1);
    for (let j = 0; j < words; j += 2) {
      const radius = Math.sqrt(-2 * logFraction(wordBuffer[j]));
      gaussBuffer[j] = radius * cosTurn(wordBuffer[j + 1]);
      gaussBuffer[j + 1] = radius * sinTurn(wordBuffer[j + 1]);
    }
    for (let j = 0; j < count; j++) out[i + j] = mean + std * gaussBuffer[base + j];
  }
  return out;
}

/**
 * Fills `out` with mean + std z, where z is standard normal given lo <= z <= hi. `lo` and `hi` are in standard
 * deviations (as in TensorFlow and JAX; `torch.nn.init.trunc_normal_` takes absolute values) and may be infinite.
 * Rejection sampling that keeps every element a function of (key, start + i) alone; in the tails with the proposals of
 * Robert, "Simulation of truncated normal variables", 1995.
 */
export function truncatedNormal<T extends FloatArray>(
  key: Key,
  out: T,
  mean = 0,
  std = 1,
  lo = -2,
  hi = 2,
  start = 0,
): T {
  checkIndex(start, 'start');
  checkNormal('truncatedNormal', mean, std);
  if (!(lo < hi)) throw new ConfigError(`truncatedNormal needs lo < hi, got lo = ${lo}, hi = ${hi}.`);
  // A range left of zero is its mirror image.
  const sign = hi < 0 ? -1 : 1;
  const a = sign > 0 ? lo : -hi;
  const b = sign > 0 ? hi : -lo;
  const scale = std * sign;
  for (let i = 0; i < out.length; i += CHUNK / 2) {
    const count = Math.min(CHUNK / 2, out.length - i);
    wordsInto(wordBuffer, key, 0, 2 * (start + i), 2 * count);
    for (let j = 0; j < count; j++) {
      out[i + j] = mean + scale * truncatedAt(key, start + i + j, a, b, wordBuffer[2 * j], wordBuffer[2 * j + 1]);
    }
  }
  return out;
}

/** One standard normal number given a <= z <= b, where b >= 0, from the words u, v; more are drawn after a rejection. */
function truncatedAt(key: Key, index: number, a: number, b: number, u: number, v: number): number {
  const rate = a > 0 ? (a + Math.sqrt(a * a + 4)) / 2 : 0;
  for (let lane = 1; lane <= LAST_LANE; lane++) {
    if (a <= 0 && b - a > 2.5) {
      const radius = Math.sqrt(-2 * logFraction(u));
      const first = radius * cosTurn(v);
      if (first >= a && first <= b) return first;
      const second = radius * sinTurn(v);
      if (second >= a && second <= b) return second;
    } else if (a > 0 && b - a > 2 / rate) {
      const z = a - logFraction(u) / rate;
      if (z <= b && 2 * logFraction(v) <= -((z - rate) * (z - rate))) return z;
    } else {
      const z = a + (b - a) * (u * TWO_M32);
      if (2 * logFraction(v) <= (a > 0 ? a * a : 0) - z * z) return z;
    }
    blockAt(key, lane, index);
    u = block[0];
    v = block[1];
  }
  return Math.max(a, 0); // Not reached: a round accepts with a probability above 0.3.
}

/** Fills `out` with 1 (probability `p`, exact to 2^-32) and 0. Element i is number `start + i` of the key's stream. */
export function bernoulli<T extends NumberArray>(key: Key, out: T, p = 0.5, start = 0): T {
  checkIndex(start, 'start');
  if (!(p >= 0 && p <= 1)) throw new ConfigError(`bernoulli needs a probability between 0 and 1, got ${p}.`);
  const threshold = Math.round(p * TWO32);
  for (let i = 0; i < out.length; i += CHUNK) {
    const count = Math.min(CHUNK, out.length - i);
    const base = wordsInto(wordBuffer, key, 0, start + i, count);
    for (let j = 0; j < count; j++) out[i + j] = wordBuffer[base + j] < threshold ? 1 : 0;
  }
  return out;
}

/** Fills `out` with -1 and 1, each with probability 1/2. Element i is bit `start + i` of the key's stream. */
export function rademacher<T extends FloatArray | Int8Array | Int16Array | Int32Array>(key: Key, out: T, start = 0): T {
  checkIndex(start, 'start');
  let i = 0;
  while (i < out.length) {
    const bit = start + i;
    const first = Math.floor(bit / 32);
    const skip = bit - first * 32;
    const count = Math.min(CHUNK * 32 - skip, out.length - i);
    const base = wordsInto(wordBuffer, key, 0, first, Math.ceil((skip + count) / 32));
    for (let j = skip; j < skip + count; j++) out[i++] = ((wordBuffer[base + (j >>> 5)] >>> (j & 31)) & 1) * 2 - 1;
  }
  return out;
}

/**
 * Fills `out` with integers, each of [lo, hi) with exactly the same probability; hi - lo is at most 2^32. Element i is
 * number `start + i` of the key's stream.
 */
export function integers<T extends NumberArray>(key: Key, out: T, lo: number, hi: number, start = 0): T {
  checkIndex(start, 'start');
  const range = hi - lo;
  if (!(Number.isSafeInteger(lo) && Number.isSafeInteger(hi) && range >= 1 && range <= TWO32)) {
    throw new ConfigError(`integers needs integers lo < hi no further than 2^32 apart, got lo = ${lo}, hi = ${hi}.`);
  }
  for (let i = 0; i < out.length; i += CHUNK) {
    const count = Math.min(CHUNK, out.length - i);
    const base = wordsInto(wordBuffer, key, 0, start + i, count);
    for (let j = 0; j < count; j++) out[i + j] = lo + bounded(key, start + i + j, range, wordBuffer[base + j]);
  }
  return out;
}

/** Number `index` of the key's stream of integers in [0, range), as {@link integers} with lo = 0 gives it. */
export function integerAt(key: Key, index: number, range: number): number {
  return bounded(key, index, range, wordAt(key, 0, index));
}

/** A uniformly random order of 0 ... n - 1 (Fisher and Yates). */
export function permutation(key: Key, n: number): Uint32Array {
  checkIndex(n, 'the length of a permutation');
  if (n > TWO32) throw new ConfigError(`A permutation holds at most 2^32 numbers, got ${n}.`);
  const out = new Uint32Array(n);
  for (let i = 0; i < n; i++) out[i] = i;
  for (let i = 0; i < n; i += CHUNK) {
    const count = Math.min(CHUNK, n - i);
    const base = wordsInto(wordBuffer, key, 0, i, count);
    for (let j = 0; j < count; j++) {
      const at = i + j;
      const other = at + bounded(key, at, n - at, wordBuffer[base + j]);
      const held = out[at];
      out[at] = out[other];
      out[other] = held;
    }
  }
  return out;
}

/** cos(2 pi w / 2^32) for a 32-bit word w, to about 1e-16, the same bits on every engine. */
export function cosTurn(w: number): number {
  const quarter = ((w + 0x20000000) >>> 30) & 3;
  const x = (((w + 0x20000000) & 0x3fffffff) - 0x20000000) * TURN;
  const value = (quarter & 1) === 0 ? cosSeries(x * x) : x * sinSeries(x * x);
  return quarter === 1 || quarter === 2 ? -value : value;
}

/** sin(2 pi w / 2^32) for a 32-bit word w, to about 1e-16, the same bits on every engine. */
export function sinTurn(w: number): number {
  return cosTurn((w - 0x40000000) >>> 0);
}

/** Radians of one 2^-32 of a turn. */
const TURN = Math.PI / 2147483648;

// Taylor series on |x| <= pi/4: the first term left out is below 5e-17.
function cosSeries(y: number): number {
  const tail = 1 / 479001600 - y * (1 / 87178291200 - y / 20922789888000);
  return 1 - y * (1 / 2 - y * (1 / 24 - y * (1 / 720 - y * (1 / 40320 - y * (1 / 3628800 - y * tail)))));
}

function sinSeries(y: number): number {
  const tail = 1 / 39916800 - y * (1 / 6227020800 - y / 1307674368000);
  return 1 - y * (1 / 6 - y * (1 / 120 - y * (1 / 5040 - y * (1 / 362880 - y * tail))));
}

/** Natural logarithm of (w + 1) / 2^32 for a 32-bit word w: from -32 ln 2 to 0, to about 1e-16. */
function logFraction(w: number): number {
  let halvings = Math.clz32(w);
  let f = (w + 1) * POWERS_OF_TWO[halvings] * TWO_M32; // In [1/2, 1]: a power of two scales without rounding.
  if (f < Math.SQRT1_2) {
    f *= 2;
    halvings++;
  }
  const s = (f - 1) / (f + 1);
  const y = s * s;
  const tail = 1 / 11 + y * (1 / 13 + y * (1 / 15 + y * (1 / 17 + y * (1 / 19))));
  const series = 1 + y * (1 / 3 + y * (1 / 5 + y * (1 / 7 + y * (1 / 9 + y * tail))));
  return 2 * s * series - halvings * Math.LN2;
}

const POWERS_OF_TWO = Float64Array.from({ length: 34 }, (_, i) => 2 ** i);

/**
 * Writes words start ... start + count - 1 of a lane into `buffer`, whole blocks at a time, and returns the position of
 * the first (0 or 1).
 */
function wordsInto(buffer: Uint32Array, key: Key, lane: number, start: number, count: number): number {
  const first = Math.floor(start / 2);
  const base = start - 2 * first;
  threefry2x32(key.words[0], key.words[1], first % TWO32, counterHigh(lane, first), buffer, (base + count + 1) >>> 1);
  return base;
}

function blockAt(key: Key, lane: number, index: number): void {
  threefry2x32(key.words[0], key.words[1], index % TWO32, counterHigh(lane, index), block);
}

function wordAt(key: Key, lane: number, index: number): number {
  blockAt(key, lane, Math.floor(index / 2));
  return block[index % 2];
}

function counterHigh(lane: number, blockIndex: number): number {
  return (lane << 21) | Math.floor(blockIndex / TWO32);
}

/** `word` reduced to [0, range) without bias: a word of the last, incomplete run of `range` values is drawn again. */
function bounded(key: Key, index: number, range: number, word: number): number {
  let rest = word % range;
  for (let lane = 1; word - rest > TWO32 - range && lane <= LAST_LANE; lane++) {
    word = wordAt(key, lane, index);
    rest = word % range;
  }
  return rest;
}

function checkIndex(value: number, what: string): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new ConfigError(`${what[0].toUpperCase()}${what.slice(1)} must be an integer in [0, 2^53), got ${value}.`);
  }
}

function checkNormal(what: string, mean: number, std: number): void {
  if (!(Number.isFinite(mean) && Number.isFinite(std) && std >= 0)) {
    throw new ConfigError(`${what} needs a finite mean and a finite std >= 0, got mean = ${mean}, std = ${std}.`);
  }
}

function hex(word: number): string {
  return word.toString(16).padStart(8, '0');
}
