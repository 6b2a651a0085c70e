/** @file An optimizer at work: a definition bound to parameters, gradient and state in memory. */
import { ConfigError, EdgewiseError, nearest } from '../base/errors.ts';
import { type BoundUpdate, type Level, type VectorDType, VectorSpace } from '../kernels/index.ts';
import type { ParamLayout, Segment } from '../params/layout.ts';
import type { ParamVector } from '../params/vector.ts';
import { type Backend, interpreterBackend, wasmBackend } from './backend.ts';
import type { OptimizerDefinition, SlotSpec, Stability } from './definition.ts';
import { type Assignment, assign, type Group, type Match } from './groups.ts';
import { completeValues, type Hyperparameter, type Schema, type Values } from './hyperparameters.ts';
import {
  type Answers,
  COUNT,
  type GraphPair,
  isEverywhere,
  type Numbers,
  RESTART,
  scalarName,
  tracePhases,
  WHEN,
} from './trace.ts';

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

/** Bytes of a {@link VectorSpace} that parameters, gradient and state take: for `reserve`, so that nothing moves later. */
export function bytesNeeded<H extends Schema, S extends string, C extends string>(
  definition: OptimizerDefinition<H, S, C>,
  settings: OptimizerSettings<H>,
  layout: ParamLayout,
  dtype: VectorDType,
): number {
  const values = completeValues(definition.name, definition.hyperparameters, settings.values ?? {});
  const slots = slotsUnder(
    definition,
    assign(definition.name, definition.hyperparameters, values, settings.groups ?? [], settings.frozen, layout),
  );
  return VectorSpace.bytesFor(layout.size, dtype, 2 + slots.length) + 256 * layout.segments.length;
}

interface BoundPhase {
  readonly evaluate: string | undefined;
  readonly update: BoundUpdate;
  readonly when: BoundUpdate | undefined;
  readonly undo: BoundUpdate | undefined;
  readonly refusals: readonly string[];
}

export class Optimizer<H extends Schema = Schema, S extends string = string, C extends string = string> {
  readonly definition: OptimizerDefinition<H, S, C>;
  readonly layout: ParamLayout;
  /** The state by name, laid out as the parameters. */
  readonly slots: Readonly<Record<string, ParamVector>>;
  /** Stages, that is passes over the vector, that a step takes. */
  stages = 0;
  readonly #settings: { values: Values<H>; readonly groups: readonly Group<H>[]; readonly frozen: Match | undefined };
  readonly #target: OptimizerTarget;
  readonly #backend: Backend;
  readonly #segments: readonly Segment[];
  readonly #index: ReadonlyMap<string, number>;
  /** Every number updates read or hand out, by name. */
  readonly #numbers: Record<string, Float64Array> = {};
  #assignments: Assignment<H>[] = [];
  #answers: Answers = new Map();
  #phases: BoundPhase[] = [];
  #updates: BoundUpdate[] = [];
  /** Segments that are not frozen. */
  #awake: number[] = [];
  /** Key of the segments updated last. */
  #activeKey = '';
  #active: readonly number[] = [];
  #started = false;
  readonly #perTensorCount: boolean;
  readonly #levels = new Map<string, Level>();
  readonly #tame = new Set<string>();
  #codeBytes: (() => number)[] = [];

