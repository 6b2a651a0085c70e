import { describe, expect, it } from 'vitest';
import { ConfigError, NonFiniteError, ShapeError } from '../../src/base/errors.ts';
import { Key } from '../../src/base/random.ts';
import { gaussianBlobs } from '../../src/data/index.ts';
import { buildModel } from '../../src/models/index.ts';
import { defineOptimizer, findOptimizer, learningRate } from '../../src/optim/index.ts';
import { div, greater, mul, sub } from '../../src/tensor/ops/elementwise.ts';
import { sum } from '../../src/tensor/ops/reduce.ts';
import {
  loadCheckpoint,
  MemoryRunStore,
  metricSeries,
  readMetrics,
  StoreError,
  type TrainReport,
} from '../../src/train/index.ts';
import { byteLength, type Chunks } from '../../src/train/store.ts';
import { complete, convnet, images, mlp, moons, open, type Spec, spec, state } from './harness.ts';

/** A run in order on moons with one example so large that the loss of its batch, the third of four, overflows. */
function poisoned(changes: Partial<Spec>): Spec {
  const { train, test } = moons(64);
  const inputs = Float32Array.from(train.inputs);
  inputs.fill(3e38, 2 * 40, 2 * 41);
  const model = mlp({ activation: 'relu', widths: [64] });
  return spec({ data: { train: { ...train, inputs }, test }, model, shuffle: false, normalize: false, ...changes });
}

const failing = (of: Spec, store?: MemoryRunStore) =>
  complete(of, { store }).then(
    () => undefined,
    (error: unknown) => error,
  );

const series = async (store: MemoryRunStore, name: string) =>
  metricSeries(readMetrics(await store.read('metrics.jsonl')).records, name).values;

describe('a loss or gradient that is not finite', () => {
  const diverging = spec({ schedule: () => 1e25, model: mlp({ activation: 'relu' }), trainer: { checkpointEvery: 1 } });

  it('stops a run that diverges, with the state before the update saved and the diagnosis in the error', async () => {
    const store = new MemoryRunStore();
    const error = await failing(diverging, store);
    expect(error).toBeInstanceOf(NonFiniteError);
    const [, step] = /^At step (\d+) the loss is (?:NaN|Infinity)/.exec(String((error as Error).message)) ?? [];
    expect(Number(step)).toBeGreaterThan(1);
    const saved = await loadCheckpoint(store);
    expect(saved?.step).toBe(Number(step) - 1);
    expect((error as Error).message).toMatch(
      new RegExp(`the gradient is not finite in every parameter \\(lr 1e\\+25, .*is kept in ${saved?.name}`),
    );
    // The state is that of a run that ends there.
    const before = await complete({ ...diverging, steps: Number(step) - 1 });
    const restored = await open(diverging, { checkpoint: saved });
    expect(state(restored)).toEqual(state(before));
    // Going on fails in the same words.
    await expect(restored.trainer.run()).rejects.toThrow(/^At step \d+ the loss is/);
  });

  it('at the first step leaves a checkpoint of step 0', async () => {
    const store = new MemoryRunStore();
    expect(await failing(poisoned({ batchSize: 64 }), store)).toBeInstanceOf(NonFiniteError);
    expect((await loadCheckpoint(store))?.step).toBe(0);
  });

  it('is left out and counted where asked: the run goes on as if that batch had not been there', async () => {
    const store = new MemoryRunStore();
    const of = poisoned({ steps: 8, values: { momentum: 0.9 }, trainer: { onNonFinite: 'skip' } });
    const reports: TrainReport[] = [];
    const { result, ...run } = await complete(
      { ...of, trainer: { ...of.trainer, onStep: (r) => reports.push(r) } },
      { store },
    );
    // Four batches an epoch, the third is poisoned.
    expect(result).toMatchObject({ reason: 'finished', step: 8, skipped: 2 });
    expect(reports.map(({ skipped }) => skipped === true)).toEqual([0, 0, 1, 0, 0, 0, 1, 0].map(Boolean));
    expect((await series(store, 'train/loss')).map(Number.isFinite)).toEqual([1, 1, 0, 1, 1, 1, 0, 1].map(Boolean));
    expect(new TextDecoder().decode(await store.read('metrics.jsonl'))).toContain('"train/loss":null');

    const { network, optimizer, batches } = await open(of);
    const graph = await network.trainingGraph(16);
    for (const step of [0, 1, 3, 4, 5, 7]) {
      batches.fill(step, graph.x, graph.y);
      const { loss } = await graph.run();
      optimizer.step({ lr: 0.05, loss });
    }
    expect(state(run)).toEqual(state({ ...run, network, optimizer }));
  });

  it('does not get into running statistics', async () => {
    // Huge weights make the network overflow at every step.
    const of = spec({
      data: images(),
      model: convnet,
      steps: 6,
      optimizer: findOptimizer('sgd'),
      trainer: { onNonFinite: 'skip' },
    });
    const run = await open(of);
    run.network.params.view('conv1.weight').fill(3e38);
    const before = run.network.buffers.data.slice();
    const { skipped } = await run.trainer.run();
    expect(skipped).toBe(6);
    expect(run.network.buffers.data).toEqual(before);
    await run.trainer.dispose();
  });

  it('does not end a run through its probes', async () => {
    const store = new MemoryRunStore();
    const of = spec({
      schedule: () => 1e25,
      model: mlp({ activation: 'relu' }),
      sharpnessEvery: 1,
      trainer: { onNonFinite: 'skip' },
    });
    const { result } = await complete(of, { store });
    expect(result.reason).toBe('finished');
    expect(result.skipped).toBeGreaterThan(10);
    expect((await series(store, 'sharpness')).at(-1)).toBeNaN();
  });

  it('and an update that the optimizer refuses is treated alike', async () => {
    const cautious = defineOptimizer({
      name: 'cautious',
      title: 'Gradient descent that refuses large losses',
      source: { title: 'none', authors: 'none', year: 2026 },
      formula: 'test',
      use: 'test',
      family: 'gradient descent',
      hyperparameters: { lr: learningRate(0.1) },
      slots: {},
      update: ({ theta, grad, h, loss }) => ({
        theta: sub(theta, mul(h.lr, grad)),
        refuse: [{ when: greater(loss, 0.1), because: 'the loss is large' }],
      }),
    });
    const of = spec({ optimizer: cautious as Spec['optimizer'] });
    const store = new MemoryRunStore();
    const error = await failing(of, store);
    expect(error).toBeInstanceOf(NonFiniteError);
    expect((error as Error).message).toMatch(
      /^At step 1 .*; the optimizer refused the update because the loss is large/,
    );
    expect((await loadCheckpoint(store))?.step).toBe(0);
    const { result, network } = await complete({ ...of, trainer: { onNonFinite: 'skip' } });
    expect(result.skipped).toBe(24);
    expect(network.params.data).toEqual((await open(of)).network.params.data);
  });
});

