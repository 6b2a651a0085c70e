/** @file Takes steps with the graphs of a rule, on arrays of whatever framework computes them. */
import { ConfigError, EdgewiseError } from '../base/errors.ts';
import type { Shape } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type GraphUpdate, graphNumbers, type StepGraph } from './graph.ts';

/** Values of symbols: arrays, and numbers of shape []. */
export type GraphFeeds<T> = ReadonlyMap<Tensor, T | number>;

/** What computes graphs on arrays of type T. Arrays are counted references where the framework has them: whoever is given one releases it. */
export interface GraphRunner<T> {
  /** Computes `arrays` as new references and `numbers` as numbers; `given` stays with the caller. */
  compute(
    arrays: readonly Tensor[],
    numbers: readonly Tensor[],
    given: GraphFeeds<T>,
  ): { readonly arrays: readonly T[]; readonly numbers: readonly number[] };
  /** A new array filled with a number. */
  fill(shape: Shape, value: number): T;
  /** Another reference to the same values, which no later step may change. */
  keep(x: T): T;
  release(x: T): void;
}

/** State of an optimizer, by the names of the graph. */
export interface GraphState<T> {
  /** One array a parameter. */
  readonly slots: Readonly<Record<string, readonly T[]>>;
  /** Numbers whose names begin with `state.`, exact. */
  readonly numbers: Readonly<Record<string, readonly number[]>>;
}

export interface GraphStepInputs<T> {
  /** Learning rate in force; the one of the settings where left out. */
  readonly lr?: number;
  /** Loss at the parameters; NaN where left out. */
  readonly loss?: number;
  /**
   * Computes another gradient, `what` by name, at `theta`, which stays with the caller; new references, and undefined for parameters without one.
   * @throws where `what` cannot be had.
   */
  evaluate?(what: string, theta: readonly T[]): { readonly grad: readonly (T | undefined)[]; readonly loss?: number };
  /** Whether to compute the rule's reports; false by default, for they may have to be read from a device. */
  readonly reports?: boolean;
}

/** New references to all arrays of the state and to all parameters, changed or not. */
export interface GraphStep<T> {
  readonly theta: readonly T[];
  readonly state: GraphState<T>;
  /** False where the step was refused, which changes nothing. */
  readonly applied: boolean;
  /** Why it was refused, as a clause. */
  readonly refusal?: string;
  /** Whether the rule restarted after the step. */
  readonly restarted: boolean;
  readonly reports: Readonly<Record<string, number>>;
}

/** The state before the first step at `theta`. */
export function initialState<T>(graph: StepGraph, runner: GraphRunner<T>, theta: readonly T[]): GraphState<T> {
  return {
    slots: Object.fromEntries(
      Object.entries(graph.slots).map(([name, { inputs, init }]) => [
        name,
        inputs.map(({ shape }, i) => (init === 'theta' ? runner.keep(theta[i]) : runner.fill(shape, init))),
      ]),
    ),
    numbers: Object.fromEntries(
      Object.entries(graph.numbers).flatMap(([name, { initial }]) =>
        name.startsWith('state.') ? [[name, initial]] : [],
      ),
    ),
  };
}

/** The state after a restart at `theta`: what the definition clears is as before the first step, counters included. What is given stays with the caller. */
export function restartState<T>(
  graph: StepGraph,
  runner: GraphRunner<T>,
  theta: readonly T[],
  state: GraphState<T>,
): GraphState<T> {
  const { restart, slots, numbers } = graph;
  const cleared = new Set([...restart.numbers, graphNumbers.step, graphNumbers.updates]);
  return {
    slots: Object.fromEntries(
      Object.entries(slots).map(([name, { inputs, init }]) => [
        name,
        inputs.map(({ shape }, i) => {
          if (!restart.slots.includes(name)) return runner.keep(state.slots[name][i]);
          return init === 'theta' ? runner.keep(theta[i]) : runner.fill(shape, init);
        }),
      ]),
    ),
    numbers: Object.fromEntries(
      Object.entries(state.numbers).map(([name, values]) => [name, cleared.has(name) ? numbers[name].initial : values]),
    ),
  };
}

