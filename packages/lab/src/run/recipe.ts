/** @file From a configuration to the optimizer of a run, with its wrappers, groups of parameters and schedule; and to its augmentation. */
import { ConfigError } from 'edgewise';
import type { Augmentation } from 'edgewise/data';
import { type Model, trace } from 'edgewise/nn';
import {
  assign,
  clipGlobalNorm,
  clipValue,
  combine,
  completeValues,
  findOptimizer,
  findSchedule,
  type Group,
  isStructural,
  matching,
  type OptimizerDefinition,
  type OptimizerSettings,
  problemOf,
  type Schedule,
  type Schema,
  wrappers,
} from 'edgewise/optim';
import { ParamLayout } from 'edgewise/params';
import type { GroupValue } from '../config/groups.ts';
import type { TrainConfig } from '../config/settings.ts';
import { type BatchScaling, forBatchInUse, rateInUse } from './batch-scaling.ts';
import { WARMUP_SHARE } from './catalog.ts';

/** What the parameters of a network are updated with. */
export interface Recipe {
  readonly definition: OptimizerDefinition;
  readonly settings: OptimizerSettings;
  /** The optimizer that each parameter gets, by its name: those of groups may differ. */
  readonly optimizers: ReadonlyMap<string, string>;
  /** What was rescaled because values were chosen for another batch size. */
  readonly scaling?: BatchScaling;
}

/** What messages about groups begin with. */
const WHERE = 'groups';

/** Where a network's parameters will lie. */
export const layoutOf = (model: Model, dtype: TrainConfig['precision']): ParamLayout =>
  new ParamLayout(trace(model, { batch: 1, training: true, dtype }).params);

/**
 * The optimizer of a run on parameters laid out as `layout`.
 *
 * @throws ConfigError for wrappers that refuse what they are put around, for groups that choose nothing or set what is not theirs, and for
 *   settings that would leave nothing to train.
 */
export function optimizerOf(config: TrainConfig, layout: ParamLayout): Recipe {
  const { name: main, ...own } = config.optimizer;
  const optimizers = takers(config, layout);
  const parts = [...new Set([main, ...config.groups.flatMap(({ optimizer }) => optimizer ?? [])])].map((name) => {
    const taken = new Set(
      layout.segments.flatMap((segment) => (optimizers.get(segment.name) === name ? segment.name : [])),
    );
    if (taken.size === 0) {
      throw new ConfigError(
        `${WHERE}: no parameter is left for ${name}; ${name === main ? 'choose the optimizer of the groups by --optimizer instead' : 'later groups take them all'}.`,
      );
    }
    return { name, definition: findOptimizer(name), taken };
  });
  const base =
    parts.length === 1
      ? parts[0].definition
      : combine(
          parts.map(({ definition, taken }, i) =>
            i === parts.length - 1 ? { definition } : { definition, takes: (segment) => taken.has(segment.name) },
          ),
        );
  const { definition, values: wrapping } = wrapped(base, config);
  const { hyperparameters } = definition;
  const ownerOf = (name: string): string | undefined =>
    name in parts[0].definition.hyperparameters ? main : parts.slice(1).find((part) => isOf(part.name, name))?.name;

  // Values were checked against the optimizer's own schema when the configuration was read.
  const values: Record<string, unknown> = { ...own, ...wrapping };
  const begun = new Set([main]);
  const groups = config.groups.map(({ match, lrScale, values: given, optimizer = main }, i): Group => {
    const label = `${WHERE}, group ${i + 1}`;
    const read = Object.fromEntries(
      Object.entries(given).map(([key, value]) => [key, listed(hyperparameters, key, value)]),
    );
    completeValues(label, hyperparameters, read);
    const mine = new Set([...matching(label, layout, match)].map((segment) => optimizers.get(segment.name)));
    for (const key of Object.keys(read)) {
      const owner = ownerOf(key);
      if (owner === undefined || mine.has(owner)) continue;
      const advice =
        optimizer === main ? '' : `; those of ${optimizer} begin with its name, such as ${prefixOf(optimizer)}Lr`;
      throw new ConfigError(
        `${label}: ${key} is of ${owner}, which none of the group's parameters is updated with${advice}.`,
      );
    }
    if (begun.has(optimizer)) return { match, lrScale, values: read as Group['values'] };
    // The first group of an optimizer says what holds for it; what later ones say holds for theirs.
    begun.add(optimizer);
    const [settled, other] = split(read, (key) => ownerOf(key) === optimizer);
    Object.assign(values, settled);
    return { match, lrScale, values: other as Group['values'] };
  });
  const settings: OptimizerSettings = {
    values: values as OptimizerSettings['values'],
    groups: [...undecayed(config, definition, layout), ...groups],
    frozen: frozen(config, layout),
  };
  const complete = completeValues(definition.name, hyperparameters, values);
  assign(WHERE, hyperparameters, complete, groups, undefined, layout);
  return forBatchInUse({ definition, settings, optimizers }, config);
}

/** The name of the optimizer that takes each parameter: that of the last group that has one and chooses it. */
function takers({ optimizer, groups }: TrainConfig, layout: ParamLayout): Map<string, string> {
  const takers = new Map(layout.segments.map(({ name }) => [name, optimizer.name]));
  for (const [i, group] of groups.entries()) {
    const chosen = matching(`${WHERE}, group ${i + 1}`, layout, group.match);
    if (group.optimizer !== undefined) for (const { name } of chosen) takers.set(name, group.optimizer);
  }
  return takers;
}

