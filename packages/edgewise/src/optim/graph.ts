/**
 * @file A step as tensor graphs over a model's own tensors: what runs a rule where our kernels do not, such as inside another framework
 * or as part of an exported model.
 */
import { EdgewiseError } from '../base/errors.ts';
import { type Level, NOMINALS } from '../kernels/index.ts';
import { ParamLayout, type Segment } from '../params/layout.ts';
import { inputsOf } from '../tensor/evaluate.ts';
import { cast } from '../tensor/ops/elementwise.ts';
import { expand } from '../tensor/ops/layout.ts';
import { type Shape, sameShape } from '../tensor/shape.ts';
import { constant, input, type Tensor } from '../tensor/tensor.ts';
import type { OptimizerDefinition, ScalarSpec } from './definition.ts';
import { inPrecision, NominalTranslation, type Precision } from './graph-translate.ts';
import { type Assignment, assign } from './groups.ts';
import { completeValues, type Schema, type Values } from './hyperparameters.ts';
import { extentsOf, NumberTable, RESTART, STEP, stateName, UPDATES, WHEN } from './numbers.ts';
import { type OptimizerSettings, slotsUnder } from './settings.ts';
import { type Context, type Rule, symbolize, traceUpdate, writesOf } from './trace.ts';

/** One parameter of a model. */
export interface GraphParam {
  readonly name: string;
  readonly shape: Shape;
  readonly tags?: readonly string[];
}

export interface StepGraphOptions {
  /** Element type of parameters, gradients and slots; float64 by default. Numbers are float64 always. */
  readonly elements?: 'float32' | 'float64';
  /** Parameters without a gradient in this step, by name: neither they nor their state are part of it. */
  readonly absent?: Iterable<string>;
}

/** A number that the graph reads: one for all, or one a parameter. */
export interface GraphNumber {
  readonly per: 'optimizer' | 'tensor';
  /** Symbols of shape [] and dtype float64: a single one, or one a parameter. */
  readonly inputs: readonly Tensor[];
  /** Values before the first step, under the settings given. */
  readonly initial: readonly number[];
}

export interface GraphSlot {
  /** One symbol a parameter. */
  readonly inputs: readonly Tensor[];
  /** What it holds before the first step: a number, or a copy of the parameters taken then. */
  readonly init: number | 'theta';
}

/** New values, all computed from those before; by parameter, undefined where the parameter has no part in it. What is left out stays. */
export interface GraphUpdate {
  readonly theta?: readonly (Tensor | undefined)[];
  readonly slots: Readonly<Record<string, readonly (Tensor | undefined)[]>>;
  /** By the names of {@link StepGraph.numbers}: a single one, or one a parameter. */
  readonly numbers: Readonly<Record<string, readonly (Tensor | undefined)[]>>;
  /** Conditions (boolean, shape []) under which the step is refused: nothing is written, and earlier phases are undone. */
  readonly guards: readonly { readonly when: Tensor; readonly because: string }[];
  /** Numbers worth recording. */
  readonly reports: Readonly<Record<string, Tensor>>;
  /** Where this holds (boolean, shape []), the optimizer restarts after the step. */
  readonly restart?: Tensor;
}

/** A part of a step; it reads what the one before wrote. */
export interface GraphPhase extends GraphUpdate {
  /** The gradient that `grad` must hold, by name; `loss` is that of the training loss. What the phase before had where left out. */
  readonly evaluate?: string;
  /** Whether the phase takes place (boolean, shape []); always where left out. */
  readonly when?: Tensor;
  /** What to do where a later phase of the same step is refused. */
  readonly undo?: GraphUpdate;
}

/** The symbols and updates of a rule for the parameters of a model. */
export interface StepGraph {
  readonly definition: OptimizerDefinition;
  readonly layout: ParamLayout;
  /** Hyper-parameters for parameters that no group changes. */
  readonly values: Values<Schema>;
  readonly elements: 'float32' | 'float64';
  /** Parameters that take part, by index; the others are frozen or absent. */
  readonly active: readonly number[];
  /** θ and g, a symbol a parameter. */
  readonly theta: readonly Tensor[];
  readonly grad: readonly Tensor[];
  readonly slots: Readonly<Record<string, GraphSlot>>;
  /**
   * `lr` is the rate in force and `loss` the loss at the parameters (NaN where unknown), both set before each step; `state.*` is state,
   * of which `state.#step` counts applied steps and `state.#updates`, where it exists, those of each parameter; the rest follows from the settings.
   */
  readonly numbers: Readonly<Record<string, GraphNumber>>;
  readonly phases: readonly GraphPhase[];
  /** The point that is evaluated and exported, from the state after a step, where it is not θ. */
  readonly evaluated?: readonly (Tensor | undefined)[];
  /** What a restart sets back to its first value, beside the counters. */
  readonly restart: { readonly slots: readonly string[]; readonly numbers: readonly string[] };
  /** The largest number of gradients that a step evaluates beside the one at its beginning. */
  readonly furtherEvaluations: number;
  /** Whether a step depends on the value of the loss. */
  readonly readsLoss: boolean;
}

