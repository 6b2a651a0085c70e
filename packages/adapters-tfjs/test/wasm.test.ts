/** @file The same rules on the WebAssembly backend of TensorFlow.js, beside its plain one. */
import { createOptimizer } from '@edgewise/tfjs';
import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import { optimizers } from 'edgewise/optim';
import { expect, test } from 'vitest';

const definitions = optimizers
  .filter(({ phases }) => phases.every(({ evaluate }) => evaluate === undefined || evaluate === 'loss'))
  .map((definition) => ({ name: definition.name, definition }));

test.each(definitions)('$name', async ({ definition }) => {
  const ends: number[][] = [];
  for (const backend of ['cpu', 'wasm']) {
    expect(await tf.setBackend(backend)).toBe(true);
    const w = tf.tidy(() => tf.variable(tf.tensor2d([0.3, -0.2, 5, 1.2, 0.7, -1], [2, 3])));
    const optimizer = createOptimizer(definition);
    const loss = () => tf.sum(tf.square(tf.sub(w, [1, 2, 3]))) as tf.Scalar;
    for (let k = 0; k < 4; k++) optimizer.minimize(loss, false, [w]);
    ends.push([...w.dataSync()]);
    optimizer.dispose();
    w.dispose();
  }
  ends[1].forEach((x, i) => expect(Math.abs(x - ends[0][i])).toBeLessThan(1e-4 * Math.max(1, Math.abs(ends[0][i]))));
  expect(ends[0]).not.toEqual([0.3, -0.2, 5, 1.2, 0.7, -1].map(Math.fround));
});
