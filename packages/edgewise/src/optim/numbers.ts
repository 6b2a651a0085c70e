/** @file Every number that updates read or hand out, by name, each where it stays for the life of an optimizer. */
import type { Level } from '../kernels/index.ts';
import type { Segment } from '../params/layout.ts';
import type { OptimizerDefinition, ScalarSpec } from './definition.ts';
import type { Assignment, Group } from './groups.ts';
import { type Hyperparameter, isStructural, type Schema, type Values } from './hyperparameters.ts';

export const hyperName = (name: string, i?: number): string => (i === undefined ? `h.${name}` : `h.${name}.${i}`);
export const stateName = (name: string): string => `state.${name}`;
export const reportName = (name: string): string => `report.${name}`;
/** Steps of the optimizer so far. */
export const STEP = stateName('#step');
/** Updates of each tensor so far; only where the definition counts them. */
export const UPDATES = stateName('#updates');
/** Whether a phase takes place. */
export const WHEN = 'when';
/** Whether the optimizer restarts after the step. */
export const RESTART = 'restart';

export class NumberTable<H extends Schema> {
  /** Where each number is. */
  readonly at: Record<string, Float64Array> = {};
  /** What there is one of each number for. */
  readonly levels = new Map<string, Level>();
  /** Numbers whose size the data do not decide. */
  readonly tame = new Set<string>();
  readonly #definition: OptimizerDefinition<H>;
  readonly #segments: readonly Segment[];

  constructor(definition: OptimizerDefinition<H>, groups: readonly Group<H>[], segments: readonly Segment[]) {
    this.#definition = definition;
    this.#segments = segments;
    const differs = (name: string): Level =>
      groups.some(({ values }) => values?.[name] !== undefined) ? 'tensor' : 'global';
    this.#declare(STEP, 'global', true);
    if ((definition.counter ?? 'tensor') === 'tensor') this.#declare(UPDATES, 'tensor', true);
    for (const [name, { per }] of Object.entries<ScalarSpec<H>>(definition.scalars ?? {})) {
      this.#declare(stateName(name), per === 'tensor' ? 'tensor' : 'global', false);
    }
    for (const [name, parameter] of Object.entries(definition.hyperparameters)) {
      for (const key of namesOf(name, parameter)) this.#declare(key, differs(name), true);
    }
    for (const name of ['lr', 'baseLr']) this.#declare(name, 'global', true);
    this.#declare('loss', 'global', false);
    if (groups.some(({ lrScale = 1 }) => lrScale !== 1)) this.#declare('lrScale', 'tensor', true);
    for (const name of ['size', 'rows', 'columns', 'rank'] as const) {
      this.#declare(name, 'tensor', true);
      this.at[name].set(segments.map((segment) => extentsOf(segment)[name]));
    }
    for (const name of [WHEN, RESTART]) this.at[name] = new Float64Array(1);
  }

  /** Room for a result that is not state. */
  declareResult(name: string): void {
    this.at[name] ??= new Float64Array(1);
  }

  /** Writes hyper-parameters to where updates read them. */
  write(base: Values<H>, assignments: readonly Assignment<H>[]): void {
    for (const [name, parameter] of Object.entries(this.#definition.hyperparameters)) {
      namesOf(name, parameter).forEach((key, i) => {
        const of = (values: Values<H>) => {
          const value: unknown = values[name];
          return Number(Array.isArray(value) ? value[i] : value);
        };
        if (this.levels.get(key) === 'global') this.at[key][0] = of(base);
        else this.at[key].set(assignments.map(({ values }) => of(values)));
      });
    }
    if ('lrScale' in this.at) this.at.lrScale.set(assignments.map(({ lrScale }) => lrScale));
  }

  /** Names and values of the state, in order. */
  state(): [name: string, values: Float64Array][] {
    return Object.entries(this.at).flatMap(([name, values]) =>
      name.startsWith('state.') ? [[name.slice('state.'.length), values]] : [],
    );
  }

  /** What the rule reported. */
  report(): Record<string, number> {
    return Object.fromEntries(
      Object.entries(this.at).flatMap(([name, values]) =>
        name.startsWith('report.') ? [[name.slice('report.'.length), values[0]]] : [],
      ),
    );
  }

  #declare(name: string, level: Level, tame: boolean): void {
    this.levels.set(name, level);
    if (tame) this.tame.add(name);
    this.at[name] = new Float64Array(level === 'tensor' ? this.#segments.length : 1);
  }
}

/** Names of the numbers that a hyper-parameter consists of; none for structural ones and the learning rate. */
function namesOf(name: string, parameter: Hyperparameter): string[] {
  if (name === 'lr' || isStructural(parameter)) return [];
  return parameter.kind === 'numbers' ? parameter.default.map((_, i) => hyperName(name, i)) : [hyperName(name)];
}

/** A tensor of rank 2 or more has a row for each index of its first axis; others are one row. */
export function extentsOf({ shape, length }: Segment): { size: number; rows: number; columns: number; rank: number } {
  const rows = shape.length > 1 ? shape[0] : 1;
  return { size: length, rows, columns: rows === 0 ? 0 : length / rows, rank: shape.length };
}