describe('early stopping', () => {
  const still = spec({ schedule: () => 1e-12, steps: 200, trainer: { evalEvery: 3, earlyStopping: { patience: 4 } } });

  it('ends a run whose test set shows no improvement, saved, and it stays ended', async () => {
    const store = new MemoryRunStore();
    const { result } = await complete(still, { store });
    // The first evaluation is the best so far; four follow that are not better.
    expect(result).toMatchObject({ reason: 'early-stop', step: 15 });
    const checkpoint = await loadCheckpoint(store);
    expect(checkpoint?.step).toBe(15);
    expect((await complete(still, { store, checkpoint })).result).toMatchObject({ reason: 'early-stop', step: 15 });
  });

  it('counts anew from every improvement, and small ones are none where minDelta says so', async () => {
    const store = new MemoryRunStore();
    const of = spec({ data: moons(128), schedule: () => 0.3, steps: 400 });
    const run = async (minDelta: number, place = {}) =>
      (await complete({ ...of, trainer: { evalEvery: 2, earlyStopping: { patience: 6, minDelta } } }, place)).result;
    const { reason, step } = await run(0, { store });
    const accuracies = await series(store, 'test/accuracy');
    const first = accuracies.indexOf(Math.max(...accuracies));
    expect(reason).toBe('early-stop');
    expect(first).toBeGreaterThan(6);
    expect(accuracies).toHaveLength(first + 1 + 6);
    expect(step).toBe(2 * accuracies.length);
    expect((await run(0.5)).step).toBe(14);
  });

  it('takes an evaluation that is not a number for no improvement', async () => {
    const of = spec({ schedule: () => 1e25, model: mlp({ activation: 'relu' }), steps: 400, data: { ...regression } });
    const trainer = { evalEvery: 1, checkpointEvery: 1, onNonFinite: 'skip', earlyStopping: { patience: 5 } } as const;
    const { result } = await complete({ ...of, trainer }, { store: new MemoryRunStore() });
    expect(result.reason).toBe('early-stop');
    expect(result.step).toBeLessThan(12);
  });

  it('needs something to look at', async () => {
    await expect(open(spec({ trainer: { test: undefined, earlyStopping: { patience: 1 } } }))).rejects.toThrow(
      /needs test data/,
    );
  });
});

/** Numbers to predict, so that evaluations have no accuracy. */
const regression: Spec['data'] = (() => {
  const { train, test } = moons();
  const numbers = (part: typeof train) => {
    if (part.kind !== 'classification') throw new Error('moons are classified');
    const { count, inputs, shape } = part;
    return {
      kind: 'regression',
      name: 'numbers',
      count,
      inputs,
      shape,
      targetShape: [1],
      targets: Float32Array.from(part.labels),
    } as const;
  };
  return { train: numbers(train), test: numbers(test) };
})();

