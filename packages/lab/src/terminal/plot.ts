/**
 * Line plots in text. Each character cell is a braille pattern of 2 by 4 dots, so a plot of 60 by 12 characters has 120 by 48 points.
 */
import { type Color, pad, paint, truncate, visibleWidth } from './style.ts';
import { linearTicks, logTicks, type Tick } from './ticks.ts';

/** A line: the points `(x[i], y[i])` in order, joined. A point that is not finite (or not positive on a log axis) interrupts it. */
export interface PlotSeries {
  /** Written at the line's right end where there is more than one. */
  readonly name: string;
  readonly x: ArrayLike<number>;
  readonly y: ArrayLike<number>;
  /** Default: the next of a fixed sequence. */
  readonly color?: Color;
}

export interface PlotOptions {
  /** Columns of the whole picture, at least 20. */
  readonly width: number;
  /** Rows of the drawing area, without title and x axis; at least 2. Default 12. */
  readonly height?: number;
  /** Written above. Default: the name of the only series, otherwise nothing. */
  readonly title?: string;
  /** Written at the right end of the x axis, such as `epoch`. */
  readonly xLabel?: string;
  /** Default `linear`. */
  readonly yScale?: 'linear' | 'log';
  /** Ends of the y axis. Default: the smallest and largest value shown. */
  readonly yRange?: readonly [low: number, high: number];
  /** Default false. */
  readonly color?: boolean;
}

const SERIES_COLORS: readonly Color[] = ['cyan', 'yellow', 'magenta', 'green', 'blue', 'red'];

/** Bit of the dot in column 0 or 1 (first index) and row 0 to 3 of a braille cell; added to U+2800. */
const DOTS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const;

/** Widest a series' name may be beside the plot. */
const NAME_WIDTH = 16;

interface Axis {
  readonly low: number;
  readonly high: number;
  readonly log: boolean;
}

/** The position of `value` on `axis`: 0 at its low end, 1 at its high end. */
function position({ low, high, log }: Axis, value: number): number {
  if (log) return (Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low));
  // Halved where the range overflows.
  const scale = Number.isFinite(high - low) ? 1 : 0.5;
  return (value * scale - low * scale) / (high * scale - low * scale);
}

const drawable = (value: number, log: boolean): boolean => Number.isFinite(value) && (!log || value > 0);

/**
 * Draws `series` into one set of axes.
 *
 * @returns Lines joined by newlines, each at most `width` columns; one line that says so where there is nothing to draw.
 */
export function renderPlot(series: readonly PlotSeries[], options: PlotOptions): string {
  const width = Math.max(20, Math.floor(options.width));
  const height = Math.max(2, Math.floor(options.height ?? 12));
  const color = options.color ?? false;
  const log = options.yScale === 'log';
  const title = options.title ?? (series.length === 1 ? series[0].name : '');
  const titled = (lines: readonly string[]): string =>
    (title === '' ? lines : [paint(truncate(title, width), 'bold', color), ...lines]).join('\n');

  const extent = findExtent(series, log);
  if (!extent) return titled([truncate(log ? '(no positive values to plot)' : '(nothing to plot)', width)]);
  const x = widen({ ...extent.x, log: false });
  const [low, high] = checkRange(options.yRange) ?? [extent.y.low, extent.y.high];
  const y = widen({ low, high, log: log && low > 0 });

  const yTicks = placeTicks(y, height, Math.max(2, Math.floor(height / 2)));
  const gutter = Math.max(0, ...[...yTicks.values()].map((tick) => tick.label.length));
  const longest = Math.max(...series.map((line) => visibleWidth(line.name)));
  const names = series.length > 1 ? Math.min(NAME_WIDTH, longest) : 0;
  const roomForNames = names > 0 && width - gutter - 2 - (names + 1) >= 10;
  const columns = width - gutter - 2 - (roomForNames ? names + 1 : 0);

  const canvas = new Canvas(columns, height);
  const ends = series.map((line, index) => drawSeries(canvas, line, index, x, y));
  const colors = series.map((line, index) => line.color ?? SERIES_COLORS[index % SERIES_COLORS.length]);
  const labels = roomForNames ? placeLabels(ends, height) : new Map<number, number>();

  const lines: string[] = [];
  for (let row = 0; row < height; row++) {
    const tick = yTicks.get(row);
    const axis = paint(pad(tick?.label ?? '', gutter, 'right') + (tick ? ' ┤' : ' │'), 'dim', color);
    const named = labels.get(row);
    const name = named === undefined ? '' : ` ${paint(truncate(series[named].name, names), colors[named], color)}`;
    lines.push((axis + canvas.row(row, colors, color) + name).trimEnd());
  }
  lines.push(...xAxis(x, gutter, columns, options.xLabel ?? '').map((line) => paint(line, 'dim', color)));
  if (series.length > 1 && !roomForNames) {
    const legend = series.map((line, index) => paint(line.name, colors[index], color)).join(' ');
    lines.push(truncate(legend, width));
  }
  return titled(lines);
}

