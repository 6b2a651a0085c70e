/** @file A compiled update at work on vectors in memory: tables, host numbers, and the order in which they run. */
import { EdgewiseError } from '../base/errors.ts';
import type { Binding, BoundUpdate, CompiledUpdate, StageCode, StageFunction } from './compiled.ts';
import type { Level } from './domain.ts';
import { globalsBytes, globalsOffset, SPAN_HEADER, spanBytes } from './emit.ts';
import type { Expression } from './expression.ts';
import { functions } from './functions.ts';
import { type Extents, folds, hostInstruction, type Instruction, type Register } from './host.ts';
import { conditionsOf, type Stage } from './plan.ts';
import { bytesOf, type VectorDType, type VectorSpace } from './space.ts';

/** A number that goes to a kernel, as a column of a table. */
interface Column {
  readonly register: Register;
  readonly bool: boolean;
  readonly level: Level;
}

interface Total {
  readonly register: Register;
  readonly level: Level;
  readonly start: number;
  readonly combine: (a: number, b: number) => number;
}

/** A stage under one set of conditions, with its tables in memory. */
interface Variant {
  readonly stage: Stage;
  readonly run: StageFunction;
  readonly globals: readonly Column[];
  readonly locals: readonly Column[];
  readonly totals: readonly Total[];
  readonly globalsAt: number;
  /** Where the globals' numbers start. */
  readonly numbersAt: number;
  /** Bytes of a row of the span table. */
  readonly stride: number;
  spansAt: number;
  resultsAt: number;
  /** Spans the tables have room for. */
  capacity: number;
  spanCount: number;
  /** Class of each span. */
  classes: Int32Array;
  /** The arrangement of tensors that the spans were made for. */
  arrangement: number;
}

interface BoundStage {
  readonly index: number;
  readonly totals: readonly Total[];
  readonly conditions: readonly (Column & { readonly x: Expression })[];
  /** By what is known of the conditions: a digit each, in base 3. */
  readonly variants: Map<number, Variant>;
}

const [FALSE, TRUE, MIXED] = [0, 1, 2];

/** Finds, for each span or row, its value in a register. */
const countAt = (level: Level, { classes, rows }: Extents): number =>
  level === 'global' ? 1 : level === 'tensor' ? classes : rows;

