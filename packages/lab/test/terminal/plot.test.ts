import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { renderPlot } from '../../src/terminal/plot.ts';
import { visibleWidth } from '../../src/terminal/style.ts';

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const plain = (text: string): string[] => text.split('\n');

/** The dots of a plot's drawing area as `column,row`, counted from its upper left corner; each cell is 2 by 4 dots. */
function dotsOf(lines: readonly string[]): Set<string> {
  const bits = [0x01, 0x08, 0x02, 0x10, 0x04, 0x20, 0x40, 0x80];
  const dots = new Set<string>();
  for (const [row, line] of lines.entries()) {
    const start = Math.max(line.indexOf('┤'), line.indexOf('│')) + 1;
    for (const [column, character] of [...line.slice(start)].entries()) {
      const mask = (character.codePointAt(0) ?? 0) - 0x2800;
      if (mask < 0 || mask > 0xff) continue;
      for (const [i, bit] of bits.entries()) {
        if (mask & bit) dots.add(`${column * 2 + (i % 2)},${row * 4 + (i >> 1)}`);
      }
    }
  }
  return dots;
}

describe('renderPlot', () => {
  it('draws a straight line through every dot of its diagonal', () => {
    const lines = plain(renderPlot([{ name: '', x: [0, 1], y: [0, 1] }], { width: 5 + 20, height: 10 }));
    expect(dotsOf(lines.slice(0, 10))).toEqual(new Set(range(40).map((i) => `${i},${39 - i}`)));
  });

  it('draws a falling loss with its axes', () => {
    const x = range(101).map((i) => i / 10);
    const y = x.map((t) => 2.3 * Math.exp(-t));
    expect(`\n${renderPlot([{ name: 'loss', x, y }], { width: 44, height: 8, xLabel: 'epoch' })}\n`).toBe(`
loss
    │⢣
2.0 ┤⠈⡆
1.5 ┤ ⠱⡀
    │  ⢱
1.0 ┤  ⠈⠢⡀
    │    ⠣⣀
0.5 ┤      ⠓⢤⡀
    │        ⠈⠉⠒⠒⠤⠤⠤⠤⣄⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀
    └┬──────────────────┬──────────────────┬
     0                  5              epoch
`);
  });

  it('draws several series on a log axis, each named at its end', () => {
    const x = range(40);
    const series = [
      { name: 'train', x, y: x.map((t) => 10 ** (-t / 10)) },
      { name: 'test', x, y: x.map((t) => 10 ** (-t / 20)) },
    ];
    expect(`\n${renderPlot(series, { width: 44, height: 9, title: 'both', yScale: 'log' })}\n`).toBe(`
both
    1 ┤⠙⠳⣒⠤⢄⣀
      │   ⠉⠑⠤⣉⠉⠑⠒⠤⢄⣀
  0.1 ┤       ⠑⠢⣀   ⠉⠑⠒⠒⠤⢄⣀
      │          ⠑⠒⠤⣀      ⠉⠑⠒⠒⠤⢄⣀
 0.01 ┤              ⠑⠢⣀          ⠉⠑⠒⠤ test
      │                 ⠑⠢⠤⣀
0.001 ┤                     ⠑⠢⣀
      │                        ⠑⠢⢄⣀
      │                            ⠑⠢⣀ train
      └┬──────────────┬───────────────
       0              20
`);
  });

  it('colours each cell as the series that has most of it', () => {
    const series = [
      { name: 'a', x: [0, 1], y: [0, 0] },
      { name: 'b', x: [0, 1], y: [1, 1], color: 'red' as const },
    ];
    const lines = plain(renderPlot(series, { width: 22, height: 2, color: true }));
    const dots = '\u2809'.repeat(17);
    expect(lines[0]).toContain(`\x1b[31m${dots}\x1b[39m \x1b[31mb\x1b[39m`);
    expect(lines[1]).toContain(`\x1b[36m${'\u28c0'.repeat(17)}\x1b[39m \x1b[36ma\x1b[39m`);
  });

  it('interrupts a line where a value is not finite, or not positive on a log axis', () => {
    const x = [0, 1, 2, 3, 4];
    const gap = (y: number[], yScale?: 'log') =>
      dotsOf(plain(renderPlot([{ name: '', x, y }], { width: 30, height: 2, yScale, yRange: [0.5, 1] })).slice(0, 2));
    const whole = gap([1, 1, 1, 1, 1]);
    const broken = gap([1, 1, Number.NaN, 1, 1]);
    const middle = (dots: Set<string>) => [...dots].filter((dot) => Number(dot.split(',')[0]) === 24);
    expect(middle(whole)).toHaveLength(1);
    expect(middle(broken)).toHaveLength(0);
    expect(gap([1, 1, -1, 1, 1], 'log')).toEqual(gap([1, 1, Number.POSITIVE_INFINITY, 1, 1], 'log'));
  });

  it('shows a single value, a constant, and nothing', () => {
    expect(dotsOf(plain(renderPlot([{ name: '', x: [3], y: [7] }], { width: 30, height: 4 }))).size).toBe(1);
    const constant = dotsOf(plain(renderPlot([{ name: '', x: [0, 1], y: [0, 0] }], { width: 30, height: 4 })));
    expect(new Set([...constant].map((dot) => dot.split(',')[1])).size).toBe(1);
    expect(renderPlot([{ name: 'loss', x: [], y: [] }], { width: 40 })).toBe('loss\n(nothing to plot)');
    expect(renderPlot([], { width: 40 })).toBe('(nothing to plot)');
    expect(renderPlot([{ name: '', x: [1], y: [0] }], { width: 40, yScale: 'log' })).toBe(
      '(no positive values to plot)',
    );
  });

  it('refuses an axis that does not rise', () => {
    const series = [{ name: '', x: [0, 1], y: [0, 1] }];
    expect(() => renderPlot(series, { width: 40, yRange: [1, 1] })).toThrow(/from a lower to a higher/);
    expect(() => renderPlot(series, { width: 40, yRange: [Number.NaN, 1] })).toThrow(RangeError);
  });

  it('lists names below where there is no room beside', () => {
    const series = ['training', 'validation'].map((name, i) => ({ name, x: [0, 1], y: [i, i + 1] }));
    const lines = plain(renderPlot(series, { width: 22, height: 4 }));
    expect(lines.at(-1)).toBe('training validation');
  });

  it('never exceeds its size, whatever the numbers', () => {
    const value = fc.oneof(fc.double(), fc.constantFrom(0, 1, -1, 1e300, -1e300, 5e-324, Number.NaN));
    const line = fc.record({ name: fc.string({ maxLength: 30 }), x: fc.array(value), y: fc.array(value) });
    const options = fc.record({
      width: fc.integer({ min: -5, max: 100 }),
      height: fc.integer({ min: -5, max: 20 }),
      xLabel: fc.string(),
      yScale: fc.constantFrom('linear' as const, 'log' as const),
      color: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(line, { maxLength: 4 }), options, (series, given) => {
        const text = renderPlot(series, { ...given, title: 't' });
        for (const row of plain(text)) expect(visibleWidth(row)).toBeLessThanOrEqual(Math.max(20, given.width));
        if (!text.includes('plot)')) expect(plain(text).length).toBeLessThanOrEqual(Math.max(2, given.height) + 4);
        expect(text).not.toMatch(/undefined|NaN/);
      }),
    );
  });
});