  /** @internal Use {@link createOptimizer}. */
  constructor(
    definition: OptimizerDefinition<H, S, C>,
    settings: OptimizerSettings<H>,
    target: OptimizerTarget,
    backend: Backend,
  ) {
    const { theta, grad } = target;
    theta.layout.assertSame(grad.layout, 'the gradient given to the optimizer');
    backend.check(theta, 'parameters');
    backend.check(grad, 'gradient');
    this.definition = definition;
    this.layout = theta.layout;
    this.#target = target;
    this.#backend = backend;
    this.#segments = theta.layout.segments;
    this.#index = new Map(this.#segments.map(({ name }, i) => [name, i]));
    this.#settings = {
      values: completeValues(definition.name, definition.hyperparameters, settings.values ?? {}),
      groups: settings.groups ?? [],
      frozen: settings.frozen,
    };
    this.#assignments = this.#assign(this.#settings.values);
    this.#perTensorCount = (definition.counter ?? 'tensor') === 'tensor';
    this.slots = Object.fromEntries(
      slotsUnder(definition, this.#assignments).map((name) => [name, backend.allocate(theta.layout)]),
    );
    this.#declareNumbers();
    this.#initialize(Object.keys(this.slots), Object.keys(definition.scalars ?? {}));
    this.#writeNumbers();
    this.#numbers.baseLr[0] = this.lr;
    this.#awake = this.#assignments.flatMap(({ frozen }, i) => (frozen ? [] : [i]));
    this.#active = this.#awake;
    this.#build();
  }

  /** Gradient evaluations a step needs beside the one that `grad` holds at its beginning. */
  get furtherEvaluations(): number {
    return this.definition.phases.filter(({ evaluate }, i) => evaluate !== undefined && i > 0).length;
  }

  /** Size of the WebAssembly code compiled so far: stages are compiled when they first run. */
  get codeBytes(): number {
    return this.#codeBytes.reduce((sum, bytes) => sum + bytes(), 0);
  }

