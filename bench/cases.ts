/**
 * Our side of the benchmark: a set-up for each workload, run in a process of its own (`ours_worker.ts`). The built packages are measured, not the
 * sources. Parameters, batches, directions and gradients come from `data.ts`, so that the values of `check` equal the peers'.
 */
import { grad, hvp, input, type Tensor, type TypedArray } from 'edgewise';
import { VectorSpace } from 'edgewise/kernels';
import { openDevice } from 'edgewise/node';
import { createOptimizer, findOptimizer, parameterVector } from 'edgewise/optim';
import { ParamLayout, type ParamVector } from 'edgewise/params';
import { batchOf, directionValue, gradientValue, parameterValue } from './data.ts';
import { losses } from './ours_models.ts';
import type { Session, Setup } from './protocol.ts';
import { type ParameterSpec, type Workload, type WorkloadName, workloads } from './workloads.ts';

const windows = (vector: ParamVector): TypedArray[] => [...vector.entries()].map(([, view]) => view);

/** Dot product of all segments in float64. */
function dot(a: ParamVector, b: ParamVector): number {
  let total = 0;
  for (let i = 0; i < a.data.length; i++) total += a.data[i] * b.data[i];
  return total;
}

const fill = (
  vector: ParamVector,
  specs: readonly ParameterSpec[],
  value: (spec: ParameterSpec, i: number) => Float32Array,
) => {
  specs.forEach((spec, i) => vector.set(spec.name, value(spec, i)));
};

function inputShapes({ model, sizes: s }: Workload): { x: number[]; y: number[] } {
  switch (model) {
    case 'resnet20':
    case 'convnet':
      return { x: [s.batch, s.channels, s.side, s.side], y: [s.batch] };
    case 'mlp':
      return { x: [s.batch, s.inputs], y: [s.batch] };
    case 'mlp-small':
      return { x: [s.batch, s.inputs], y: [s.batch, s.outputs] };
    default:
      return { x: [s.batch, s.sequence], y: [s.batch, s.sequence] };
  }
}

/** `grad`, `hvp` and `step` of one model. */
const derivative: Setup = async (workload, threads) => {
  const { model, kind, parameters, sizes, hyper } = workload;
  if (model === 'adan') throw new Error('adan is an update');
  const device = await openDevice('cpu', { threads });
  const layout = new ParamLayout(parameters);
  const space = new VectorSpace({ reserve: VectorSpace.bytesFor(layout.size, 'float32', 8) });
  const [theta, gradient] = [parameterVector(space, layout, 'float32'), parameterVector(space, layout, 'float32')];
  fill(theta, parameters, parameterValue);
  const symbols = parameters.map(({ name, shape }) => input(name, shape));
  const param = (name: string) => symbols[parameters.findIndex((spec) => spec.name === name)];
  const batch = batchOf(workload);
  const shapes = inputShapes(workload);
  const dtype = (data: Float32Array | Int32Array) => (data instanceof Int32Array ? 'int32' : 'float32');
  const [x, y] = [input('input', shapes.x, dtype(batch.input)), input('target', shapes.y, dtype(batch.target))];
  const loss = losses[model](param, x, y, sizes);
  const feeds: (readonly [Tensor, TypedArray])[] = [
    [x, batch.input],
    [y, batch.target],
    ...symbols.map((symbol, i) => [symbol, windows(theta)[i]] as const),
  ];
  const close = () => device.dispose();

  if (kind === 'hvp') {
    const direction = parameterVector(space, layout, 'float32');
    fill(direction, parameters, directionValue);
    const v = parameters.map(({ name, shape }) => input(`direction.${name}`, shape));
    const program = await device.compile([x, y, ...symbols, ...v], hvp(loss, symbols, v));
    const call = program.bind(
      new Map([...feeds, ...v.map((d, i) => [d, windows(direction)[i]] as const)]),
      windows(gradient),
    );
    const check = async () => {
      await call.run();
      const norm = Math.sqrt(dot(gradient, gradient));
      return { hvp_norm: norm, alignment: dot(direction, gradient) / (norm * Math.sqrt(dot(direction, direction))) };
    };
    return { check, iterate: () => call.run(), close } satisfies Session;
  }

  const program = await device.compile([x, y, ...symbols], [loss, ...grad(loss, symbols)]);
  const call = program.bind(new Map(feeds), [undefined, ...windows(gradient)]);
  if (kind === 'grad') {
    const check = async () => {
      await call.run();
      return { loss: Number(call.results[0][0]), grad_norm: Math.sqrt(dot(gradient, gradient)) };
    };
    return { check, iterate: () => call.run(), close };
  }

  const { lr, momentum, beta1, beta2, eps, weightDecay } = hyper;
  const [name, values] =
    momentum === undefined ? ['adamw', { lr, betas: [beta1, beta2], eps, weightDecay }] : ['sgd', { lr, momentum }];
  const optimizer = createOptimizer(findOptimizer(name), { values }, { theta, grad: gradient, space });
  const iterate = async () => {
    await call.run();
    optimizer.step();
  };
  const check = async () => {
    await iterate();
    const first = Number(call.results[0][0]);
    await iterate();
    await call.run();
    return { loss: first, loss_2: Number(call.results[0][0]) };
  };
  return { check, iterate, close };
};

/** The update alone, over the parameters of a large model. */
const update: Setup = async ({ parameters, hyper }) => {
  const layout = new ParamLayout(parameters);
  const space = new VectorSpace({ reserve: VectorSpace.bytesFor(layout.size, 'float32', 6) });
  const [theta, gradient] = [parameterVector(space, layout, 'float32'), parameterVector(space, layout, 'float32')];
  fill(theta, parameters, parameterValue);
  const { lr, beta1, beta2, beta3, eps, weightDecay } = hyper;
  const optimizer = createOptimizer(
    findOptimizer('adan'),
    { values: { lr, betas: [beta1, beta2, beta3], eps, weightDecay } },
    { theta, grad: gradient, space },
  );
  const iterate = async () => {
    optimizer.step();
  };
  const check = async () => {
    const start = theta.clone();
    for (const set of [0, 1] as const) {
      fill(gradient, parameters, (spec, i) => gradientValue(spec, i, set));
      await iterate();
    }
    let moved = 0;
    for (let i = 0; i < start.data.length; i++) moved += (theta.data[i] - start.data[i]) ** 2;
    return { moved: Math.sqrt(moved) };
  };
  return { check, iterate, close: async () => {} };
};

/** The set-ups, by workload. */
export const cases: Partial<Record<WorkloadName, Setup>> = Object.fromEntries(
  workloads.map(({ name, kind }) => [name, kind === 'update' ? update : derivative]),
);
