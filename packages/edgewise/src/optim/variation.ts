/** @file Single numbers of an optimizer that change at every step: written where updates read them, and checked without building anything. */
import { ConfigError, nearest } from '../base/errors.ts';
import type { ParamLayout, Segment } from '../params/layout.ts';
import type { ParamVector } from '../params/vector.ts';
import { sameShape } from '../tensor/shape.ts';
import type { OptimizerDefinition, SlotSpec } from './definition.ts';
import { type Assignment, type Group, matching } from './groups.ts';
import { type Hyperparameter, problemOf, type Schema, type Values } from './hyperparameters.ts';
import { hyperName, type NumberTable } from './numbers.ts';

/** A number by its name, and where it goes. */
interface Variable {
  readonly name: string;
  /** Place in its list, where it is in one. */
  readonly index: number | undefined;
  /** What the number alone must meet. */
  readonly parameter: Hyperparameter;
  readonly at: Float64Array;
  /** Segments whose number it is; undefined where there is one for all. */
  readonly segments: readonly number[] | undefined;
  readonly holders: readonly Record<string, unknown>[];
}

/** Segments that the same groups choose. */
interface Class {
  readonly groups: readonly number[];
  readonly segments: readonly number[];
  readonly values: Record<string, unknown>;
}

/** The hyper-parameters of an optimizer, changed number by number. */
export class Variation<H extends Schema> {
  readonly #definition: OptimizerDefinition<H>;
  readonly #groups: readonly Group<H>[];
  readonly #numbers: NumberTable<H>;
  readonly #segments: readonly Segment[];
  /** Slots that depend on hyper-parameters. */
  readonly #conditional: readonly { readonly name: string; readonly spec: SlotSpec<H> }[];
  readonly #slots: Readonly<Record<string, ParamVector>>;
  readonly #base: Record<string, unknown> = {};
  readonly #classes: readonly Class[];
  readonly #variables = new Map<string, Variable>();

