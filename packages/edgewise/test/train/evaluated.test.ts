/** @file Evaluations, checkpoints and running statistics at an average of the weights. */
import { describe, expect, it } from 'vitest';
import { Key } from '../../src/base/random.ts';
import { findOptimizer } from '../../src/optim/index.ts';
import { ParamVector } from '../../src/params/vector.ts';
import { loadCheckpoint, loadWeights, MemoryRunStore } from '../../src/train/index.ts';
import { complete, completeInParts, convnet, images, metrics, open, spec, state } from './harness.ts';

const of = spec({
  data: images(),
  model: convnet,
  optimizer: findOptimizer('asgd'),
  values: { lr: 0.1, t0: 1 },
  schedule: () => 0.1,
  steps: 12,
  trainer: { checkpointEvery: 3, evalEvery: 2 },
});

const load = async (store: MemoryRunStore, { network }: Awaited<ReturnType<typeof open>>, point?: 'trained') => {
  const checkpoint = (await loadCheckpoint(store))!;
  const [params, buffers] = [network.params, network.buffers].map((v) => new ParamVector(v.layout, v.dtype));
  loadWeights(checkpoint, { params, buffers }, point);
  return { params, buffers };
};

describe('a run whose average is evaluated', () => {
  it('saves the average with statistics of its own, and goes on from what was trained', async () => {
    const store = new MemoryRunStore();
    const run = await complete(of, { store });
    const { network, optimizer, batches } = run;
    const evaluated = await load(store, run);
    const trained = await load(store, run, 'trained');
    expect(trained.params.data).toEqual(network.params.data);
    expect(trained.buffers.data).toEqual(network.buffers.data);
    const before = state(run);
    const again = await open(of);
    again.network.buffers.data.set(network.buffers.data);
    await optimizer.atEvaluated(() => {
      expect(evaluated.params.data).toEqual(network.params.data);
      again.network.params.data.set(network.params.data);
    });
    expect(evaluated.params.data).not.toEqual(trained.params.data);
    expect(state(run)).toEqual(before);
    // The first layer's mean is that of its outputs, whatever training remembers: from next = 0.9 old + 0.1 batch.
    const { network: other } = again;
    const graph = await other.trainingGraph(16);
    const name = other.buffers.layout.segments.map((s) => s.name).find((each) => each.endsWith('running_mean'))!;
    const mean = other.buffers.view(name).map(() => 0);
    for (let step = 0; step < batches.stepsPerEpoch; step++) {
      const old = other.buffers.view(name).slice();
      batches.fill(step, graph.x, graph.y);
      await graph.run(Key.fromSeed(step));
      const now = other.buffers.view(name);
      for (let i = 0; i < mean.length; i++) mean[i] += (now[i] - 0.9 * old[i]) / 0.1 / batches.stepsPerEpoch;
    }
    const saved = evaluated.buffers.view(name);
    for (const [i, x] of mean.entries()) expect(Math.abs(saved[i] - x)).toBeLessThan(1e-5 * (1 + Math.abs(x)));
  });

  it('is left alone by evaluations, and goes on to the bit', async () => {
    const [whole, parts] = [new MemoryRunStore(), new MemoryRunStore()];
    const expected = state(await complete(of, { store: whole }));
    expect(state(await completeInParts(of, parts, [4, 7]))).toEqual(expected);
    expect(await metrics(parts)).toBe(await metrics(whole));
    expect(state(await complete({ ...of, trainer: { evalEvery: 0, checkpointEvery: 0 } }))).toEqual(expected);
  });

  it('reports the test loss of the average', async () => {
    const store = new MemoryRunStore();
    const run = await complete(of, { store });
    const weights = await load(store, run);
    const plain = await open({ ...of, optimizer: findOptimizer('sgd'), values: {} });
    plain.network.params.data.set(weights.params.data);
    plain.network.buffers.data.set(weights.buffers.data);
    expect(await plain.trainer.evaluate()).toEqual(run.result.last?.test);
  });
});

it('where nothing is averaged, nothing more is saved', async () => {
  const store = new MemoryRunStore();
  const run = await complete({ ...of, optimizer: findOptimizer('sgd'), values: {} }, { store });
  const { file } = (await loadCheckpoint(store))!;
  expect([...file.tensors.keys()].some((name) => name.startsWith('evaluated.'))).toBe(false);
  expect((await load(store, run)).params.data).toEqual(run.network.params.data);
});
