import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { linearTicks, logTicks } from '../../src/terminal/ticks.ts';

const labels = (ticks: { label: string }[]): string[] => ticks.map((tick) => tick.label);

describe('linearTicks', () => {
  it.each([
    [0, 1, 5, ['0.0', '0.5', '1.0']],
    [0, 1, 6, ['0.0', '0.2', '0.4', '0.6', '0.8', '1.0']],
    [0.956, 0.991, 4, ['0.96', '0.97', '0.98', '0.99']],
    [-3, 7, 6, ['-2', '0', '2', '4', '6']],
    [0, 3520, 8, ['0', '500', '1000', '1500', '2000', '2500', '3000', '3500']],
    [0, 4e7, 5, ['0', '1e7', '2e7', '3e7', '4e7']],
    [1.0000001e-8, 1.0000005e-8, 5, ['1.0000001e-8', '1.0000002e-8', '1.0000003e-8', '1.0000004e-8', '1.0000005e-8']],
    [1, 1, 5, []],
    [Number.NaN, 1, 5, []],
    [0, Number.POSITIVE_INFINITY, 5, []],
  ])('%d to %d, at most %d', (low, high, count, expected) => {
    expect(labels(linearTicks(low, high, count))).toEqual(expected);
  });

  it('are within the range, equally spaced, distinct, and as many as may be, within a factor', () => {
    const number = fc.double({ min: -1e6, max: 1e6, noNaN: true });
    fc.assert(
      fc.property(
        number,
        fc.double({ min: 1e-3, max: 1e6, noNaN: true }),
        fc.integer({ min: 2, max: 12 }),
        (low, span, count) => {
          const high = low + span;
          const ticks = linearTicks(low, high, count);
          expect(ticks.length).toBeLessThanOrEqual(count);
          // Steps grow by at most 2.5, and a range holds at least floor(range / step) multiples.
          expect(ticks.length).toBeGreaterThanOrEqual(Math.floor(count / 2.5) - 1);
          expect(new Set(labels(ticks)).size).toBe(ticks.length);
          const step = ticks.length > 1 ? ticks[1].value - ticks[0].value : 0;
          for (const [i, tick] of ticks.entries()) {
            expect(tick.value).toBeGreaterThanOrEqual(low - 1e-6 * span);
            expect(tick.value).toBeLessThanOrEqual(high + 1e-6 * span);
            expect(Math.abs(tick.value - ticks[0].value - i * step)).toBeLessThan(1e-6 * span);
            expect(Math.abs(Number(tick.label.replaceAll(',', '')) - tick.value)).toBeLessThan(
              0.01 * Math.max(step, 1e-9),
            );
          }
        },
      ),
    );
  });
});

describe('logTicks', () => {
  it.each([
    [0.01, 100, 5, ['0.01', '0.1', '1', '10', '100']],
    [0.02, 2.3, 6, ['0.03', '0.1', '0.3', '1']],
    [0.02, 2.3, 7, ['0.02', '0.05', '0.1', '0.2', '0.5', '1', '2']],
    [1e-12, 1, 4, ['1e-12', '1e-8', '1e-4', '1']],
    [3, 4, 4, ['3.0', '3.5', '4.0']],
    [0, 1, 4, []],
    [-1, 1, 4, []],
  ])('%d to %d, at most %d', (low, high, count, expected) => {
    expect(labels(logTicks(low, high, count))).toEqual(expected);
  });

  it('are within the range, rising, distinct, and no more than asked for', () => {
    const exponent = fc.double({ min: -30, max: 30, noNaN: true });
    fc.assert(
      fc.property(
        exponent,
        fc.double({ min: 0.01, max: 40, noNaN: true }),
        fc.integer({ min: 2, max: 9 }),
        (e, span, count) => {
          const [low, high] = [10 ** e, 10 ** (e + span)];
          const ticks = logTicks(low, high, count);
          expect(ticks.length).toBeLessThanOrEqual(count);
          expect(new Set(labels(ticks)).size).toBe(ticks.length);
          for (const [i, { value }] of ticks.entries()) {
            expect(value).toBeGreaterThanOrEqual(low * (1 - 1e-6));
            expect(value).toBeLessThanOrEqual(high * (1 + 1e-6));
            if (i > 0) expect(value).toBeGreaterThan(ticks[i - 1].value);
          }
        },
      ),
    );
  });
});