describe('a disk that is full', () => {
  /** Refuses everything once `left` bytes were written. */
  class FullStore extends MemoryRunStore {
    #left: number;

    constructor(left: number) {
      super();
      this.#left = left;
    }

    override async writeAtomic(name: string, content: Chunks): Promise<void> {
      this.#take(name, content);
      return super.writeAtomic(name, content);
    }

    override async append(name: string, length: number, content: Chunks): Promise<number> {
      this.#take(name, content);
      return super.append(name, length, content);
    }

    #take(name: string, content: Chunks): void {
      this.#left -= byteLength(content);
      if (this.#left < 0) throw new StoreError('no-space', `${name} could not be written: no space is left.`);
    }
  }

  it('stops the run and leaves the last checkpoint whole', async () => {
    const of = spec({ optimizer: findOptimizer('adan'), values: { lr: 0.01 }, trainer: { checkpointEvery: 4 } });
    let stopped = 0;
    for (let room = 2000; room < 40_000; room += 3700) {
      const store = new FullStore(room);
      const error = await failing(of, store);
      if (error === undefined) continue;
      stopped++;
      expect(error).toMatchObject({ code: 'no-space' });
      const checkpoint = await loadCheckpoint(store);
      if (!checkpoint) continue;
      expect(checkpoint.warnings).toEqual([]);
      expect(checkpoint.step % 4).toBe(0);
      const { steps, ...rest } = of;
      const expected = await complete({ ...rest, steps: checkpoint.step });
      expect(state(await open(of, { checkpoint }))).toEqual(state(expected));
    }
    expect(stopped).toBeGreaterThan(5);
  });
});

describe('before training', () => {
  it('data that does not fit the network is refused', async () => {
    const blobs = gaussianBlobs({ key: Key.fromSeed(1), count: 60, features: 3 });
    await expect(
      open(
        spec({
          model: () => buildModel('mlp', { inputShape: [2], classes: 3 }, {}),
          data: { train: blobs, test: blobs },
        }),
      ),
    ).rejects.toThrow(ShapeError);
    await expect(
      open(
        spec({
          model: () => buildModel('mlp', { inputShape: [3], classes: 2 }, {}),
          data: { train: blobs, test: blobs },
        }),
      ),
    ).rejects.toThrow(
      "Model 'mlp' gives [2] for each example, but data set 'gaussian-blobs' has 3 classes; it must give one number for each.",
    );
    await expect(open(spec({ model: (problem) => buildModel('transformer', problem, {}) }))).rejects.toThrow(
      /takes whole numbers, such as tokens/,
    );
    await expect(open(spec({ data: { ...moons(), test: blobs } }))).rejects.toThrow(
      /takes examples of shape \[2\], but those of data set 'gaussian-blobs' are \[3\]/,
    );
  });

  it.each([
    ['steps', { steps: 0 }],
    ['steps', { steps: 1.5 }],
    ['evalEvery', { evalEvery: -1 }],
    ['checkpointEvery', { checkpointEvery: Number.NaN }],
    ['microBatch', { microBatch: 0 }],
    ['The micro-batch of 5 does not divide the batch of 16', { microBatch: 5 }],
  ])('%s of %o is refused', async (named, trainer) => {
    const error = await open(spec({ trainer })).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).toContain(named);
  });

  it('a run cannot be begun twice at once', async () => {
    const { trainer } = await open(spec());
    const first = trainer.run();
    await expect(trainer.run()).rejects.toThrow(/under way already/);
    expect((await first).reason).toBe('finished');
    await trainer.dispose();
  });

  it('memory is set aside for what the update allocates later, so that nothing bound to it moves', async () => {
    // Its kernel keeps a table with an entry for each of the 20,000 rows.
    const byRow = defineOptimizer({
      name: 'centered',
      title: 'Gradient descent on gradients without the mean of their row',
      source: { title: 'none', authors: 'none', year: 2026 },
      formula: 'test',
      use: 'test',
      family: 'gradient descent',
      hyperparameters: { lr: learningRate(0.1) },
      slots: {},
      update: ({ theta, grad, h, columns }) => ({
        theta: sub(theta, mul(h.lr, sub(grad, div(sum(grad, { axes: 2, keepDims: true }), columns)))),
      }),
    });
    const run = await open(spec({ model: mlp({ widths: [20_000] }), optimizer: byRow as Spec['optimizer'], steps: 2 }));
    const { buffer } = run.network.space.memory;
    await run.trainer.run();
    expect(run.network.space.memory.buffer).toBe(buffer);
    await run.trainer.dispose();
  });
});

it('a state with numbers that JSON does not know comes back', async () => {
  const store = new MemoryRunStore();
  const of = spec({ optimizer: findOptimizer('adan'), values: { movementBudget: 1e9 } });
  const run = await open(of, { store });
  await run.trainer.run(AbortSignal.timeout(0));
  const changed = Object.fromEntries(
    Object.entries(run.optimizer.scalarState()).map(([name, values]) => [
      name,
      name.startsWith('#') ? values : values.map(() => Number.POSITIVE_INFINITY),
    ]),
  );
  run.optimizer.restoreScalars(changed);
  await run.trainer.save();
  const again = await open(of, { store, checkpoint: await loadCheckpoint(store) });
  expect(again.optimizer.scalarState()).toEqual(run.optimizer.scalarState());
});
