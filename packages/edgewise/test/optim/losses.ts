/** @file A loss of each coordinate for wrappers to descend, and a way to take steps along it. */
import { expect } from 'vitest';
import { Key, normal } from '../../src/base/random.ts';
import { completeValues, type OptimizerDefinition, type OptimizerSettings } from '../../src/optim/index.ts';
import type { Given, Gradients, Reference } from './references/reference.ts';
import { type Engine, type Rig, rig } from './support.ts';

export const PARAMS = [
  { name: 'w', shape: [3, 5], tags: ['weight'] },
  { name: 'b', shape: [3], tags: ['bias'] },
  { name: 'k', shape: [2, 2, 2, 3], tags: ['weight'] },
  { name: 's', shape: [], tags: ['norm'] },
];
const TOLERANCE: Readonly<Record<Engine, number>> = {
  interpreter: 1e-12,
  'float64 kernel': 1e-11,
  'float32 kernel': 2e-4,
};
export const matrices = ({ shape }: { readonly shape: readonly number[] }) => shape.length > 1;

export function noise(step: number, name: string, length: number): number[] {
  const values = new Float32Array(length);
  normal(Key.fromSeed(5).split(name, step + 1), values);
  return [...values];
}

export function make(engine: Engine, definition: OptimizerDefinition, values: Given = {}): Rig {
  const made = rig(engine, definition, { values: values as OptimizerSettings['values'] }, PARAMS);
  for (const { name, length } of made.layout.segments) made.theta.set(name, noise(-1, name, length));
  return made;
}

/** Derivative of c (x - a)² / 2 + x³ / 6 with a curvature c that differs by coordinate and a minimum that differs by step and part of the batch. */
const slope = (x: number, i: number, target: number): number => (1 + (i % 3)) * (x - target) + (x * x) / 2;

export function gradientAt(theta: readonly number[], name: string, step: number, what = 'loss'): number[] {
  const targets = noise(step, `${name}/${what}`, theta.length);
  return theta.map((x, i) => slope(x, i, 0.3 * targets[i]));
}

export const views = ({ layout, theta }: Rig): number[][] => layout.segments.map(({ name }) => [...theta.view(name)]);

/** Steps along the loss; returns what was asked for, with where it was. */
export async function descend(made: Rig, steps: number): Promise<{ what: string; at: number[][] }[]> {
  const { optimizer, theta, grad, layout } = made;
  const asked: { what: string; at: number[][] }[] = [];
  for (let k = 0; k < steps; k++) {
    const write = (what: string): number => {
      for (const { name } of layout.segments) grad.set(name, gradientAt([...theta.view(name)], name, k, what));
      return 1;
    };
    write('loss');
    if (!optimizer.needsStepWith) optimizer.step();
    else
      await optimizer.stepWith((what) => {
        asked.push({ what, at: views(made) });
        return write(what);
      });
  }
  return asked;
}

export function expectClose(
  engine: Engine,
  actual: readonly number[][],
  expected: readonly (readonly number[])[],
  where = '',
) {
  for (const [p, list] of expected.entries())
    for (const [i, x] of list.entries())
      expect(Math.abs(actual[p][i] - x) / Math.max(1, Math.abs(x)), `${where} ${PARAMS[p].name}[${i}]`).toBeLessThan(
        TOLERANCE[engine],
      );
}

/** θ after `steps` of a reference on the loss. */
export function referenceOf(reference: Reference, definition: OptimizerDefinition, values: Given, steps: number) {
  const complete = completeValues('reference', definition.hyperparameters, values) as Given;
  const theta = PARAMS.map(({ name, shape }) =>
    noise(
      -1,
      name,
      shape.reduce((n, extent) => n * extent, 1),
    ),
  );
  const run = reference(
    theta,
    complete,
    PARAMS.map(({ shape }) => shape),
  );
  for (let k = 0; k < steps; k++) {
    const at = (what: string): Gradients => PARAMS.map(({ name }, p) => gradientAt(theta[p], name, k, what));
    run.step(at('loss'), Number(complete.lr), at, 1);
  }
  return { theta, evaluated: run.evaluated?.() };
}