/**
 * One step. What is given is read and stays with the caller; what comes back are references of its own.
 * @throws ConfigError for a learning rate that is not a number of at least 0, or a missing `evaluate`.
 */
export function takeStep<T>(
  graph: StepGraph,
  runner: GraphRunner<T>,
  theta: readonly T[],
  grad: readonly (T | undefined)[],
  state: GraphState<T>,
  inputs: GraphStepInputs<T> = {},
): GraphStep<T> {
  const work = new Work(graph, runner, theta, grad, state, inputs);
  try {
    return work.run();
  } catch (error) {
    work.drop();
    throw error;
  }
}

/** Values of one kind, of which some are the step's own and released where they are replaced. */
class Arrays<T> {
  readonly #runner: GraphRunner<T>;
  readonly values: (T | undefined)[];
  readonly #own: boolean[];

  constructor(runner: GraphRunner<T>, values: readonly (T | undefined)[]) {
    this.#runner = runner;
    this.values = [...values];
    this.#own = values.map(() => false);
  }

  put(i: number, value: T | undefined): void {
    const before = this.values[i];
    if (this.#own[i] && before !== undefined) this.#runner.release(before);
    this.values[i] = value;
    this.#own[i] = true;
  }

  /** Hands out a reference to each, and forgets them. */
  take(): T[] {
    return this.values.map((value, i) => {
      if (value === undefined) throw new EdgewiseError('takeStep: a parameter or slot has no array.');
      const own = this.#own[i];
      this.#own[i] = false;
      return own ? value : this.#runner.keep(value);
    });
  }

  drop(): void {
    for (const [i, value] of this.values.entries())
      if (this.#own[i] && value !== undefined) this.#runner.release(value);
    this.#own.fill(false);
  }
}

class Work<T> {
  readonly #graph: StepGraph;
  readonly #runner: GraphRunner<T>;
  readonly #inputs: GraphStepInputs<T>;
  readonly #before: GraphState<T>;
  readonly #theta: Arrays<T>;
  readonly #grad: Arrays<T>;
  readonly #slots: Readonly<Record<string, Arrays<T>>>;
  readonly #numbers: Record<string, number[]>;
  readonly #reports: Record<string, number> = {};
  #restart = false;

  constructor(
    graph: StepGraph,
    runner: GraphRunner<T>,
    theta: readonly T[],
    grad: readonly (T | undefined)[],
    state: GraphState<T>,
    inputs: GraphStepInputs<T>,
  ) {
    const { name } = graph.definition;
    const { lr = graph.numbers.lr.initial[0], loss = Number.NaN } = inputs;
    if (!(lr >= 0 && lr < Number.POSITIVE_INFINITY))
      throw new ConfigError(`${name}: the learning rate of a step is ${lr}; give a finite number of at least 0.`);
    this.#graph = graph;
    this.#runner = runner;
    this.#inputs = inputs;
    this.#before = state;
    this.#theta = new Arrays(runner, theta);
    this.#grad = new Arrays(runner, grad);
    this.#slots = Object.fromEntries(
      Object.keys(graph.slots).map((slot) => [slot, new Arrays(runner, state.slots[slot])]),
    );
    this.#numbers = Object.fromEntries(
      Object.entries(graph.numbers).map(([number, { initial }]) => [number, [...(state.numbers[number] ?? initial)]]),
    );
    this.#numbers.lr = [lr];
    this.#numbers.loss = [loss];
  }

