/** @file An optimizer at work: a definition bound to parameters, gradient and state in memory. */
import { ConfigError, EdgewiseError, nearest } from '../base/errors.ts';
import { type BoundUpdate, type VectorDType, VectorSpace } from '../kernels/index.ts';
import type { ParamLayout, Segment } from '../params/layout.ts';
import type { ParamVector } from '../params/vector.ts';
import { type Backend, type Cost, interpreterBackend, wasmBackend } from './backend.ts';
import type { OptimizerDefinition, Stability } from './definition.ts';
import { type Assignment, assign, type Group, type Match } from './groups.ts';
import { completeValues, isStructural, type Schema, type Values } from './hyperparameters.ts';
import { extentsOf, NumberTable, RESTART, STEP, stateName, UPDATES, WHEN } from './numbers.ts';
import { type BoundPhase, bindPhases } from './phases.ts';
import { writePreconditioner } from './preconditioner.ts';
import {
  type OptimizerSettings,
  type OptimizerTarget,
  type ScalarState,
  type StepInputs,
  type StepReport,
  slotsUnder,
} from './settings.ts';
import { type Context, isEverywhere } from './trace.ts';
import { Variation } from './variation.ts';

export type { OptimizerSettings, OptimizerTarget, ScalarState, StepInputs, StepReport } from './settings.ts';

const APPLIED: StepReport = Object.freeze({ applied: true, restarted: false });
const APPLIED_RESTARTED: StepReport = Object.freeze({ applied: true, restarted: true });

/**
 * Binds a definition to parameters.
 *
 * The update is compiled to WebAssembly for the dtype of `theta`. `theta` and `grad` must lie in the memory of `space`;
 * the state is allocated there too.
 * @throws ConfigError for hyper-parameters and groups that do not fit, DeviceError where memory runs out.
 */
export function createOptimizer<H extends Schema, S extends string, C extends string>(
  definition: OptimizerDefinition<H, S, C>,
  settings: OptimizerSettings<H>,
  target: OptimizerTarget & { readonly space: VectorSpace },
): Optimizer<H, S, C> {
  return new Optimizer(definition, settings, target, wasmBackend(target.space, target.theta.dtype));
}

/** The same optimizer run by the reference interpreter in float64: slow, and the oracle of the compiled one. */
export function interpretOptimizer<H extends Schema, S extends string, C extends string>(
  definition: OptimizerDefinition<H, S, C>,
  settings: OptimizerSettings<H>,
  target: OptimizerTarget,
): Optimizer<H, S, C> {
  return new Optimizer(definition, settings, target, interpreterBackend);
}

/** Bytes of a {@link VectorSpace} that the state takes, and the tables of its kernels: for `reserve`, so that nothing moves later. */
export function stateBytes<H extends Schema, S extends string, C extends string>(
  definition: OptimizerDefinition<H, S, C>,
  settings: OptimizerSettings<H>,
  layout: ParamLayout,
  dtype: VectorDType,
): number {
  const values = completeValues(definition.name, definition.hyperparameters, settings.values ?? {});
  const assignments = assign(
    definition.name,
    definition.hyperparameters,
    values,
    settings.groups ?? [],
    settings.frozen,
    layout,
  );
  const slots = [...slotsUnder(definition, assignments, layout).values()];
  // Tables of kernels: rows of spans and totals, for each stage and each outcome of its conditions.
  const rows = layout.segments.reduce((sum, segment) => sum + extentsOf(segment).rows, 0);
  return (
    slots.reduce((sum, { size }) => sum + VectorSpace.bytesFor(size, dtype, 1), 0) +
    2 ** 20 +
    1024 * layout.segments.length +
    128 * rows
  );
}

export class Optimizer<H extends Schema = Schema, S extends string = string, C extends string = string> {
  readonly definition: OptimizerDefinition<H, S, C>;
  readonly layout: ParamLayout;
  /** The state by name, laid out as the parameters unless the definition says otherwise. */
  readonly slots: Readonly<Record<string, ParamVector>>;
  readonly #settings: { values: Values<H>; readonly groups: readonly Group<H>[]; readonly frozen: Match | undefined };
  readonly #target: OptimizerTarget;
  readonly #backend: Backend;
  readonly #segments: readonly Segment[];
  readonly #numbers: NumberTable<H>;
  #assignments: Assignment<H>[];
  #context: Context<H>;
  #phases: readonly BoundPhase[] = [];
  #evaluated: BoundUpdate | undefined;
  /** Numbers that vary, from the first time one does. */
  #variation: Variation<H> | undefined;
  /** Whether `#settings` and `#assignments` are older than what varied. */
  #varied = false;
  /** Segments that are not frozen. */
  readonly #awake: readonly number[];
  /** Segments updated in the last step; those that are awake and not in `#absentKey`. */
  #active: readonly number[];
  #absentKey = '';
  #started = false;
  /** Whether {@link step} can take a step. */
  #synchronous = true;

