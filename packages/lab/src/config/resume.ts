/** What may differ between a run and its continuation. */
import { ConfigError } from 'edgewise';
import type { Catalog } from './catalog.ts';
import { showValue } from './setting.ts';
import { CHOOSABLE, type Choosable, fixedLeaves, type TrainConfig, variantLeaves } from './settings.ts';

/**
 * Checks that a run begun with `before` can go on with `after`: a resumed run equals an uninterrupted one, so nothing that its numbers
 * depend on may change. Its length may, unless the learning rate depends on it.
 *
 * @throws ConfigError naming the first setting that must not change.
 */
export function checkResumable(before: TrainConfig, after: TrainConfig, catalog: Catalog): void {
  for (const part of Object.keys(CHOOSABLE) as Choosable[]) {
    if (before[part].name !== after[part].name) throw changed(part, `--${part}`, before[part].name, after[part].name);
    const variant = CHOOSABLE[part].list(catalog).find(({ name }) => name === before[part].name);
    const leaves = variant ? variantLeaves(part, variant) : [];
    for (const { path, flag, setting } of leaves) {
      if (setting.changeable) continue;
      const [old, now] = [before[part][path[1]], after[part][path[1]]];
      if (!same(old, now)) throw changed(path.join('.'), flag, old, now);
    }
  }
  for (const { path, flag, setting } of fixedLeaves(catalog)) {
    if (setting.changeable) continue;
    const [old, now] = [valueAt(before, path), valueAt(after, path)];
    if (same(old, now)) continue;
    const isLength = path[0] === 'epochs' || path[0] === 'steps';
    if (!isLength) throw changed(path.join('.'), flag, old, now);
    const schedule = catalog.schedules.find(({ name }) => name === before.schedule.name);
    if (schedule && (schedule.followsLength || before.schedule.warmup === null)) {
      throw new ConfigError(
        `${flag} cannot change when a run with the schedule ${schedule.name} is resumed: its learning rates depend on the length; start a new run.`,
      );
    }
  }
}

function changed(name: string, flag: string, before: unknown, after: unknown): ConfigError {
  return new ConfigError(
    `${flag} cannot change when a run is resumed: ${name} was ${showValue(before)} and is now ${showValue(after)}; leave it out, or start a new run.`,
  );
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

function valueAt(config: TrainConfig, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (at, step) => (typeof at === 'object' && at !== null ? Reflect.get(at, step) : undefined),
    config,
  );
}
