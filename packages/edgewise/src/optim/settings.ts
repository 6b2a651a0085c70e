/** @file What an optimizer is made from, told at each step, and says afterwards. */
import { ParamLayout } from '../params/layout.ts';
import type { ParamVector } from '../params/vector.ts';
import type { OptimizerDefinition, SlotSpec } from './definition.ts';
import type { Assignment, Group, Match } from './groups.ts';
import type { Schema, Values } from './hyperparameters.ts';
import type { TensorEvaluator } from './tensors.ts';

/** Settings of an optimizer: its hyper-parameters, and which parameters differ. */
export interface OptimizerSettings<H extends Schema = Schema> {
  /** Hyper-parameters; those left out have the definition's defaults. */
  readonly values?: Partial<Values<H>>;
  /** Parameters with other hyper-parameters: no decay on biases, smaller rates in early layers. */
  readonly groups?: readonly Group<H>[];
  /** Parameters that no step touches. */
  readonly frozen?: Match;
}

/** Memory an optimizer works on. */
export interface OptimizerTarget {
  /** Parameters; updated in place. */
  readonly theta: ParamVector;
  /** Gradient at the parameters, written by the caller before each step; the optimizer does not change it. */
  readonly grad: ParamVector;
  /** What computes phases over tensors; the reference interpreter by default. */
  readonly tensors?: TensorEvaluator;
}

/** What a step is told. */
export interface StepInputs {
  /** Learning rate in force, after the schedule; what the optimizer was set to where left out. */
  readonly lr?: number;
  /** Loss at the parameters, for rules that use it. */
  readonly loss?: number;
  /** Parameters without a gradient in this step, by name: they and their state are left alone, unlike those whose gradient is zero. */
  readonly absent?: Iterable<string>;
}

/** What became of a step. */
export interface StepReport {
  /** False where the step was refused, which left everything as it was. */
  readonly applied: boolean;
  /** Why it was refused, as a clause. */
  readonly refusal?: string;
  /** Whether the rule's restart policy fired after the step. */
  readonly restarted: boolean;
}

/** Numbers of an optimizer's state, exact; JSON keeps them to the bit except for non-finite ones. */
export type ScalarState = Readonly<Record<string, readonly number[]>>;

/** Slots that the definition needs under the settings of some parameter, each with its layout. */
export function slotsUnder<H extends Schema>(
  { slots }: OptimizerDefinition<H>,
  assignments: readonly Assignment<H>[],
  layout: ParamLayout,
): Map<string, ParamLayout> {
  const needed = Object.entries(slots).filter(([, spec]: [string, SlotSpec<H>]) =>
    assignments.some(({ values }) => spec.when?.(values) ?? true),
  );
  return new Map(
    needed.map(([name, { shape }]: [string, SlotSpec<H>]) => [
      name,
      shape
        ? new ParamLayout(
            assignments.map(({ segment, values }) => ({ name: segment.name, shape: shape(segment, values) })),
          )
        : layout,
    ]),
  );
}
