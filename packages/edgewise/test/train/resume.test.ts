import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Key } from '../../src/base/random.ts';
import {
  clipGlobalNorm,
  clipValue,
  findOptimizer,
  findSchedule,
  type OptimizerDefinition,
  optimizers,
  schedules,
} from '../../src/optim/index.ts';
import { StepGradient } from '../../src/train/gradient.ts';
import { type BatchGraph, loadCheckpoint, MemoryRunStore, metricSeries, readMetrics } from '../../src/train/index.ts';
import { complete, completeInParts, convnet, images, metrics, mlp, moons, type Spec, spec, state } from './harness.ts';

/** Checks that a run interrupted after `stops` and resumed equals one that was not. */
async function expectResumable(of: Spec, stops: readonly number[]): Promise<void> {
  const [whole, parts] = [new MemoryRunStore(), new MemoryRunStore()];
  const expected = state(await complete(of, { store: whole }));
  const actual = state(await completeInParts(of, parts, stops));
  expect(actual).toEqual(expected);
  expect(await metrics(parts)).toBe(await metrics(whole));
  // What was learned is something.
  const { records } = readMetrics(await whole.read('metrics.jsonl'));
  expect(records).toHaveLength(of.steps);
  expect(new Set(metricSeries(records, 'train/loss').values).size).toBeGreaterThan(of.steps / 2);
}

const named = (name: string, values: Spec['values'], definition = findOptimizer(name)) =>
  [`${definition.name} ${JSON.stringify(values)}`, definition, values] as const;

describe('a run that is interrupted and resumed equals one that is not, to the bit', () => {
  it.each([
    ...optimizers.map((definition) => named(definition.name, { lr: 0.01 }, definition)),
    named('sgd', { momentum: 0.9, nesterov: true, weightDecay: 0.01 }),
    named('sgd', { momentum: 0.9, dampening: 0.5 }),
    named('adam', { amsgrad: true, weightDecay: 0.1 }),
    named('adan', { maxGradNorm: 0.3, weightDecay: 0.02, proximal: false }),
    named('adan', { restartEvery: 7 }),
    named('adan', { movementBudget: 0.05 }),
    named('adamw', { clipNorm: 0.2 }, clipGlobalNorm(findOptimizer('adamw')) as OptimizerDefinition),
    named('sgd', { clipValue: 0.02, momentum: 0.5 }, clipValue(findOptimizer('sgd')) as OptimizerDefinition),
  ])('with %s', async (_, optimizer, values) => {
    await expectResumable(
      spec({ optimizer, values, sharpnessEvery: 5, trainer: { checkpointEvery: 6 } }),
      [3, 11, 12, 20],
    );
  });

  it('with batch norm, dropout, augmentation, micro-batches, label smoothing and the sharpness probe', async () => {
    await expectResumable(
      spec({
        data: images(),
        model: convnet,
        augmentation: { crop: { padding: 1 }, flip: { probability: 0.5 }, cutout: { size: 2 } },
        optimizer: findOptimizer('adan'),
        values: { lr: 0.02, weightDecay: 0.02 },
        labelSmoothing: 0.1,
        sharpnessEvery: 4,
        trainer: { microBatch: 8, checkpointEvery: 3, evalEvery: 5 },
      }),
      [1, 6, 7, 15],
    );
  });

  const given: Readonly<Record<string, object>> = {
    warmup: { warmup: 9 },
    cosine: { min: 0.001 },
    step: { gamma: 0.5, every: 7 },
    multiStep: { gamma: 0.3, milestones: [4, 13] },
  };
  const lengths = ({ parameters }: (typeof schedules)[number]) => ({
    ...(Object.hasOwn(parameters, 'total') && { total: 24 }),
    ...(Object.hasOwn(parameters, 'warmup') && { warmup: 5 }),
  });
  it.each(
    schedules.map((definition): [string, object] => [
      definition.name,
      { ...lengths(definition), ...given[definition.name] },
    ]),
  )('with the schedule %s', async (name, values) => {
    const schedule = findSchedule(name).make({ lr: 0.1, ...values } as never);
    const store = new MemoryRunStore();
    const of = spec({ schedule, values: { momentum: 0.9 } });
    await expectResumable(of, [4, 9, 14]);
    await completeInParts(of, store, [4, 9, 14]);
    const { values: rates } = metricSeries(readMetrics(await store.read('metrics.jsonl')).records, 'lr');
    expect(rates).toEqual(Array.from({ length: 24 }, (_, i) => schedule(i + 1)));
    expect(new Set(rates).size > 1).toBe(name !== 'constant');
  });

  it('in float64', async () => {
    await expectResumable(
      spec({ dtype: 'float64', optimizer: findOptimizer('adam'), values: { lr: 0.01 }, sharpnessEvery: 6 }),
      [5, 13],
    );
  });

  it('after any steps', async () => {
    const of = spec({
      optimizer: findOptimizer('adan'),
      values: { lr: 0.01 },
      steps: 12,
      data: moons(32),
      sharpnessEvery: 5,
    });
    const whole = new MemoryRunStore();
    const expected = state(await complete(of, { store: whole }));
    const lines = await metrics(whole);
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.integer({ min: 1, max: 11 }), { maxLength: 4 }), async (stops) => {
        const store = new MemoryRunStore();
        expect(
          state(
            await completeInParts(
              of,
              store,
              stops.sort((a, b) => a - b),
            ),
          ),
        ).toEqual(expected);
        expect(await metrics(store)).toBe(lines);
      }),
      { numRuns: 6, seed: 3 },
    );
  });

  it('from any checkpoint it kept, which drops what was recorded later', async () => {
    const store = new MemoryRunStore();
    const of = spec({
      trainer: { checkpointEvery: 4, keep: 3 },
      optimizer: findOptimizer('adan'),
      values: { lr: 0.01 },
    });
    const expected = state(await complete(of, { store }));
    const lines = await metrics(store);
    for (const step of [16, 20]) {
      const checkpoint = await loadCheckpoint(store, { step });
      expect(state(await complete(of, { store, checkpoint }))).toEqual(expected);
      expect(await metrics(store)).toBe(lines);
    }
  });

  it('and a finished run has nothing left to do', async () => {
    const store = new MemoryRunStore();
    const of = spec();
    const expected = state(await complete(of, { store }));
    const before = await metrics(store);
    const again = await complete(of, { store, checkpoint: await loadCheckpoint(store) });
    expect(again.result).toMatchObject({ reason: 'finished', step: 24, last: undefined });
    expect(state(again)).toEqual(expected);
    expect(await metrics(store)).toBe(before);
  });
});