  constructor(
    definition: OptimizerDefinition<H>,
    groups: readonly Group<H>[],
    numbers: NumberTable<H>,
    layout: ParamLayout,
    slots: Readonly<Record<string, ParamVector>>,
  ) {
    this.#definition = definition;
    this.#groups = groups;
    this.#numbers = numbers;
    this.#segments = layout.segments;
    this.#slots = slots;
    this.#conditional = Object.entries<SlotSpec<H>>(definition.slots).flatMap(([name, spec]) =>
      spec.when || spec.shape ? [{ name, spec }] : [],
    );
    const chosen = groups.map(({ match }, g) => matching(`${definition.name}, group ${g + 1}`, layout, match));
    const members = new Map<string, { groups: number[]; segments: number[] }>();
    layout.segments.forEach((segment, i) => {
      const mine = chosen.flatMap((set, g) => (set.has(segment) ? [g] : []));
      const known = members.get(mine.join());
      if (known) known.segments.push(i);
      else members.set(mine.join(), { groups: mine, segments: [i] });
    });
    this.#classes = [...members.values()].map((each) => ({ ...each, values: {} }));
  }

  /** Starts from hyper-parameters that were set as a whole. */
  reset(values: Values<H>): void {
    Object.assign(this.#base, values);
    for (const each of this.#classes)
      Object.assign(each.values, values, ...each.groups.map((g) => this.#groups[g].values ?? {}));
  }

  /**
   * Writes a number.
   * @returns what there is one of it for, or undefined where it was that already.
   * @throws ConfigError as {@link Optimizer.vary}; nothing is changed then.
   */
  write(name: string, value: number): 'global' | 'tensor' | undefined {
    const variable = this.#variables.get(name) ?? this.#find(name);
    const { parameter, at, segments } = variable;
    const before = valueIn(variable, this.#base);
    if (Object.is(before, value)) return undefined;
    const problem = problemOf(parameter, value);
    if (problem) throw new ConfigError(`${this.#definition.name}: ${name} is ${value}; ${problem}.`);
    put(variable, value);
    try {
      this.#check(name, value);
    } catch (error) {
      put(variable, before);
      throw error;
    }
    if (!segments) {
      at[0] = value;
      return 'global';
    }
    for (const i of segments) at[i] = value;
    return 'tensor';
  }

  /** Whether a hyper-parameter has this value for every tensor. */
  isEverywhere(name: string, value: number): boolean {
    return this.#classes.every(({ values }) => values[name] === value);
  }

  /** All of them as they are now. */
  snapshot(before: readonly Assignment<H>[]): { values: Values<H>; assignments: Assignment<H>[] } {
    const assignments = [...before];
    for (const { segments, values } of this.#classes) {
      // Numbers were changed within what the schema allows; nothing else was.
      const copy = { ...values } as Values<H>;
      for (const i of segments) assignments[i] = { ...before[i], values: copy };
    }
    return { values: { ...this.#base } as Values<H>, assignments };
  }

  #find(name: string): Variable {
    const { name: optimizer, hyperparameters } = this.#definition;
    const names = Object.entries(hyperparameters).flatMap(([key, { kind, default: standard }]) => {
      if (kind === 'numbers' && Array.isArray(standard)) return standard.map((_, i) => `${key}.${i}`);
      return key !== 'lr' && (kind === 'number' || kind === 'integer') ? [key] : [];
    });
    if (!names.includes(name)) {
      const near = name === 'lr' ? undefined : nearest(name, names);
      throw new ConfigError(
        name === 'lr'
          ? `${optimizer}: the learning rate of a step is given to the step, not varied.`
          : `${optimizer} has no number '${name}' that could vary from step to step; ${near ? `did you mean '${near}'?` : `it has ${names.join(', ') || 'none'}.`}`,
      );
    }
    const [key, place] = name.split('.');
    const parameter = hyperparameters[key];
    const index = place === undefined ? undefined : Number(place);
    const { at, levels } = this.#numbers;
    const number = hyperName(key, index);
    const classes = this.#classes.filter(({ groups }) =>
      groups.every((g) => this.#groups[g].values?.[key] === undefined),
    );
    const { min, max, above, below, doc } = parameter as Extract<Hyperparameter, { kind: 'numbers' }>;
    const variable: Variable = {
      name: key,
      index,
      parameter: parameter.kind === 'numbers' ? { kind: 'number', default: 0, doc, min, max, above, below } : parameter,
      at: at[number],
      segments: levels.get(number) === 'tensor' ? classes.flatMap(({ segments }) => segments) : undefined,
      holders: [this.#base, ...classes.map(({ values }) => values)],
    };
    this.#variables.set(name, variable);
    return variable;
  }

  #check(name: string, value: number): void {
    const definition = this.#definition;
    if (definition.check)
      for (const values of [this.#base, ...this.#classes.map((each) => each.values)])
        definition.check(values as Values<H>);
    for (const { name: slot, spec } of this.#conditional) {
      const held = this.#slots[slot];
      const needed = this.#classes.some(({ values }) => spec.when?.(values as Values<H>) ?? true);
      const fits = ({ segments, values }: Class) =>
        segments.every((i) => {
          const segment = this.#segments[i];
          return (
            !spec.shape || sameShape(spec.shape(segment, values as Values<H>), held.layout.segment(segment.name).shape)
          );
        });
      if (held === undefined ? !needed : needed && this.#classes.every(fits)) continue;
      throw new ConfigError(
        `${definition.name}: ${name} cannot become ${value} while running: the state '${slot}' would ${held === undefined ? 'be missing' : needed ? 'have another shape' : 'no longer be needed'}; keep it on one side.`,
      );
    }
  }
}

function valueIn({ name, index }: Variable, values: Readonly<Record<string, unknown>>): number {
  const value = values[name];
  return Number(Array.isArray(value) && index !== undefined ? value[index] : value);
}

function put({ name, index, holders }: Variable, value: number): void {
  for (const values of holders) {
    const held = values[name];
    values[name] = Array.isArray(held) && index !== undefined ? held.with(index, value) : value;
  }
}
