/** @file Several races beside each other: does the claim hold on all of them? */
import type { Figure, Panel } from '../figures/index.ts';
import { formatNumber, formatPercent } from '../terminal/format.ts';
import type { Comparison } from './claim.ts';
import { claimFigure } from './pictures.ts';
import type { Race } from './race.ts';
import { markdownTable, ratioText, reachText } from './table.ts';

/** A race and the folder it is in, relative to that of the overview. */
export interface Entry {
  readonly folder: string;
  readonly race: Race;
}

type Quantity = 'loss' | 'accuracy';

/** What whole runs of every race reach over their length; undefined where no race has such a quantity. */
export function overviewFigure(entries: readonly Entry[], what: Quantity): Figure | undefined {
  const title = what === 'loss' ? 'Loss' : 'Accuracy';
  const panels = entries.flatMap(({ race }): Panel[] => {
    const panel = claimFigure(race)?.panels.find((one) => one.title === title);
    return panel ? [{ ...panel, title: race.plan.title }] : [];
  });
  if (panels.length === 0) return undefined;
  return {
    title: `${title} at the end of runs of different lengths`,
    subtitle:
      "Every point is the end of whole runs with a schedule of that length; bands reach from the lowest to the highest seed. Dashed: how many of another's epochs the reference needs for the same, as a ratio.",
    panels,
  };
}

/** For every race and other, the comparison at the other's longest runs. */
function longest(comparisons: readonly Comparison[]): Comparison[] {
  const names = [...new Set(comparisons.map(({ against }) => against))];
  return names.flatMap((name) => comparisons.findLast(({ against }) => against === name) ?? []);
}

function rowsOf({ folder, race }: Entry, what: Quantity): string[][] {
  const { claim } = race.summary;
  const format = (x: number) => (what === 'loss' ? formatNumber(x, 4, true) : formatPercent(x, 2));
  return longest(claim[what]).map((one) => [
    `[${race.plan.title}](${folder}/README.md)`,
    claim.reference,
    one.against,
    formatNumber(one.epochs),
    format(one.value),
    one.atHalf === null ? '-' : format(one.atHalf),
    reachText(one),
    ratioText(one),
  ]);
}

/** The overview as Markdown, with its figures. */
export function renderOverview(
  entries: readonly Entry[],
  figures: readonly { readonly file: string; readonly title: string }[],
): string {
  const table = (what: Quantity): string[] => {
    const rows = entries.flatMap((entry) => rowsOf(entry, what));
    if (rows.length === 0) return [];
    const header = [
      'race',
      'reference',
      'against',
      'epochs',
      `its ${what}`,
      'reference in half',
      'reference needs',
      'ratio',
    ];
    return [`## ${what === 'loss' ? 'Loss' : 'Accuracy'}`, markdownTable(header, rows)];
  };
  return `${[
    '# Races',
    "Whole runs against whole runs, each with its full schedule and tuned learning rate: what another optimizer reaches in so many epochs, what the reference reaches in half of them, how many epochs it needs for the same, and those as a share of the other's. Means over seeds, on the test set. How each was run stands on its own page.",
    ...figures.map(({ file, title }) => `![${title}](${file})`),
    ...table('loss'),
    ...table('accuracy'),
  ].join('\n\n')}\n`;
}
