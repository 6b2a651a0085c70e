/** @file The ways TensorFlow.js uses an optimizer: fitting a model, minimising, applying gradients, saving, loading. */
import { createOptimizer, optimizerClass } from '@edgewise/tfjs';
import * as tf from '@tensorflow/tfjs';
import {
  adamw,
  adan,
  clipGlobalNorm,
  type OptimizerDefinition,
  optimizers,
  sgd,
  sophia,
  wrappers,
} from 'edgewise/optim';
import { beforeAll, describe, expect, test } from 'vitest';

beforeAll(async () => {
  await tf.setBackend('cpu');
});

const sam = () => {
  const wrapper = wrappers.find(({ name }) => name === 'sam');
  if (!wrapper) throw new Error('there is no wrapper sam');
  return wrapper.wrap(sgd as unknown as OptimizerDefinition);
};
const variableOf = (values: number[]) => tf.tidy(() => tf.variable(tf.tensor1d(values)));
const distance = (x: tf.Variable) => () => tf.sum(tf.square(tf.sub(x, [1, 2, 3]))) as tf.Scalar;

function model() {
  const made = tf.sequential({
    layers: [
      tf.layers.dense({
        inputShape: [4],
        units: 8,
        activation: 'tanh',
        kernelInitializer: tf.initializers.glorotUniform({ seed: 1 }),
      }),
      tf.layers.dense({ units: 1, kernelInitializer: tf.initializers.glorotUniform({ seed: 2 }) }),
    ],
  });
  return made;
}
const data = () =>
  tf.tidy(() => {
    const xs = tf.randomNormal([64, 4], 0, 1, 'float32', 3) as tf.Tensor2D;
    return { xs, ys: tf.mul(tf.sum(xs, 1, true), 0.5) };
  });

describe('model.compile and fit', () => {
  test.each([
    ['adan', adan, 0.03],
    ['clipped sgd', clipGlobalNorm(sgd), 0.05],
    ['sam', sam(), 0.05],
  ] as [string, OptimizerDefinition, number][])('%s lowers the loss and leaks nothing', async (_, definition, lr) => {
    const net = model();
    const optimizer = createOptimizer(definition, { values: { lr } as never });
    net.compile({ optimizer, loss: 'meanSquaredError' });
    const { xs, ys } = data();
    const first = await net.fit(xs, ys, { epochs: 1, batchSize: 16, shuffle: false, verbose: 0 });
    const before = tf.memory().numTensors;
    const { history } = await net.fit(xs, ys, { epochs: 15, batchSize: 16, shuffle: false, verbose: 0 });
    expect(tf.memory().numTensors).toBe(before);
    expect(Number(history.loss.at(-1))).toBeLessThan(0.3 * Number(first.history.loss[0]));
  });
});

test('what is saved goes on as if nothing had happened, to the bit', async () => {
  const run = async (interrupted: boolean) => {
    const x = variableOf([0.3, -0.2, 5]);
    let optimizer = createOptimizer(adan, { values: { lr: 0.1 } });
    for (let k = 0; k < 6; k++) {
      if (k === 3 && interrupted) {
        const weights = (await optimizer.getWeights()).map(({ name, tensor }) => ({ name, tensor: tensor.clone() }));
        expect(weights.slice(2).map(({ name }) => name.split('/')[1])).toEqual(['m', 'v', 'n', 'previous']);
        optimizer.dispose();
        optimizer = createOptimizer(adan, { values: { lr: 0.1 } });
        await optimizer.setWeights(weights);
        tf.dispose(weights.map(({ tensor }) => tensor));
      }
      optimizer.minimize(distance(x));
      if (k === 3 && interrupted) expect(optimizer.iterations).toBe(4);
    }
    const result = [...x.dataSync()];
    optimizer.dispose();
    x.dispose();
    return result;
  };
  expect(await run(true)).toEqual(await run(false));
});

test('weights of another optimizer are refused', async () => {
  const x = variableOf([0.3, -0.2, 5]);
  const [from, to] = [createOptimizer(adamw), createOptimizer(adan)];
  from.minimize(distance(x), false, [x]);
  to.minimize(distance(x), false, [x]);
  await expect(to.setWeights(await from.getWeights())).rejects.toThrow(/another optimizer/);
});

test('a model is saved and loaded with its optimizer', async () => {
  const Adan = optimizerClass(adan);
  const optimizer = new Adan({ values: { lr: 0.02, weightDecay: 0.1 } });
  const again = Adan.fromConfig(Adan as never, optimizer.getConfig()) as unknown as typeof optimizer;
  expect(again.learningRate).toBe(0.02);
  expect(again.settings.values).toEqual({ lr: 0.02, weightDecay: 0.1 });
  expect(optimizer.getClassName()).toBe('EdgewiseAdan');
});

test('rules that evaluate further gradients work through minimize only', () => {
  const x = variableOf([0.3, -0.2, 5]);
  const optimizer = createOptimizer(sam(), { values: { lr: 0.1 } });
  expect(() => optimizer.applyGradients({ [x.name]: tf.tensor1d([1, 1, 1]) })).toThrow(/use minimize/);
  optimizer.minimize(distance(x), false, [x]);
  expect(x.dataSync()[0]).toBeGreaterThan(0.3);
});

test('rules that need sampled labels or products with the Hessian are refused', () => {
  expect(() => createOptimizer(sophia)).toThrow(/sampled labels/);
});

test('a refused step says why and changes nothing', () => {
  const x = variableOf([0.3, -0.2, 5]);
  const before = [...x.dataSync()];
  const optimizer = createOptimizer(clipGlobalNorm(sgd), { values: { lr: 0.1, clipNorm: 1 } });
  optimizer.applyGradients({ [x.name]: tf.tensor1d([1, Number.NaN, 1]) });
  expect(optimizer.refusal).toBe('the gradient norm is not finite');
  expect([...x.dataSync()]).toEqual(before);
  optimizer.applyGradients({ [x.name]: tf.tensor1d([1, 0, 1]) });
  expect(optimizer.refusal).toBeUndefined();
  expect([...x.dataSync()]).not.toEqual(before);
});

test('an error inside the loss leaves the variables where they were', () => {
  const x = variableOf([0.3, -0.2, 5]);
  const before = [...x.dataSync()];
  let calls = 0;
  const loss = () => {
    if (calls++ > 0) throw new Error('lost');
    return distance(x)();
  };
  expect(() => createOptimizer(sam()).minimize(loss, false, [x])).toThrow('lost');
  expect([...x.dataSync()]).toEqual(before);
});

test('the evaluated point is put in place and taken back', async () => {
  const definition = optimizers.find(({ name }) => name === 'scheduleFreeSgd')!;
  const x = variableOf([0.3, -0.2, 5]);
  const optimizer = createOptimizer(definition, { values: { lr: 0.2 } as never });
  for (let k = 0; k < 4; k++) optimizer.minimize(distance(x), false, [x]);
  const trained = [...x.dataSync()];
  const tensors = tf.memory().numTensors;
  const average = await optimizer.atEvaluated(() => [...x.dataSync()]);
  expect(average).not.toEqual(trained);
  expect([...x.dataSync()]).toEqual(trained);
  expect(tf.memory().numTensors).toBe(tensors);
});