/** Names of numbers that a step graph reads, beyond `h.*` and `state.*`. */
export const graphNumbers = { step: STEP, updates: UPDATES } as const;

/**
 * A rule as graphs over the tensors of a model.
 * @throws ConfigError for settings that do not fit; EdgewiseError for a rule that has no such form.
 */
export function stepGraph<H extends Schema, S extends string, C extends string>(
  definition: OptimizerDefinition<H, S, C>,
  settings: OptimizerSettings<H>,
  params: readonly GraphParam[],
  { elements = 'float64', absent = [] }: StepGraphOptions = {},
): StepGraph {
  // A rule is read through its schema only, so the names of its state and options may be forgotten.
  const erased = definition as unknown as OptimizerDefinition;
  return new Builder(
    erased,
    settings as unknown as OptimizerSettings,
    new ParamLayout(params),
    elements,
    absent,
  ).build();
}

class Builder {
  readonly #definition: OptimizerDefinition;
  readonly #layout: ParamLayout;
  readonly #precision: Precision & { readonly elements: 'float32' | 'float64' };
  readonly #values: Values<Schema>;
  readonly #assignments: readonly Assignment[];
  readonly #active: readonly number[];
  readonly #slotLayouts: ReadonlyMap<string, ParamLayout>;
  readonly #table: NumberTable<Schema>;
  readonly #context: Context<Schema>;
  /** Real symbols, by name of the vector or number. */
  readonly #vectors: Readonly<Record<string, readonly Tensor[]>>;
  readonly #numbers: Readonly<Record<string, readonly Tensor[]>>;

