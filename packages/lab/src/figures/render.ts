/** @file Figures as SVG files, drawn by Observable Plot: the same figure gives the same bytes. */
import * as Plot from '@observablehq/plot';
import { ConfigError } from 'edgewise';
import { DOMParser } from 'linkedom';
import { formatNumber } from '../terminal/format.ts';
import { linearTicks, logTicks } from '../terminal/ticks.ts';
import { carries, domainOf, runsOf } from './clip.ts';
import type { Axis, Figure, Panel, Point } from './figure.ts';
import { FAINT, INK, type Look, lookOf, PAPER } from './palette.ts';

const WIDTH = 820;
const PANEL_HEIGHT = 260;
const MARGIN = 18;
const FONT = 'system-ui, -apple-system, "Segoe UI", sans-serif';
/** Pixels a character of the legend takes at most, on average. */
const CHARACTER = 7;

/** Draws a figure. @throws ConfigError where it has no panel, or a domain that its axis cannot carry. */
export function renderFigure(figure: Figure): string {
  const { title, subtitle, panels, width = WIDTH, panelHeight = PANEL_HEIGHT } = figure;
  if (panels.length === 0) throw new ConfigError(`The figure '${title}' has no panels; there is nothing to draw.`);
  const columns = Math.min(figure.columns ?? 2, panels.length);
  const names = [...new Set(panels.flatMap((panel) => panel.series.map(({ name }) => name)))];
  const looks = new Map(names.map((name, i) => [name, lookOf(i)]));
  const svg = new Page();

  let top = MARGIN + 14;
  svg.text(MARGIN, top, title, { 'font-size': 16, 'font-weight': 600 });
  for (const line of subtitle === undefined ? [] : wrap(subtitle, (width - 2 * MARGIN) / (CHARACTER - 0.6))) {
    top += 18;
    svg.text(MARGIN, top, line, { 'font-size': 12, fill: FAINT });
  }
  top += 12;
  top = svg.legend(
    looks,
    panels.some(({ markers }) => markers),
    top,
    width,
  );

  const gap = 16;
  const panelWidth = (width - 2 * MARGIN - (columns - 1) * gap) / columns;
  panels.forEach((panel, i) => {
    const x = MARGIN + (i % columns) * (panelWidth + gap);
    const y = top + Math.floor(i / columns) * (panelHeight + gap);
    svg.panel(panel, looks, { x, y, width: panelWidth, height: panelHeight });
  });
  const rows = Math.ceil(panels.length / columns);
  return svg.finish(title, width, top + rows * panelHeight + (rows - 1) * gap + MARGIN);
}