describe('what a run depends on', () => {
  const of = spec({
    data: images(),
    model: convnet,
    optimizer: findOptimizer('adan'),
    values: { lr: 0.02 },
    steps: 10,
  });

  it('the same seed gives the same bits, another one others', async () => {
    const [a, b, c] = [await complete(of), await complete(of), await complete({ ...of, seed: 1 })].map(state);
    expect(b).toEqual(a);
    expect(c.params).not.toBe(a.params);
  });

  it('probes leave it alone', async () => {
    const { params, buffers, ...rest } = state(await complete(of));
    const probed = state(await complete({ ...of, sharpnessEvery: 2 }));
    expect(probed).toMatchObject({ params, buffers, ...rest });
    expect(Buffer.from(probed['probe vector'], 'base64').some((byte) => byte !== 0)).toBe(true);
  });

  it('evaluations and checkpoints leave it alone', async () => {
    const often = { ...of, trainer: { evalEvery: 1, checkpointEvery: 1 } };
    const never = { ...of, trainer: { evalEvery: 0, checkpointEvery: 0 } };
    expect(state(await complete(often, { store: new MemoryRunStore() }))).toEqual(state(await complete(never)));
  });
});

describe('gradient accumulation', () => {
  const worst = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Array.from(a).reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]) / (1 + Math.abs(x))), 0);

  it.each([
    ['float64', 1e-12],
    ['float32', 1e-6],
  ] as const)('equals the big batch in %s', async (dtype, tolerance) => {
    const of = spec({
      dtype,
      values: { momentum: 0.9 },
      model: mlp({ widths: [16, 16] }),
      labelSmoothing: 0.1,
      steps: 15,
    });
    const [wholeStore, store] = [new MemoryRunStore(), new MemoryRunStore()];
    const whole = await complete(of, { store: wholeStore });
    for (const microBatch of [8, 4, 1]) {
      const parts = await complete({ ...of, trainer: { microBatch } }, { store: microBatch === 4 ? store : undefined });
      const error = worst(whole.network.params.data, parts.network.params.data);
      expect(error).toBeLessThan(tolerance);
      // They are different computations.
      expect(error).toBeGreaterThan(0);
    }
    const series = async (of: MemoryRunStore, name: string) =>
      metricSeries(readMetrics(await of.read('metrics.jsonl')).records, name).values;
    for (const name of ['train/loss', 'train/gradient-norm', 'train/accuracy', 'test/loss'])
      expect(worst(await series(wholeStore, name), await series(store, name)), name).toBeLessThan(tolerance);
  });

  it('sees every example of the batch once, with random numbers of its own in every step and micro-batch', async () => {
    const { network, batches } = await complete(spec({ steps: 1 }));
    const seen: { key: string; x: number[]; y: number[] }[] = [];
    const [x, y] = [new Float32Array(8), new Int32Array(4)];
    const graph: BatchGraph = {
      batch: 4,
      x,
      y,
      dispose: async () => {},
      run: async (key) => {
        seen.push({ key: String(key), x: [...x], y: [...y] });
        network.gradient.fill(seen.length);
        return { loss: seen.length, correct: seen.length };
      },
    };
    const gradient = new StepGradient({ network, batches, graph, key: Key.fromSeed(1) });
    for (const step of [0, 1]) {
      const before = 4 * step;
      const { loss, correct } = await gradient.evaluate(step);
      expect([loss, correct, network.gradient.data[0]]).toEqual([before + 2.5, 4 * before + 10, before + 2.5]);
    }
    for (const step of [0, 1]) {
      const [whole, answers] = [new Float32Array(32), new Int32Array(16)];
      batches.fill(step, whole, answers);
      const parts = seen.slice(4 * step, 4 * step + 4);
      expect(parts.flatMap((part) => part.x)).toEqual([...whole]);
      expect(parts.flatMap((part) => part.y)).toEqual([...answers]);
    }
    expect(new Set(seen.map(({ key }) => key)).size).toBe(8);
    await gradient.evaluateAgain(0);
    expect(seen.slice(8)).toEqual(seen.slice(0, 4));
  });
});
