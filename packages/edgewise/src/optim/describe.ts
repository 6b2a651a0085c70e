/** @file What an optimizer costs, found by building it. */
import { VectorSpace } from '../kernels/index.ts';
import { ParamLayout } from '../params/layout.ts';
import { parameterVector } from './backend.ts';
import type { OptimizerDefinition } from './definition.ts';
import type { Schema } from './hyperparameters.ts';
import { createOptimizer } from './optimizer.ts';
import type { OptimizerSettings } from './settings.ts';

/** Costs under given settings; weights and gradients are not counted. */
export interface OptimizerCost {
  /** State in multiples of the parameters' size. */
  readonly vectors: number;
  /** State of other sizes, by name. */
  readonly shaped: readonly string[];
  /** Gradients evaluated in a step, at most. */
  readonly evaluations: number;
  /** Reductions over all parameters in a step (each a synchronisation in data-parallel training), and over each tensor. */
  readonly reductions: { readonly model: number; readonly tensor: number };
  /** Passes over the parameters in a step. */
  readonly stages: number;
  /** Bytes of memory read and written for each float32 parameter in a step; 0 where a step works on whole tensors. */
  readonly bytesPerParameter: number;
}

/** What `definition` costs under `settings` (its defaults where left out) on a model with matrices, vectors and numbers. */
export function costOf<H extends Schema, S extends string, C extends string>(
  definition: OptimizerDefinition<H, S, C>,
  settings: OptimizerSettings<H> = {},
): OptimizerCost {
  const layout = new ParamLayout([
    { name: 'weight', shape: [4, 3], tags: ['weight'] },
    { name: 'bias', shape: [4], tags: ['bias'] },
  ]);
  const space = new VectorSpace();
  const [theta, grad] = [parameterVector(space, layout, 'float32'), parameterVector(space, layout, 'float32')];
  const optimizer = createOptimizer(definition, settings, { theta, grad, space });
  const slots = Object.entries(optimizer.slots);
  return {
    vectors: slots.filter(([, slot]) => slot.layout === layout).length,
    shaped: slots.flatMap(([name, slot]) => (slot.layout === layout ? [] : [name])),
    evaluations: 1 + optimizer.furtherEvaluations,
    reductions: optimizer.reductions,
    stages: optimizer.stages,
    bytesPerParameter: optimizer.bytesPerParameter,
  };
}