  /** @internal Use {@link createOptimizer}. */
  constructor(
    definition: OptimizerDefinition<H, S, C>,
    settings: OptimizerSettings<H>,
    target: OptimizerTarget,
    backend: Backend,
  ) {
    const { theta, grad } = target;
    theta.layout.assertSame(grad.layout, 'the gradient given to the optimizer');
    backend.check(theta, 'parameter vector');
    backend.check(grad, 'gradient');
    this.definition = definition;
    this.layout = theta.layout;
    this.#target = target;
    this.#backend = backend;
    this.#segments = theta.layout.segments;
    const values = completeValues(definition.name, definition.hyperparameters, settings.values ?? {});
    this.#settings = { values, groups: settings.groups ?? [], frozen: settings.frozen };
    this.#assignments = this.#assign(values);
    this.#awake = this.#assignments.flatMap(({ frozen }, i) => (frozen ? [] : [i]));
    this.#active = this.#awake;
    this.slots = Object.fromEntries(
      [...slotsUnder(definition, this.#assignments, theta.layout)].map(([name, layout]) => [
        name,
        backend.allocate(layout),
      ]),
    );
    this.#numbers = new NumberTable(definition, this.#settings.groups, this.#segments);
    this.#numbers.write(values, this.#assignments);
    this.#numbers.at.baseLr[0] = this.lr;
    this.#initialize(Object.keys(this.slots), Object.keys(definition.scalars ?? {}));
    this.#context = this.#build();
  }

  /** Whether a step may evaluate gradients beside the one that `grad` holds at its beginning, or works on whole tensors: it is taken with {@link stepWith} then. */
  get needsStepWith(): boolean {
    return this.furtherEvaluations > 0 || this.definition.phases.some(({ over }) => over === 'tensors');
  }

  /** Largest number of gradients that a step evaluates beside the one that `grad` holds at its beginning. */
  get furtherEvaluations(): number {
    const { evaluations } = this.definition;
    if (evaluations) return evaluations.most - 1;
    let held: string | undefined = 'loss';
    let count = 0;
    for (const { evaluate, movesParameters } of this.#phases) {
      if (evaluate !== undefined && evaluate !== held) count++;
      held = movesParameters ? undefined : (evaluate ?? held);
    }
    return count;
  }

  /** Stages, that is passes over the vector, that a step takes. */
  get stages(): number {
    return this.#costs.reduce((sum, { stages }) => sum + stages, 0);
  }

  /** Bytes of memory that a step reads and writes for each parameter. */
  get bytesPerParameter(): number {
    return this.#costs.reduce((sum, { traffic }) => sum + traffic, 0);
  }

  /** Reductions that a step takes over all parameters, and over each tensor (or row). */
  get reductions(): { readonly model: number; readonly tensor: number } {
    const counts = this.#costs.map(({ reductions }) => reductions);
    return {
      model: counts.reduce((sum, { model }) => sum + model, 0),
      tensor: counts.reduce((sum, { tensor }) => sum + tensor, 0),
    };
  }

  /** Size of the WebAssembly code compiled so far: stages are compiled when they first run. */
  get codeBytes(): number {
    return this.#costs.reduce((sum, cost) => sum + cost.codeBytes(), 0);
  }

  /** The learning rate used where a step is told none. */
  get lr(): number {
    const { lr }: Values<Schema> = this.values;
    return Number(lr);
  }

  /** The hyper-parameters in force for parameters that no group changes. */
  get values(): Values<H> {
    this.#catchUp();
    return this.#settings.values;
  }

  /** What each parameter is updated with: the dry run of a configuration. */
  get assignments(): readonly Assignment<H>[] {
    this.#catchUp();
    return this.#assignments;
  }

  /** Sharpness above which training at rate `lr` diverges on a quadratic, where theory gives one. */
  stability(lr: number = this.lr): Stability | undefined {
    return this.definition.stability?.({ ...this.values, lr });
  }

