import { afterAll, describe, expect, it } from 'vitest';
import { hvp } from '../../src/autodiff/index.ts';
import { Key } from '../../src/base/random.ts';
import { Batches, type Dataset, teacherRegression, twoMoons } from '../../src/data/index.ts';
import { buildModel } from '../../src/models/index.ts';
import { openDevice } from '../../src/node/device.ts';
import { createOptimizer, findOptimizer } from '../../src/optim/index.ts';
import { ParamVector } from '../../src/params/vector.ts';
import { sharpness } from '../../src/probes/sharpness.ts';
import { input } from '../../src/tensor/tensor.ts';
import { Network, objectiveFor } from '../../src/train/index.ts';

const device = await openDevice('cpu', { threads: 1 });
afterAll(() => device.dispose());

const key = Key.fromSeed(4);

function problem(data: Dataset, options: Readonly<Record<string, unknown>> = {}) {
  const network = new Network({
    model: buildModel('mlp', { inputShape: data.shape, classes: 2 }, { widths: [4], activation: 'tanh', ...options }),
    objective: objectiveFor(data, data.kind === 'classification' ? { labelSmoothing: 0.3 } : {}),
    device,
    key: key.split('init'),
    dtype: 'float64',
  });
  return { network, batches: new Batches(data, { batchSize: 10, key: key.split('data') }) };
}

/** The Hessian of the mean loss without label smoothing on the first `examples`, a column for each weight, all examples in one batch. */
async function denseHessian({ network, batches }: ReturnType<typeof problem>, examples: number): Promise<number[][]> {
  const [x, y] = [new Float64Array(examples * batches.inputSize), new Int32Array(examples)];
  batches.fillExamples(
    Array.from({ length: examples }, (_, i) => i),
    x,
    y,
  );
  const { loss, feeds } = network.probeLoss(examples, { x, y }, objectiveFor(batches.dataset));
  const directions = network.symbols.map((p, i) => input(`d${i}`, p.shape, p.dtype));
  const program = await device.compile(
    [...network.symbols, ...directions, ...feeds.keys()],
    hvp(loss, network.symbols, directions),
  );
  const memory = directions.map((d) => new Float64Array(d.size));
  const call = program.bind(
    new Map([
      ...feeds,
      ...network.symbols.map((p, i) => [p, network.weights[i]] as const),
      ...directions.map((d, i) => [d, memory[i]] as const),
    ]),
  );
  const columns: number[][] = [];
  for (const direction of memory) {
    for (let i = 0; i < direction.length; i++) {
      direction[i] = 1;
      await call.run();
      columns.push(call.results.flatMap((part) => Array.from(part, Number)));
      direction[i] = 0;
    }
  }
  return columns;
}

/** Largest eigenvalue of a symmetric matrix by Jacobi rotations. */
function largestEigenvalue(symmetric: readonly (readonly number[])[]): number {
  const a = symmetric.map((row) => [...row]);
  const n = a.length;
  for (let sweep = 0; sweep < 60; sweep++) {
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        const angle = Math.atan2(2 * a[p][q], a[q][q] - a[p][p]) / 2;
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        for (let k = 0; k < n; k++) [a[k][p], a[k][q]] = [c * a[k][p] - s * a[k][q], s * a[k][p] + c * a[k][q]];
        for (let k = 0; k < n; k++) [a[p][k], a[q][k]] = [c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]];
      }
    }
  }
  return Math.max(...a.map((row, i) => row[i]));
}

const exact = { products: 200, tolerance: 1e-9, every: 1, key: key.split('probe') };

