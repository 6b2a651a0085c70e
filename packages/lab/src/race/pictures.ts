/** @file The figures of a race. */
import type { Axis, Bracket, Figure, Panel, Point, Series } from '../figures/index.ts';
import type { Comparison } from './claim.ts';
import type { Race } from './race.ts';
import { type Final, finalRuns, spreadOf } from './results.ts';
import { ratioText } from './table.ts';
import type { CurvePoint } from './trial.ts';

type Quantity = 'loss' | 'accuracy';

const point = (x: number, values: readonly number[]): Point => {
  const spread = spreadOf(values);
  return spread ? { x, y: spread.mean, low: spread.low, high: spread.high } : { x, y: Number.NaN };
};

/** Whether anything is classified. */
const classifies = ({ summary }: Race): boolean => summary.finals.some(({ accuracy }) => accuracy !== null);

const quantities = (race: Race): readonly Quantity[] => (classifies(race) ? ['loss', 'accuracy'] : ['loss']);

const bandText = ({ plan }: Race): string =>
  plan.seeds.length === 1
    ? 'One seed.'
    : `Means of ${plan.seeds.length} seeds; bands reach from the lowest to the highest.`;

/** Loss and accuracy over epochs and over time, of the longest runs; undefined before there are any. */
export function curvesFigure(race: Race): Figure | undefined {
  const { plan, trials } = race;
  const budget = plan.budgets.findLast((epochs) =>
    plan.entrants.some((entrant) => finalRuns(plan, trials, entrant, epochs).length > 0),
  );
  if (budget === undefined) return undefined;
  const runs = plan.entrants.map((entrant) => ({
    name: entrant.label,
    curves: finalRuns(plan, trials, entrant, budget)
      .filter(({ status }) => status === 'finished')
      .map(({ curve }) => curve),
  }));
  const shared = plan.entrants.some((entrant) => finalRuns(plan, trials, entrant, budget).some((run) => run.shared));
  const series = (what: Quantity, over: 'epoch' | 'seconds'): Series[] =>
    runs.map(({ name, curves }) => ({ name, points: averaged(curves, what, over) }));
  const panels = quantities(race).flatMap((what) =>
    (['epoch', 'seconds'] as const).map((over): Panel => {
      const lines = series(what, over);
      const end = Math.max(...lines.flatMap(({ points }) => points.map(({ x }) => x)), 0);
      return {
        title: `${what === 'loss' ? 'Loss' : 'Accuracy'} over ${over === 'epoch' ? 'epochs' : 'time'}`,
        x: {
          label: over === 'epoch' ? 'epochs' : `seconds of training${shared ? ' (one thread, shared machine)' : ''}`,
          ...(end > 0 ? { domain: [0, end] as const } : {}),
        },
        y: axisFor(what, lines, 'test'),
        series: lines,
        markers: lines.every(({ points }) => points.length <= 8),
      };
    }),
  );
  return {
    title: plan.title,
    subtitle: `Test set, runs of ${budget} epochs. ${bandText(race)} Time is that of training, without evaluations.`,
    panels,
  };
}

function averaged(curves: readonly (readonly CurvePoint[])[], what: Quantity, over: 'epoch' | 'seconds'): Point[] {
  const [first] = curves;
  if (!first) return [];
  return first.map((_, i) => {
    const places = curves.map((curve) => curve[i][over]);
    const x = places.reduce((sum, value) => sum + value, 0) / places.length;
    return point(
      x,
      curves.flatMap((curve) => curve[i][what] ?? []),
    );
  });
}

/** Losses on a logarithmic axis. Accuracies begin low; the axis shows what comes after the first quarter of a run. */
function axisFor(what: Quantity, lines: readonly Series[], set: string): Axis {
  if (what === 'loss') return { label: `${set} loss (nats)`, scale: 'log' };
  const all = lines.flatMap(({ points }) => points);
  if (all.length === 0) return { label: `${set} accuracy`, format: 'percent' };
  const later = lines.flatMap(({ points }) => points.slice(Math.floor(points.length / 4)));
  const low = Math.min(...later.map(({ y, low: least = y }) => least));
  const high = Math.max(...all.map(({ y, high: most = y }) => most));
  const room = Math.max(0.05 * (high - low), 1e-4);
  return { label: `${set} accuracy`, format: 'percent', domain: [Math.max(0, low - room), Math.min(1, high + room)] };
}

/** What whole runs reach over their length, and how many of the others' epochs the reference needs; undefined before there are any. */
export function claimFigure(race: Race): Figure | undefined {
  const { plan, summary } = race;
  const { claim, finals } = summary;
  if (finals.length === 0) return undefined;
  const panels = quantities(race).map((what): Panel => {
    const series = plan.entrants.map(({ label }) => ({
      name: label,
      points: finals.filter((final) => final.label === label).flatMap((final) => pointOf(final, what)),
    }));
    const y: Axis =
      what === 'loss'
        ? { label: 'final test loss (nats)', scale: 'log' }
        : { label: 'final test accuracy', format: 'percent' };
    return {
      title: what === 'loss' ? 'Loss' : 'Accuracy',
      x: { label: 'epochs of the whole run', scale: 'log', ticks: plan.budgets },
      y,
      series,
      markers: true,
      brackets: bracketsOf(claim[what], plan.budgets),
    };
  });
  const others = plan.entrants.length > 1;
  return {
    title: `${plan.title}: what so many epochs buy`,
    subtitle: `Every point is the end of whole runs with a schedule of that length. ${bandText(race)}${others ? ` Dashed: how many of another's epochs ${claim.reference} needs for the same, as a ratio.` : ''}`,
    panels,
  };
}

function pointOf(final: Final, what: Quantity): Point[] {
  const spread = final[what];
  return spread ? [{ x: final.epochs, y: spread.mean, low: spread.low, high: spread.high }] : [];
}

/** For each other the comparison at its longest runs, where it is no mere bound; else at the longest where it is none. */
function bracketsOf(comparisons: readonly Comparison[], budgets: readonly number[]): Bracket[] {
  const names = [...new Set(comparisons.map(({ against }) => against))];
  return names.flatMap((name): Bracket[] => {
    const own = comparisons.filter(({ against, reach, ratio }) => against === name && reach.kind === 'at' && ratio < 1);
    const best = own.findLast(({ epochs }) => epochs <= budgets[budgets.length - 1]);
    if (!best) return [];
    return [{ from: best.reach.epochs, to: best.epochs, y: best.value, label: `× ${ratioText(best)}`, series: name }];
  });
}
