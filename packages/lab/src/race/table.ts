/** @file The results of a race as tables: for the terminal and as Markdown. */
import { formatDuration, formatNumber, formatPercent } from '../terminal/format.ts';
import type { Comparison } from './claim.ts';
import type { Race } from './race.ts';
import type { Final, Spread, Winner } from './results.ts';

export interface Table {
  readonly title: string;
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Sentences below it. */
  readonly notes: readonly string[];
}

const spread = (value: Spread | null, format: (x: number) => string): string => {
  if (!value) return '-';
  const [mean, low, high] = [value.mean, value.low, value.high].map(format);
  return low === high ? mean : `${mean} (${low} to ${high})`;
};

const percent = (x: number): string => formatPercent(x, 2);
const number = (x: number): string => formatNumber(x, 4, true);

const shown = (value: unknown): string =>
  Array.isArray(value) ? value.map(shown).join(', ') : typeof value === 'number' ? formatNumber(value) : String(value);

const settings = ({ values }: Winner): string =>
  Object.entries(values)
    .map(([name, value]) => `${name} ${shown(value)}`)
    .join(', ');

const plural = (n: number, one: string): string => `${n} ${one}${n === 1 ? '' : 's'}`;

/** What the final runs reached. */
function finalsTable({ plan, summary, trials }: Race): Table {
  const winnerOf = ({ label, epochs }: Final): Winner | undefined =>
    summary.winners.find((winner) => winner.label === label && winner.epochs === (plan.tuningEpochs ?? epochs));
  const rows = [...summary.finals]
    .sort((a, b) => a.epochs - b.epochs)
    .map((final) => {
      const winner = winnerOf(final);
      return [
        formatNumber(final.epochs),
        final.label,
        winner ? settings(winner) : 'as given',
        spread(final.loss, number),
        spread(final.accuracy, percent),
        spread(final.seconds, formatDuration),
        final.diverged === 0 ? String(final.finished) : `${final.finished}, ${final.diverged} diverged`,
      ];
    });
  const anyShared = Object.values(trials).some(({ shared }) => shared);
  return {
    title: 'Final runs, on the test set',
    header: ['epochs', 'optimizer', 'tuned to', 'loss', 'accuracy', 'training time', 'runs'],
    rows,
    notes: [
      `Means over ${plural(plan.seeds.length, 'seed')}, and in brackets the lowest and the highest.`,
      ...(anyShared
        ? [
            'Trials ran at the same time on one machine, each with one thread: times compare optimizers, but are longer than one alone takes.',
          ]
        : []),
    ],
  };
}

/** What tuning chose. */
function winnersTable({ plan, summary }: Race): Table {
  const edge = summary.winners.filter(({ atEdge }) => atEdge.length > 0);
  const lost = summary.winners.filter(({ trial }) => trial === null);
  return {
    title: 'Tuning, on training data held out',
    header: ['epochs', 'optimizer', 'best of', 'diverged', 'best settings', 'loss', 'accuracy'],
    rows: summary.winners.map((winner) => [
      formatNumber(winner.epochs),
      winner.label,
      String(winner.trials),
      String(winner.diverged),
      winner.trial === null ? 'none' : settings(winner),
      winner.loss === null ? '-' : number(winner.loss),
      winner.accuracy === null ? '-' : percent(winner.accuracy),
    ]),
    notes: [
      `Chosen by ${plan.select} on ${formatPercent(plan.validation, 0)} of the training set, which the trials did not see.`,
      ...edge.map(
        ({ label, epochs, atEdge }) =>
          `${label}, ${plural(epochs, 'epoch')}: the best ${atEdge.join(' and ')} is at an end of what was tried; a better one may lie beyond.`,
      ),
      ...lost.map(
        ({ label, epochs }) =>
          `${label}, ${plural(epochs, 'epoch')}: every trial diverged, so there are no final runs.`,
      ),
    ],
  };
}

