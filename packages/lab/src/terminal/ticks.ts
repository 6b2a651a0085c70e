/** Where an axis carries numbers, and how they are written. */
import { formatNumber } from './format.ts';

export interface Tick {
  readonly value: number;
  readonly label: string;
}

/**
 * Round numbers in `[low, high]`: multiples of 1, 2 or 5 times a power of ten, as close together as leaves about `count` of
 * them (never more).
 */
export function linearTicks(low: number, high: number, count: number): Tick[] {
  const span = high - low;
  if (!(span > 1e-290) || !Number.isFinite(span) || count < 1) return [];
  let exponent = Math.floor(Math.log10(span / count));
  let factor = 1;
  // Up the ladder 1, 2, 5, 10, ... until few enough fit.
  while (multiplesBetween(low, high, factor, exponent).length > count) {
    factor = factor === 1 ? 2 : factor === 2 ? 5 : 1;
    if (factor === 1) exponent++;
  }
  const values = multiplesBetween(low, high, factor, exponent);
  const largest = Math.max(...values.map(Math.abs), 0);
  const decimals = Math.max(0, -exponent);
  const plain = largest < 1e6 && decimals <= 6;
  // Digits that tell neighbours apart, where an exponent is needed.
  const digits = largest === 0 ? 1 : Math.max(1, Math.floor(Math.log10(largest)) - exponent + 1);
  return values.map((value) => ({
    value,
    label: plain ? value.toFixed(decimals) : formatNumber(value, Math.min(17, digits)),
  }));
}

/** Multiples of `factor`·10^`exponent` in `[low, high]`, each rounded once. */
function multiplesBetween(low: number, high: number, factor: number, exponent: number): number[] {
  // Dividing by 10^-exponent is exact where multiplying by 10^exponent is not: 3/10 is 0.3, 3*0.1 is not.
  const scale = 10 ** Math.abs(exponent);
  const at = (i: number): number => (exponent < 0 ? (i * factor) / scale : i * factor * scale);
  const slack = 1e-9;
  const first = Math.ceil(low / at(1) - slack);
  const last = Math.floor(high / at(1) + slack);
  if (last - first > 1000) return new Array<number>(1001).fill(0);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => at(first + i) + 0);
}

/**
 * Ticks for a logarithmic axis over `[low, high]`, both positive: powers of ten, thinned to at most `count`; with 2 and 5 between
 * them where there is room; round numbers at equal distances where the range is under one such step.
 */
export function logTicks(low: number, high: number, count: number): Tick[] {
  if (!(low > 0) || !(high > low) || !Number.isFinite(high) || count < 1) return [];
  const from = Math.floor(Math.log10(low));
  const to = Math.ceil(Math.log10(high));
  const inside = (value: number): boolean => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9);
  const decades = (factors: readonly number[], every: number): number[] => {
    const values: number[] = [];
    for (let exponent = from; exponent <= to; exponent++) {
      if (exponent % every !== 0) continue;
      for (const factor of factors) values.push(Number(`${factor}e${exponent}`));
    }
    return values.filter(inside);
  };
  for (const factors of [[1, 2, 5], [1, 3], [1]]) {
    const values = decades(factors, 1);
    if (values.length > count) continue;
    if (values.length < 2) break;
    return values.map((value) => ({ value, label: formatNumber(value, 1) }));
  }
  for (let every = 2; every <= to - from; every++) {
    const values = decades([1], every);
    if (values.length <= count && values.length >= 2) {
      return values.map((value) => ({ value, label: formatNumber(value, 1) }));
    }
  }
  return linearTicks(low, high, count).filter((tick) => tick.value > 0);
}
