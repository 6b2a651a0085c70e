/** How a training run looks while it goes on: pure functions from what is known to lines of text. */
import { formatCount, formatDuration, formatNumber, formatPercent } from './format.ts';
import { type Color, pad, paint, type Screen, truncate, visibleWidth } from './style.ts';

/** What is known about a run at one moment. What is undefined was not measured (yet) and is shown as `-` or left out. */
export interface Progress {
  /** Optimizer steps taken. */
  readonly step: number;
  /** Steps in all; undefined where the end is not known. */
  readonly steps?: number;
  /** Passes over the data so far, fractional. */
  readonly epoch: number;
  readonly epochs?: number;
  /** Mean over the latest steps, in nats. */
  readonly loss?: number;
  /** Fraction of training examples classified correctly over the latest steps. */
  readonly accuracy?: number;
  /** On the test set, at its latest evaluation. */
  readonly testLoss?: number;
  readonly testAccuracy?: number;
  readonly lr?: number;
  readonly examplesPerSecond?: number;
  readonly secondsElapsed: number;
  readonly secondsLeft?: number;
  readonly sharpness?: Sharpness;
}

/** The largest Hessian eigenvalue, and the value at which the optimizer's step becomes unstable. */
export interface Sharpness {
  readonly value: number;
  /** Norm of the eigenvector's residual. */
  readonly residual?: number;
  /** The largest eigenvalue after dividing by what the optimizer divides by; where given, the threshold is for this one. */
  readonly preconditioned?: number;
  /** Where the optimizer has a known one, such as 2/lr for gradient descent. */
  readonly threshold?: number;
}

/** `sharpness / threshold` from which on it counts as at the edge. */
const EDGE = 0.9;

function sharpnessColor({ value, preconditioned = value, threshold }: Sharpness): Color | undefined {
  if (threshold === undefined) return undefined;
  const ratio = preconditioned / threshold;
  if (!(ratio >= 0)) return undefined;
  return ratio >= 1.1 ? 'red' : ratio >= EDGE ? 'yellow' : 'green';
}

/** Sharpness with its residual and its distance to the threshold, in words. */
export function describeSharpness(sharpness: Sharpness): string {
  const { value, residual, preconditioned, threshold } = sharpness;
  const error = residual === undefined ? '' : ` ± ${formatNumber(residual, 2)}`;
  if (threshold === undefined) return `sharpness ${formatNumber(value)}${error}`;
  const percent = formatPercent((preconditioned ?? value) / threshold, 0);
  const held = preconditioned === undefined ? '' : `; preconditioned ${formatNumber(preconditioned)}`;
  return `sharpness ${formatNumber(value)}${error}${held}, ${percent} of the stability threshold ${formatNumber(threshold)}`;
}

interface Column {
  readonly header: string;
  /** Columns with a lower number are kept longer where the screen is narrow. */
  readonly priority: number;
  readonly width: number;
  cell(progress: Progress): string;
  color?(progress: Progress): Color | undefined;
}

const MISSING = '-';
const show = (value: number | undefined, format: (value: number) => string): string =>
  value === undefined ? MISSING : format(value);
/** Four digits, fewer where they would not fit the column. */
function loss(value: number): string {
  const text = formatNumber(value, value < 0.01 ? 3 : 4, true);
  return text.length > 7 ? value.toExponential(1) : text;
}
const percent = (value: number): string => formatPercent(value, 2);

const COLUMNS: readonly Column[] = [
  { header: 'epoch', priority: 0, width: 5, cell: (p) => formatNumber(p.epoch, 3) },
  { header: 'step', priority: 1, width: 7, cell: (p) => formatCount(p.step) },
  { header: 'loss', priority: 0, width: 7, cell: (p) => show(p.loss, loss), color: (p) => nonFinite(p.loss) },
  { header: 'accuracy', priority: 3, width: 8, cell: (p) => show(p.accuracy, percent) },
  {
    header: 'test loss',
    priority: 7,
    width: 9,
    cell: (p) => show(p.testLoss, loss),
    color: (p) => nonFinite(p.testLoss),
  },
  { header: 'test acc', priority: 1, width: 8, cell: (p) => show(p.testAccuracy, percent) },
  { header: 'lr', priority: 6, width: 7, cell: (p) => show(p.lr, (value) => formatNumber(value, 3)) },
  {
    header: 'sharpness',
    priority: 4,
    width: 9,
    cell: (p) => show(p.sharpness?.value, (value) => formatNumber(value, 4)),
    color: (p) => p.sharpness && sharpnessColor(p.sharpness),
  },
  {
    header: 'of edge',
    priority: 5,
    width: 7,
    cell: (p) => show(edgeShare(p.sharpness), (share) => formatPercent(share, 0)),
    color: (p) => p.sharpness && sharpnessColor(p.sharpness),
  },
  { header: 'time', priority: 2, width: 6, cell: (p) => formatDuration(p.secondsElapsed) },
];

