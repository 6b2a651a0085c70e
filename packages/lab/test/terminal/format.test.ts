import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatBytes, formatCount, formatDuration, formatNumber, formatPercent } from '../../src/terminal/format.ts';

describe('formatNumber', () => {
  it.each([
    [0, '0'],
    [-0, '0'],
    [1, '1'],
    [-1.5, '-1.5'],
    [0.1 + 0.2, '0.3'],
    [2.34567, '2.346'],
    [0.001, '0.001'],
    [0.0009994, '9.994e-4'],
    [0.00099999, '0.001'],
    [1.5e-4, '1.5e-4'],
    [1e-300, '1e-300'],
    [12345, '12,350'],
    [999999, '1e6'],
    [999949, '999,900'],
    [1234567, '1.235e6'],
    [-98765.4, '-98,770'],
    [Number.NaN, 'NaN'],
    [Number.POSITIVE_INFINITY, 'inf'],
    [Number.NEGATIVE_INFINITY, '-inf'],
  ])('%d is %s', (value, text) => {
    expect(formatNumber(value)).toBe(text);
  });

  it('keeps trailing zeros where asked', () => {
    expect(formatNumber(0.5, 4, true)).toBe('0.5000');
    expect(formatNumber(2, 3, true)).toBe('2.00');
  });

  it('is the value to its digits', () => {
    const value = fc.double({ noNaN: true, noDefaultInfinity: true }).filter((x) => x !== 0);
    fc.assert(
      fc.property(value, fc.integer({ min: 1, max: 15 }), (x, digits) => {
        expect(Number(formatNumber(x, digits).replaceAll(',', ''))).toBe(Number(x.toPrecision(digits)));
      }),
    );
  });
});

it.each([
  [0, '0'],
  [999, '999'],
  [60000, '60,000'],
  [1234567890, '1,234,567,890'],
  [-1000, '-1,000'],
])('formatCount(%d) is %s', (value, text) => {
  expect(formatCount(value)).toBe(text);
});

it.each([
  [0.98765, '98.77 %'],
  [1, '100.00 %'],
  [Number.NaN, 'NaN'],
])('formatPercent(%d) is %s', (value, text) => {
  expect(formatPercent(value)).toBe(text);
});

it.each([
  [0, '0 s'],
  [0.0004, '0.0004 s'],
  [0.354, '0.35 s'],
  [0.9994, '1 s'],
  [1, '1.0 s'],
  [9.949, '9.9 s'],
  [9.96, '10 s'],
  [59.4, '59 s'],
  [59.6, '1m00s'],
  [245, '4m05s'],
  [3599.6, '1h00m'],
  [3725, '1h02m'],
  [86400 * 3 + 4 * 3600, '3d04h'],
  [-75, '-1m15s'],
  [Number.POSITIVE_INFINITY, '?'],
  [Number.NaN, '?'],
])('formatDuration(%d) is %s', (value, text) => {
  expect(formatDuration(value)).toBe(text);
});

it.each([
  [0, '0 B'],
  [999, '999 B'],
  [999.6, '1 kB'],
  [1500, '1.5 kB'],
  [103_900_000, '104 MB'],
  [999_600_000, '1 GB'],
  [5e18, '5000 PB'],
])('formatBytes(%d) is %s', (value, text) => {
  expect(formatBytes(value)).toBe(text);
});
