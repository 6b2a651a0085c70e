/** @file From a configuration to the optimizer, its groups and the schedule of a trial: as `edgewise train` makes them. */
import {
  clipGlobalNorm,
  clipValue,
  findOptimizer,
  findSchedule,
  type Match,
  type OptimizerDefinition,
  type Schedule,
} from 'edgewise/optim';
import type { ParamLayout } from 'edgewise/params';
import type { TrainConfig } from '../config/settings.ts';
import { WARMUP_SHARE } from '../run/catalog.ts';

/** The optimizer with its clipping, and its hyper-parameters. */
export function optimizerOf({ optimizer: { name, ...values }, clipNorm, clipValue: limit }: TrainConfig): {
  definition: OptimizerDefinition;
  values: Record<string, never>;
} {
  const plain = findOptimizer(name);
  // Values were checked against the optimizer's own schema when the configuration was read.
  const checked = values as Record<string, never>;
  if (clipNorm > 0)
    return {
      definition: clipGlobalNorm(plain) as OptimizerDefinition,
      values: Object.assign({}, checked, { clipNorm }),
    };
  if (limit > 0)
    return {
      definition: clipValue(plain) as OptimizerDefinition,
      values: Object.assign({}, checked, { clipValue: limit }),
    };
  return { definition: plain, values: checked };
}

/** Biases and the parameters of normalisation layers do not decay, unless asked for. */
export function groupsOf(
  { decayBiasAndNorm }: TrainConfig,
  definition: OptimizerDefinition,
  layout: ParamLayout,
): { match: Match; values: { weightDecay: number } }[] {
  if (decayBiasAndNorm || !('weightDecay' in definition.hyperparameters)) return [];
  const tag = ['bias', 'norm'].filter((name) => layout.tagged(name).length > 0);
  return tag.length === 0 ? [] : [{ match: { tag }, values: { weightDecay: 0 } }];
}

export function scheduleOf({ schedule: { name, ...values } }: TrainConfig, lr: number, total: number): Schedule {
  const definition = findSchedule(name);
  const own = Object.fromEntries(Object.entries(values).filter(([key]) => Object.hasOwn(definition.parameters, key)));
  if (own.warmup === null) own.warmup = Math.round(WARMUP_SHARE * total);
  return definition.make({ ...own, lr, ...(Object.hasOwn(definition.parameters, 'total') ? { total } : {}) });
}