/** `base` in the wrappers that the configuration names, innermost first, and their values. */
function wrapped(
  base: OptimizerDefinition,
  { wrap, ...config }: TrainConfig,
): { definition: OptimizerDefinition; values: Record<string, unknown> } {
  let definition = base;
  const values: Record<string, unknown> = {};
  const listed = (name: string): boolean => wrap.some((entry) => entry.name === name);
  // The outer one sees the gradient first: components are cut, and what is left is scaled.
  if (config.clipNorm > 0 && !listed('clipNorm')) {
    definition = clipGlobalNorm(definition) as OptimizerDefinition;
    values.clipNorm = config.clipNorm;
  }
  if (config.clipValue > 0 && !listed('clipValue')) {
    definition = clipValue(definition) as OptimizerDefinition;
    values.clipValue = config.clipValue;
  }
  for (const { name, ...own } of wrap) {
    const wrapper = wrappers.find((each) => each.name === name);
    if (!wrapper) throw new ConfigError(`wrap: there is no wrapper '${name}'.`);
    definition = wrapper.wrap(definition);
    Object.assign(values, own);
    for (const shared of ['clipNorm', 'clipValue'] as const) {
      if (!Object.hasOwn(wrapper.hyperparameters, shared)) continue;
      if (!(config[shared] > 0))
        throw new ConfigError(
          `wrap has ${name}, and ${shared} is 0, which turns it off; give ${shared}, or leave ${name} out.`,
        );
      values[shared] = config[shared];
    }
  }
  return { definition, values };
}

/** Biases and the parameters of normalisation layers do not decay, unless asked for. */
function undecayed(
  { decayBiasAndNorm }: TrainConfig,
  { hyperparameters }: OptimizerDefinition,
  layout: ParamLayout,
): Group[] {
  const names = Object.entries(hyperparameters).filter(
    ([name, parameter]) =>
      /weightdecay$/i.test(name) && !isStructural(parameter) && problemOf(parameter, 0) === undefined,
  );
  const tag = ['bias', 'norm'].filter((name) => layout.tagged(name).length > 0);
  if (decayBiasAndNorm || names.length === 0 || tag.length === 0) return [];
  return [{ match: { tag }, values: Object.fromEntries(names.map(([name]) => [name, 0])) as Group['values'] }];
}

function frozen({ freeze }: TrainConfig, layout: ParamLayout): OptimizerSettings['frozen'] {
  if (freeze.length === 0) return undefined;
  const still = new Set(
    freeze.flatMap((match, i) => [...matching(`freeze, condition ${i + 1}`, layout, match)].map(({ name }) => name)),
  );
  if (still.size === layout.segments.length)
    throw new ConfigError('freeze chooses every parameter, so nothing would be trained; freeze fewer.');
  return { where: ({ name }) => still.has(name) };
}

/** What a combination puts before the names of the hyper-parameters of its parts other than the first. */
const prefixOf = (optimizer: string): string =>
  optimizer.replace(/[^a-zA-Z0-9]+(.)/g, (_, letter: string) => letter.toUpperCase());

/** Whether a hyper-parameter of a combination is one of the part `optimizer`, other than the first. */
const isOf = (optimizer: string, name: string): boolean => {
  const own = findOptimizer(optimizer).hyperparameters;
  return Object.keys(own).some((key) => name === `${prefixOf(optimizer)}${key[0].toUpperCase()}${key.slice(1)}`);
};

/** One number where a list of one is wanted: in a flag, nothing tells them apart. */
const listed = (schema: Schema, key: string, value: GroupValue): GroupValue =>
  schema[key]?.kind === 'numbers' && typeof value === 'number' ? [value] : value;

/** Entries whose name satisfies `first`, and the others. */
function split<T>(
  record: Readonly<Record<string, T>>,
  first: (name: string) => boolean,
): [Record<string, T>, Record<string, T>] {
  const part = (wanted: boolean) =>
    Object.fromEntries(Object.entries(record).filter(([name]) => first(name) === wanted));
  return [part(true), part(false)];
}

/** Rates of a run of `total` steps that start from `lr`. */
export function scheduleOf(config: TrainConfig, lr: number, total: number): Schedule {
  const { name, ...values } = config.schedule;
  const definition = findSchedule(name);
  const own = Object.fromEntries(Object.entries(values).filter(([key]) => Object.hasOwn(definition.parameters, key)));
  if (typeof own.min === 'number') own.min = rateInUse(config, own.min);
  if (own.warmup === null) own.warmup = Math.round(WARMUP_SHARE * total);
  return definition.make({ ...own, lr, ...(Object.hasOwn(definition.parameters, 'total') ? { total } : {}) });
}

/** Random changes to training images; undefined where there are none. */
export function augmentationOf({ augment: { crop, flip, cutout } }: TrainConfig): Augmentation | undefined {
  if (crop === 0 && flip === 0 && cutout === 0) return undefined;
  return {
    ...(crop > 0 ? { crop: { padding: crop } } : {}),
    ...(flip > 0 ? { flip: { probability: flip } } : {}),
    ...(cutout > 0 ? { cutout: { size: cutout } } : {}),
  };
}