type Attributes = Readonly<Record<string, string | number | undefined>>;
interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The SVG document under way. */
class Page {
  readonly #document = new DOMParser().parseFromString(
    '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    'image/svg+xml',
  );
  readonly #root = this.#document.documentElement as unknown as SVGElement;

  text(x: number, y: number, content: string, attributes: Attributes, parent: Element = this.#root): void {
    this.#add(parent, 'text', { x, y, ...attributes }).textContent = content;
  }

  /** One entry a line, in as many rows as it takes; returns where what comes below it begins. */
  legend(looks: ReadonlyMap<string, Look>, markers: boolean, top: number, width: number): number {
    if (looks.size < 2) return top + 4;
    const group = this.#add(this.#root, 'g', { 'aria-label': 'legend', 'font-size': 12 });
    let [x, y] = [MARGIN, top + 8];
    for (const [name, { color, dash, symbol }] of looks) {
      const length = 34 + CHARACTER * [...name].length + 16;
      if (x > MARGIN && x + length > width - MARGIN) [x, y] = [MARGIN, y + 18];
      this.#add(group, 'line', {
        x1: x,
        x2: x + 24,
        y1: y,
        y2: y,
        stroke: color,
        'stroke-width': 2,
        'stroke-dasharray': dash,
      });
      if (markers) {
        const dot = Plot.dot([[x + 12, y]], { symbol, fill: color, r: 4 });
        const drawn = Plot.plot({
          document: this.#plotDocument,
          width: 1,
          height: 1,
          margin: 0,
          axis: null,
          x: { type: 'identity' },
          y: { type: 'identity' },
          marks: [dot],
        });
        for (const node of [...drawn.children]) if (node.tagName !== 'style') group.appendChild(node);
      }
      this.text(x + 30, y + 4, name, {}, group);
      x += length;
    }
    return y + 22;
  }

  panel(panel: Panel, looks: ReadonlyMap<string, Look>, box: Box): void {
    const group = this.#add(this.#root, 'g', {
      transform: `translate(${box.x},${box.y})`,
      'aria-label': panel.title ?? `${panel.y.label} over ${panel.x.label}`,
    });
    if (panel.title !== undefined) this.text(0, 12, panel.title, { 'font-size': 13, 'font-weight': 600 }, group);
    const drawn = Plot.plot({ document: this.#plotDocument, ...plotOf(panel, looks, box) });
    const inner = this.#add(group, 'g', { 'font-size': 11, 'text-anchor': 'middle' });
    for (const node of [...drawn.children]) if (node.tagName !== 'style') inner.appendChild(node);
  }

  finish(title: string, width: number, height: number): string {
    const root = this.#root;
    const paper = this.#add(root, 'rect', { width, height, fill: PAPER, rx: 6 });
    const name = this.#add(root, 'title', {});
    name.textContent = title;
    root.prepend(name, paper);
    const attributes: Attributes = {
      viewBox: `0 0 ${width} ${round(height)}`,
      width,
      height: round(height),
      role: 'img',
      fill: INK,
      // What Plot draws in `currentColor`.
      color: INK,
      'font-family': FONT,
    };
    for (const [key, value] of Object.entries(attributes)) root.setAttribute(key, String(value));
    tidy(root, title);
    return `${root.outerHTML}\n`;
  }

  get #plotDocument(): Document {
    return this.#document as unknown as Document;
  }

  #add(parent: Element, tag: string, attributes: Attributes): SVGElement {
    const element = this.#plotDocument.createElementNS('http://www.w3.org/2000/svg', tag) as SVGElement;
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== undefined) element.setAttribute(key, String(value));
    }
    parent.appendChild(element);
    return element;
  }
}

