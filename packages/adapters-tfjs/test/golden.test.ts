/** @file Every rule in TensorFlow.js against every recorded trajectory of its authors' or the frameworks' code. */
import { readdirSync, readFileSync } from 'node:fs';
import { createOptimizer } from '@edgewise/tfjs';
import * as tf from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import {
  type GoldenCase,
  type GoldenFile,
  parseGolden,
  recordedSubject,
  type Subject,
} from '../../lab/src/golden/index.ts';

const FOLDER = new URL('../../lab/test/fixtures/optimizers/', import.meta.url);
const STEPS = 8;
const FLOOR = 1e-6;

await tf.setBackend('cpu');
await tf.ready();

const cases = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.json') && name !== 'schedules.json')
  .flatMap((name) => {
    const file = parseGolden(readFileSync(new URL(name, FOLDER), 'utf8'), name);
    return file.cases.map((entry) => ({ file, entry, id: entry.id, rule: entry.optimizer ?? file.optimizer }));
  });

const foreign = ({ definition }: Subject): string | undefined =>
  definition.phases.find(({ evaluate }) => evaluate !== undefined && evaluate !== 'loss')?.evaluate;

/** Largest error over the first steps, relative to the value or the floor of its tensor. */
function replay(file: GoldenFile, entry: GoldenCase, subject: Subject): number {
  const optimizer = createOptimizer(subject.definition, subject.settings);
  const variables = entry.initial.map((values, i) =>
    tf.tidy(() => tf.variable(tf.tensor(values, file.param_shapes[i]))),
  );
  let worst = 0;
  /** @param from A point the expected one was reached from by one addition: what is left of large terms is as exact as they are. */
  const compare = (expected: readonly (readonly number[])[], from = expected) =>
    expected.forEach((list, i) => {
      const actual = variables[i].dataSync();
      const floor = Math.max(FLOOR * Math.max(...list.map(Math.abs)), 1e-12);
      list.forEach((value, j) => {
        const error = Math.abs(actual[j] - value) / Math.max(Math.abs(value), Math.abs(from[i][j]), floor);
        worst = Math.max(worst, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
      });
    });
  const base = optimizer.learningRate;
  let used = 0;
  for (let k = 0; k < Math.min(STEPS, entry.steps); k++) {
    optimizer.learningRate = entry.lr_per_step?.[k] ?? base;
    // The loss is the product of the variables with the recorded gradient: its gradient is that.
    let calls = 0;
    const list = entry.gradients[used].flatMap((values, i) => (values ? [variables[i]] : []));
    const all = entry.gradients[used].some((values) => values === null) ? undefined : list;
    const loss = () => {
      const ahead = entry.perturbed ?? entry.half_step;
      if (calls++ > 0 && ahead) compare(ahead[k], k === 0 ? entry.initial : entry.params[k - 1]);
      return tf.addN(
        entry.gradients[used++].flatMap((values, i) =>
          values ? [tf.sum(tf.mul(variables[i], tf.tensor(values, file.param_shapes[i])))] : [],
        ),
      ) as tf.Scalar;
    };
    if (all) optimizer.minimize(loss, false, all);
    else
      tf.tidy(() => {
        const gradients = entry.gradients[used++];
        optimizer.applyGradients(
          variables.map(({ name }, i) => {
            const values = gradients[i];
            // What TensorFlow.js passes for a variable that the loss does not depend on.
            return { name, tensor: (values ? tf.tensor(values, file.param_shapes[i]) : null) as tf.Tensor };
          }),
        );
      });
    for (const { after_step, call } of entry.events ?? [])
      if (after_step === k + 1 && call === 'restart') optimizer.restart();
    compare(entry.params[k]);
  }
  optimizer.dispose();
  tf.dispose(variables);
  return worst;
}

test.each(cases)('$rule $id within 1e-4', ({ file, entry }) => {
  const subject = recordedSubject(file, entry);
  const what = foreign(subject);
  if (what !== undefined) {
    expect(() => createOptimizer(subject.definition, subject.settings)).toThrow(what);
    return;
  }
  const before = tf.memory().numTensors;
  expect(replay(file, entry, subject)).toBeLessThan(1e-4);
  expect(tf.memory().numTensors).toBe(before);
});
