/** @file Pages of optimizers, their overview and the parity report as Markdown. */
import { costOf, type OptimizerDefinition, optimizers, wrappers } from 'edgewise/optim';
import { ENGINES, type Engine, type GoldenFile, recordedSubject, replay } from '../golden/index.ts';
import { type OptionRow, type Page, pageOf, wrapperPage } from '../optimizers/page.ts';
import { disagreements } from './disagreements.ts';

/** Text with the characters that Markdown would take for its own marked, outside code. */
const escaped = (text: string): string =>
  text
    .split(/(`[^`]*`)/)
    .map((part, i) => (i % 2 === 0 ? part.replace(/[|*_<]/g, (mark) => `\\${mark}`) : part))
    .join('');

export const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');

const optionTable = (options: readonly OptionRow[]): string =>
  table(
    ['option', 'default', 'allowed', 'tuned over', 'meaning'],
    options.map(({ name, default: value, range, search, doc }) => [
      `\`${name}\``,
      escaped(value),
      escaped(range),
      escaped(search),
      escaped(doc),
    ]),
  );

function listOfDisagreements(name: string): string[] {
  const known = disagreements[name];
  return known ? ['## Where implementations differ', '', ...known.map((line) => `- ${line}`), ''] : [];
}

/** The page of an optimizer. @param figure Address of its figure, where it has one. */
export function optimizerMarkdown(definition: OptimizerDefinition, figure: string | undefined): string {
  const page = pageOf(definition);
  return body(page, [
    ...(figure ? [`![The path of ${page.title} on three functions of two variables](${figure})`, ''] : []),
    ...(page.state.length > 0
      ? [
          '## State',
          '',
          table(
            ['slot', 'holds', 'size'],
            page.state.map(({ name, doc, size }) => [`\`${name}\``, escaped(doc), size]),
          ),
          '',
        ]
      : []),
    '## Cost',
    '',
    table(
      ['at the defaults', ''],
      page.cost.map(({ what, value }) => [what, escaped(value)]),
    ),
    '',
    ...listOfDisagreements(page.name),
  ]);
}

function body(page: Omit<Page, 'state' | 'cost'>, rest: readonly string[]): string {
  return `${[
    `# ${page.title}`,
    '',
    `\`${page.name}\`${page.aliases.length > 0 ? `, also ${page.aliases.map((alias) => `\`${alias}\``).join(', ')}` : ''}; ${page.family}.`,
    '',
    page.use,
    '',
    '```text',
    page.formula,
    '```',
    '',
    `${page.source}.${page.reference ? ` Equal to ${page.reference}.` : ''}`,
    '',
    '## Options',
    '',
    optionTable(page.options),
    '',
    ...rest,
  ]
    .join('\n')
    .trimEnd()}\n`;
}

/** Every wrapper on one page. */
export function wrappersMarkdown(): string {
  const parts = wrappers.map((wrapper) =>
    body(wrapperPage(wrapper), listOfDisagreements(wrapper.name)).replace(/^(#+) /gm, '#$1 '),
  );
  return `# Around any optimizer\n\nWrappers change the gradient an optimizer steps along, the point it steps from, or the point that is evaluated. \`edgewise train --wrap sam,average\` applies them in that order, innermost first; a wrapper refuses, with the reason, an optimizer that the mathematics does not allow it around.\n\n${parts.join('\n')}`;
}

/** The table of all optimizers. */
export function overviewMarkdown(): string {
  const rows = optimizers.map((definition) => {
    const cost = costOf(definition);
    const { reductions } = cost;
    return [
      `[${definition.title}](${definition.name}.md)`,
      `\`${definition.name}\``,
      definition.family,
      `${cost.vectors}${cost.shaped.length > 0 ? ' + matrices' : ''}`,
      definition.evaluations?.average ?? String(cost.evaluations),
      `${reductions.model}${reductions.tensor > 0 ? ` + ${reductions.tensor} a tensor` : ''}`,
      definition.decay ?? '',
      String(definition.source.year),
    ];
  });
  return `# Optimizers

Every optimizer is a page of math in \`packages/edgewise/src/optim/rules\`, and everything here is made from it. State is in vectors of the
parameters' size and reductions are whole-model sums a step (each a synchronisation in data-parallel training), at the defaults.
How close each is to its authors' code is in the [parity report](../parity.md); what goes around any of them, in [wrappers](wrappers.md);
which to take, in the [guide](../which-optimizer.md).

${table(['optimizer', 'name', 'family', 'state', 'gradients a step', 'reductions', 'weight decay', 'year'], rows)}
`;
}

