import { ConfigError } from 'edgewise';
import { optimizers, schedules } from 'edgewise/optim';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import {
  type ConfigLayer,
  optimizerVariants,
  parseTrainConfig,
  scheduleVariants,
  trainConfigSchema,
} from '../../src/config/index.ts';
import { CATALOG } from './catalog.ts';

const parse = (value: unknown, ...more: ConfigLayer[]) =>
  parseTrainConfig([{ source: 'my.json', value }, ...more], CATALOG);

describe('a configuration', () => {
  it('is complete where nothing is said: the recipe, then defaults', () => {
    expect(parse({})).toEqual({
      model: { name: 'convnet', width: 32 },
      data: { name: 'digits', examples: null, testExamples: null, normalize: 'channel' },
      optimizer: { name: 'adan', lr: 0.004, betas: [0.98, 0.92, 0.99], weightDecay: 0, maxGradNorm: 0, proximal: true },
      schedule: { name: 'cosine', min: 1e-5, warmup: null },
      batchSize: 128,
      tunedBatchSize: null,
      microBatchSize: null,
      epochs: 5,
      steps: null,
      clipNorm: 0,
      clipValue: 0,
      labelSmoothing: 0,
      labelNoise: 0,
      decayBiasAndNorm: false,
      seed: 0,
      precision: 'float32',
      threads: 0,
      evalEvery: null,
      checkpointEvery: null,
      keepCheckpoints: 3,
      onNonFinite: 'stop',
      wrap: [],
      groups: [],
      freeze: [],
      device: 'cpu',
      augment: { crop: 0, flip: 0, cutout: 0 },
      earlyStopping: { patience: 0, minDelta: 0 },
      probes: { sharpness: { every: 200, examples: 1000, products: 12, tolerance: 0.01 } },
    });
  });

  it('takes what is said, names alone or with settings, and aliases in any case', () => {
    expect(
      parse({
        model: { name: 'CNN', width: 8 },
        optimizer: 'Momentum',
        data: { name: 'folder', path: 'x', labels: 'coarse' },
        probes: { sharpness: { every: 0 } },
        augment: { flip: 0.5 },
        threads: 2,
      }),
    ).toMatchObject({
      model: { name: 'convnet', width: 8 },
      optimizer: { name: 'sgd', lr: 0.1, momentum: 0, nesterov: false },
      data: { name: 'folder', path: 'x', labels: 'coarse', normalize: 'channel' },
      probes: { sharpness: { every: 0, examples: 1000 } },
      augment: { crop: 0, flip: 0.5 },
      threads: 2,
    });
  });

  it('lets later layers win, leaf by leaf', () => {
    const config = parse(
      { optimizer: { lr: 0.5, weightDecay: 0.1 }, seed: 3 },
      { source: 'two.json', value: { optimizer: { name: 'adan', lr: 0.25 } } },
      { flags: { lr: '0.125', 'micro-batch-size': '64' } },
    );
    expect(config).toMatchObject({ optimizer: { lr: 0.125, weightDecay: 0.1 }, seed: 3, microBatchSize: 64 });
  });

  it('forgets what was said of an optimizer when another is chosen', () => {
    const flags = { optimizer: 'sgd' };
    expect(parse({ optimizer: { name: 'adan', lr: 0.5 } }, { flags }).optimizer.lr).toBe(0.1);
    // Not when it is the same, or comes back within a layer that says it.
    expect(parse({ optimizer: { name: 'sgd', lr: 0.5 } }, { flags }).optimizer.lr).toBe(0.5);
    expect(parse({ optimizer: 'sgd' }, { flags: { optimizer: 'adan' } }).optimizer.lr).toBe(1e-3);
  });

  it('has one length: steps take the place of epochs, and the other way round', () => {
    expect(parse({ steps: 40 })).toMatchObject({ epochs: null, steps: 40 });
    expect(parse({ steps: 40 }, { flags: { epochs: '2.5' } })).toMatchObject({ epochs: 2.5, steps: null });
    expect(parse({ epochs: 2 }, { flags: { steps: '7' } })).toMatchObject({ epochs: null, steps: 7 });
    expect(parse({ epochs: null, steps: 40 })).toMatchObject({ epochs: null, steps: 40 });
    expect(parse({ epochs: null, steps: null })).toMatchObject({ epochs: 10, steps: null });
    expect(() => parse({ epochs: 1, steps: 40 })).toThrow(
      'my.json: steps and my.json: epochs are both given; a run has one length, choose one.',
    );
  });

  it('gives itself back when it is fed back', () => {
    for (const value of [
      {},
      { steps: 300 },
      {
        model: { name: 'mlp', hidden: [] },
        optimizer: { name: 'sgd', momentum: 0.9, nesterov: true },
        schedule: 'constant',
      },
      {
        data: { name: 'folder', path: 'x' },
        seed: Number.MAX_SAFE_INTEGER,
        precision: 'float64',
        schedule: { warmup: 5 },
      },
    ]) {
      const config = parse(value);
      expect(parse(JSON.parse(JSON.stringify(config)))).toStrictEqual(config);
    }
  });
});

