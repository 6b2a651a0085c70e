/** @file What rules may ask for beside the gradient of the loss, each against a computation of its own. */
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/base/errors.ts';
import { Key, rademacher, uniform } from '../../src/base/random.ts';
import { defineOptimizer, findOptimizer, learningRate } from '../../src/optim/index.ts';
import { evaluate } from '../../src/tensor/evaluate.ts';
import { mul, sub } from '../../src/tensor/ops/elementwise.ts';
import { input } from '../../src/tensor/tensor.ts';
import { StepGradient } from '../../src/train/gradient.ts';
import { sampledLabels } from '../../src/train/objective.ts';
import { complete, convnet, images, mlp, open, type Spec, spec } from './harness.ts';

const key = Key.fromSeed(3);
const STEP = 2;

async function setUp(microBatch: number, changes: Partial<Spec> = {}) {
  const { network, batches } = await open(
    spec({ dtype: 'float64', data: images(), model: mlp(), batchSize: 12, ...changes }),
  );
  const graph = await network.trainingGraph(microBatch);
  return { network, batches, gradient: new StepGradient({ network, batches, graph, key }) };
}

/** The batch of {@link STEP} in a training graph of its own, with labels or rows changed by `change`. */
async function byHand(
  { network, batches }: Awaited<ReturnType<typeof setUp>>,
  rows: readonly number[],
  labels?: ArrayLike<number>,
): Promise<{ loss: number; gradient: Float64Array }> {
  const graph = await network.trainingGraph(rows.length);
  const examples = batches.indices(STEP);
  batches.fillExamples(
    rows.map((row) => examples[row]),
    graph.x,
    graph.y,
  );
  if (labels) graph.y.set(rows.map((row) => labels[row]));
  const { loss } = await graph.run();
  const gradient = Float64Array.from(network.gradient.data);
  await graph.dispose();
  return { loss, gradient };
}

/** A network of one hidden layer of tanh, on the batch of {@link STEP}, in loops. */
function softmaxes({ network, batches }: Awaited<ReturnType<typeof setUp>>): number[][] {
  const [w1, b1, w2, b2] = [...network.params.entries()].map(([, view]) => view);
  const [x, y] = [new Float64Array(12 * 64), new Int32Array(12)];
  batches.fill(STEP, x, y);
  const dense = (w: ArrayLike<number>, b: ArrayLike<number>, v: readonly number[]) =>
    Array.from(b, (bias, i) => v.reduce((total, xi, j) => total + w[i * v.length + j] * xi, bias));
  return Array.from({ length: 12 }, (_, i) => {
    const hidden = dense(w1, b1, [...x.subarray(64 * i, 64 * (i + 1))]).map(Math.tanh);
    const e = dense(w2, b2, hidden).map(Math.exp);
    const total = e.reduce((a, b) => a + b);
    return e.map((each) => each / total);
  });
}

const all = Array.from({ length: 12 }, (_, i) => i);

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  const size = Math.max(...Array.from(expected, Math.abs));
  expect(size).toBeGreaterThan(0);
  for (let i = 0; i < actual.length; i++)
    expect(Math.abs(actual[i] - expected[i]), `element ${i}`).toBeLessThan(tolerance * size);
}

describe.each([12, 4, 1])('with micro-batches of %i', (microBatch) => {
  it('sampled labels are drawn from the softmax, and theirs is the gradient', async () => {
    const run = await setUp(microBatch, { labelSmoothing: 0 });
    const draws = uniform(key.split('sampled labels', STEP), new Float64Array(12));
    const labels = softmaxes(run).map((p, i) => {
      let at = 0;
      for (let reached = p[0]; reached <= draws[i]; reached += p[at]) at++;
      return at;
    });
    expect(new Set(labels).size).toBeGreaterThan(1);
    const expected = await byHand(run, all, labels);
    const { loss } = await run.gradient.evaluateAgain(STEP, 'sampled labels');
    expectClose(run.network.gradient.data, expected.gradient, 1e-12);
    expect(loss).toBeCloseTo(expected.loss, 12);
    const other = await byHand(run, all);
    expect(Math.abs(other.loss - loss)).toBeGreaterThan(1e-3);
    await run.gradient.dispose();
  });

  it('sampled labels know no label smoothing', async () => {
    const plain = await setUp(microBatch);
    const smooth = await setUp(microBatch, { labelSmoothing: 0.3 });
    for (const { gradient } of [plain, smooth]) await gradient.evaluateAgain(STEP, 'sampled labels');
    expect(smooth.network.gradient.data).toEqual(plain.network.gradient.data);
  });

  it('hutchinson is u times the change of the gradient along u', async () => {
    const run = await setUp(microBatch, { labelSmoothing: 0.1 });
    const { params } = run.network;
    const u = rademacher(key.split('hutchinson', STEP), new Float64Array(params.data.length));
    const start = params.data.slice();
    const h = 1e-4;
    const at = async (step: number) => {
      for (const [segment] of params.entries())
        for (let i = segment.offset; i < segment.offset + segment.length; i++) params.data[i] = start[i] + step * u[i];
      return (await byHand(run, all)).gradient;
    };
    const [ahead, behind] = [await at(h), await at(-h)];
    params.data.set(start);
    await run.gradient.evaluateAgain(STEP, 'hutchinson');
    const expected = ahead.map((x, i) => (u[i] * (x - behind[i])) / (2 * h));
    expectClose(run.network.gradient.data, expected, 1e-6);
  });

  it.each([1, 2, 3, 4, 6, 12])('parts of %i are gradients over their examples', async (n) => {
    const run = await setUp(microBatch);
    const mean = new Float64Array(run.network.gradient.data.length);
    for (let i = 1; i <= n; i++) {
      const { loss } = await run.gradient.evaluateAgain(STEP, `loss:${i}/${n}`);
      const part = run.network.gradient.data.slice();
      for (let k = 0; k < mean.length; k++) mean[k] += part[k] / n;
      const expected = await byHand(run, all.slice(((i - 1) * 12) / n, (i * 12) / n));
      expectClose(part, expected.gradient, 1e-12);
      expect(loss).toBeCloseTo(expected.loss, 12);
    }
    await run.gradient.evaluateAgain(STEP);
    expectClose(mean, run.network.gradient.data, 1e-12);
    await run.gradient.dispose();
  });
});