interface Parity {
  readonly optimizer: string;
  readonly recorded: string;
  readonly source: string;
  cases: number;
  readonly errors: Record<Engine, number>;
}

/** Float32 is compared over these first steps: later ones add rounding of the trajectory, not of the rule. */
const FLOAT32_STEPS = 8;

const sourceOf = (source: Readonly<Record<string, unknown>>): string => {
  const { name, file, version, commit } = source;
  return [name, file, version ? `version ${String(version)}` : '', commit ? `commit ${String(commit).slice(0, 7)}` : '']
    .filter((part) => part !== undefined && part !== '')
    .map(String)
    .join(', ');
};

/** Replays every case of every file. */
export async function parityMarkdown(files: readonly GoldenFile[]): Promise<string> {
  const rows = new Map<string, Parity>();
  for (const file of files) {
    for (const entry of file.cases) {
      const subject = recordedSubject(file, entry);
      const recorded = entry.optimizer ?? file.optimizer;
      const row: Parity = rows.get(recorded) ?? {
        optimizer: subject.definition.name,
        recorded,
        source: sourceOf(entry.source ?? file.source),
        cases: 0,
        errors: { interpreter: 0, 'float64 kernel': 0, 'float32 kernel': 0 },
      };
      rows.set(recorded, row);
      row.cases++;
      for (const engine of ENGINES) {
        const steps = engine === 'float32 kernel' ? Math.min(FLOAT32_STEPS, entry.steps) : entry.steps;
        const { error } = await replay(engine, file, entry, subject, steps);
        row.errors[engine] = Math.max(row.errors[engine], error);
      }
    }
  }
  const all = [...rows.values()];
  const cases = all.reduce((sum, row) => sum + row.cases, 0);
  const worst = Math.max(...all.map(({ errors }) => Math.max(errors.interpreter, errors['float64 kernel'])));
  return `# Parity with reference implementations

Generated by \`npm run docs\`; \`edgewise optimizers check FILE...\` holds any file of this format against the rules. ${cases} recorded cases of
30 steps each, from the implementations named: given gradients, the parameters after every step, and where a rule has more to
show (averages, ascent points, estimates) that too. Errors are the largest over all steps and values, relative to the value (or to a
millionth of the largest in the same tensor, where the value is smaller than that). float64: all steps, tolerance 1e-9, worst
${worst.toExponential(1)}. float32: the fused kernels over the first ${FLOAT32_STEPS} steps, tolerance 1e-4: one rounding is 6e-8, and rules that divide by a root of
a small second moment, or take differences of nearly equal gradients, amplify it.

${table(
  [
    'recorded rule',
    'optimizer here',
    'reference implementation',
    'cases',
    'float64, interpreter',
    'float64, kernel',
    'float32, kernel',
  ],
  all.map(({ recorded, optimizer, source, cases: count, errors }) => [
    `\`${recorded}\``,
    `\`${optimizer}\``,
    source,
    String(count),
    ...ENGINES.map((engine) => errors[engine].toExponential(1)),
  ]),
)}

Rows whose reference is an own transcription have no third-party implementation behind them: they guard against change and prove nothing
about a paper.

## Where reference implementations disagree

${Object.entries(disagreements)
  .map(([name, lines]) => `### ${name}\n\n${lines.map((line) => `- ${line}`).join('\n')}`)
  .join('\n\n')}
`;
}