  /**
   * Writes the diagonal P that {@link stability} refers to where it holds for the preconditioned Hessian, at the present state.
   * @returns whether there is one: the rule has no preconditioner, or no step was taken yet.
   */
  preconditioner(out: ParamVector): boolean {
    const { preconditioner }: OptimizerDefinition<H> = this.definition;
    if (!preconditioner || !(this.#numbers.at[STEP][0] > 0)) return false;
    const { theta, grad } = this.#target;
    writePreconditioner(this.#context, preconditioner, this.#segments, { theta, grad, ...this.slots }, out);
    return true;
  }

  /** Whether another point than the one trained is evaluated and exported, such as an average. */
  get evaluatesElsewhere(): boolean {
    return this.definition.evaluated !== undefined;
  }

  /**
   * Runs `work` with the parameters at the point that is to be evaluated and exported, and puts back the trained ones to the bit.
   * The same point where the definition has no other, or no step was taken yet.
   */
  async atEvaluated<T>(work: () => Promise<T> | T): Promise<T> {
    if (!this.#evaluated || !this.#started) return work();
    const { theta } = this.#target;
    const trained = theta.data.slice();
    try {
      // Numbers of tensors that were equal when it last ran may differ now: one that was absent has those of its own steps.
      this.#evaluated.invalidate();
      // Which tensors have equal numbers may have changed since.
      this.#evaluated.invalidate();
      this.#evaluated.run();
      return await work();
    } finally {
      theta.data.set(trained);
    }
  }

  /** Numbers the rule reported in the last applied step, such as the gradient norm. */
  get report(): Record<string, number> {
    return this.#numbers.report();
  }

  /**
   * One step, for rules that need no gradient but the one in `grad`.
   * @throws ConfigError for a learning rate that is not a number of at least 0, or an unknown name in `absent`;
   *   EdgewiseError where the rule {@link needsStepWith}.
   */
  step(inputs: StepInputs = {}): StepReport {
    if (!this.#synchronous) {
      throw new EdgewiseError(
        `${this.definition.name}: a step evaluates further gradients or works on whole tensors; call stepWith.`,
      );
    }
    this.#begin(inputs);
    for (let i = 0; i < this.#phases.length; i++) {
      const { when, update } = this.#phases[i];
      if (when && !this.#takesPlace(when)) continue;
      const refused = update.run();
      if (typeof refused === 'number' && refused >= 0) return this.#refuse(i, refused);
    }
    return this.#end();
  }

  /**
   * One step of any rule.
   * @param evaluate Called with the name of what the rule wants evaluated (`loss` for the gradient of the training loss
   *   on the same batch); writes its gradient at the current parameters to `grad` and returns the loss there.
   */
  async stepWith(evaluate: (what: string) => Promise<number> | number, inputs: StepInputs = {}): Promise<StepReport> {
    this.#begin(inputs);
    let held: string | undefined = 'loss';
    for (const [i, phase] of this.#phases.entries()) {
      if (phase.when && !this.#takesPlace(phase.when)) continue;
      if (phase.evaluate !== undefined && phase.evaluate !== held) {
        this.#numbers.at.loss[0] = await evaluate(phase.evaluate);
        held = phase.evaluate;
      }
      const refused = await phase.update.run();
      if (refused >= 0) return this.#refuse(i, refused);
      if (phase.movesParameters) held = undefined;
    }
    return this.#end();
  }

  /** Sets the state that the rule's restart clears, and the step counter, back to their initial values. */
  restart(): void {
    const { slots = [], scalars = [] } = this.definition.restart ?? {};
    this.#initialize(
      slots.filter((name) => name in this.slots),
      scalars,
    );
    for (const name of [STEP, UPDATES]) this.#numbers.at[name]?.fill(0);
    this.#invalidate();
  }

  /**
   * Changes hyper-parameters from the next step on.
   * @throws ConfigError for values that do not fit, or that would need state the optimizer does not have.
   */
  set(changes: Partial<Values<H>>): void {
    const { hyperparameters } = this.definition;
    const before = this.values;
    const { values, assignments } = this.#changed(changes);
    this.#settings.values = values;
    this.#assignments = assignments;
    this.#numbers.write(values, assignments);
    this.#variation?.reset(values);
    // Before the first step, as if made with it.
    if (!this.#started) this.#numbers.at.baseLr[0] = this.lr;
    const sameStructure =
      Object.entries(hyperparameters).every(
        ([key, parameter]) => !isStructural(parameter) || before[key] === values[key],
      ) &&
      [...this.#context.answers.values()].every(
        ({ name: key, value, answer }) => isEverywhere(assignments, key, value) === answer,
      );
    if (sameStructure) this.#invalidate();
    else this.#context = this.#build();
  }

  /** Throws what {@link set} would, and changes nothing. */
  checkChanges(changes: Partial<Values<H>>): void {
    this.#changed(changes);
  }

  /**
   * Writes one number of the hyper-parameters, for schedules: `weightDecay`, or `betas.0` for the first of a list. Parameters whose group
   * has a value of its own keep it. Takes microseconds: nothing is assigned anew, and the update is built anew only where it was
   * built on an answer about this hyper-parameter that becomes another (see `RuleSymbols.is`).
   * @throws ConfigError for what is no number of the optimizer, `lr` (told at each step), a value outside what is allowed, or one
   *   that would need other state; nothing is changed then.
   */
  vary(name: string, value: number): void {
    if (!this.#variation) {
      this.#variation = new Variation(this.definition, this.#settings.groups, this.#numbers, this.layout, this.slots);
      this.#variation.reset(this.values);
    }
    const variation = this.#variation;
    const written = variation.write(name, value);
    if (!written) return;
    this.#varied = true;
    for (const asked of this.#context.answers.values()) {
      if (asked.name !== name || variation.isEverywhere(name, asked.value) === asked.answer) continue;
      this.#context = this.#build();
      return;
    }
    // Numbers for all are read at each run; those of tensors decide which tensors run together.
    if (written === 'tensor') this.#invalidate();
  }

  /** The numbers of the state, for a checkpoint beside {@link slots}. */
  scalarState(): ScalarState {
    return {
      ...Object.fromEntries(this.#numbers.state().map(([name, values]) => [name, [...values]])),
      '#started': [this.#started ? 1 : 0],
      '#baseLr': [this.#numbers.at.baseLr[0]],
    };
  }

  /**
   * Puts back what {@link scalarState} returned; write the {@link slots} as well. The steps that follow are then those
   * of the optimizer it came from, to the bit.
   * @throws ConfigError where it belongs to another optimizer or model; nothing is changed then.
   */
  restoreScalars(state: ScalarState): void {
    const { name: optimizer } = this.definition;
    const own = this.scalarState();
    for (const name of Object.keys(state)) {
      if (Object.hasOwn(own, name)) continue;
      const near = nearest(name, Object.keys(own));
      throw new ConfigError(
        `${optimizer}: the saved state has a number '${name}' that this optimizer does not${near ? ` (it has '${near}')` : ''}; resume with the optimizer it was saved by.`,
      );
    }
    for (const [name, { length }] of Object.entries(own)) {
      const values: unknown = state[name];
      if (Array.isArray(values) && values.length === length && values.every((x) => typeof x === 'number')) continue;
      throw new ConfigError(
        `${optimizer}: the saved state has ${Array.isArray(values) ? `${values.length} values` : 'nothing'} for '${name}', ${length} numbers are wanted; resume with the optimizer and model it was saved by.`,
      );
    }
    for (const [name, values] of Object.entries(state)) {
      if (name === '#started') this.#started = values[0] !== 0;
      else this.#numbers.at[name === '#baseLr' ? 'baseLr' : stateName(name)].set(values);
    }
    this.#invalidate();
  }

  #begin({ lr = this.lr, loss = Number.NaN, absent }: StepInputs): void {
    if (!(lr >= 0 && lr < Number.POSITIVE_INFINITY))
      throw new ConfigError(
        `${this.definition.name}: the learning rate of a step is ${lr}; give a finite number of at least 0.`,
      );
    const { at } = this.#numbers;
    at.lr[0] = lr;
    at.loss[0] = loss;
    if (absent !== undefined || this.#absentKey !== '') this.#leaveAlone(absent ?? []);
    if (!this.#started) this.#start();
  }

  get #costs(): readonly Cost[] {
    return this.#phases.flatMap(({ costs }) => costs);
  }

  #takesPlace(when: BoundUpdate): boolean {
    when.run();
    return this.#numbers.at[WHEN][0] !== 0;
  }

  /** Undoes the phases before the one that was refused. */
  #refuse(phase: number, refused: number): StepReport {
    for (let k = phase - 1; k >= 0; k--) this.#phases[k].undo?.run();
    return { applied: false, refusal: this.#phases[phase].refusals[refused], restarted: false };
  }

  #end(): StepReport {
    const { at } = this.#numbers;
    at[STEP][0]++;
    const updates = at[UPDATES];
    if (updates !== undefined) for (let k = 0; k < this.#active.length; k++) updates[this.#active[k]]++;
    if (at[RESTART][0] === 0) return APPLIED;
    at[RESTART][0] = 0;
    this.restart();
    return APPLIED_RESTARTED;
  }

  /** Takes copies of the parameters that state starts from. */
  #start(): void {
    for (const [name, slot] of Object.entries(this.slots))
      if (this.#initOf(name) === 'theta') slot.data.set(this.#target.theta.data);
    this.#started = true;
  }

  #leaveAlone(absent: Iterable<string>): void {
    const away = new Set([...absent].map((name) => this.#segments.indexOf(this.layout.segment(name))));
    const key = [...away].sort((a, b) => a - b).join();
    if (key === this.#absentKey) return;
    this.#absentKey = key;
    this.#active = this.#awake.filter((i) => !away.has(i));
    this.#activate();
  }

  /** Slots of another layout than the parameters'. */
  #shaped(): ReadonlyMap<string, ParamLayout> {
    return new Map(
      Object.entries(this.slots).flatMap(([name, { layout }]) => (layout === this.layout ? [] : [[name, layout]])),
    );
  }

  #activate(): void {
    for (const phase of this.#phases) phase.activate(this.#active);
  }

  #invalidate(): void {
    for (const phase of this.#phases) phase.invalidate();
    this.#evaluated?.invalidate();
  }

  /** What {@link set} would change to. */
  #changed(changes: Partial<Values<H>>): { values: Values<H>; assignments: Assignment<H>[] } {
    const { name, hyperparameters } = this.definition;
    const values = completeValues(name, hyperparameters, { ...this.values, ...changes });
    const assignments = this.#assign(values);
    const needed = slotsUnder(this.definition, assignments, this.layout);
    const had = Object.keys(this.slots);
    const names = [...needed.keys()];
    if (names.join() !== had.join()) {
      throw new ConfigError(
        `${name}: ${JSON.stringify(changes)} cannot be set while running: the state would be ${names.join(', ') || 'empty'} instead of ${had.join(', ') || 'empty'}.`,
      );
    }
    const reshaped = names.find((slot) => needed.get(slot)?.difference(this.slots[slot].layout) !== undefined);
    if (reshaped !== undefined) {
      throw new ConfigError(
        `${name}: ${JSON.stringify(changes)} cannot be set while running: ${reshaped} would have other shapes.`,
      );
    }
    return { values, assignments };
  }

  #catchUp(): void {
    if (!this.#varied || !this.#variation) return;
    this.#varied = false;
    const { values, assignments } = this.#variation.snapshot(this.#assignments);
    this.#settings.values = values;
    this.#assignments = assignments;
  }

  #assign(values: Values<H>): Assignment<H>[] {
    const { name, hyperparameters } = this.definition;
    const assignments = assign(
      name,
      hyperparameters,
      values,
      this.#settings.groups,
      this.#settings.frozen,
      this.layout,
    );
    for (const each of [values, ...assignments.map((assignment) => assignment.values)]) this.definition.check?.(each);
    return assignments;
  }

  #initOf(slot: string): number | 'theta' {
    const { slots }: OptimizerDefinition<H> = this.definition;
    return slots[slot].init?.(this.values) ?? 0;
  }

  #initialize(slots: readonly string[], scalars: readonly string[]): void {
    const { scalars: specs = {} }: OptimizerDefinition<H> = this.definition;
    for (const name of slots) {
      const init = this.#initOf(name);
      if (init === 'theta') this.slots[name].data.set(this.#target.theta.data);
      else this.slots[name].fill(init);
    }
    for (const name of scalars) this.#numbers.at[stateName(name)].fill(specs[name].init?.(this.values) ?? 0);
  }

  /** Traces the rule under the present settings and binds what comes out. */
  #build(): Context<H> {
    const { theta, grad, tensors } = this.#target;
    const current = () => this.assignments;
    const context: Context<H> = {
      definition: this.definition,
      slots: Object.keys(this.slots),
      shaped: this.#shaped(),
      numbers: this.#numbers,
      // What is traced later asks about the numbers as they are then.
      get assignments() {
        return current();
      },
      answers: new Map(),
    };
    const bound = bindPhases(context, this.#segments, { theta, grad, ...this.slots }, this.#backend, tensors);
    this.#phases = bound.phases;
    this.#evaluated = bound.evaluated;
    this.#evaluated?.activate(this.#awake);
    this.#activate();
    this.#synchronous = !this.needsStepWith;
    return context;
  }
}