describe('what is wrong is said in one sentence', () => {
  it.each<[unknown, string]>([
    [{ optimizer: { lr: 0 } }, 'my.json: optimizer.lr is 0; give a number above 0.'],
    [{ optimizer: { lr: null } }, 'my.json: optimizer.lr is null; give a number above 0.'],
    [{ optimizer: { lr: '0.1' } }, 'my.json: optimizer.lr is 0.1; give a number above 0.'],
    [
      { optimizer: { betas: [0.9, 0.9] } },
      'my.json: optimizer.betas is 0.9,0.9; give 3 numbers, each of at least 0 and below 1.',
    ],
    [
      { optimizer: { betas: [0.9, 0.9, 1] } },
      'my.json: optimizer.betas is 0.9,0.9,1; give 3 numbers, each of at least 0 and below 1.',
    ],
    [{ optimizer: { proximal: 1 } }, 'my.json: optimizer.proximal is 1; give true or false.'],
    [{ batchSize: -128 }, 'my.json: batchSize is -128; give a whole number of at least 1.'],
    [{ batchSize: 1.5 }, 'my.json: batchSize is 1.5; give a whole number of at least 1.'],
    [{ batchSize: {} }, 'my.json: batchSize is an object; give a whole number of at least 1.'],
    [{ steps: 0 }, 'my.json: steps is 0; give a whole number of at least 1, or auto.'],
    [{ labelSmoothing: 1 }, 'my.json: labelSmoothing is 1; give a number of at least 0 and below 1.'],
    [{ precision: 'float16' }, 'my.json: precision is float16; choose one of float32, float64.'],
    [{ device: 'gpu' }, 'my.json: device is gpu; choose one of cpu, webgpu, cuda, interpreter.'],
    [
      { model: { name: 'mlp', hidden: [0] } },
      'my.json: model.hidden is 0; give a list of numbers, each of at least 1.',
    ],
    [{ data: { name: 'folder', path: '' } }, 'my.json: data.path is empty; give some text.'],
    [{ data: { name: 'folder' } }, 'The data set folder needs data.path (--data-path): Folder with the files.'],
    [
      { seed: 2 ** 53 },
      'my.json: seed is 9007199254740992; give a whole number of at least 0 and at most 9007199254740991.',
    ],
    [{ augment: 3 }, 'my.json: augment must be an object, got 3.'],
    [{ probes: { sharpness: true } }, 'my.json: probes.sharpness must be an object, got true.'],
    [[], 'my.json: the settings must be an object, got an empty list.'],
    [null, 'my.json: the settings must be an object, got null.'],
    ['adan', 'my.json: the settings must be an object, got adan.'],
    [
      { microBatchSize: 30 },
      'my.json: microBatchSize is 30, which does not divide the batch size 128; choose a divisor.',
    ],
    [
      { clipNorm: 1, optimizer: { maxGradNorm: 1 } },
      'my.json: clipNorm and my.json: optimizer.maxGradNorm are both set; the gradient would be clipped twice, choose one.',
    ],
    [
      { device: 'cuda', precision: 'float64' },
      'my.json: precision is float64, which the device cuda does not have; it has float32.',
    ],
    [
      { steps: 10, schedule: { warmup: 11 } },
      'my.json: schedule.warmup is 11, longer than the whole run of 10 steps; choose a shorter one.',
    ],
    [{ optimizer: { name: 'sgd', nesterov: true } }, 'sgd: nesterov needs momentum above 0.'],
  ])('%j', (value, sentence) => {
    expect(() => parse(value)).toThrow(ConfigError);
    expect(() => parse(value)).toThrow(new ConfigError(sentence));
  });
});