/** Distance to the stability threshold as a share of it. */
function edgeShare(sharpness: Sharpness | undefined): number | undefined {
  if (sharpness?.threshold === undefined) return undefined;
  return (sharpness.preconditioned ?? sharpness.value) / sharpness.threshold;
}

const nonFinite = (value: number | undefined): Color | undefined =>
  value !== undefined && !Number.isFinite(value) ? 'red' : undefined;

const GAP = 2;

/** The columns that fit: the least important go first. */
function columnsFor(width: number): readonly Column[] {
  let kept: readonly Column[] = COLUMNS;
  const total = (): number => kept.reduce((sum, column) => sum + column.width + GAP, -GAP);
  while (total() > width && kept.length > 1) {
    const worst = Math.max(...kept.map((column) => column.priority));
    const index = kept.findLastIndex((column) => column.priority === worst);
    kept = kept.filter((_, i) => i !== index);
  }
  return kept;
}

/** The table's head: names of the columns that fit the screen. */
export function progressHeader(screen: Screen): string {
  const cells = columnsFor(screen.width).map((column) => pad(column.header, column.width, 'right'));
  return paint(cells.join(' '.repeat(GAP)), 'dim', screen.color);
}

/** One line of the table, under {@link progressHeader} for the same screen. */
export function progressRow(progress: Progress, screen: Screen): string {
  return columnsFor(screen.width)
    .map((column) => paint(pad(column.cell(progress), column.width, 'right'), column.color?.(progress), screen.color))
    .join(' '.repeat(GAP));
}

const BAR_WIDTH = 24;
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** A bar of `width` columns, filled to `fraction` in steps of an eighth of a column. */
export function progressBar(fraction: number, width: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, fraction)) * width * 8);
  const filled = '█'.repeat(eighths >> 3) + EIGHTHS[eighths & 7];
  return pad(filled, width).replaceAll(' ', '░');
}

/**
 * The lines that are redrawn in place while a run goes on: how far it is, where it stands, and how sharp the loss is. Each fits the
 * screen.
 */
export function statusLines(progress: Progress, screen: Screen): string[] {
  const { step, steps, epoch, epochs } = progress;
  const done = steps === undefined ? undefined : steps > 0 ? step / steps : 1;
  const far = [
    ...(done === undefined
      ? []
      : [`${paint(progressBar(done, BAR_WIDTH), 'cyan', screen.color)} ${formatPercent(done, 0)}`]),
    `epoch ${epoch.toFixed(2)}${epochs === undefined ? '' : ` of ${formatNumber(epochs)}`}`,
    `step ${formatCount(step)}${steps === undefined ? '' : ` of ${formatCount(steps)}`}`,
    `${formatDuration(progress.secondsElapsed)} elapsed`,
    ...(progress.secondsLeft === undefined ? [] : [`${formatDuration(progress.secondsLeft)} left`]),
  ];
  const stands = [
    ...(progress.loss === undefined
      ? []
      : [paint(`loss ${formatNumber(progress.loss, 4, true)}`, nonFinite(progress.loss), screen.color)]),
    ...(progress.accuracy === undefined ? [] : [`accuracy ${percent(progress.accuracy)}`]),
    ...(progress.testAccuracy === undefined ? [] : [`test accuracy ${percent(progress.testAccuracy)}`]),
    ...(progress.lr === undefined ? [] : [`lr ${formatNumber(progress.lr, 3)}`]),
    ...(progress.examplesPerSecond === undefined ? [] : [`${formatNumber(progress.examplesPerSecond, 3)} examples/s`]),
  ];
  const lines = [joinFitting(far, screen.width), joinFitting(stands, screen.width)];
  if (progress.sharpness) {
    const text = truncate(describeSharpness(progress.sharpness), screen.width);
    lines.push(paint(text, sharpnessColor(progress.sharpness), screen.color));
  }
  return lines.filter((line) => line !== '');
}

/** As many of `parts` as fit, two blanks between them; the first is cut where even it does not fit. */
function joinFitting(parts: readonly string[], width: number): string {
  let line = '';
  for (const part of parts) {
    const longer = line === '' ? part : `${line}  ${part}`;
    if (visibleWidth(longer) > width) return line === '' ? truncate(part, width) : line;
    line = longer;
  }
  return line;
}

/** Names and values in two columns, the values where the longest name ends. */
export function renderSummary(rows: readonly (readonly [name: string, value: string])[], screen: Screen): string {
  const width = Math.max(0, ...rows.map(([name]) => visibleWidth(name)));
  return rows.map(([name, value]) => `${paint(pad(name, width), 'dim', screen.color)}  ${value}`).join('\n');
}