export class WasmUpdate implements BoundUpdate {
  readonly #compiled: CompiledUpdate;
  readonly #binding: Binding;
  readonly #space: VectorSpace;
  readonly #registers = new Map<Expression, Register>();
  readonly #host: readonly (readonly Instruction[])[];
  readonly #stages: readonly BoundStage[];
  readonly #guards: readonly Register[];
  readonly #extents: Extents = { classes: 0, rows: 0, rowClass: new Int32Array(0) };
  /** Inputs of which there is one a tensor; those that hold for all are read where they are. */
  readonly #inputs: readonly { readonly from: Float64Array; readonly register: Register }[];
  readonly #outputs: readonly {
    readonly to: Float64Array;
    readonly register: Register;
    readonly everySegment: boolean;
    readonly perTensor: boolean;
  }[];
  readonly #tables: Tables;
  #active: readonly number[];
  /** A segment of each class. */
  #representatives = new Int32Array(0);
  /** Class of each active segment. */
  #classOf = new Int32Array(0);
  #stale = true;
  #arrangement = 0;

  constructor(compiled: CompiledUpdate, binding: Binding, space: VectorSpace) {
    this.#compiled = compiled;
    this.#binding = binding;
    this.#space = space;
    this.#tables = new Tables(space, compiled.dtype);
    const { plan } = compiled;
    const { segments } = binding;
    this.#active = segments.map((_, i) => i);
    const inputs: { from: Float64Array; register: Register }[] = [];
    const lengths = {
      global: 1,
      tensor: segments.length,
      row: segments.reduce((sum, { rows }) => sum + rows, 0),
      element: 0,
    };
    const registerOf = (x: Expression): Register => {
      const known = this.#registers.get(x);
      if (known) return known;
      const from =
        x.op === 'scalar' ? checked(binding.scalars, x.name!, x.level === 'tensor' ? segments.length : 1) : undefined;
      const register = from && x.level === 'global' ? from : new Float64Array(lengths[x.level]);
      if (from && x.level !== 'global') inputs.push({ from, register });
      if (x.op === 'constant') register[0] = x.value!;
      this.#registers.set(x, register);
      return register;
    };
    this.#host = plan.host.map((list) => list.map((x) => hostInstruction(x, registerOf, this.#extents)));
    this.#guards = plan.update.guards.map(registerOf);
    this.#outputs = [...plan.update.results].map(([name, x]) => {
      const to = binding.results[name];
      const allowed: Readonly<Record<Level, readonly number[]>> = {
        global: [1, segments.length],
        tensor: [segments.length],
        row: [],
        element: [],
      };
      if (!allowed[x.level].includes(to?.length)) {
        throw new EdgewiseError(
          `Update rule: result '${name}' is one number for each ${x.level}, but is bound to ${to?.length ?? 0} numbers of ${segments.length} tensors.`,
        );
      }
      return { to, register: registerOf(x), everySegment: to.length !== 1, perTensor: x.level === 'tensor' };
    });
    this.#stages = plan.stages.map((stage, index) => {
      for (const x of [...stage.globals, ...stage.locals]) registerOf(x);
      return {
        index,
        totals: stage.reductions.map(({ total }) => ({
          register: registerOf(total),
          level: total.level,
          start: folds[total.op][0],
          combine: folds[total.op][1],
        })),
        conditions: conditionsOf(stage).map((x) => ({ x, ...this.#column(x) })),
        variants: new Map(),
      };
    });
    this.#inputs = inputs;
  }

  activate(segments: readonly number[]): void {
    this.#active = segments;
    this.#stale = true;
  }

  invalidate(): void {
    this.#stale = true;
  }

  run(): number {
    if (this.#stale) this.#arrange();
    this.#tables.refresh();
    const { classes } = this.#extents;
    for (let i = 0; i < this.#inputs.length; i++) {
      const { from, register } = this.#inputs[i];
      for (let c = 0; c < classes; c++) register[c] = from[this.#representatives[c]];
    }
    const last = this.#stages.length - 1;
    for (let i = 0; i <= last; i++) {
      runAll(this.#host[i]);
      if (i === last) {
        for (let g = 0; g < this.#guards.length; g++) if (this.#guards[g][0] !== 0) return g;
      }
      this.#runStage(this.#stages[i]);
    }
    runAll(this.#host[last + 1]);
    this.#handOut();
    return -1;
  }

  #handOut(): void {
    for (let i = 0; i < this.#outputs.length; i++) {
      const { to, register, everySegment, perTensor } = this.#outputs[i];
      if (everySegment)
        for (let k = 0; k < this.#active.length; k++) to[this.#active[k]] = register[perTensor ? this.#classOf[k] : 0];
      else to[0] = register[0];
    }
  }

  #runStage(bound: BoundStage): void {
    for (let i = 0; i < bound.totals.length; i++) {
      const { register, level, start } = bound.totals[i];
      register.fill(start, 0, countAt(level, this.#extents));
    }
    const variant = this.#variant(bound);
    if (variant.arrangement !== this.#arrangement) this.#arrangeSpans(variant);
    const { globals, locals, numbersAt, spanCount, classes, spansAt, stride, resultsAt, totals } = variant;
    if (spanCount === 0) return;
    const tables = this.#tables;
    for (let i = 0; i < globals.length; i++) tables.put(numbersAt, i, globals[i].register[0], globals[i].bool);
    for (let i = 0; i < locals.length; i++) {
      const { register, bool, level } = locals[i];
      for (let s = 0; s < spanCount; s++)
        tables.put(spansAt + s * stride + SPAN_HEADER, i, register[level === 'row' ? s : classes[s]], bool);
    }
    variant.run(spansAt, spansAt + spanCount * stride, variant.globalsAt, resultsAt);
    for (let r = 0; r < totals.length; r++) {
      const { register, level, combine } = totals[r];
      for (let s = 0; s < spanCount; s++) {
        const at = level === 'global' ? 0 : level === 'row' ? s : classes[s];
        register[at] = combine(register[at], tables.total(resultsAt, s * totals.length + r));
      }
    }
  }

  /** The stage under the conditions that hold in this step. */
  #variant({ index, conditions, variants, totals }: BoundStage): Variant {
    let key = 0;
    for (let i = 0; i < conditions.length; i++) key = 3 * key + this.#stateOf(conditions[i]);
    const known = variants.get(key);
    if (known) return known;
    const values = conditions.flatMap(({ x, ...column }) => {
      const state = this.#stateOf(column);
      return state === MIXED ? [] : [[x, state === TRUE] as const];
    });
    const made = this.#bindVariant(this.#compiled.stageCode(index, new Map(values)), totals);
    variants.set(key, made);
    return made;
  }

  /** Whether a condition holds for all classes, for none, or for some. */
  #stateOf({ register, level }: Column): number {
    const first = register[0] !== 0;
    if (level === 'tensor')
      for (let c = 1; c < this.#extents.classes; c++) if ((register[c] !== 0) !== first) return MIXED;
    return first ? TRUE : FALSE;
  }

  #column(x: Expression): Column {
    return { register: this.#registers.get(x)!, bool: x.bool, level: x.level };
  }

  #bindVariant({ stage, module, imports }: StageCode, totals: readonly Total[]): Variant {
    const { dtype } = this.#compiled;
    const globalsAt = this.#space.allocBytes(globalsBytes(stage, dtype));
    this.#tables.refresh();
    stage.vectors.forEach((name, i) => {
      this.#tables.integer(globalsAt, i, this.#binding.vectors[name].byteOffset);
    });
    const { exports } = new WebAssembly.Instance(module, {
      env: { memory: this.#space.memory },
      host: Object.fromEntries(imports.map(({ name }) => [name, functions[name]])),
    });
    return {
      stage,
      // The module was written to export a function of this type.
      run: exports.f0 as StageFunction,
      globals: stage.globals.map((x) => this.#column(x)),
      locals: stage.locals.map((x) => this.#column(x)),
      totals,
      globalsAt,
      numbersAt: globalsAt + globalsOffset(stage),
      stride: spanBytes(stage, dtype),
      spansAt: 0,
      resultsAt: 0,
      capacity: 0,
      spanCount: 0,
      classes: new Int32Array(0),
      arrangement: -1,
    };
  }

  /** Sorts the active segments into classes. */
  #arrange(): void {
    const { segments } = this.#binding;
    const classes = new Map<string, number>();
    const representatives: number[] = [];
    this.#classOf = Int32Array.from(this.#active, (segment) => {
      const key = this.#compiled.plan.perTensor
        ? String(segment)
        : this.#inputs.map(({ from }) => from[segment]).join();
      const known = classes.get(key);
      if (known !== undefined) return known;
      classes.set(key, representatives.length);
      return representatives.push(segment) - 1;
    });
    this.#representatives = Int32Array.from(representatives);
    this.#extents.classes = representatives.length;
    this.#extents.rowClass = Int32Array.from(
      this.#active.flatMap((segment, k) => new Array<number>(segments[segment].rows).fill(this.#classOf[k])),
    );
    this.#extents.rows = this.#extents.rowClass.length;
    this.#arrangement++;
    this.#stale = false;
  }

  /** Writes the span table: stretches of elements that a stage may run over without a stop. */
  #arrangeSpans(variant: Variant): void {
    const { stage, stride } = variant;
    const { segments } = this.#binding;
    const spans: { start: number; length: number; class: number }[] = [];
    this.#active.forEach((segment, k) => {
      const { offset, length, rows } = segments[segment];
      const group = this.#classOf[k];
      if (stage.grain === 'row') {
        for (let r = 0; r < rows; r++)
          spans.push({ start: offset + (r * length) / rows, length: length / rows, class: group });
        return;
      }
      const previous = spans.at(-1);
      const joins =
        previous &&
        stage.reductions.length === 0 &&
        previous.start + previous.length === offset &&
        (stage.grain === 'global' || previous.class === group);
      if (joins) previous.length += length;
      else spans.push({ start: offset, length, class: group });
    });
    if (spans.length > variant.capacity) {
      variant.capacity = spans.length;
      variant.spansAt = this.#space.allocBytes(spans.length * stride);
      variant.resultsAt = this.#space.allocBytes(spans.length * stage.reductions.length * 8);
    }
    variant.spanCount = stage.writes.length === 0 && stage.reductions.length === 0 ? 0 : spans.length;
    variant.classes = Int32Array.from(spans, (span) => span.class);
    variant.arrangement = this.#arrangement;
    this.#tables.refresh();
    const size = bytesOf(this.#compiled.dtype);
    const lanes = 16 / size;
    spans.forEach(({ start, length }, i) => {
      const at = variant.spansAt + i * stride;
      this.#tables.integer(at, 0, start * size);
      this.#tables.integer(at, 1, Math.floor(length / lanes));
      this.#tables.integer(at, 2, length % lanes);
    });
  }
}

function runAll(instructions: readonly Instruction[]): void {
  for (let i = 0; i < instructions.length; i++) instructions[i]();
}

/** Typed views of the space's memory, for numbers that go to and come from kernels. */
class Tables {
  readonly #space: VectorSpace;
  readonly #wide: boolean;
  #ints = new Int32Array(0);
  #narrow = new Float32Array(0);
  #doubles = new Float64Array(0);

  constructor(space: VectorSpace, dtype: VectorDType) {
    this.#space = space;
    this.#wide = dtype === 'float64';
  }

  /** Takes new views where the memory has grown: views of before have length 0 then. */
  refresh(): void {
    if (this.#ints.length > 0) return;
    const { buffer } = this.#space.memory;
    this.#ints = new Int32Array(buffer);
    this.#narrow = new Float32Array(buffer);
    this.#doubles = new Float64Array(buffer);
  }

  put(base: number, index: number, value: number, bool: boolean): void {
    if (!bool) {
      if (this.#wide) this.#doubles[base / 8 + index] = value;
      else this.#narrow[base / 4 + index] = value;
      return;
    }
    const mask = value !== 0 ? -1 : 0;
    if (this.#wide) this.#ints.fill(mask, base / 4 + 2 * index, base / 4 + 2 * index + 2);
    else this.#ints[base / 4 + index] = mask;
  }

  integer(base: number, index: number, value: number): void {
    this.#ints[base / 4 + index] = value;
  }

  total(base: number, index: number): number {
    return this.#doubles[base / 8 + index];
  }
}

function checked(arrays: Readonly<Record<string, Float64Array>>, name: string, length: number): Float64Array {
  const array = arrays[name];
  if (array?.length === length) return array;
  throw new EdgewiseError(
    `Update: '${name}' is bound to ${array ? `${array.length} numbers` : 'nothing'}; ${length} are wanted.`,
  );
}