describe('what does not exist is answered with the nearest that does', () => {
  it.each<[unknown, string]>([
    [{ batchsize: 3 }, 'my.json: there is no setting batchsize; did you mean batchSize?'],
    [{ lr: 3 }, 'my.json: there is no setting lr; did you mean optimizer.lr?'],
    [{ optimiser: 'adan' }, 'my.json: there is no setting optimiser; did you mean optimizer?'],
    [
      { optimizer: { lrr: 3 } },
      'my.json: there is no setting optimizer.lrr for the optimizer adan; did you mean optimizer.lr?',
    ],
    [
      { optimizer: { name: 'sgd', betas: [] } },
      'my.json: there is no setting optimizer.betas for the optimizer sgd; there are lr, momentum, nesterov.',
    ],
    [{ probes: { sharpnes: {} } }, 'my.json: there is no setting probes.sharpnes; did you mean probes.sharpness?'],
    [
      { schedule: { name: 'constant', slope: 1 } },
      'my.json: there is no setting schedule.slope for the schedule constant; there are none here.',
    ],
    [{ optimizer: 'adn' }, "my.json: optimizer: there is no optimizer 'adn'; did you mean 'adan'?"],
    [{ model: { name: 'transformer' } }, "my.json: model: there is no model 'transformer'; there are mlp, convnet."],
    [{ model: 3 }, 'my.json: model: there is no model of that kind; there are mlp, convnet.'],
    [{ data: { name: ['digits'] } }, 'my.json: data: there is no data set of that kind; there are digits, folder.'],
    [JSON.parse('{"__proto__": {"batchSize": 1}}'), 'my.json: there is no setting __proto__; there are '],
    [{ constructor: 1 }, 'my.json: there is no setting constructor; there are '],
  ])('%j', (value, sentence) => {
    expect(() => parse(value)).toThrow(ConfigError);
    expect(() => parse(value)).toThrow(sentence);
  });

  it('also in flags', () => {
    const flags = (given: Record<string, string | boolean>) => () => parse({}, { flags: given });
    expect(flags({ lrr: '1' })).toThrow('There is no flag --lrr; did you mean --lr?');
    expect(flags({ optimizer: 'sgd', betas: '1' })).toThrow(
      'The optimizer sgd has no --betas; it has --lr, --momentum, --nesterov.',
    );
  });
});

it('takes any JSON without throwing anything but a ConfigError, and what it takes it gives back', () => {
  const key = fc.oneof(
    fc.constantFrom('optimizer', 'name', 'lr', 'model', 'probes', 'sharpness', 'steps', 'batchSize'),
    fc.string(),
  );
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      fc.constantFrom('adan', 'sgd', 'mlp', 1, 10, 0.5, null, true),
      fc.jsonValue({ maxDepth: 1 }),
      fc.dictionary(key, tie('value'), { maxKeys: 3, noNullPrototype: true }),
    ),
  }));
  fc.assert(
    fc.property(value, (json) => {
      try {
        const config = parse(json);
        expect(parse(JSON.parse(JSON.stringify(config)))).toStrictEqual(config);
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        expect(error.message).not.toMatch(/undefined|\[object/);
      }
    }),
    { numRuns: 500 },
  );
});

describe('with the optimizers and schedules of the library', () => {
  const recipe = { ...CATALOG.recipe, schedule: 'constant' };
  const catalog = {
    ...CATALOG,
    recipe,
    optimizers: optimizerVariants(optimizers),
    schedules: scheduleVariants(schedules),
  };

  it.each(optimizers.map(({ name }) => name))('%s has its defaults and its checks', (name) => {
    const definition = optimizers.find((entry) => entry.name === name);
    const recipe = { ...CATALOG.recipe, optimizer: name };
    const config = parseTrainConfig([], { ...catalog, recipe });
    const defaults = Object.entries(definition?.hyperparameters ?? {}).map(([key, { default: value }]) => [key, value]);
    expect(config.optimizer).toEqual({ name, ...Object.fromEntries(defaults) });
    expect(() => parseTrainConfig([{ flags: { lr: '0' } }], { ...catalog, recipe })).toThrow(
      /^--lr is 0; give a number above 0/,
    );
  });

  it.each(schedules.map((schedule) => [schedule.name, schedule] as const))(
    '%s can be made from its settings',
    (name, schedule) => {
      const { name: _, ...values } = parseTrainConfig([{ flags: { schedule: name } }], catalog).schedule;
      const own = Object.keys(schedule.parameters).filter((key) => key !== 'lr' && key !== 'total');
      expect(Object.keys(values)).toEqual(own);
      // Checked values, none of them null: the library's schedules have no automatic settings.
      const rate = schedule.make({ ...(values as Record<string, number>), lr: 0.5 });
      const plain = schedule.make({ lr: 0.5 });
      for (let t = 1; t <= 1200; t++) expect(rate(t)).toBe(plain(t));
    },
  );

  it('makes a JSON schema', () => {
    const schema = z.toJSONSchema(trainConfigSchema(catalog), { io: 'input' });
    expect(schema.type).toBe('object');
    expect(schema.properties?.batchSize).toMatchObject({ type: 'integer', minimum: 1, default: 128 });
    expect(JSON.stringify(schema.properties?.optimizer)).toContain('"exclusiveMinimum":0');
  });
});