  run(): GraphStep<T> {
    let held: string | undefined = 'loss';
    for (const [k, phase] of this.#graph.phases.entries()) {
      if (phase.when && this.#runner.compute([], [phase.when], this.#feeds()).numbers[0] === 0) continue;
      if (phase.evaluate !== undefined && phase.evaluate !== held) {
        this.#evaluate(phase.evaluate);
        held = phase.evaluate;
      }
      const refusal = this.#apply(phase);
      if (refusal !== undefined) return this.#refuse(k, refusal);
      if (phase.theta) held = undefined;
    }
    return this.#finish();
  }

  drop(): void {
    for (const arrays of [this.#theta, this.#grad, ...Object.values(this.#slots)]) arrays.drop();
  }

  #evaluate(what: string): void {
    const { evaluate } = this.#inputs;
    if (!evaluate)
      throw new ConfigError(
        `${this.#graph.definition.name}: a step evaluates a further gradient ('${what}'); give a function that computes it.`,
      );
    // Parameters are never replaced by nothing.
    const { grad, loss = Number.NaN } = evaluate(what, this.#theta.values as T[]);
    for (const [i, values] of grad.entries()) this.#grad.put(i, values);
    this.#numbers.loss = [loss];
  }

  /** Writes what the update computes, unless one of its guards holds: then the reason is returned. */
  #apply({ theta, slots, numbers, guards, reports, restart }: GraphUpdate): string | undefined {
    const arrays: { readonly to: Arrays<T>; readonly i: number; readonly tensor: Tensor }[] = [];
    const listed = [
      [this.#theta, theta ?? []] as const,
      ...Object.entries(slots).map(([name, list]) => [this.#slots[name], list] as const),
    ];
    for (const [to, list] of listed)
      for (const [i, tensor] of list.entries()) if (tensor) arrays.push({ to, i, tensor });
    const scalars = Object.entries(numbers).flatMap(([name, list]) =>
      list.flatMap((tensor, i) => (tensor ? [{ name, i, tensor }] : [])),
    );
    const told = this.#inputs.reports ? Object.entries(reports) : [];
    const wanted = [
      ...guards.map(({ when }) => when),
      ...scalars.map(({ tensor }) => tensor),
      ...(restart ? [restart] : []),
      ...told.map(([, tensor]) => tensor),
    ];
    const computed = this.#runner.compute(
      arrays.map(({ tensor }) => tensor),
      wanted,
      this.#feeds(),
    );
    const refused = guards.findIndex((_, i) => computed.numbers[i] !== 0);
    if (refused >= 0) {
      for (const array of computed.arrays) this.#runner.release(array);
      return guards[refused].because;
    }
    for (const [k, { to, i }] of arrays.entries()) to.put(i, computed.arrays[k]);
    const rest = computed.numbers.slice(guards.length);
    for (const [k, { name, i }] of scalars.entries()) this.#numbers[name][i] = rest[k];
    if (restart && rest[scalars.length] !== 0) this.#restart = true;
    const from = scalars.length + (restart ? 1 : 0);
    for (const [k, [name]] of told.entries()) this.#reports[name] = rest[from + k];
    return undefined;
  }

  #feeds(): Map<Tensor, T | number> {
    const { theta, grad, slots, numbers } = this.#graph;
    const feeds = new Map<Tensor, T | number>();
    const feed = (symbols: readonly Tensor[], values: readonly (T | number | undefined)[]) => {
      for (const [i, symbol] of symbols.entries()) {
        const value = values[i];
        if (value !== undefined) feeds.set(symbol, value);
      }
    };
    feed(theta, this.#theta.values);
    feed(grad, this.#grad.values);
    for (const [name, { inputs }] of Object.entries(slots)) feed(inputs, this.#slots[name].values);
    for (const [name, { inputs }] of Object.entries(numbers)) feed(inputs, this.#numbers[name]);
    return feeds;
  }

  #refuse(phase: number, refusal: string): GraphStep<T> {
    for (const { undo } of this.#graph.phases.slice(0, phase).reverse()) if (undo) this.#apply(undo);
    return { ...this.#result(), applied: false, refusal, restarted: false };
  }

  #finish(): GraphStep<T> {
    const { step, updates } = graphNumbers;
    this.#numbers[step][0]++;
    const counts = this.#numbers[updates];
    if (counts) for (const i of this.#graph.active) counts[i]++;
    const done = this.#result();
    if (!this.#restart) return { ...done, applied: true, restarted: false };
    const state = restartState(this.#graph, this.#runner, done.theta, done.state);
    for (const array of Object.values(done.state.slots).flat()) this.#runner.release(array);
    return { ...done, state, applied: true, restarted: true };
  }

  #result() {
    this.#grad.drop();
    return {
      theta: this.#theta.take(),
      state: {
        slots: Object.fromEntries(Object.entries(this.#slots).map(([name, arrays]) => [name, arrays.take()])),
        numbers: Object.fromEntries(Object.keys(this.#before.numbers).map((name) => [name, this.#numbers[name]])),
      },
      reports: this.#reports,
    };
  }
}