describe('sharpness', () => {
  // 1009 is a prime: two chunks, the second one filled up. 1300: two even chunks.
  it.each([1, 50, 1000, 1009, 1300])(
    'is the largest eigenvalue of the dense Hessian on %i examples',
    async (examples) => {
      const given = problem(twoMoons({ key, count: 1400 }));
      const dense = largestEigenvalue(await denseHessian(given, examples));
      const probe = await sharpness({ ...given, ...exact, examples });
      const found = await probe.measure({ step: 1, lr: 0.1 });
      expect(dense).toBeGreaterThan(0.01);
      expect(Math.abs(found.sharpness - dense) / dense).toBeLessThan(1e-8);
      expect(found['sharpness/residual']).toBeLessThan(1e-7 * dense);
      await probe.dispose();
    },
  );

  it('a search that stops early is off by no more than its residual', async () => {
    const given = problem(twoMoons({ key, count: 60 }));
    const dense = largestEigenvalue(await denseHessian(given, 60));
    const probe = await sharpness({ ...given, ...exact, examples: 60, tolerance: 0.2 });
    const found = await probe.measure({ step: 1, lr: 0.1 });
    expect(found['sharpness/residual']).toBeGreaterThan(1e-6);
    expect(found['sharpness/residual']).toBeLessThanOrEqual(0.2 * found.sharpness);
    expect(Math.abs(found.sharpness - dense)).toBeLessThanOrEqual(found['sharpness/residual']);
    await probe.dispose();
  });

  it('begins where the last search ended: two products are enough after a small step', async () => {
    const given = problem(twoMoons({ key, count: 60 }));
    const probe = await sharpness({ ...given, ...exact, examples: 60, products: 2 });
    expect((await probe.measure({ step: 1, lr: 0.1 }))['sharpness/products']).toBeGreaterThan(10);
    for (let i = 0; i < given.network.params.data.length; i++) given.network.params.data[i] *= 1.01;
    const found = await probe.measure({ step: 2, lr: 0.1 });
    const dense = largestEigenvalue(await denseHessian(given, 60));
    expect(found['sharpness/products']).toBe(2);
    expect(Math.abs(found.sharpness - dense) / dense).toBeLessThan(1e-6);
    await probe.dispose();
  });

  it('follows the weights', async () => {
    const given = problem(twoMoons({ key, count: 60 }));
    const probe = await sharpness({ ...given, ...exact, examples: 60 });
    const before = await probe.measure({ step: 1, lr: 0.1 });
    for (let i = 0; i < given.network.params.data.length; i++) given.network.params.data[i] *= 2;
    const after = await probe.measure({ step: 2, lr: 0.1 });
    const dense = largestEigenvalue(await denseHessian(given, 60));
    expect(Math.abs(after.sharpness - dense) / dense).toBeLessThan(1e-8);
    expect(Math.abs(after.sharpness - before.sharpness)).toBeGreaterThan(0.01 * dense);
    await probe.dispose();
  });

  it.each(['adam', 'adan'])('%s is held against the Hessian between the roots of what it divides by', async (name) => {
    const given = problem(twoMoons({ key, count: 60 }));
    const { network, batches } = given;
    const definition = findOptimizer(name);
    const optimizer = createOptimizer(
      definition,
      {},
      { theta: network.params, grad: network.gradient, space: network.space },
    );
    const graph = await network.trainingGraph(10);
    for (let step = 0; step < 5; step++) {
      batches.fill(step, graph.x, graph.y);
      optimizer.step({ lr: 0.01, loss: (await graph.run()).loss });
    }
    const diagonal = new ParamVector(network.layout, 'float64');
    expect(optimizer.preconditioner(diagonal)).toBe(true);
    const p = [...diagonal.entries()].flatMap(([, view]) => Array.from(view));
    const dense = await denseHessian(given, 60);
    const expected = largestEigenvalue(dense.map((row, i) => row.map((h, j) => h / Math.sqrt(p[i] * p[j]))));
    const probe = await sharpness({ ...given, optimizer, ...exact, examples: 60 });
    const found = await probe.measure({ step: 5, lr: 0.01 });
    expect(Math.abs(found['sharpness/preconditioned'] - expected) / expected).toBeLessThan(1e-8);
    expect(Math.abs(found.sharpness - largestEigenvalue(dense)) / found.sharpness).toBeLessThan(1e-8);
    expect(found['sharpness/threshold']).toBe(optimizer.stability(0.01)?.threshold);
    expect(probe.memory.size).toBe(2);
    await probe.dispose();
  });

  it('gradient descent on a linear model is stable below its threshold and diverges above', async () => {
    const data = teacherRegression({ key, count: 40, features: 3, outputs: 2 });
    for (const [share, stable] of [
      [0.98, true],
      [1.02, false],
    ] as const) {
      const { network, batches } = problem(data, { widths: [] });
      const optimizer = createOptimizer(
        findOptimizer('sgd'),
        {},
        { theta: network.params, grad: network.gradient, space: network.space },
      );
      const probe = await sharpness({ network, batches, optimizer, ...exact, examples: 40 });
      const lr = (share * 2) / (await probe.measure({ step: 0, lr: 1 })).sharpness;
      const { sharpness: value, 'sharpness/threshold': threshold } = await probe.measure({ step: 0, lr });
      expect(value / threshold).toBeCloseTo(share, 6);
      const graph = await network.trainingGraph(40);
      batches.fillExamples(
        Array.from({ length: 40 }, (_, i) => i),
        graph.x,
        graph.y,
      );
      const start = (await graph.run()).loss;
      for (let step = 0; step < 400; step++) optimizer.step({ lr, loss: (await graph.run()).loss });
      const end = (await graph.run()).loss;
      expect(end < start).toBe(stable);
      await probe.dispose();
    }
  });

  it('wants examples that there are', async () => {
    const given = problem(twoMoons({ key, count: 60 }));
    for (const examples of [0, 61, 1.5])
      await expect(sharpness({ ...given, ...exact, examples })).rejects.toThrow(
        /data set 'two-moons' has 60, give 1 to 60/,
      );
  });
});