  constructor(
    definition: OptimizerDefinition,
    settings: OptimizerSettings,
    layout: ParamLayout,
    elements: 'float32' | 'float64',
    absent: Iterable<string>,
  ) {
    this.#definition = definition;
    this.#layout = layout;
    this.#precision = { elements, numbers: 'float64' };
    const { name, hyperparameters } = definition;
    const { groups = [], frozen } = settings;
    this.#values = completeValues(name, hyperparameters, settings.values ?? {});
    this.#assignments = assign(name, hyperparameters, this.#values, groups, frozen, layout);
    for (const values of [this.#values, ...this.#assignments.map((each) => each.values)]) definition.check?.(values);
    const away = new Set([...absent].map((each) => layout.segment(each)));
    this.#active = this.#assignments.flatMap(({ segment, frozen: still }, i) =>
      still || away.has(segment) ? [] : [i],
    );
    this.#slotLayouts = slotsUnder(definition, this.#assignments, layout);
    this.#table = new NumberTable(definition, groups, layout.segments);
    this.#table.write(this.#values, this.#assignments);
    for (const rate of ['lr', 'baseLr']) this.#table.at[rate][0] = Number(this.#values.lr);
    this.#table.at.loss[0] = Number.NaN;
    for (const [scalar, { init }] of Object.entries<ScalarSpec<Schema>>(definition.scalars ?? {}))
      this.#table.at[stateName(scalar)].fill(init?.(this.#values) ?? 0);
    this.#context = {
      definition,
      slots: [...this.#slotLayouts.keys()],
      shaped: new Map([...this.#slotLayouts].filter(([, own]) => own !== layout)),
      numbers: this.#table,
      assignments: this.#assignments,
      answers: new Map(),
    };
    this.#vectors = Object.fromEntries(
      ['theta', 'grad', ...this.#slotLayouts.keys()].map((vector) => [
        vector,
        (this.#slotLayouts.get(vector) ?? layout).segments.map((segment) =>
          input(`${vector}:${segment.name}`, segment.shape, elements),
        ),
      ]),
    );
    this.#numbers = Object.fromEntries(
      [...this.#table.levels].map(([number, level]) => [number, this.#numberSymbols(number, level)]),
    );
  }

  build(): StepGraph {
    const { phases: all, restart, evaluated } = this.#definition;
    const phases = all.flatMap((phase): GraphPhase | GraphPhase[] => {
      const { evaluate, when, undo, over } = phase;
      const only = phase.only ?? (over === 'tensors' ? ({ shape }: Segment) => shape.length > 1 : () => true);
      const chosen = this.#active.filter((i) => only(this.#layout.segments[i]));
      if (over === 'tensors' && when)
        // Each tensor has its own condition: it may depend on how many updates the tensor had.
        return chosen.map((i, k) => ({
          evaluate: k === 0 ? evaluate : undefined,
          when: this.#vectorUpdate((s) => ({ when: when(s) }), [i]).when,
          ...this.#tensorUpdate(phase.update, [i]),
          undo: undo && this.#vectorUpdate(undo, [i]).update,
        }));
      const condition = when && this.#vectorUpdate((s) => ({ when: when(s) }), this.#active);
      return {
        evaluate,
        when: condition?.when,
        ...(over === 'tensors'
          ? this.#tensorUpdate(phase.update, chosen)
          : this.#vectorUpdate(phase.update, chosen).update),
        undo: undo && this.#vectorUpdate(undo, chosen).update,
      };
    });
    return {
      definition: this.#definition,
      layout: this.#layout,
      values: this.#values,
      elements: this.#precision.elements,
      active: this.#active,
      theta: this.#vectors.theta,
      grad: this.#vectors.grad,
      slots: Object.fromEntries(
        [...this.#slotLayouts.keys()].map((slot) => [
          slot,
          { inputs: this.#vectors[slot], init: this.#definition.slots[slot].init?.(this.#values) ?? 0 },
        ]),
      ),
      numbers: Object.fromEntries(
        [...this.#table.levels].flatMap(([number, level]) =>
          number in EXTENTS
            ? []
            : [
                [
                  number,
                  {
                    per: level === 'tensor' ? ('tensor' as const) : ('optimizer' as const),
                    inputs: this.#numbers[number],
                    initial: [...this.#table.at[number]],
                  },
                ],
              ],
        ),
      ),
      phases,
      evaluated: evaluated && this.#vectorUpdate((s) => ({ theta: evaluated(s) }), this.#awake()).update.theta,
      restart: {
        slots: restart?.slots.filter((slot) => this.#slotLayouts.has(slot)) ?? [],
        numbers: restart?.scalars.map(stateName) ?? [],
      },
      furtherEvaluations: furtherEvaluations(phases),
      readsLoss: phases.some((phase) => readsAny(phase, this.#numbers.loss)),
    };
  }

  #awake(): number[] {
    return this.#assignments.flatMap(({ frozen }, i) => (frozen ? [] : [i]));
  }

  #numberSymbols(name: string, level: Level): Tensor[] {
    const { segments } = this.#layout;
    if (isExtent(name)) return segments.map((segment) => constant(extentsOf(segment)[name], [], 'float64'));
    if (level === 'tensor') return segments.map((segment) => input(`${name}:${segment.name}`, [], 'float64'));
    return [input(name, [], 'float64')];
  }

  /** A rule over all tensors at once. */
  #vectorUpdate(
    rule: Rule<Schema>,
    chosen: readonly number[],
  ): { readonly update: GraphUpdate; readonly when?: Tensor } {
    const [first, second] = NOMINALS.map((nominal) => {
      const { graph, refusals } = traceUpdate(this.#context, nominal, rule);
      const known = new Map<Tensor, readonly Tensor[]>();
      for (const [name, symbol] of Object.entries(graph.vectors))
        known.set(
          symbol,
          chosen.map((i) => this.#vectors[name][i]),
        );
      for (const [name, { symbol }] of Object.entries(graph.scalars)) {
        const real = this.#numbers[name];
        known.set(symbol, this.#table.levels.get(name) === 'tensor' ? chosen.map((i) => real[i]) : real);
      }
      const to = new NominalTranslation(
        nominal,
        chosen.map((i) => this.#layout.segments[i]),
        this.#precision,
        known,
      );
      const { theta, ...slots } = Object.fromEntries(
        Object.entries(graph.writes).map(([name, tensor]) => [name, this.#spread(to.elements(tensor), chosen)]),
      );
      const results = Object.entries(graph.results).map(([name, tensor]) => [name, to.at(tensor)] as const);
      const single = (name: string) => results.find(([other]) => other === name)?.[1][0];
      const update: GraphUpdate = {
        theta,
        slots,
        numbers: Object.fromEntries(
          results.flatMap(([name, parts]) =>
            name.startsWith('state.') ? [[name, this.#scalar(name, parts, chosen)]] : [],
          ),
        ),
        guards: refusals.map(({ because }, k) => ({ when: to.at(graph.guards[k])[0], because })),
        reports: Object.fromEntries(
          results.flatMap(([name, parts]) =>
            name.startsWith('report.') ? [[name.slice('report.'.length), parts[0]]] : [],
          ),
        ),
        restart: single(RESTART),
      };
      return { update, when: single(WHEN) };
    });
    // Symbols are interned: the same rule under other nominal extents is the same graph.
    if (!tensorsOf(first).every((tensor, i) => tensor === tensorsOf(second)[i]))
      throw new EdgewiseError(
        `${this.#definition.name}: its rule builds the extents of symbols into constants; use size, rows and columns instead.`,
      );
    return first;
  }

  /** A rule that works on one tensor after the other. */
  #tensorUpdate(rule: Rule<Schema>, chosen: readonly number[]): GraphUpdate {
    const { segments } = this.#layout;
    const updates = chosen.map((i) => {
      const shapeOf = (vector: string) => this.#vectors[vector][i].shape;
      const { symbols, vectors, scalars } = symbolize(this.#context, (level, name) =>
        input(name, level === 'element' ? shapeOf(name) : [], 'float64'),
      );
      const { theta, slots, ...rest } = rule(symbols);
      const others = Object.entries(rest).flatMap(([what, value]) => (value === undefined ? [] : [what]));
      if (others.length > 0)
        throw new EdgewiseError(
          `${this.#definition.name}: a phase over tensors writes theta and slots only, not ${others.join(', ')}.`,
        );
      const known = new Map<Tensor, Tensor>();
      for (const [name, symbol] of Object.entries(vectors)) known.set(symbol, this.#vectors[name][i]);
      for (const [name, symbol] of Object.entries(scalars)) {
        const real = this.#numbers[name];
        known.set(symbol, this.#table.levels.get(name) === 'tensor' ? real[i] : real[0]);
      }
      const writes = Object.entries(writesOf(this.#context, { theta, slots }));
      const made = inPrecision(
        writes.map(([, tensor]) => tensor),
        known,
        this.#precision,
      );
      return new Map(
        writes.map(([name], k) => {
          const value = cast(made[k], this.#precision.elements);
          return [name, sameShape(value.shape, shapeOf(name)) ? value : expand(value, shapeOf(name))];
        }),
      );
    });
    const names = new Set(updates.flatMap((update) => [...update.keys()]));
    const { theta, ...slots } = Object.fromEntries(
      [...names].map((name) => {
        const byIndex = new Map(chosen.map((i, k) => [i, updates[k].get(name)]));
        return [name, segments.map((_, i) => byIndex.get(i))];
      }),
    );
    return { theta, slots, numbers: {}, guards: [], reports: {} };
  }

  /** One a parameter, from one for each chosen one. */
  #spread(parts: readonly Tensor[], chosen: readonly number[]): (Tensor | undefined)[] {
    const all = this.#layout.segments.map((): Tensor | undefined => undefined);
    for (const [k, i] of chosen.entries()) all[i] = parts[k];
    return all;
  }

  #scalar(name: string, parts: readonly Tensor[], chosen: readonly number[]): readonly (Tensor | undefined)[] {
    const values = parts.map((part): Tensor => cast(part, 'float64'));
    if (this.#table.levels.get(name) !== 'tensor') return values.slice(0, 1);
    return this.#spread(values.length === 1 ? chosen.map(() => values[0]) : values, chosen);
  }
}

type Extent = keyof ReturnType<typeof extentsOf>;
const EXTENTS: Readonly<Record<Extent, true>> = { size: true, rows: true, columns: true, rank: true };
const isExtent = (name: string): name is Extent => name in EXTENTS;

/** Every tensor of an update, in an order that depends on the rule only. */
function tensorsOf({ update, when }: { readonly update: GraphUpdate; readonly when?: Tensor }): (Tensor | undefined)[] {
  const { theta = [], slots, numbers, guards, reports, restart } = update;
  return [
    ...theta,
    ...Object.values(slots).flat(),
    ...Object.values(numbers).flat(),
    ...guards.map((guard) => guard.when),
    ...Object.values(reports),
    restart,
    when,
  ];
}

function readsAny({ when, undo, ...update }: GraphPhase, symbols: readonly Tensor[]): boolean {
  const outputs = [...tensorsOf({ update, when }), ...(undo ? tensorsOf({ update: undo }) : [])];
  const inputs = inputsOf(outputs.filter((tensor): tensor is Tensor => tensor !== undefined));
  return symbols.some((symbol) => inputs.includes(symbol));
}

function furtherEvaluations(phases: readonly GraphPhase[]): number {
  let held: string | undefined = 'loss';
  let count = 0;
  for (const { evaluate, theta } of phases) {
    if (evaluate !== undefined && evaluate !== held) count++;
    held = theta ? undefined : (evaluate ?? held);
  }
  return count;
}
