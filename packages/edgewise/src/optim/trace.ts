/** @file From a definition and its settings to the symbolic updates that are compiled. */
import { EdgewiseError } from '../base/errors.ts';
import { type Level, NOMINALS, type Nominal, type ScalarInput, symbolAt, type UpdateGraph } from '../kernels/index.ts';
import { add, mul, type Operand } from '../tensor/ops/elementwise.ts';
import { constant, type Tensor } from '../tensor/tensor.ts';
import type { OptimizerDefinition, Phase, RuleSymbols, Update } from './definition.ts';
import type { Assignment } from './groups.ts';
import type { Schema } from './hyperparameters.ts';

/** Names under which an update finds its numbers. */
export const scalarName = {
  hyper: (name: string, i?: number) => (i === undefined ? `h.${name}` : `h.${name}.${i}`),
  state: (name: string) => `state.${name}`,
  report: (name: string) => `report.${name}`,
};
export const COUNT = scalarName.state('count');

/** What a rule asked about its hyper-parameters, and the answers it was built on. */
export type Answers = Map<string, { readonly name: string; readonly value: number; readonly answer: boolean }>;

/** Names and levels of every number of an optimizer, apart from what they are now. */
export interface Numbers {
  readonly levels: ReadonlyMap<string, Level>;
  /** Numbers whose size the data do not decide. */
  readonly tame: ReadonlySet<string>;
}

/** Whether `name` equals `value` for every tensor. */
export const isEverywhere = <H extends Schema>(
  assignments: readonly Assignment<H>[],
  name: string,
  value: number,
): boolean => assignments.every(({ values }) => values[name] === value);

/** Symbolic updates at both nominal shapes. */
export type GraphPair = readonly [UpdateGraph, UpdateGraph];

export interface TracedPhase {
  readonly evaluate: string | undefined;
  readonly update: GraphPair;
  /** Yields the number `when`. */
  readonly when: GraphPair | undefined;
  readonly undo: GraphPair | undefined;
  /** Reasons of the update's guards, in order. */
  readonly refusals: readonly string[];
}

/** Names of the results that are not state. */
export const WHEN = 'when';
export const RESTART = 'restart';

export function tracePhases<H extends Schema, S extends string, C extends string>(
  definition: OptimizerDefinition<H, S, C>,
  slots: readonly string[],
  numbers: Numbers,
  assignments: readonly Assignment<H>[],
  answers: Answers,
): TracedPhase[] {
  const shapes = NOMINALS.map((nominal) => new Tracer(definition, slots, numbers, assignments, answers, nominal));
  const pair = (make: (tracer: Tracer<H, S, C>) => UpdateGraph): GraphPair => [make(shapes[0]), make(shapes[1])];
  return definition.phases.map((phase: Phase<H, S, C>) => ({
    evaluate: phase.evaluate,
    update: pair((tracer) => tracer.graph(phase.update(tracer.symbols))),
    when: phase.when && pair((tracer) => tracer.results({ [WHEN]: phase.when!(tracer.symbols) })),
    undo: phase.undo && pair((tracer) => tracer.graph(phase.undo!(tracer.symbols))),
    refusals: (phase.update(shapes[0].symbols).refuse ?? []).map(({ because }) => because),
  }));
}

class Tracer<H extends Schema, S extends string, C extends string> {
  readonly symbols: RuleSymbols<H, S, C>;
  readonly #nominal: Nominal;
  readonly #vectors: Record<string, Tensor> = {};
  readonly #scalars: Record<string, ScalarInput> = {};
  readonly #name: string;
  readonly #slots: readonly string[];

