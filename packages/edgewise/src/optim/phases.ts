/** @file The phases of a definition, traced and bound to vectors. */
import { type BoundUpdate, NOMINALS } from '../kernels/index.ts';
import type { Segment } from '../params/layout.ts';
import type { ParamVector } from '../params/vector.ts';
import type { Backend, Cost } from './backend.ts';
import type { OptimizerDefinition, Phase } from './definition.ts';
import type { Schema } from './hyperparameters.ts';
import { extentsOf } from './numbers.ts';
import { type TensorEvaluator, TensorUpdate } from './tensors.ts';
import { type Context, type Rule, traceUpdate } from './trace.ts';

export interface BoundPhase {
  /** The gradient it needs, by name. */
  readonly evaluate: string | undefined;
  readonly update: { run(): number | Promise<number> };
  readonly when: BoundUpdate | undefined;
  readonly undo: BoundUpdate | undefined;
  /** Reasons of the update's guards, in order. */
  readonly refusals: readonly string[];
  readonly movesParameters: boolean;
  readonly costs: readonly Cost[];
  /** Says which segments the step is for, by index; the phase takes those that it is for. */
  activate(segments: readonly number[]): void;
  /** Says that numbers of which there is one a tensor were changed. */
  invalidate(): void;
}

export interface BoundPhases {
  readonly phases: readonly BoundPhase[];
  /** Moves the parameters to the point that is evaluated. */
  readonly evaluated: BoundUpdate | undefined;
}

export function bindPhases<H extends Schema>(
  context: Context<H>,
  segments: readonly Segment[],
  vectors: Readonly<Record<string, ParamVector>>,
  backend: Backend,
  tensors: TensorEvaluator | undefined,
): BoundPhases {
  const { numbers, shaped } = context;
  const definition: OptimizerDefinition<H> = context.definition;
  const binding = {
    segments: segments.map((segment) => ({
      offset: segment.offset,
      length: segment.length,
      rows: extentsOf(segment).rows,
    })),
    vectors: Object.fromEntries(
      Object.entries(vectors).flatMap(([name, vector]) =>
        shaped.has(name) ? [] : [[name, { byteOffset: vector.byteOffset, view: () => vector.data }]],
      ),
    ),
    scalars: numbers.at,
    results: numbers.at,
  };
  const bind = (rule: Rule<H>) => {
    const [first, second] = NOMINALS.map((nominal) => traceUpdate(context, nominal, rule));
    for (const name of Object.keys(first.graph.results)) numbers.declareResult(name);
    return {
      ...backend.bind([first.graph, second.graph], binding),
      refusals: first.refusals.map(({ because }) => because),
      movesParameters: 'theta' in first.graph.writes,
    };
  };
  const phases = definition.phases.map((phase: Phase<H, string, string>): BoundPhase => {
    const { evaluate, when, undo, over, host } = phase;
    const only = phase.only ?? (over === 'tensors' ? ({ shape }: Segment) => shape.length > 1 : () => true);
    const mine = segments.map(only);
    // Over tensors each one is asked by itself.
    const condition = when && over !== 'tensors' ? bind((s) => ({ when: when(s) })) : undefined;
    const undoing = undo && bind(undo);
    const main =
      over === 'tensors'
        ? {
            update: new TensorUpdate(context, phase, segments, vectors, host ? undefined : tensors),
            refusals: [],
            movesParameters: true,
          }
        : bind(phase.update);
    const parts = [main, ...(condition ? [condition] : []), ...(undoing ? [undoing] : [])];
    return {
      evaluate,
      update: main.update,
      when: condition?.update,
      undo: undoing?.update,
      refusals: main.refusals,
      movesParameters: main.movesParameters,
      costs: parts.flatMap((part) => ('cost' in part ? [part.cost] : [])),
      activate(all) {
        const chosen = all.filter((i) => mine[i]);
        for (const part of parts) part.update.activate(part === condition ? all : chosen);
      },
      invalidate() {
        for (const { update } of parts) update.invalidate();
      },
    };
  });
  const { evaluated } = definition;
  return { phases, evaluated: evaluated && bind((s) => ({ theta: evaluated(s) })).update };
}
