import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compare, type Reached, reach } from '../../src/race/claim.ts';

const curve = (values: readonly number[], from = 1): Reached[] =>
  values.map((value, i) => ({ epochs: from * 2 ** i, value }));

describe('the epochs in which a value is reached', () => {
  it('are those of a budget that reaches it exactly', () => {
    expect(reach(curve([0.4, 0.3, 0.2]), 0.3, 'lower')).toEqual({ kind: 'at', epochs: 2 });
    expect(reach(curve([0.8, 0.9]), 0.9, 'higher')).toEqual({ kind: 'at', epochs: 2 });
    expect(reach(curve([0.8, 0.9]), 0.8, 'higher')).toEqual({ kind: 'at', epochs: 1 });
  });

  it('lie between budgets, in the logarithm of the epochs', () => {
    expect(reach(curve([0.4, 0.2]), 0.3, 'lower')?.epochs).toBeCloseTo(Math.SQRT2, 12);
    expect(reach(curve([0.1, 0.5], 4), 0.2, 'higher')?.epochs).toBeCloseTo(4 * 2 ** 0.25, 12);
  });

  it('are bounds where the curve begins better or ends worse', () => {
    expect(reach(curve([0.4, 0.2]), 0.5, 'lower')).toEqual({ kind: 'at most', epochs: 1 });
    expect(reach(curve([0.4, 0.2]), 0.1, 'lower')).toEqual({ kind: 'more than', epochs: 2 });
    expect(reach([], 0.1, 'lower')).toBeUndefined();
  });

  it('are those of the first crossing of a curve that turns', () => {
    expect(reach(curve([0.4, 0.2, 0.35, 0.1]), 0.3, 'lower')?.epochs).toBeCloseTo(Math.SQRT2, 12);
  });

  it('are found exactly on curves that are linear in the logarithm', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 2, noNaN: true }),
        fc.double({ min: 1.01, max: 63, noNaN: true }),
        (slope, epochs) => {
          const value = (e: number) => 5 - slope * Math.log(e);
          const points = [1, 4, 16, 64].map((e) => ({ epochs: e, value: value(e) }));
          const found = reach(points, value(epochs), 'lower');
          expect(found?.kind).toBe('at');
          expect((found?.epochs ?? 0) / epochs).toBeCloseTo(1, 9);
        },
      ),
    );
  });
});

describe('a comparison', () => {
  const half = (c: readonly Reached[]) => c.map(({ epochs, value }) => ({ epochs: epochs / 2, value }));

  it('gives one half for an optimizer that needs half the epochs', () => {
    const other = curve([0.9, 0.7, 0.4, 0.3], 2);
    const found = compare(half(other), [{ label: 'other', curve: other }], 'lower');
    expect(found.map(({ ratio }) => ratio)).toEqual([0.5, 0.5, 0.5, 0.5]);
    expect(found.map(({ reach: { kind } }) => kind)).toEqual(['at', 'at', 'at', 'at']);
    // Its value in half of each other's epochs is that other's value.
    expect(found.map(({ atHalf }) => atHalf)).toEqual([0.9, 0.7, 0.4, 0.3]);
  });

  it('gives one for equals, and more for who is slower', () => {
    const other = curve([0.5, 0.6, 0.7]);
    expect(compare(other, [{ label: 'o', curve: other }], 'higher').map(({ ratio }) => ratio)).toEqual([1, 1, 1]);
    const slow = other.map(({ epochs, value }) => ({ epochs: 3 * epochs, value }));
    for (const { ratio } of compare(slow, [{ label: 'o', curve: other }], 'higher')) expect(ratio).toBeCloseTo(3, 9);
  });

  it('has no value in half the epochs where that budget was not run', () => {
    const [first, second] = compare(curve([1, 0.5]), [{ label: 'o', curve: curve([1, 0.5]) }], 'lower');
    expect(first.atHalf).toBeNull();
    expect(second.atHalf).toBe(1);
  });
});
