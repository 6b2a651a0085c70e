import { describe, expect, it } from 'vitest';
import { assign, completeValues, optimizers } from '../../../edgewise/src/optim/index.ts';
import { ParamLayout } from '../../../edgewise/src/params/index.ts';
import { parseTrainConfig } from '../../src/config/index.ts';
import { catalog } from '../../src/run/catalog.ts';
import { optimizerOf } from '../../src/run/recipe.ts';

const layout = new ParamLayout([
  { name: 'weight', shape: [4, 4], tags: ['weight'] },
  { name: 'scale', shape: [4], tags: ['norm'] },
  { name: 'bias', shape: [4], tags: ['bias'] },
]);

/** Hyper-parameters of each parameter, by its name. */
function valuesOf(json: object) {
  const config = parseTrainConfig([{ source: 'json', value: json }], catalog);
  const { definition, settings } = optimizerOf(config, layout);
  const { name, hyperparameters } = definition;
  const values = completeValues(name, hyperparameters, settings.values ?? {});
  const assigned = assign(name, hyperparameters, values, settings.groups ?? [], settings.frozen, layout);
  return Object.fromEntries(assigned.map(({ segment, values: own }) => [segment.name, own]));
}

describe('biases and norms do not decay', () => {
  const decaying = optimizers.flatMap(({ name, hyperparameters }) =>
    Object.keys(hyperparameters).flatMap((key) => (/weightdecay$/i.test(key) ? [[name, key] as const] : [])),
  );
  it.each(decaying)('%s, %s', (name, key) => {
    const values = valuesOf({ optimizer: { name, [key]: 0.3 } });
    expect([values.weight[key], values.scale[key], values.bias[key]]).toEqual([0.3, 0, 0]);
    const decayed = valuesOf({ optimizer: { name, [key]: 0.3 }, decayBiasAndNorm: true });
    expect(decayed.bias[key]).toBe(0.3);
  });

  it('of the other optimizers of groups neither, unless a group says so', () => {
    const groups = [{ match: { maxRank: 1 }, optimizer: 'adamw', values: { adamwWeightDecay: 0.2 } }];
    const optimizer = { name: 'adan', weightDecay: 0.3 };
    expect(valuesOf({ optimizer, groups }).bias).toMatchObject({ adamwWeightDecay: 0, weightDecay: 0 });
    const more = [...groups, { match: { name: 'scale' }, values: { adamwWeightDecay: 0.1 } }];
    expect(valuesOf({ optimizer, groups: more }).scale).toMatchObject({ adamwWeightDecay: 0.1 });
    expect(valuesOf({ optimizer, groups: more }).weight).toMatchObject({ weightDecay: 0.3 });
  });
});

it('a group may have a list of one number, which a flag cannot tell from a number', () => {
  expect(() => valuesOf({ groups: [{ match: { tag: 'bias' }, values: { betas: 0.9 } }] })).toThrow(
    /^groups, group 1: betas is \[0\.9\]; give 3 numbers/,
  );
});

it('every wrapper that says yes to a rule can be given to it by name, with its defaults', () => {
  for (const { name } of catalog.wrappers) {
    const json = { optimizer: 'sgd', wrap: [name], clipNorm: 1, clipValue: 1 };
    const { definition } = optimizerOf(parseTrainConfig([{ source: 'json', value: json }], catalog), layout);
    for (const key of Object.keys(catalog.wrappers.find((each) => each.name === name)?.settings ?? {}))
      expect(definition.hyperparameters).toHaveProperty(key);
  }
});
