/** @file A rule as tensor graphs is the rule: for every optimizer, against the interpreter, and compiled by ONNX Runtime. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openDevice } from '../../src/node/index.ts';
import {
  clipGlobalNorm,
  defineOptimizer,
  findOptimizer,
  type GraphParam,
  type GraphRunner,
  type GraphState,
  type GraphStep,
  initialState,
  interpretOptimizer,
  learningRate,
  type OptimizerDefinition,
  type OptimizerSettings,
  optimizers,
  type StepGraph,
  type StepGraphOptions,
  sgd,
  stepGraph,
  takeStep,
} from '../../src/optim/index.ts';
import { ParamLayout } from '../../src/params/layout.ts';
import { ParamVector } from '../../src/params/vector.ts';
import type { Device } from '../../src/runtime/device.ts';
import { evaluate, inputsOf } from '../../src/tensor/evaluate.ts';
import { mul, sub } from '../../src/tensor/ops/elementwise.ts';
import { mean, sum } from '../../src/tensor/ops/reduce.ts';
import { type Tensor, topological } from '../../src/tensor/tensor.ts';
import { centralized, lookahead, muon, sam } from './pages.ts';

const PARAMS: readonly GraphParam[] = [
  { name: 'w', shape: [3, 5], tags: ['weight'] },
  { name: 'b', shape: [3], tags: ['bias'] },
  { name: 'k', shape: [2, 2, 4], tags: ['weight'] },
  { name: 's', shape: [], tags: ['norm'] },
];
const STEPS = 5;
const lossAt = (k: number): number => 2 + Math.sin(k);

/** Values of a parameter's gradient that no two places share. */
const gradient = (step: number, call: number, param: number, length: number): number[] =>
  Array.from(
    { length },
    (_, i) => Math.sin(1.3 * step + 2.7 * call + 0.9 * param + 0.61 * i) + 0.1 * Math.cos(i * step),
  );

/** Graphs computed by the reference interpreter, on arrays that are never changed. */
const reference: GraphRunner<Float64Array> = {
  compute(arrays, numbers, given) {
    const feeds = new Map([...given].map(([symbol, x]) => [symbol, typeof x === 'number' ? [x] : x]));
    const results = evaluate([...arrays, ...numbers], feeds);
    return { arrays: results.slice(0, arrays.length), numbers: results.slice(arrays.length).map(([x]) => x) };
  },
  fill: (shape, value) => new Float64Array(shape.reduce((n, extent) => n * extent, 1)).fill(value),
  keep: (x) => x,
  release() {},
};

interface Trajectory {
  readonly points: readonly (readonly number[])[];
  readonly evaluated: readonly (readonly number[])[];
  readonly steps: readonly GraphStep<Float64Array>[];
  readonly graph: StepGraph;
}

const lengthOf = ({ shape }: GraphParam): number => shape.reduce((n, extent) => n * extent, 1);
const initial = () => PARAMS.map((param, i) => Float64Array.from(gradient(-1, 0, i, lengthOf(param))));

function byGraph(
  definition: OptimizerDefinition,
  settings: OptimizerSettings,
  absentAt: (step: number) => readonly string[] = () => [],
): Trajectory {
  let theta: readonly Float64Array[] = initial();
  const graphs = new Map<string, StepGraph>();
  const graphFor = (options: StepGraphOptions & { readonly absent: readonly string[] }) => {
    const key = options.absent.join();
    if (!graphs.has(key)) graphs.set(key, stepGraph(definition, settings, PARAMS, options));
    return graphs.get(key)!;
  };
  const graph = graphFor({ absent: [] });
  let state: GraphState<Float64Array> = initialState(graph, reference, theta);
  const [points, evaluated, steps]: [number[][], number[][], GraphStep<Float64Array>[]] = [[], [], []];
  for (let k = 0; k < STEPS; k++) {
    const absent = absentAt(k);
    const grads = (call: number) =>
      PARAMS.map((param, i) =>
        absent.includes(param.name) ? undefined : Float64Array.from(gradient(k, call, i, lengthOf(param))),
      );
    let calls = 0;
    const step = takeStep(graphFor({ absent }), reference, theta, grads(0), state, {
      loss: lossAt(k),
      evaluate: () => ({ grad: grads(++calls), loss: lossAt(k) + 0.25 }),
      reports: true,
    });
    ({ theta, state } = step);
    points.push(theta.flatMap((values) => [...values]));
    steps.push(step);
    const elsewhere = graph.evaluated;
    if (elsewhere) {
      const feeds = new Map<Tensor, ArrayLike<number>>();
      graph.theta.forEach((symbol, i) => feeds.set(symbol, theta[i]));
      for (const [name, { inputs }] of Object.entries(graph.slots))
        inputs.forEach((symbol, i) => feeds.set(symbol, state.slots[name][i]));
      for (const [name, { inputs, initial: first }] of Object.entries(graph.numbers))
        inputs.forEach((symbol, i) => feeds.set(symbol, [(state.numbers[name] ?? first)[i]]));
      evaluated.push(elsewhere.flatMap((tensor, i) => [...(tensor ? evaluate([tensor], feeds)[0] : theta[i])]));
    }
  }
  return { points, evaluated, steps, graph };
}

