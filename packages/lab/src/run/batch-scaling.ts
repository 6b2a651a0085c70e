/** @file A recipe whose values were chosen for another batch size than the one in use, rescaled by the rules of its optimizers. */
import {
  type BatchChange,
  type BatchRule,
  batchRule,
  completeValues,
  findOptimizer,
  type Group,
  type OptimizerDefinition,
  type OptimizerSettings,
} from 'edgewise/optim';
import type { TrainConfig } from '../config/settings.ts';
import { formatCount, formatNumber } from '../terminal/format.ts';

/** The part of a recipe that the batch size has a say in. */
interface Scalable {
  readonly definition: OptimizerDefinition;
  readonly settings: OptimizerSettings;
  /** The optimizer that each parameter gets, by its name. */
  readonly optimizers: ReadonlyMap<string, string>;
}

/** What was rescaled; plain data for the run's folder. */
export interface BatchScaling {
  /** Batch size that values were chosen for, and the one in use. */
  readonly from: number;
  readonly to: number;
  readonly changes: readonly BatchChange[];
}

/** Name of what was rescaled in a run's folder, where anything was asked to be. */
export const SCALING_FILE = 'batch-scaling.json';

type Values = Readonly<Record<string, unknown>>;

/**
 * `recipe` for the batch size of `config`, with the configuration whose schedule goes with it: a rate that it ends at follows the learning
 * rate. Both as they are, and no `scaling`, where `tunedBatchSize` says nothing.
 */
export function forBatchInUse<R extends Scalable>(
  recipe: R,
  config: TrainConfig,
): { readonly recipe: R; readonly config: TrainConfig; readonly scaling: BatchScaling | undefined } {
  const { tunedBatchSize: from, batchSize: to, schedule } = config;
  if (from === null) return { recipe, config, scaling: undefined };
  const { definition, settings } = recipe;
  const complete: Values = completeValues(definition.name, definition.hyperparameters, settings.values ?? {});
  const changes: BatchChange[] = [];
  const rescaled = (given: Values, values: Values, where: string): Values => {
    const entries = Object.entries(given).map(([name, before]) => {
      const rule = ruleOf(config.optimizer.name, recipe, values, name);
      if (!rule || typeof before !== 'number') return [name, before];
      const after = rule.scaled(before, to / from);
      if (after !== before) changes.push({ name: `${where}${name}`, before, after, formula: rule.formula });
      return [name, after];
    });
    return Object.fromEntries(entries);
  };
  const values = rescaled(complete, complete, '');
  const groups = settings.groups?.map((group): Group => {
    const given: Values = group.values ?? {};
    return { ...group, values: rescaled(given, { ...complete, ...given }, 'groups: ') as Group['values'] };
  });
  const rate = ruleOf(config.optimizer.name, recipe, complete, 'lr');
  const { min } = schedule;
  let followed = schedule;
  if (rate && typeof min === 'number' && min > 0 && from !== to) {
    followed = { ...schedule, min: rate.scaled(min, to / from) };
    changes.push({ name: 'schedule.min', before: min, after: Number(followed.min), formula: rate.formula });
  }
  return {
    recipe: { ...recipe, settings: { ...settings, values: values as OptimizerSettings['values'], groups } },
    config: { ...config, schedule: followed },
    scaling: { from, to, changes },
  };
}

/** `from batch 128 to 4,096: lr 0.001 → 0.00566`. */
export function describeScaling({ from, to, changes }: BatchScaling): string {
  const said = changes.map(({ name, before, after }) => `${name} ${formatNumber(before)} → ${formatNumber(after)}`);
  const what = said.length > 0 ? said.join(', ') : 'no value changes';
  return `from batch ${formatCount(from)} to ${formatCount(to)}: ${what}`;
}

/** The rule of a hyper-parameter of the recipe: that of the optimizer it belongs to, which groups may have chosen. */
function ruleOf(main: string, { optimizers }: Scalable, values: Values, name: string): BatchRule | undefined {
  for (const part of new Set(optimizers.values())) {
    if (part === main) continue;
    const definition = findOptimizer(part);
    const keys = Object.keys(definition.hyperparameters);
    const own = keys.find((key) => inCombination(part, key) === name);
    if (own === undefined) continue;
    return batchRule(definition, Object.fromEntries(keys.map((key) => [key, values[inCombination(part, key)]])), own);
  }
  return batchRule(findOptimizer(main), values, name);
}

/** What `combine` calls hyper-parameter `name` of a part that is not the first. */
const inCombination = (part: string, name: string): string => {
  const word = part.replace(/[^a-zA-Z0-9]+(.)/g, (_, letter: string) => letter.toUpperCase());
  return `${word}${name[0].toUpperCase()}${name.slice(1)}`;
};