function checkRange(range: PlotOptions['yRange']): PlotOptions['yRange'] {
  if (range && !(Number.isFinite(range[0]) && Number.isFinite(range[1]) && range[0] < range[1])) {
    throw new RangeError(`The y axis must run from a lower to a higher finite number, got ${range[0]} to ${range[1]}.`);
  }
  return range;
}

function findExtent(series: readonly PlotSeries[], log: boolean) {
  const x = { low: Number.POSITIVE_INFINITY, high: Number.NEGATIVE_INFINITY };
  const y = { ...x };
  for (const line of series) {
    for (let i = 0; i < Math.min(line.x.length, line.y.length); i++) {
      if (!drawable(line.x[i], false) || !drawable(line.y[i], log)) continue;
      x.low = Math.min(x.low, line.x[i]);
      x.high = Math.max(x.high, line.x[i]);
      y.low = Math.min(y.low, line.y[i]);
      y.high = Math.max(y.high, line.y[i]);
    }
  }
  return x.low <= x.high ? { x, y } : undefined;
}

/** An axis of no length is given some, so that a single value lies in its middle. */
function widen(axis: Axis): Axis {
  const middle = Math.min(1e300, Math.max(-1e300, axis.low));
  if (axis.log) {
    if (Math.log(axis.high) > Math.log(axis.low)) return axis;
    const positive = Math.max(1e-300, middle);
    return { low: positive / 2, high: positive * 2, log: true };
  }
  if (axis.high > axis.low) return axis;
  const by = Math.abs(middle) > 1e-300 ? Math.abs(middle) / 2 : 1;
  return { low: middle - by, high: middle + by, log: false };
}

/** Ticks by the row they stand in. */
function placeTicks(y: Axis, height: number, count: number): Map<number, Tick> {
  const rows = new Map<number, Tick>();
  for (const tick of (y.log ? logTicks : linearTicks)(y.low, y.high, count)) {
    const row = Math.floor(Math.round((1 - position(y, tick.value)) * (height * 4 - 1)) / 4);
    if (row >= 0 && row < height && !rows.has(row)) rows.set(row, tick);
  }
  return rows;
}

/** Draws one line; the row in which it ends, or undefined where nothing of it is visible. */
function drawSeries(canvas: Canvas, line: PlotSeries, index: number, x: Axis, y: Axis): number | undefined {
  const right = canvas.columns * 2 - 1;
  const bottom = canvas.rows * 4 - 1;
  let previous: readonly [number, number] | undefined;
  let end: number | undefined;
  for (let i = 0; i < Math.min(line.x.length, line.y.length); i++) {
    if (!drawable(line.x[i], false) || !drawable(line.y[i], y.log)) {
      previous = undefined;
      continue;
    }
    const at = [
      Math.round(position(x, line.x[i]) * right),
      // A given range may be left by far: kept near enough to give the line its slope without walking there.
      Math.round(Math.min(4, Math.max(-4, 1 - position(y, line.y[i]))) * bottom),
    ] as const;
    canvas.line(previous ?? at, at, index);
    end = Math.min(canvas.rows - 1, Math.max(0, Math.floor(at[1] / 4)));
    previous = at;
  }
  return end;
}