describe('what is drawn', () => {
  it('is another in every step, the same within one', async () => {
    const { gradient, network } = await setUp(12);
    for (const what of ['sampled labels', 'hutchinson']) {
      const seen: string[] = [];
      for (const step of [0, 0, 8]) {
        // Epochs have 4 steps and no order of their own would be the same: the draws alone tell 0 and 8 apart.
        await gradient.evaluateAgain(step, what);
        seen.push(network.gradient.data.join());
      }
      expect(seen[1]).toBe(seen[0]);
      expect(seen[2]).not.toBe(seen[0]);
    }
  });

  it('follows the softmax', () => {
    const [rows, logits] = [60_000, [0.3, -1, 1.2, 0]];
    const draws = uniform(key, new Float32Array(rows));
    const given = input('logits', [rows, 4], 'float32');
    const uniforms = input('uniforms', [rows], 'float32');
    const [labels] = evaluate(
      [sampledLabels(given, uniforms)],
      new Map([
        [given, Float32Array.from({ length: 4 * rows }, (_, i) => logits[i % 4])],
        [uniforms, draws],
      ]),
    );
    const total = logits.reduce((sum, x) => sum + Math.exp(x), 0);
    for (const [label, x] of logits.entries()) {
      const p = Math.exp(x) / total;
      const share = Array.from(labels, Number).filter((y) => y === label).length / rows;
      expect(Math.abs(share - p)).toBeLessThan(4 * Math.sqrt((p * (1 - p)) / rows));
    }
  });
});

describe('running statistics', () => {
  it('move by the first evaluation of a step only', async () => {
    const { gradient, network } = await setUp(6, { model: convnet });
    const start = network.buffers.data.slice();
    await gradient.evaluate(STEP);
    const moved = network.buffers.data.slice();
    expect(moved).not.toEqual(start);
    for (const what of ['loss', 'loss:1/2', 'loss:2/3', 'sampled labels', 'hutchinson']) {
      const before = network.gradient.data.slice();
      await gradient.evaluateAgain(STEP, what);
      expect(network.buffers.data, what).toEqual(moved);
      if (what !== 'loss') expect(network.gradient.data, what).not.toEqual(before);
    }
    gradient.restoreBuffers();
    expect(network.buffers.data).toEqual(start);
  });
});

describe('what cannot be evaluated', () => {
  it.each([
    ['loss:0/2', /wants 'loss:0\/2' evaluated; training evaluates 'loss', 'loss:i\/n'/],
    ['loss:3/2', /wants 'loss:3\/2'/],
    ['losses', /wants 'losses'/],
    ['loss:1/5', /in 5 equal parts, but 5 does not divide the batch of 12/],
  ])('%s is refused', async (what, message) => {
    const { gradient } = await setUp(4);
    const error = await gradient.evaluateAgain(STEP, what).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).toMatch(message);
  });

  it('labels are not sampled where there is no softmax', async () => {
    const { train, test } = images();
    const numbers = (part: typeof train) => {
      if (part.kind !== 'classification') throw new Error('images are classified');
      const { count, inputs, shape } = part;
      return {
        ...({ kind: 'regression', name: 'numbers', count, inputs, shape, targetShape: [1] } as const),
        targets: Float32Array.from(part.labels),
      };
    };
    const data = { train: numbers(train), test: numbers(test) };
    const of = spec({ data, optimizer: findOptimizer('sophia'), values: { lr: 0.01 } });
    await expect(complete(of)).rejects.toThrow(
      /Labels can be sampled from a softmax only, but model 'mlp' is trained by squaredError/,
    );
    const { result } = await complete({ ...of, optimizer: findOptimizer('sophiaH') });
    expect(result.reason).toBe('finished');
  });
});

it('a rule gets what it asks for in a run', async () => {
  const halves = defineOptimizer({
    name: 'halves',
    title: 'Gradient descent on one half of the batch after the other',
    source: { title: 'none', authors: 'none', year: 2026 },
    formula: 'test',
    use: 'test',
    family: 'two evaluations',
    hyperparameters: { lr: learningRate(0.1) },
    slots: {},
    phases: [
      { evaluate: 'loss:1/2', update: ({ theta, grad, h }) => ({ theta: sub(theta, mul(h.lr, grad)) }) },
      { evaluate: 'loss:2/2', update: ({ theta, grad, h }) => ({ theta: sub(theta, mul(h.lr, grad)) }) },
    ],
  });
  const of = spec({ dtype: 'float64', shuffle: false, steps: 10 });
  const { network } = await complete({ ...of, optimizer: halves as Spec['optimizer'] });
  const plain = await complete({ ...of, batchSize: 8, steps: 20 });
  expectClose(network.params.data, plain.network.params.data, 1e-12);
});
