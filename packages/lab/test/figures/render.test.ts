import { DOMParser } from 'linkedom';
import { describe, expect, it } from 'vitest';
import { domainOf, runsOf } from '../../src/figures/clip.ts';
import { type Figure, renderFigure } from '../../src/figures/index.ts';

const axis = { label: 'epochs' };
const line = (name: string, ys: readonly number[], spread = 0) => ({
  name,
  points: ys.map((y, i) => ({ x: i + 1, y, ...(spread > 0 ? { low: y - spread, high: y + spread } : {}) })),
});

const parse = (svg: string) => new DOMParser().parseFromString(svg, 'image/svg+xml');
const textsOf = (svg: string): string[] =>
  [...parse(svg).querySelectorAll('text')].map((node) => String(node.textContent));

/** End points of every drawn line, in pixels within the panel. */
function pathsOf(svg: string): { stroke: string; points: [number, number][] }[] {
  return [...parse(svg).querySelectorAll('[aria-label=line]')].flatMap((group) =>
    [...group.querySelectorAll('path')].map((path) => ({
      stroke: String(
        (path.getAttribute('stroke') ?? path.parentElement?.getAttribute('stroke')) || group.getAttribute('stroke'),
      ),
      points: [...String(path.getAttribute('d')).matchAll(/(-?[\d.]+),(-?[\d.]+)/g)].map(
        ([, x, y]): [number, number] => [Number(x), Number(y)],
      ),
    })),
  );
}

const two: Figure = {
  title: 'Two <lines> & "more"',
  subtitle: 'small print',
  panels: [
    {
      title: 'first',
      x: axis,
      y: { label: 'loss', scale: 'log' },
      series: [line('a', [8, 4, 2, 1], 0.5), line('b', [1, 2, 4, 8])],
    },
    { title: 'second', x: axis, y: { label: 'accuracy', format: 'percent' }, series: [line('b', [0.1, 0.5, 0.9])] },
  ],
};

