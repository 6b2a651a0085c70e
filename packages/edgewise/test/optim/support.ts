/** @file Golden trajectories and the three ways a rule runs: interpreted, compiled in float64, compiled in float32. */
import { readFileSync } from 'node:fs';
import { VectorSpace } from '../../src/kernels/index.ts';
import {
  createOptimizer,
  interpretOptimizer,
  type Optimizer,
  type OptimizerDefinition,
  type OptimizerSettings,
  parameterVector,
  type Schema,
} from '../../src/optim/index.ts';
import { ParamLayout, type ParamSpec } from '../../src/params/layout.ts';
import { ParamVector } from '../../src/params/vector.ts';

export type Engine = 'interpreter' | 'float64 kernel' | 'float32 kernel';
export const ENGINES: readonly Engine[] = ['interpreter', 'float64 kernel', 'float32 kernel'];

export interface Rig {
  readonly optimizer: Optimizer;
  readonly theta: ParamVector;
  readonly grad: ParamVector;
  readonly layout: ParamLayout;
}

/** An optimizer with vectors of its own. */
export function rig(
  engine: Engine,
  definition: OptimizerDefinition,
  settings: OptimizerSettings,
  params: readonly Pick<ParamSpec, 'name' | 'shape' | 'tags'>[],
): Rig {
  const layout = new ParamLayout(params);
  if (engine === 'interpreter') {
    const [theta, grad] = [new ParamVector(layout, 'float64'), new ParamVector(layout, 'float64')];
    return { optimizer: interpretOptimizer(definition, settings, { theta, grad }), theta, grad, layout };
  }
  const dtype = engine === 'float64 kernel' ? 'float64' : 'float32';
  const space = new VectorSpace();
  const [theta, grad] = [parameterVector(space, layout, dtype), parameterVector(space, layout, dtype)];
  return { optimizer: createOptimizer(definition, settings, { theta, grad, space }), theta, grad, layout };
}

export interface GoldenCase {
  readonly id: string;
  readonly optimizer?: string;
  readonly hyperparameters: Readonly<Record<string, unknown>>;
  readonly steps: number;
  readonly initial: readonly (readonly number[])[];
  readonly gradients: readonly (readonly (readonly number[] | null)[])[];
  readonly params: readonly (readonly (readonly number[])[])[];
  readonly lr_per_step?: readonly number[];
  readonly events?: readonly { readonly after_step: number; readonly call: string }[];
}

export interface GoldenFile {
  readonly optimizer: string;
  readonly param_shapes: readonly (readonly number[])[];
  readonly cases: readonly GoldenCase[];
}

export function goldenFile(name: string): GoldenFile {
  return JSON.parse(readFileSync(new URL(`../fixtures/optimizers/${name}.json`, import.meta.url), 'utf8'));
}

/** The fixture's names of hyper-parameters in ours. */
const NAMES: Readonly<Record<string, string>> = {
  weight_decay: 'weightDecay',
  max_grad_norm: 'maxGradNorm',
  max_norm: 'clipNorm',
  clip_value: 'clipValue',
};

export function valuesOf({
  hyperparameters,
}: GoldenCase): Record<string, number | boolean | string | readonly number[]> {
  return Object.fromEntries(
    Object.entries(hyperparameters).map(([name, value]) => {
      if (name === 'no_prox') return ['proximal', value !== true];
      return [NAMES[name] ?? name, value as number | boolean | readonly number[]];
    }),
  );
}

export const goldenParams = (file: GoldenFile): { name: string; shape: readonly number[] }[] =>
  file.param_shapes.map((shape, i) => ({ name: `p${i}`, shape }));

/** Largest error of a trajectory, relative to the size of the value (1e-12 at least). */
export function worstError<H extends Schema, S extends string, C extends string>(
  engine: Engine,
  definition: OptimizerDefinition<H, S, C>,
  file: GoldenFile,
  entry: GoldenCase,
  steps: number,
): number {
  const erased: OptimizerDefinition = definition;
  const { optimizer, theta, grad, layout } = rig(engine, erased, { values: valuesOf(entry) }, goldenParams(file));
  for (const [i, values] of entry.initial.entries()) theta.set(`p${i}`, values);
  let worst = 0;
  for (let k = 0; k < steps; k++) {
    const absent: string[] = [];
    entry.gradients[k].forEach((values, i) => {
      // What an absent gradient's memory holds must not matter.
      if (values === null) grad.view(`p${i}`).fill(Number.NaN);
      else grad.set(`p${i}`, values);
      if (values === null) absent.push(`p${i}`);
    });
    optimizer.step({ lr: entry.lr_per_step?.[k], absent: absent.length > 0 ? absent : undefined });
    for (const { after_step, call } of entry.events ?? []) {
      if (after_step === k + 1 && call === 'restart') optimizer.restart();
    }
    layout.segments.forEach(({ name }, i) => {
      const actual = theta.view(name);
      entry.params[k][i].forEach((expected, j) => {
        const error = Math.abs(actual[j] - expected) / Math.max(Math.abs(expected), 1e-12);
        worst = Number.isNaN(error) ? Number.NaN : Math.max(worst, error);
      });
    });
  }
  return worst;
}