  constructor(
    definition: OptimizerDefinition<H, S, C>,
    slots: readonly string[],
    numbers: Numbers,
    assignments: readonly Assignment<H>[],
    answers: Answers,
    nominal: Nominal,
  ) {
    this.#nominal = nominal;
    this.#name = definition.name;
    this.#slots = slots;
    for (const name of ['theta', 'grad', ...slots]) this.#vectors[name] = symbolAt('element', name, nominal);
    for (const [name, level] of numbers.levels)
      this.#scalars[name] = { symbol: symbolAt(level, name, nominal), tame: numbers.tame.has(name) };
    const scalar = (name: string) => this.#scalars[name].symbol;
    const scaled = (rate: Tensor) => ('lrScale' in this.#scalars ? mul(rate, scalar('lrScale')) : rate);
    const flags = assignments.length > 0 ? assignments[0].values : undefined;
    const hyper = Object.entries(definition.hyperparameters).map(([name, parameter]) => {
      if (name === 'lr') return [name, scaled(scalar('lr'))];
      if (parameter.kind === 'numbers')
        return [name, parameter.default.map((_, i) => scalar(scalarName.hyper(name, i)))];
      if (parameter.kind === 'number' || parameter.kind === 'integer') return [name, scalar(scalarName.hyper(name))];
      return [name, flags ? flags[name] : parameter.default];
    });
    const slotSymbols = strict(
      definition.name,
      'slot',
      Object.fromEntries(slots.map((name) => [name, this.#vectors[name]])),
    );
    const stateSymbols = strict(
      definition.name,
      'scalar',
      Object.fromEntries(Object.keys(definition.scalars ?? {}).map((name) => [name, scalar(scalarName.state(name))])),
    );
    this.symbols = {
      theta: this.#vectors.theta,
      grad: this.#vectors.grad,
      // The names are those of the definition, whose types S, C and H say so.
      slots: slotSymbols as Record<S, Tensor>,
      scalars: stateSymbols as Record<C, Tensor>,
      h: Object.fromEntries(hyper) as RuleSymbols<H, S, C>['h'],
      t: add(scalar(COUNT), 1),
      baseLr: scaled(scalar('baseLr')),
      loss: scalar('loss'),
      size: scalar('size'),
      rows: scalar('rows'),
      columns: scalar('columns'),
      rank: scalar('rank'),
      is: (name, value) => {
        const answer = isEverywhere(assignments, name, value);
        answers.set(`${name} ${value}`, { name, value, answer });
        return answer;
      },
    };
  }

  graph({ theta, slots, scalars, refuse = [], restart, report = {} }: Update<S, C>): UpdateGraph {
    const vectors: Record<string, Operand | undefined> = { theta, ...slots };
    for (const name of Object.keys(vectors)) {
      if (vectors[name] !== undefined && name !== 'theta' && !this.#slots.includes(name))
        throw new EdgewiseError(
          `${this.#name}: its rule writes '${name}', which is no slot under these hyper-parameters.`,
        );
    }
    const results = {
      ...prefixed(scalarName.state, { ...scalars }),
      ...prefixed(scalarName.report, report),
      ...(restart && { [RESTART]: restart }),
    };
    for (const name of Object.keys(results)) {
      if (name.startsWith('state.') && !(name in this.#scalars))
        throw new EdgewiseError(`${this.#name}: its rule writes '${name}', which is none of its scalars.`);
    }
    return { ...this.results(results), writes: tensors(vectors), guards: refuse.map(({ when }) => when) };
  }

  results(results: Readonly<Record<string, Operand | undefined>>): UpdateGraph {
    return {
      nominal: this.#nominal,
      vectors: this.#vectors,
      scalars: this.#scalars,
      writes: {},
      results: tensors(results),
      guards: [],
    };
  }
}

function tensors(record: Readonly<Record<string, Operand | undefined>>): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(record).flatMap(([name, x]) =>
      x === undefined ? [] : [[name, typeof x === 'number' ? constant(x, [], 'float64') : x]],
    ),
  );
}

function prefixed(
  prefix: (name: string) => string,
  record: Readonly<Record<string, Operand | undefined>>,
): Record<string, Operand | undefined> {
  return Object.fromEntries(Object.entries(record).map(([name, x]) => [prefix(name), x]));
}

/** A record that says so where something is read that it does not have. */
function strict(optimizer: string, kind: string, record: Record<string, Tensor>): Record<string, Tensor> {
  return new Proxy(record, {
    get(target, name) {
      if (typeof name === 'symbol' || name in target) return Reflect.get(target, name);
      throw new EdgewiseError(
        `${optimizer}: its rule reads the ${kind} '${name}', which it does not have under these hyper-parameters.`,
      );
    },
  });
}