async function byInterpreter(
  definition: OptimizerDefinition,
  settings: OptimizerSettings,
  absentAt: (step: number) => readonly string[] = () => [],
) {
  const layout = new ParamLayout(PARAMS);
  const [theta, grad] = [new ParamVector(layout, 'float64'), new ParamVector(layout, 'float64')];
  const optimizer = interpretOptimizer(definition, settings, { theta, grad });
  PARAMS.forEach(({ name }, i) => theta.set(name, initial()[i]));
  const point = () => PARAMS.flatMap(({ name }) => [...theta.view(name)]);
  const [points, evaluated, reports]: [number[][], number[][], Record<string, number>[]] = [[], [], []];
  for (let k = 0; k < STEPS; k++) {
    const feed = (call: number) =>
      PARAMS.forEach((param, i) => grad.set(param.name, gradient(k, call, i, lengthOf(param))));
    let calls = 0;
    feed(0);
    const report = await optimizer.stepWith(
      () => {
        feed(++calls);
        return lossAt(k) + 0.25;
      },
      { loss: lossAt(k), absent: absentAt(k) },
    );
    expect(report.applied).toBe(true);
    points.push(point());
    reports.push(optimizer.report);
    if (optimizer.evaluatesElsewhere) evaluated.push(await optimizer.atEvaluated(point));
  }
  return { points, evaluated, reports, scalars: optimizer.scalarState() };
}

function expectClose(actual: readonly number[], expected: readonly number[], tolerance: number, where: string): void {
  expect(actual.length, where).toBe(expected.length);
  const worst = actual.reduce((most, x, i) => {
    const error = Math.abs(x - expected[i]) / Math.max(1e-3, Math.abs(expected[i]));
    return Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(most, error);
  }, 0);
  expect(worst, where).toBeLessThanOrEqual(tolerance);
}

async function compare(
  definition: OptimizerDefinition,
  settings: OptimizerSettings = {},
  absentAt?: (step: number) => readonly string[],
): Promise<Trajectory> {
  const graph = byGraph(definition, settings, absentAt);
  const expected = await byInterpreter(definition, settings, absentAt);
  for (let k = 0; k < STEPS; k++) {
    expect(graph.steps[k].applied).toBe(true);
    expectClose(graph.points[k], expected.points[k], 1e-12, `parameters after step ${k + 1}`);
    if (expected.evaluated.length > 0)
      expectClose(graph.evaluated[k], expected.evaluated[k], 1e-12, `evaluated point after step ${k + 1}`);
    expect(Object.keys(graph.steps[k].reports).every((name) => name in expected.reports[k])).toBe(true);
    for (const [name, value] of Object.entries(graph.steps[k].reports))
      expectClose([value], [expected.reports[k][name]], 1e-12, `report ${name}`);
  }
  for (const [name, values] of Object.entries(graph.steps[STEPS - 1].state.numbers))
    expectClose(values, expected.scalars[name.slice('state.'.length)], 1e-12, name);
  expect(graph.points[STEPS - 1]).not.toEqual(graph.points[0]);
  return graph;
}

/** A group with another rate and other decay where the rule has one, and a frozen parameter. */
function grouped(definition: OptimizerDefinition): OptimizerSettings {
  const values = definition.hyperparameters.weightDecay?.kind === 'number' ? { weightDecay: 0.25 } : {};
  return { groups: [{ match: { tag: 'weight' }, lrScale: 0.5, values }], frozen: { name: 'b' } };
}

describe.each(optimizers.map((definition) => ({ name: definition.name, definition })))('$name', ({ definition }) => {
  test('its graph is the rule', async () => {
    await compare(definition);
  });
  test('with groups, a frozen and a late parameter', async () => {
    await compare(definition, grouped(definition), (k) => (k === 0 || k === 3 ? ['k'] : []));
  });
});

describe('definitions made from definitions', () => {
  test.each([
    ['clipped', clipGlobalNorm(sgd), { values: { clipNorm: 0.5 } }],
    ['ascent first', sam(sgd, true), {}],
    ['slow weights', lookahead(sgd), { values: { k: 2 } }],
    ['means of rows', centralized(sgd), { values: { centralize: 0.7 } }],
    ['matrix products', muon, {}],
  ] as [string, OptimizerDefinition, OptimizerSettings][])('%s', async (_, definition, settings) => {
    await compare(definition, settings);
  });
});

