/** What there is to choose from: models, data sets, optimizers, schedules, devices. The library fills it; the settings follow. */
import { ConfigError, nearest } from 'edgewise';
import type { Schema } from 'edgewise/optim';
import type { Settings, SettingValue } from './setting.ts';

/** A choice that brings settings of its own. */
export interface Variant {
  readonly name: string;
  readonly aliases?: readonly string[];
  /** One sentence. */
  readonly doc: string;
  readonly settings: Settings;
  /** Of a schedule: its rates depend on the number of steps in the whole run. */
  readonly followsLength?: boolean;
  /** Throws a ConfigError for combinations of values that are not allowed. */
  check?(values: Readonly<Record<string, SettingValue>>): void;
}

/** Where a run can be executed. */
export interface DeviceInfo {
  readonly name: string;
  readonly doc: string;
  readonly precisions: readonly string[];
}

/** Everything the settings of a run can name. */
export interface Catalog {
  readonly models: readonly Variant[];
  readonly data: readonly Variant[];
  readonly optimizers: readonly Variant[];
  readonly schedules: readonly Variant[];
  /** What can be put around an optimizer. */
  readonly wrappers: readonly Variant[];
  readonly devices: readonly DeviceInfo[];
  /**
   * Settings of a run about which nothing is said: must name a model, data, an optimizer and a schedule. What it says of one of these holds as long
   * as no other is chosen.
   */
  readonly recipe: Readonly<Record<string, unknown>>;
}

/** The part of the library's optimizer definitions that settings are made from. */
export interface OptimizerInfo {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly title: string;
  readonly hyperparameters: Schema;
  check?(values: Readonly<Record<string, unknown>>): void;
}

/** The part of the library's schedules that settings are made from. */
export interface ScheduleInfo {
  readonly name: string;
  readonly doc: string;
  readonly parameters: Schema;
}

/** Optimizers as choices. */
export function optimizerVariants(optimizers: readonly OptimizerInfo[]): Variant[] {
  return optimizers.map(({ name, aliases, title, hyperparameters, check }) => ({
    name,
    aliases,
    doc: title,
    settings: hyperparameters,
    check,
  }));
}

/** What a schedule is told by the run rather than by its own settings: the optimizer's `lr` and the number of steps. */
const TOLD_BY_THE_RUN = ['lr', 'total'];

/** Schedules as choices. */
export function scheduleVariants(schedules: readonly ScheduleInfo[]): Variant[] {
  return schedules.map(({ name, doc, parameters }) => ({
    name,
    doc,
    followsLength: Object.hasOwn(parameters, 'total'),
    settings: Object.fromEntries(Object.entries(parameters).filter(([key]) => !TOLD_BY_THE_RUN.includes(key))),
  }));
}

/** The entry of `variants` that `name` stands for, in any case. Throws a ConfigError naming the nearest where there is none. */
export function findVariant(what: string, variants: readonly Variant[], name: unknown, origin: string): Variant {
  const names = (variant: Variant): readonly string[] => [variant.name, ...(variant.aliases ?? [])];
  if (typeof name === 'string') {
    const wanted = name.toLowerCase();
    const found = variants.find((variant) => names(variant).some((known) => known.toLowerCase() === wanted));
    if (found) return found;
  }
  const near = typeof name === 'string' ? nearest(name, variants.flatMap(names)) : undefined;
  const shown = typeof name === 'string' ? `'${name.slice(0, 60)}'` : 'of that kind';
  const advice = near ? `did you mean '${near}'?` : `there are ${variants.map((variant) => variant.name).join(', ')}.`;
  throw new ConfigError(`${origin}: there is no ${what} ${shown}; ${advice}`);
}
