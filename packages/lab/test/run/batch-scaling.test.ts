import { buildModel } from 'edgewise/models';
import { describe, expect, it } from 'vitest';
import { parseTrainConfig } from '../../src/config/index.ts';
import { describeScaling } from '../../src/run/batch-scaling.ts';
import { catalog } from '../../src/run/catalog.ts';
import { labelNoiseOf } from '../../src/run/data.ts';
import { layoutOf, optimizerOf, scheduleOf } from '../../src/run/recipe.ts';

const layout = layoutOf(buildModel('mlp', { inputShape: [2], classes: 3 }, { widths: [8] }), 'float32');

const configOf = (value: Record<string, unknown>) =>
  parseTrainConfig([{ source: 'test', value: { model: 'mlp', data: 'spirals', ...value } }], catalog);

const recipeOf = (value: Record<string, unknown>) => optimizerOf(configOf(value), layout);

describe('values chosen for another batch size', () => {
  it('are rescaled for the one in use, and what changed is known', () => {
    const { settings, scaling } = recipeOf({
      optimizer: { name: 'adamw', lr: 0.001, weightDecay: 0.1 },
      batchSize: 2048,
      tunedBatchSize: 128,
    });
    expect(settings.values).toMatchObject({ lr: 0.004, weightDecay: 0.4, betas: [0.9, 0.999] });
    expect(scaling).toMatchObject({ from: 128, to: 2048 });
    expect(scaling && describeScaling(scaling)).toBe(
      'from batch 128 to 2,048: lr 0.001 → 0.004, weightDecay 0.1 → 0.4',
    );
    // Biases do not decay at any batch size.
    expect(settings.groups).toContainEqual({ match: { tag: ['bias'] }, values: { weightDecay: 0 } });
  });

  it('stay where nothing is said, or the same batch size', () => {
    const value = { optimizer: { name: 'sgd', lr: 0.2 }, batchSize: 64 };
    const plain = recipeOf(value);
    expect(plain.scaling).toBeUndefined();
    const same = recipeOf({ ...value, tunedBatchSize: 64 });
    expect(same.scaling).toEqual({ from: 64, to: 64, changes: [] });
    expect(same.settings.values).toMatchObject({ lr: 0.2 });
    expect(same.scaling && describeScaling(same.scaling)).toBe('from batch 64 to 64: no value changes');
  });

  it('follow the rule of the optimizer: linear for gradient descent', () => {
    const sgd = { optimizer: { name: 'sgd', lr: 0.1, weightDecay: 5e-4 }, batchSize: 512, tunedBatchSize: 128 };
    expect(recipeOf(sgd).settings.values).toMatchObject({ lr: 0.4, weightDecay: 5e-4 });
    const prodigy = { optimizer: { name: 'prodigy' }, batchSize: 512, tunedBatchSize: 128 };
    expect(recipeOf(prodigy).settings.values).toMatchObject({ lr: 1 });
  });

  it('of a wrapper and of groups are rescaled too', () => {
    const { settings, scaling } = recipeOf({
      optimizer: { name: 'adamw', lr: 0.001, weightDecay: 0.1 },
      wrap: [{ name: 'average', averageKind: 'ema', averageDecay: 0.9 }],
      groups: [{ match: { minRank: 2 }, lrScale: 0.5, values: { weightDecay: 0.3 } }],
      batchSize: 512,
      tunedBatchSize: 128,
    });
    expect(settings.values).toMatchObject({ averageDecay: expect.closeTo(0.9 ** 4, 15) });
    expect(settings.groups?.at(-1)).toEqual({ match: { minRank: 2 }, lrScale: 0.5, values: { weightDecay: 0.6 } });
    expect(scaling?.changes.map(({ name }) => name)).toEqual([
      'lr',
      'weightDecay',
      'averageDecay',
      'groups: weightDecay',
    ]);
  });

  it('of a group with another optimizer follow the rule of that one', () => {
    const { settings } = recipeOf({
      optimizer: { name: 'sgd', lr: 0.1, weightDecay: 0.01 },
      groups: [{ match: { tag: 'bias' }, optimizer: 'adamw', values: { adamwLr: 0.003, adamwWeightDecay: 0.02 } }],
      batchSize: 512,
      tunedBatchSize: 128,
    });
    expect(settings.values).toMatchObject({ lr: 0.4, weightDecay: 0.01, adamwLr: 0.006, adamwWeightDecay: 0.04 });
  });

  it('give a schedule that is the same but for its scale', () => {
    const value = {
      optimizer: { name: 'adamw', lr: 0.001 },
      schedule: { name: 'warmupCosine', min: 1e-4, warmup: 3 },
      batchSize: 512,
    };
    const before = scheduleOf(configOf(value), 0.001, 40);
    const config = configOf({ ...value, tunedBatchSize: 128 });
    const after = scheduleOf(config, Number(optimizerOf(config, layout).settings.values?.lr), 40);
    for (let t = 1; t <= 50; t++) expect(after(t)).toBeCloseTo(2 * before(t), 15);
  });
});

describe('label noise', () => {
  const data = { name: 'd', count: 1, shape: [], inputs: new Float32Array(1) };
  it('is a probability for classes and a deviation for numbers', () => {
    const config = configOf({ labelNoise: 0.2 });
    const classes = { ...data, kind: 'classification', labels: new Int32Array(1), classes: 2 } as const;
    const numbers = { ...data, kind: 'regression', targets: new Float32Array(1), targetShape: [] } as const;
    expect(labelNoiseOf(config, classes)).toEqual({ probability: 0.2 });
    expect(labelNoiseOf(config, numbers)).toEqual({ deviation: 0.2 });
    expect(labelNoiseOf(configOf({}), classes)).toBeUndefined();
  });
});