describe('a figure', () => {
  it('is the same bytes every time, whatever was drawn before', () => {
    const first = renderFigure(two);
    renderFigure({ title: 'another', panels: [two.panels[0], two.panels[0], two.panels[0]] });
    expect(renderFigure(two)).toBe(first);
  });

  it('is well-formed XML whose text is text', () => {
    const svg = renderFigure(two);
    const texts = textsOf(svg);
    for (const wanted of [
      'Two <lines> & "more"',
      'small print',
      'first',
      'second',
      'loss',
      'accuracy',
      'a',
      'b',
      '40 %',
    ])
      expect(texts).toContain(wanted);
    expect(svg).not.toContain('<lines>');
    expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
  });

  it('brings its own paper and ink, so that it reads on dark pages too', () => {
    const root = parse(renderFigure(two)).documentElement;
    expect(root.querySelector('rect')?.getAttribute('fill')).toBe('#ffffff');
    expect(root.getAttribute('color')).toBe('#1f2328');
  });

  it('gives lines of one name one colour in all panels and one entry in the legend', () => {
    const svg = renderFigure(two);
    const strokes = pathsOf(svg).map(({ stroke }) => stroke);
    expect(strokes).toHaveLength(3);
    expect(strokes[1]).toBe(strokes[2]);
    expect(strokes[0]).not.toBe(strokes[1]);
    expect(textsOf(svg).filter((text) => text === 'b')).toHaveLength(1);
  });

  it('places points where a logarithmic axis has them: equal ratios are equal distances', () => {
    const [{ points }] = pathsOf(renderFigure(two));
    const steps = points.slice(1).map(([, y], i) => y - points[i][1]);
    for (const step of steps) expect(step).toBeCloseTo(steps[0], 1);
    expect(steps[0]).toBeGreaterThan(5);
  });

  it('draws a band where there is a spread, and none where there is not', () => {
    const areas = parse(renderFigure(two)).querySelectorAll('[aria-label=area] path');
    expect(areas).toHaveLength(1);
  });

  it('breaks a line at what its axis cannot carry', () => {
    const ys = [4, 2, Number.NaN, 1, 0, 0.5];
    const broken = {
      title: 't',
      panels: [{ x: axis, y: { label: 'loss', scale: 'log' as const }, series: [line('a', ys)] }],
    };
    const svg = renderFigure(broken);
    expect(pathsOf(svg).map(({ points }) => points.length)).toEqual([2, 1, 1]);
    // A point alone shows as a dot.
    expect(parse(svg).querySelectorAll('[aria-label=dot] > *')).toHaveLength(2);
    expect(svg).not.toContain('NaN');
  });

  it('writes every tick it was told to, also on a logarithmic axis', () => {
    const panel = {
      x: { label: 'epochs', scale: 'log' as const, ticks: [1, 2, 4, 8, 16] },
      y: { label: 'loss' },
      series: [line('a', [3, 2, 1])],
      markers: true,
    };
    const texts = textsOf(renderFigure({ title: 't', panels: [{ ...panel, x: { ...panel.x, domain: [1, 16] } }] }));
    for (const tick of ['1', '2', '4', '8', '16']) expect(texts).toContain(tick);
  });

  it('labels a bracket in the colour of its line', () => {
    const panel = { ...two.panels[0], brackets: [{ from: 1, to: 2, y: 3, label: '× 0.5', series: 'b' }] };
    const svg = renderFigure({ title: 't', panels: [panel] });
    const label = [...parse(svg).querySelectorAll('text')].find((node) => node.textContent === '× 0.5');
    expect(label?.parentElement?.getAttribute('fill')).toBe(pathsOf(svg)[1].stroke);
  });

  it('keeps no more than a hundredth of a pixel', () => {
    expect(renderFigure(two)).not.toMatch(/="[^"]*\d\.\d{3,}/);
  });

  it('refuses to draw nothing, and ranges that fall', () => {
    expect(() => renderFigure({ title: 'empty', panels: [] })).toThrow(/has no panels/);
    const bad = { x: axis, y: { label: 'loss', domain: [2, 1] as const }, series: [line('a', [1, 2])] };
    expect(() => renderFigure({ title: 't', panels: [bad] })).toThrow(/'loss' covers 2 to 1/);
    const log = { x: axis, y: { label: 'loss', scale: 'log' as const, domain: [0, 1] as const }, series: [] };
    expect(() => renderFigure({ title: 't', panels: [log] })).toThrow(/positive/);
  });

  it('draws axes for lines without points', () => {
    expect(
      textsOf(renderFigure({ title: 't', panels: [{ x: axis, y: axis, series: [{ name: 'a', points: [] }] }] })),
    ).toContain('epochs');
  });
});

describe('domains and runs', () => {
  const log = { label: '', scale: 'log' as const };
  it('cover all that fits', () => {
    expect(domainOf({ label: '' }, [3, Number.NaN, 1, Number.POSITIVE_INFINITY], false)).toEqual([1, 3]);
    expect(domainOf(log, [-1, 0, 1, 100], false)).toEqual([1, 100]);
    expect(domainOf(log, [0, -3], false)).toEqual([0.1, 1]);
    expect(domainOf({ label: '' }, [5, 5], false)).toEqual([4.5, 5.5]);
    expect(domainOf({ label: '', domain: [0, 1] }, [5], true)).toEqual([0, 1]);
  });

  it('take long series', () => {
    const many = Array.from({ length: 300_000 }, (_, i) => i);
    expect(domainOf({ label: '' }, many, false)).toEqual([0, 299_999]);
  });

  it('break at both axes', () => {
    const points = [
      { x: 0, y: 1 },
      { x: 1, y: 1 },
      { x: 2, y: -1 },
      { x: 3, y: 1 },
    ];
    expect(runsOf(points, log, log).map((run) => run.map(({ x }) => x))).toEqual([[1], [3]]);
  });
});