test('what a step needs is said', () => {
  const needs = (name: string) => {
    const { readsLoss, furtherEvaluations } = stepGraph(findOptimizer(name), {}, PARAMS);
    return { readsLoss, furtherEvaluations };
  };
  expect(needs('sgd')).toEqual({ readsLoss: false, furtherEvaluations: 0 });
  expect(needs('sqrtLossGd')).toEqual({ readsLoss: true, furtherEvaluations: 0 });
  expect(needs('stepTunedSgd')).toEqual({ readsLoss: false, furtherEvaluations: 1 });
});

test('a refused step leaves everything as it was', () => {
  const graph = stepGraph(clipGlobalNorm(sgd), { values: { clipNorm: 1, momentum: 0.9 } }, PARAMS);
  const theta = initial();
  const state = initialState(graph, reference, theta);
  const bad = theta.map((values) => values.slice().fill(Number.NaN));
  const step = takeStep(graph, reference, theta, bad, state);
  expect(step).toMatchObject({ applied: false, refusal: 'the gradient norm is not finite' });
  expect(step.theta).toEqual(theta);
  expect(step.state).toEqual(state);
});

test('a rule that builds nominal extents into constants is refused', () => {
  const rule = (name: string, total: (x: Tensor) => Tensor) =>
    defineOptimizer({
      name,
      title: name,
      source: { title: name, authors: 'nobody', year: 2000 },
      family: 'gradient descent',
      formula: '',
      use: '',
      hyperparameters: { lr: learningRate(0.1) },
      slots: {},
      update: ({ theta, grad, h }) => ({ theta: sub(theta, mul(h.lr, total(grad))) }),
    });
  expect(() => stepGraph(rule('means', mean), {}, PARAMS)).toThrow(/builds the extents/);
  expect(stepGraph(rule('sums', sum), {}, PARAMS).phases).toHaveLength(1);
});

describe('compiled by ONNX Runtime', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice('cpu', { threads: 1 });
  });
  afterAll(() => device.dispose());

  test.each(optimizers.map((definition) => ({ name: definition.name, definition })))(
    '$name',
    async ({ definition }) => {
      const graph = stepGraph(definition, {}, PARAMS, { elements: 'float32' });
      // The state after two steps, so that no slot is zero for being new.
      const { steps } = byGraph(definition, {});
      const { theta, state } = steps[1];
      for (const phase of graph.phases) {
        const outputs = [
          ...(phase.theta ?? []),
          ...Object.values(phase.slots).flat(),
          ...Object.values(phase.numbers).flat(),
          ...(phase.when ? [phase.when] : []),
        ].filter((tensor): tensor is Tensor => tensor !== undefined);
        const inputs = inputsOf(outputs);
        const exact = new Map<Tensor, Float64Array>();
        const put = (symbols: readonly Tensor[], values: readonly ArrayLike<number>[]) =>
          symbols.forEach((symbol, i) =>
            exact.set(
              symbol,
              Float64Array.from(values[i], (x) => (symbol.dtype === 'float32' ? Math.fround(x) : x)),
            ),
          );
        put(graph.theta, theta);
        put(
          graph.grad,
          PARAMS.map((param, i) => gradient(7, 0, i, lengthOf(param))),
        );
        for (const [name, { inputs: symbols }] of Object.entries(graph.slots)) put(symbols, state.slots[name]);
        for (const [name, { inputs: symbols, initial: first }] of Object.entries(graph.numbers))
          put(
            symbols,
            (name === 'loss' ? [1.5] : (state.numbers[name] ?? first)).map((x) => [x]),
          );
        // Decompositions of matrices exist in the interpreter only, and runners compute them there.
        if (outputs.length === 0 || topological(outputs).some(({ op }) => ['eigh', 'qr'].includes(op.name))) continue;
        const program = await device.compile(inputs, outputs);
        const feeds = new Map(
          inputs.map((symbol) => [
            symbol,
            symbol.dtype === 'float32' ? Float32Array.from(exact.get(symbol)!) : exact.get(symbol)!,
          ]),
        );
        const results = await program.run(feeds);
        const expected = evaluate(outputs, exact);
        outputs.forEach((tensor, i) => {
          const scale = Math.max(1e-30, ...expected[i].map(Math.abs));
          const actual: ArrayLike<number | bigint> = results[i];
          const worst = Math.max(0, ...Array.from(actual, (x, j) => Math.abs(Number(x) - expected[i][j]) / scale));
          expect(worst, `${tensor}`).toBeLessThan(2e-6);
        });
        await program.dispose();
      }
    },
  );
});
