/** What may differ between a run and its continuation. */
import { ConfigError } from 'edgewise';
import type { Catalog } from './catalog.ts';
import { showValue } from './setting.ts';
import { CHOOSABLE, type Choosable, fixedLeaves, type TrainConfig, variantLeaves, wrapperLeaves } from './settings.ts';

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
  for (const part of ['wrap', 'groups', 'freeze'] as const) checkPart(part, before, after, catalog);
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

/** Lists whose flags are called otherwise than their entries in JSON. */
const FLAGS = { wrap: '--wrap', groups: '--group', freeze: '--freeze' } as const;

function checkPart(part: keyof typeof FLAGS, before: TrainConfig, after: TrainConfig, catalog: Catalog): void {
  if (same(before[part], after[part])) return;
  const names = (config: TrainConfig) => config.wrap.map(({ name }) => name);
  if (part === 'wrap' && same(names(before), names(after))) {
    for (const [i, { name }] of before.wrap.entries()) {
      const wrapper = catalog.wrappers.find((each) => each.name === name);
      for (const { path, flag } of wrapper ? wrapperLeaves(wrapper) : []) {
        const [old, now] = [before.wrap[i][path[2]], after.wrap[i][path[2]]];
        if (!same(old, now)) throw changed(path.join('.'), flag, old, now);
      }
    }
  }
  const show = (config: TrainConfig) => JSON.stringify(part === 'wrap' ? names(config) : config[part]);
  throw changed(part, FLAGS[part], show(before), show(after));
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