/** The row of each series' name: where its line ends or, where that is taken, the nearest free row. */
function placeLabels(ends: readonly (number | undefined)[], height: number): Map<number, number> {
  const taken = new Map<number, number>();
  const order = ends.map((_, index) => index).sort((a, b) => (ends[a] ?? 0) - (ends[b] ?? 0) || a - b);
  for (const index of order) {
    const end = ends[index];
    if (end === undefined) continue;
    for (let distance = 0; distance < height; distance++) {
      const row = [end + distance, end - distance].find((r) => r >= 0 && r < height && !taken.has(r));
      if (row === undefined) continue;
      taken.set(row, index);
      break;
    }
  }
  return taken;
}

function xAxis(x: Axis, gutter: number, columns: number, label: string): string[] {
  const rule = new Array<string>(columns).fill('─');
  const total = gutter + 2 + columns;
  const text = new Array<string>(total).fill(' ');
  const name = truncate(label, Math.floor(columns / 2));
  const nameStart = total - visibleWidth(name);
  if (name !== '') text.splice(nameStart, visibleWidth(name), ...name);
  let free = 0;
  for (const tick of linearTicks(x.low, x.high, Math.max(2, Math.floor(columns / 10)))) {
    const column = Math.floor(Math.round(position(x, tick.value) * (columns * 2 - 1)) / 2);
    const start = Math.max(0, gutter + 2 + column - Math.floor((tick.label.length - 1) / 2));
    const end = start + tick.label.length;
    rule[column] = '┬';
    if (start < free || end > (name === '' ? total : nameStart - 1)) continue;
    text.splice(start, tick.label.length, ...tick.label);
    free = end + 1;
  }
  return [`${' '.repeat(gutter)} └${rule.join('')}`, text.join('').trimEnd()];
}

/** Dots in braille cells, and whose they are. */
class Canvas {
  readonly columns: number;
  readonly rows: number;
  readonly #masks: Uint8Array;
  /** The dots of each series, for the colours of cells. */
  readonly #bySeries: Uint8Array[] = [];

  constructor(columns: number, rows: number) {
    this.columns = columns;
    this.rows = rows;
    this.#masks = new Uint8Array(columns * rows);
  }

  /** A straight line between two dots, ends included (Bresenham 1965). */
  line(from: readonly [number, number], to: readonly [number, number], series: number): void {
    let [column, row] = from;
    const width = Math.abs(to[0] - column);
    const height = -Math.abs(to[1] - row);
    const right = column < to[0] ? 1 : -1;
    const down = row < to[1] ? 1 : -1;
    for (let error = width + height; ; ) {
      this.#dot(column, row, series);
      if (column === to[0] && row === to[1]) return;
      const doubled = 2 * error;
      if (doubled >= height) {
        error += height;
        column += right;
      }
      if (doubled <= width) {
        error += width;
        row += down;
      }
    }
  }

  #dot(column: number, row: number, series: number): void {
    if (column < 0 || row < 0 || column >= this.columns * 2 || row >= this.rows * 4) return;
    const cell = (row >> 2) * this.columns + (column >> 1);
    const bit = DOTS[column & 1][row & 3];
    this.#masks[cell] |= bit;
    this.#bySeries[series] ??= new Uint8Array(this.columns * this.rows);
    this.#bySeries[series][cell] |= bit;
  }

  /** One row of cells; each has the colour of the series with most dots in it, the later one where equal. */
  row(row: number, colors: readonly Color[], color: boolean): string {
    let text = '';
    let run = '';
    let runSeries = -1;
    const flush = (): void => {
      text += paint(run, runSeries < 0 ? undefined : colors[runSeries], color);
      run = '';
    };
    for (let column = 0; column < this.columns; column++) {
      const cell = row * this.columns + column;
      let best = -1;
      let most = 0;
      for (const [series, masks] of this.#bySeries.entries()) {
        const count = masks === undefined ? 0 : bitCount(masks[cell]);
        if (count > 0 && count >= most) {
          most = count;
          best = series;
        }
      }
      if (best !== runSeries) {
        flush();
        runSeries = best;
      }
      run += this.#masks[cell] === 0 ? ' ' : String.fromCharCode(0x2800 + this.#masks[cell]);
    }
    flush();
    return text;
  }
}

function bitCount(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
  return count;
}
