/** @file `edgewise train --dry-run`: what every parameter would be updated with. */
import { assign, completeValues, type Schema, type Values } from 'edgewise/optim';
import type { TrainConfig } from '../config/settings.ts';
import { cardOf, modelOf } from '../run/card.ts';
import { loadData } from '../run/data.ts';
import { layoutOf, optimizerOf } from '../run/recipe.ts';
import { normalizationFor } from '../run/session.ts';
import { formatCount, formatNumber } from '../terminal/format.ts';
import { type OutputStream, screenOf } from '../terminal/style.ts';
import { table } from '../terminal/table.ts';

const HEAD = ['parameter', 'shape', 'tags', 'optimizer', 'lr factor', 'differs'];

/**
 * Prints a table of all parameters: the optimizer of each, the factor on its learning rate, the hyper-parameters that differ from the
 * optimizer's, and which are frozen. Trains nothing and writes nothing.
 *
 * @throws ConfigError as the run itself would.
 */
export async function dryRun(
  config: TrainConfig,
  stream: OutputStream,
  env: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  const { train } = await loadData(config);
  const model = modelOf(cardOf(config, train, normalizationFor(config, train)));
  const layout = layoutOf(model, config.precision);
  const { definition, settings, optimizers } = optimizerOf(config, layout);
  const { name, hyperparameters } = definition;
  const values = completeValues(name, hyperparameters, settings.values ?? {});
  const { groups = [], frozen } = settings;
  const assignments = assign(name, hyperparameters, values, groups, frozen, layout);
  const rows = assignments.map((assignment) => {
    const { segment, lrScale } = assignment;
    const start = [segment.name, segment.shape.join(' x ') || 'scalar', segment.tags.join(', ')];
    if (assignment.frozen) return [...start, '', '', 'frozen'];
    return [
      ...start,
      optimizers.get(segment.name) ?? name,
      formatNumber(lrScale),
      differences(values, assignment.values).join(', '),
    ];
  });
  const still = assignments.filter((assignment) => assignment.frozen);
  const count = (of: readonly { readonly segment: { readonly length: number } }[]): string =>
    formatCount(of.reduce((sum, { segment }) => sum + segment.length, 0));
  stream.write(`${table(HEAD, rows, { ...screenOf(stream, env), interactive: false })}
${definition.title}: ${Object.entries(values)
    .map(([key, value]) => `${key} ${show(value)}`)
    .join(', ')}
${count(assignments)} parameters in ${assignments.length} tensors${still.length === 0 ? '' : `, ${count(still)} of them in ${still.length} frozen`}; nothing was trained.
`);
}

/** `name value` for each hyper-parameter that is not what it is for the optimizer as a whole. */
const differences = (base: Values<Schema>, own: Values<Schema>): string[] =>
  Object.entries(own).flatMap(([name, value]) =>
    JSON.stringify(value) === JSON.stringify(base[name]) ? [] : `${name} ${show(value)}`,
  );

const show = (value: unknown): string =>
  typeof value === 'number' ? String(value) : Array.isArray(value) ? value.join(',') : String(value);