/** What Plot is asked for. Ticks, domains and cuts are ours, so that logarithmic axes of less than a decade read well. */
function plotOf(panel: Panel, looks: ReadonlyMap<string, Look>, { width, height }: Box): Plot.PlotOptions {
  const { x, y, series, brackets = [] } = panel;
  const points = series.flatMap((line) => line.points);
  const xDomain = domainOf(
    x,
    points.map((p) => p.x),
    panel.markers === true,
  );
  const ys = points.flatMap(({ y: middle, low = middle, high = middle }) => [low, middle, high]);
  const yDomain = domainOf(y, ys, true);
  const [xTicks, yTicks] = [ticksOf(x, xDomain, Math.floor(width / 60)), ticksOf(y, yDomain, Math.floor(height / 40))];
  const marginLeft = 14 + 6.5 * Math.max(3, ...yTicks.map(({ label }) => label.length));
  const marginTop = panel.title === undefined ? 26 : 46;
  const scale = (axis: Axis, domain: readonly number[]) => ({
    type: axis.scale ?? ('linear' as const),
    domain,
    label: null,
  });
  const inside = (v: number, [low, high]: readonly number[]) => Math.min(high, Math.max(low, v));
  const marks: Plot.Markish[] = [
    Plot.gridY(
      yTicks.map((tick) => tick.value),
      { stroke: INK, strokeOpacity: 0.12 },
    ),
    // Given as text: of formatted ticks, Plot leaves some out on logarithmic axes.
    Plot.axisX(
      xTicks.map((tick) => tick.value),
      { text: xTicks.map((tick) => tick.label), tickSize: 4 },
    ),
    Plot.axisY(
      yTicks.map((tick) => tick.value),
      { text: yTicks.map((tick) => tick.label), tickSize: 0 },
    ),
    Plot.ruleY([yDomain[0]], { stroke: INK, strokeOpacity: 0.5 }),
    Plot.text([y.label], { frameAnchor: 'top-left', dx: -marginLeft, dy: -20, fill: FAINT }),
    Plot.text([x.label], { frameAnchor: 'bottom-right', textAnchor: 'end', dy: 34, fill: FAINT }),
  ];
  const cut = { clip: true } as const;
  for (const { name, points: all } of series) {
    for (const run of runsOf(all, x, y)) {
      if (run.every(({ low, high }) => low === undefined || high === undefined || low === high)) continue;
      const bounds = (p: Point) => [p.low ?? p.y, p.high ?? p.y].map((v) => (carries(y, v) ? v : yDomain[0]));
      marks.push(
        Plot.areaY(run, {
          x: 'x',
          y1: (p: Point) => bounds(p)[0],
          y2: (p: Point) => bounds(p)[1],
          fill: looks.get(name)?.color,
          fillOpacity: 0.16,
          ...cut,
        }),
      );
    }
  }
  for (const { name, points: all } of series) {
    const look = looks.get(name);
    for (const run of runsOf(all, x, y)) {
      marks.push(
        Plot.lineY(run, { x: 'x', y: 'y', stroke: look?.color, strokeWidth: 2, strokeDasharray: look?.dash, ...cut }),
      );
      const shown =
        panel.markers || run.length === 1
          ? run.filter((p) => p.y === inside(p.y, yDomain) && p.x === inside(p.x, xDomain))
          : [];
      if (shown.length > 0)
        marks.push(Plot.dot(shown, { x: 'x', y: 'y', fill: look?.color, symbol: look?.symbol, r: 4 }));
    }
  }
  // Labels of brackets that lie above each other stand beside each other.
  for (const [i, { from, to, y: level, label, series: name }] of brackets.entries()) {
    const color = looks.get(name)?.color;
    const share = (i + 1) / (brackets.length + 1);
    const place = x.scale === 'log' ? from * (to / from) ** share : from + (to - from) * share;
    marks.push(
      Plot.link([0], {
        x1: [from],
        x2: [to],
        y1: [level],
        y2: [level],
        stroke: color,
        strokeDasharray: '3,3',
        strokeWidth: 1.5,
        ...cut,
      }),
      Plot.text([label], {
        x: [place],
        y: [level],
        dy: -8,
        fill: color,
        fontWeight: 600,
        stroke: PAPER,
        strokeWidth: 4,
      }),
    );
  }
  return {
    width,
    height,
    marginLeft,
    marginRight: 14,
    marginTop,
    marginBottom: 42,
    x: scale(x, xDomain),
    y: scale(y, yDomain),
    marks,
  };
}

interface Label {
  readonly value: number;
  readonly label: string;
}

function ticksOf(axis: Axis, [low, high]: readonly [number, number], count: number): Label[] {
  if (!(low < high) || (axis.scale === 'log' && !(low > 0))) {
    throw new ConfigError(
      `The axis '${axis.label}' covers ${low} to ${high}; give a rising range${axis.scale === 'log' ? ' of positive numbers' : ''}.`,
    );
  }
  const percent = axis.format === 'percent';
  const factor = percent ? 100 : 1;
  const unit = percent ? ' %' : '';
  if (axis.ticks) return axis.ticks.map((value) => ({ value, label: formatNumber(value * factor) + unit }));
  const make = axis.scale === 'log' ? logTicks : linearTicks;
  return make(low * factor, high * factor, count).map(({ value, label }) => ({
    value: value / factor,
    label: label + unit,
  }));
}

/** Text in lines of at most `length` characters, broken at blanks. */
function wrap(text: string, length: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines[lines.length - 1];
    if (last !== undefined && last.length + 1 + word.length <= length) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

const round = (value: number): number => Math.round(100 * value) / 100;

/**
 * Coordinates to a hundredth of a pixel, and names that do not depend on what was drawn before, and differ between the figures of a page where
 * titles do.
 */
function tidy(root: Element, title: string): void {
  const slug = title.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  const names = new Map<string, string>();
  for (const element of [root, ...root.querySelectorAll('*')]) {
    for (const { name, value } of [...element.attributes]) {
      const renamed = value.replace(/plot-clip-\d+/g, (id) => {
        const known = names.get(id) ?? `clip-${slug}-${names.size + 1}`;
        names.set(id, known);
        return known;
      });
      const shorter =
        name === 'class'
          ? renamed
          : renamed.replace(/-?\d+\.\d{3,}(e-?\d+)?/g, (number) => String(round(Number(number))));
      if (shorter !== value) element.setAttribute(name, shorter);
    }
  }
}
