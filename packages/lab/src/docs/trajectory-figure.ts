/** @file The figure on an optimizer's page: its path on functions of two variables, over their level lines. */
import * as Plot from '@observablehq/plot';
import { DOMParser } from 'linkedom';
import { FAINT, INK, PAPER } from '../figures/palette.ts';
import { formatNumber } from '../terminal/format.ts';
import type { Point, Surface, Trajectory } from './trajectories.ts';

const SIZE = { width: 270, height: 210 };
const MARGIN = 14;
const HEAD = 44;
const PATH = '#d55e00';
const MINIMUM = '#009e73';
const LEVELS = 10;

/** Levels spread evenly over log(value - least), so that valleys show. */
function shade(surface: Surface): (x: number, y: number) => number {
  const least = surface.value(surface.minimum);
  return (x, y) => Math.log10(surface.value([x, y]) - least + 1e-3);
}

/** Points as far as they lie within the window and one beyond it, so that the line leaves the picture where the path does. */
function visible(points: readonly Point[], [[left, right], [bottom, top]]: Surface['window']): Point[] {
  const clamp = (x: number, low: number, high: number) => {
    const room = (high - low) / 2;
    return Math.max(low - room, Math.min(high + room, x));
  };
  return points.map(([x, y]) => [clamp(x, left, right), clamp(y, bottom, top)]);
}

const thin = (points: readonly Point[]): Point[] => points.filter((_, i) => i % 10 === 0);

/** SVG of the paths, one panel a surface; panels of functions without a path say so. */
export function trajectoryFigure(
  title: string,
  paths: readonly { readonly surface: Surface; readonly path: Trajectory | undefined }[],
): string {
  const document = new DOMParser().parseFromString('<svg xmlns="http://www.w3.org/2000/svg"></svg>', 'image/svg+xml');
  // The same interfaces as a browser's, as far as drawing needs them.
  const dom = document as unknown as Document;
  const root = document.documentElement as unknown as SVGElement;
  const add = (parent: Element, tag: string, attributes: Readonly<Record<string, string | number>>, text?: string) => {
    const element = dom.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
    if (text !== undefined) element.textContent = text;
    parent.appendChild(element);
    return element;
  };
  const width = paths.length * (SIZE.width + MARGIN) + MARGIN;
  const height = HEAD + SIZE.height + 22 + MARGIN;
  add(root, 'title', {}, title);
  add(root, 'rect', { width, height, fill: PAPER, rx: 6 });
  paths.forEach(({ surface, path }, i) => {
    const x = MARGIN + i * (SIZE.width + MARGIN);
    const group = add(root, 'g', { transform: `translate(${x},0)` });
    add(group, 'text', { y: 20, 'font-size': 13, 'font-weight': 600 }, surface.name);
    const told = path
      ? `η = ${formatNumber(path.lr, 2)}, value ${formatNumber(path.value, 2)} after ${path.points.length - 1} steps`
      : 'no path: it diverges at every rate tried';
    add(group, 'text', { y: 36, 'font-size': 11, fill: FAINT }, told);
    const [[left, right], [bottom, top]] = surface.window;
    const shown = path ? visible(path.points, surface.window) : [];
    const drawn = Plot.plot({
      document: dom,
      ...SIZE,
      height: SIZE.height + 22,
      marginLeft: 26,
      marginRight: 2,
      marginTop: 2,
      marginBottom: 22,
      x: { domain: [left, right], label: null, ticks: 5 },
      y: { domain: [bottom, top], label: null, ticks: 5 },
      color: { scheme: 'greys', type: 'linear', reverse: true },
      marks: [
        Plot.contour({
          fill: shade(surface),
          fillOpacity: 0.35,
          stroke: INK,
          strokeOpacity: 0.25,
          strokeWidth: 0.6,
          thresholds: LEVELS,
          interval: undefined,
          x1: left,
          x2: right,
          y1: bottom,
          y2: top,
          pixelSize: 6,
        }),
        Plot.line(shown, { x: '0', y: '1', stroke: PATH, strokeWidth: 1.5, clip: true }),
        Plot.dot(thin(shown), { x: '0', y: '1', r: 1.8, fill: PATH, clip: true }),
        Plot.dot([surface.start], { x: '0', y: '1', r: 4, fill: PAPER, stroke: INK, strokeWidth: 1.5 }),
        Plot.dot([surface.minimum], { x: '0', y: '1', r: 6, symbol: 'star', fill: MINIMUM }),
      ],
    });
    const inner = add(group, 'g', { transform: `translate(0,${HEAD})`, 'font-size': 10, 'text-anchor': 'middle' });
    for (const node of [...drawn.children]) if (node.tagName !== 'style') inner.appendChild(node);
  });
  const attributes = {
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: 'img',
    fill: INK,
    color: INK,
    'font-family': 'system-ui, -apple-system, "Segoe UI", sans-serif',
  };
  for (const [name, value] of Object.entries(attributes)) root.setAttribute(name, String(value));
  // Coordinates in whole pixels: a folder of figures stays small.
  const shorter = root.outerHTML.replace(/ d="[^"]*"/g, (path) =>
    path.replace(/-?\d+\.\d+/g, (number) => String(Math.round(Number(number)))),
  );
  // Clip paths are numbered over the whole process; each figure has its own.
  const ids = [...new Set(shorter.match(/plot-clip-\d+/g))];
  return `${ids.reduce((text, id, i) => text.replaceAll(new RegExp(`${id}(?!\\d)`, 'g'), `clip-${i}`), shorter)}\n`;
}