  /** The learning rate used where a step is told none. */
  get lr(): number {
    return lrOf(this.#settings.values);
  }

  /** The hyper-parameters in force for parameters that no group changes. */
  get values(): Values<H> {
    return this.#settings.values;
  }

  /** What each parameter is updated with: the dry run of a configuration. */
  get assignments(): readonly Assignment<H>[] {
    return this.#assignments;
  }

  /** Sharpness above which training at rate `lr` diverges on a quadratic, where theory gives one. */
  stability(lr: number = this.lr): Stability | undefined {
    return this.definition.stability?.({ ...this.#settings.values, lr });
  }

  /** Numbers the rule reported in the last applied step, such as the gradient norm. */
  get report(): Record<string, number> {
    const prefix = scalarName.report('');
    return Object.fromEntries(
      Object.entries(this.#numbers).flatMap(([name, values]) =>
        name.startsWith(prefix) ? [[name.slice(prefix.length), values[0]]] : [],
      ),
    );
  }

  /**
   * One step, for rules that need no gradient but the one in `grad`.
   * @throws ConfigError for a learning rate that is not a number of at least 0, or an unknown name in `absent`;
   *   EdgewiseError where the rule needs {@link stepWith}.
   */
  step(inputs: StepInputs = {}): StepReport {
    if (this.furtherEvaluationsNeeded)
      throw new EdgewiseError(
        `${this.definition.name}: a step evaluates the gradient ${this.furtherEvaluations + 1} times; call stepWith and pass a function that does so.`,
      );
    this.#begin(inputs);
    let restarted = false;
    for (let i = 0; i < this.#phases.length; i++) {
      const refusal = this.#runPhase(i);
      if (refusal !== undefined) return { applied: false, refusal, restarted: false };
    }
    restarted = this.#end();
    return restarted ? APPLIED_RESTARTED : APPLIED;
  }

  /**
   * One step of any rule.
   * @param evaluate Called with the name of what the rule wants evaluated (`loss` for the gradient of the training loss
   *   on the same batch); writes its gradient at the current parameters to `grad` and returns the loss there.
   */
  async stepWith(evaluate: (what: string) => Promise<number> | number, inputs: StepInputs = {}): Promise<StepReport> {
    this.#begin(inputs);
    for (let i = 0; i < this.#phases.length; i++) {
      const phase = this.#phases[i];
      if (!this.#takesPlace(phase)) continue;
      if (phase.evaluate !== undefined && i > 0) this.#numbers.loss[0] = await evaluate(phase.evaluate);
      const refusal = this.#runPhase(i);
      if (refusal !== undefined) return { applied: false, refusal, restarted: false };
    }
    return this.#end() ? APPLIED_RESTARTED : APPLIED;
  }

  /** Sets the state that the rule's restart clears, and the step counter, back to their initial values. */
  restart(): void {
    const { slots = [], scalars = [] } = this.definition.restart ?? {};
    this.#initialize(slots, scalars);
    this.#numbers[COUNT].fill(0);
    this.#invalidate();
  }

  /**
   * Changes hyper-parameters from the next step on.
   * @throws ConfigError for values that do not fit, or that would need state the optimizer does not have.
   */
  set(values: Partial<Values<H>>): void {
    const merged = completeValues(this.definition.name, this.definition.hyperparameters, {
      ...this.#settings.values,
      ...values,
    });
    const assignments = this.#assign(merged);
    const slots = slotsUnder(this.definition, assignments);
    if (slots.join() !== Object.keys(this.slots).join()) {
      throw new ConfigError(
        `${this.definition.name}: ${Object.keys(values).join(', ')} cannot be changed to ${JSON.stringify(values)} while running: the state would be ${slots.join(', ') || 'empty'} instead of ${Object.keys(this.slots).join(', ') || 'empty'}.`,
      );
    }
    const before = this.#settings.values;
    this.#settings.values = merged;
    this.#assignments = assignments;
    this.#writeNumbers();
    const flagsKept = Object.entries(this.definition.hyperparameters).every(
      ([name, { kind }]) => (kind !== 'flag' && kind !== 'choice') || before[name] === merged[name],
    );
    const answersKept = [...this.#answers.values()].every(
      ({ name, value, answer }) => isEverywhere(assignments, name, value) === answer,
    );
    if (flagsKept && answersKept) this.#invalidate();
    else this.#build();
  }

  /** The numbers of the state, for a checkpoint beside {@link slots}. */
  scalarState(): ScalarState {
    const state = Object.entries(this.#numbers).filter(([name]) => name.startsWith('state.'));
    return {
      ...Object.fromEntries(state.map(([name, values]) => [name.slice('state.'.length), [...values]])),
      started: [this.#started ? 1 : 0],
      baseLr: [this.#numbers.baseLr[0]],
    };
  }

  /**
   * Puts back what {@link scalarState} returned; write the {@link slots} as well. The steps that follow are then those
   * of the optimizer it came from, to the bit.
   * @throws ConfigError where it belongs to another optimizer or model; nothing is changed then.
   */
  restoreScalars(state: ScalarState): void {
    const own = this.scalarState();
    for (const name of Object.keys(state)) {
      if (!(name in own)) {
        const near = nearest(name, Object.keys(own));
        throw new ConfigError(
          `${this.definition.name}: the saved state has a number '${name}' that this optimizer does not${near ? ` (it has '${near}')` : ''}; resume with the optimizer it was saved by.`,
        );
      }
    }
    for (const [name, { length }] of Object.entries(own)) {
      const values = state[name];
      if (!Array.isArray(values) || values.length !== length || !values.every((x) => typeof x === 'number')) {
        throw new ConfigError(
          `${this.definition.name}: the saved state has ${Array.isArray(values) ? `${values.length} numbers` : 'nothing'} for '${name}', ${length} are wanted; resume with the optimizer and model it was saved by.`,
        );
      }
    }
    for (const [name, values] of Object.entries(state)) {
      if (name === 'started') this.#started = values[0] !== 0;
      else this.#numbers[name === 'baseLr' ? name : scalarName.state(name)].set(values);
    }
    this.#invalidate();
  }

  get furtherEvaluationsNeeded(): boolean {
    return this.furtherEvaluations > 0;
  }

  #begin({ lr = this.lr, loss = Number.NaN, absent }: StepInputs): void {
    if (!(lr >= 0 && lr < Number.POSITIVE_INFINITY))
      throw new ConfigError(
        `${this.definition.name}: the learning rate of a step is ${lr}; give a finite number of at least 0.`,
      );
    this.#numbers.lr[0] = lr;
    this.#numbers.loss[0] = loss;
    if (absent !== undefined || this.#activeKey !== '') this.#activate(absent === undefined ? [] : [...absent]);
    if (!this.#started) this.#start();
  }

  #takesPlace({ when }: BoundPhase): boolean {
    if (!when) return true;
    when.run();
    return this.#numbers[WHEN][0] !== 0;
  }

  /** Runs phase i; where it is refused, undoes the phases before it and says why. */
  #runPhase(i: number): string | undefined {
    const refused = this.#phases[i].update.run();
    if (refused < 0) return undefined;
    for (let k = i - 1; k >= 0; k--) this.#phases[k].undo?.run();
    return this.#phases[i].refusals[refused];
  }

  #end(): boolean {
    const count = this.#numbers[COUNT];
    if (this.#perTensorCount) for (let k = 0; k < this.#active.length; k++) count[this.#active[k]]++;
    else count[0]++;
    if (this.#numbers[RESTART][0] === 0) return false;
    this.#numbers[RESTART][0] = 0;
    this.restart();
    return true;
  }

  /** Takes copies of the parameters that state starts from. */
  #start(): void {
    for (const [name, slot] of Object.entries(this.slots))
      if (this.#initOf(name) === 'theta') slot.data.set(this.#target.theta.data);
    this.#started = true;
  }

  #activate(absent: readonly string[]): void {
    const away = new Set(absent.map((name) => this.#index.get(this.layout.segment(name).name)!));
    const key = [...away].sort((a, b) => a - b).join();
    if (key === this.#activeKey) return;
    this.#activeKey = key;
    this.#active = this.#awake.filter((i) => !away.has(i));
    for (const update of this.#updates) update.activate(this.#active);
  }

  #invalidate(): void {
    for (const update of this.#updates) update.invalidate();
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
    for (const assignment of assignments) this.definition.check?.(assignment.values);
    if (assignments.length === 0) this.definition.check?.(values);
    return assignments;
  }

  #initOf(slot: string): number | 'theta' {
    // `slots` holds the names of the definition.
    return this.definition.slots[slot as S].init?.(this.#settings.values) ?? 0;
  }

  #initialize(slots: readonly string[], scalars: readonly string[]): void {
    for (const name of slots) {
      const init = this.#initOf(name);
      if (init === 'theta') this.slots[name].data.set(this.#target.theta.data);
      else this.slots[name].fill(init);
    }
    for (const name of scalars)
      this.#numbers[scalarName.state(name)].fill(
        this.definition.scalars?.[name as C].init?.(this.#settings.values) ?? 0,
      );
  }

  /** Makes room for every number, one for all or one a tensor; where each lies never changes. */
  #declareNumbers(): void {
    const { hyperparameters, scalars = {} } = this.definition;
    const { groups } = this.#settings;
    const declare = (name: string, level: Level, tame: boolean) => {
      this.#levels.set(name, level);
      if (tame) this.#tame.add(name);
      this.#numbers[name] = new Float64Array(level === 'tensor' ? this.#segments.length : 1);
    };
    const differs = (name: string): Level =>
      groups.some(({ values }) => values?.[name] !== undefined) ? 'tensor' : 'global';
    declare(COUNT, this.#perTensorCount ? 'tensor' : 'global', true);
    for (const [name, { per }] of Object.entries<{ per: 'tensor' | 'optimizer' }>(scalars))
      declare(scalarName.state(name), per === 'tensor' ? 'tensor' : 'global', false);
    for (const [name, parameter] of Object.entries(hyperparameters)) {
      for (const key of numberNames(name, parameter)) declare(key, differs(name), true);
    }
    for (const name of ['lr', 'baseLr']) declare(name, 'global', true);
    declare('loss', 'global', false);
    if (groups.some(({ lrScale = 1 }) => lrScale !== 1)) declare('lrScale', 'tensor', true);
    for (const name of ['size', 'rows', 'columns', 'rank'] as const) {
      declare(name, 'tensor', true);
      this.#numbers[name].set(this.#segments.map((segment) => extentsOf(segment)[name]));
    }
  }

  /** Writes hyper-parameters to where updates read them. */
  #writeNumbers(): void {
    const write = (name: string, of: (values: Values<H>) => number) => {
      const to = this.#numbers[name];
      if (this.#levels.get(name) === 'global') to[0] = of(this.#settings.values);
      else to.set(this.#assignments.map(({ values }) => of(values)));
    };
    for (const [name, parameter] of Object.entries(this.definition.hyperparameters)) {
      numberNames(name, parameter).forEach((key, i) => {
        write(key, (values) => {
          const value: unknown = values[name];
          return Number(Array.isArray(value) ? value[i] : value);
        });
      });
    }
    if ('lrScale' in this.#numbers) this.#numbers.lrScale.set(this.#assignments.map(({ lrScale }) => lrScale));
  }

  /** Traces the rule under the present settings and binds the result. */
  #build(): void {
    this.#answers = new Map();
    const numbers: Numbers = { levels: this.#levels, tame: this.#tame };
    const slots = Object.keys(this.slots);
    const traced = tracePhases(this.definition, slots, numbers, this.#assignments, this.#answers);
    const segments = this.#segments.map((segment) => ({
      offset: segment.offset,
      length: segment.length,
      rows: extentsOf(segment).rows,
    }));
    const vectors = Object.fromEntries(
      Object.entries({ theta: this.#target.theta, grad: this.#target.grad, ...this.slots }).map(([name, vector]) => [
        name,
        { byteOffset: vector.byteOffset, view: () => vector.data },
      ]),
    );
    this.#updates = [];
    this.#codeBytes = [];
    this.stages = 0;
    for (const name of [WHEN, RESTART]) this.#numbers[name] = new Float64Array(1);
    const bind = (graphs: GraphPair | undefined): BoundUpdate | undefined => {
      if (!graphs) return undefined;
      for (const name of Object.keys(graphs[0].results)) this.#numbers[name] ??= new Float64Array(1);
      const { update, codeBytes, stages } = this.#backend.bind(graphs, {
        segments,
        vectors,
        scalars: this.#numbers,
        results: this.#numbers,
      });
      update.activate(this.#active);
      this.#updates.push(update);
      this.#codeBytes.push(codeBytes);
      this.stages += stages;
      return update;
    };
    this.#phases = traced.map(({ evaluate, update, when, undo, refusals }) => ({
      evaluate,
      update: bind(update)!,
      when: bind(when),
      undo: bind(undo),
      refusals,
    }));
  }
}

function slotsUnder<H extends Schema, S extends string, C extends string>(
  { slots }: OptimizerDefinition<H, S, C>,
  assignments: readonly Assignment<H>[],
): string[] {
  return Object.entries<SlotSpec<H>>(slots).flatMap(([name, spec]) =>
    assignments.some(({ values }) => spec.when?.(values) ?? true) ? [name] : [],
  );
}

/** Names of the numbers that a hyper-parameter consists of; none for flags and choices. */
function numberNames(name: string, parameter: Hyperparameter): string[] {
  if (name === 'lr' || parameter.kind === 'flag' || parameter.kind === 'choice') return [];
  return parameter.kind === 'numbers'
    ? parameter.default.map((_, i) => scalarName.hyper(name, i))
    : [scalarName.hyper(name)];
}

function extentsOf({ shape, length }: Segment): { size: number; rows: number; columns: number; rank: number } {
  const rows = shape.length > 1 ? shape[0] : 1;
  return { size: length, rows, columns: rows === 0 ? 0 : length / rows, rank: shape.length };
}

function lrOf(values: Values<Schema>): number {
  return Number(values.lr);
}
