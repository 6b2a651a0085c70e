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

type Values = Readonly<Record<string, unknown>>;

/**
 * `recipe` with its values rescaled for the batch size of `config`, and what that changed; as it is where `tunedBatchSize` says nothing.
 * Groups have their own values rescaled too.
 */
export function forBatchInUse<R extends Scalable>(
  recipe: R,
  { tunedBatchSize: from, batchSize: to, optimizer: { name: main } }: TrainConfig,
): R & { readonly scaling?: BatchScaling } {
  if (from === null) return recipe;
  const { definition, settings } = recipe;
  const complete: Values = completeValues(definition.name, definition.hyperparameters, settings.values ?? {});
  const changes: BatchChange[] = [];
  const rescaled = (given: Values, values: Values, where: string): Values => {
    const entries = Object.entries(given).map(([name, before]) => {
      const rule = ruleOf(main, recipe, values, name);
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
  return {
    ...recipe,
    settings: { ...settings, values: values as OptimizerSettings['values'], groups },
    scaling: { from, to, changes },
  };
}

/** A rate that the schedule names by itself, such as the one it ends at, for the batch size of `config`: it follows the learning rate. */
export function rateInUse({ tunedBatchSize, batchSize, optimizer }: TrainConfig, rate: number): number {
  const rule = tunedBatchSize === null ? undefined : batchRule(findOptimizer(optimizer.name), {}, 'lr');
  return rule && tunedBatchSize !== null ? rule.scaled(rate, batchSize / tunedBatchSize) : rate;
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