/** How many epochs a reach is, with its bound. */
export function reachText({ reach: { kind, epochs } }: Comparison): string {
  return `${kind === 'at' ? '' : `${kind} `}${formatNumber(epochs, 3)}`;
}

export function ratioText({ reach: { kind }, ratio }: Comparison): string {
  return `${kind === 'at' ? '' : kind === 'at most' ? '≤ ' : '> '}${formatNumber(ratio, 2)}`;
}

/** In how many epochs the reference reaches what the others reach. */
function claimTables({ plan, summary: { claim } }: Race): Table[] {
  const make = (what: 'loss' | 'accuracy', format: (x: number) => string): Table => ({
    title: `Epochs that ${claim.reference} needs for the ${what} of others`,
    header: ['against', 'epochs', `its ${what}`, `${claim.reference} needs`, 'ratio', `${claim.reference} in half`],
    rows: claim[what].map((one) => [
      one.against,
      formatNumber(one.epochs),
      format(one.value),
      reachText(one),
      ratioText(one),
      one.atHalf === null ? '-' : format(one.atHalf),
    ]),
    notes: [
      `Means over ${plural(plan.seeds.length, 'seed')} at the end of whole runs, each with its full schedule; between budgets, linear in the logarithm of the epochs.`,
    ],
  });
  return [
    ...(claim.loss.length > 0 ? [make('loss', number)] : []),
    ...(claim.accuracy.length > 0 ? [make('accuracy', percent)] : []),
  ];
}

/** Everything there is to say so far. */
export function tablesOf(race: Race): Table[] {
  const tables = [finalsTable(race), ...claimTables(race), winnersTable(race)];
  return tables.filter(({ rows }) => rows.length > 0);
}

/** For a terminal: columns set flush, numbers as they are. */
export function renderTable({ title, header, rows, notes }: Table): string {
  const widths = header.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i]))
      .join('   ')
      .trimEnd();
  return [title, '', line(header), ...rows.map(line), '', ...notes].join('\n');
}

/** Cells may hold links; what would end them or begin a tag is escaped. */
const escape = (cell: string): string => cell.replaceAll('|', '\\|').replaceAll('<', '&lt;');

export function markdownTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[]) => `| ${cells.map(escape).join(' | ')} |`;
  return [row(header), row(header.map(() => '---')), ...rows.map(row)].join('\n');
}

/** The whole report as Markdown, with its figures. */
export function renderMarkdown(
  race: Race,
  figures: readonly { readonly file: string; readonly title: string }[],
): string {
  const { plan, environments } = race;
  const { config } = plan.entrants[0];
  const machine = environments.at(-1);
  const trial = Object.values(race.trials).at(-1);
  const about = [
    `${config.model.name}${trial ? `, ${formatNumber(trial.parameters, 6)} parameters` : ''}, on ${config.data.name}, batch ${config.batchSize}, ${config.schedule.name} schedule.`,
    'All optimizers see the same batches and begin at the same weights.',
    plan.trials > 0
      ? `Each is tuned with ${plural(plan.trials, 'trial')}${plan.tuningEpochs === null ? ' for every budget' : ` of ${plural(plan.tuningEpochs, 'epoch')}`}, log-uniform over the range it declares.`
      : 'Nothing is tuned.',
    ...(machine
      ? [
          `Made on ${machine.machine.cpu ?? machine.machine.arch}, ${plural(machine.machine.cores, 'core')}, Node ${machine.versions.node}, onnxruntime-node ${machine.versions['onnxruntime-node'] ?? '?'}.`,
        ]
      : []),
  ];
  const parts = tablesOf(race).map(({ title, header, rows, notes }) =>
    [`## ${title}`, markdownTable(header, rows), notes.join(' ')].join('\n\n'),
  );
  const pictures = figures.map(({ file, title }) => `![${title}](${file})`);
  return `${[`# ${plan.title}`, about.join(' '), ...pictures, ...parts].join('\n\n')}\n`;
}
