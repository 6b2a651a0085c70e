/** @file Updates compiled to WebAssembly and bound to vectors in memory. */
import { EdgewiseError } from '../base/errors.ts';
import type { Level, Segment, UpdateGraph } from './domain.ts';
import { emitStage, globalsBytes, globalsOffset, SPAN_HEADER, spanBytes } from './emit.ts';
import { type Expression, translate, type Update } from './expression.ts';
import { functions } from './functions.ts';
import { type Extents, folds, hostInstruction, type Instruction, type Register } from './host.ts';
import { fingerprint, type Plan, planUpdate, type Stage } from './plan.ts';
import { bytesOf, type VectorArray, type VectorDType, type VectorSpace } from './space.ts';
import { encodeModule, type ImportedFunction } from './wasm.ts';

/** Where an update finds what it reads and writes. */
export interface Binding {
  readonly segments: readonly Segment[];
  /** Vectors by name, laid out as `segments` say. */
  readonly vectors: Readonly<Record<string, { readonly byteOffset: number; view(): VectorArray }>>;
  /** Inputs by name: one number, or one a segment. Read at each run. */
  readonly scalars: Readonly<Record<string, Float64Array>>;
  /** Results by name, likewise; may be the arrays that inputs are read from. Those that hold for all go to each segment. */
  readonly results: Readonly<Record<string, Float64Array>>;
}

/** An update that can be run. */
export interface BoundUpdate {
  /** The segments to update from now on, by index, in order; the others are left alone to the bit. All at first. */
  activate(segments: readonly number[]): void;
  /** Says that inputs of which there is one a segment were changed by someone other than this update. */
  invalidate(): void;
  /** Runs the update. Returns the index of the guard that refused it, in which case nothing has changed, or -1. */
  run(): number;
}

/** The type of a stage's WebAssembly function. */
type StageFunction = (spans: number, end: number, globals: number, results: number) => void;

/** An update as WebAssembly code, independent of where its vectors lie. */
export class CompiledUpdate {
  readonly plan: Plan;
  readonly dtype: VectorDType;
  readonly module: WebAssembly.Module;
  /** Size of the WebAssembly module. */
  readonly codeBytes: number;
  readonly imports: readonly ImportedFunction[];

  constructor(update: Update, dtype: VectorDType) {
    this.plan = planUpdate(update);
    this.dtype = dtype;
    const imports: ImportedFunction[] = [];
    const importOf = (name: string) => {
      const known = imports.findIndex((entry) => entry.name === name);
      if (known >= 0) return known;
      return imports.push({ name, arity: functions[name].length }) - 1;
    };
    const code = encodeModule(
      imports,
      this.plan.stages.map((stage) => emitStage(stage, dtype, importOf)),
    );
    this.imports = imports;
    this.codeBytes = code.length;
    this.module = new WebAssembly.Module(code);
  }

  bind(binding: Binding, space: VectorSpace): BoundUpdate {
    return new WasmUpdate(this, binding, space);
  }
}

const compiled = new Map<string, CompiledUpdate>();

/**
 * Compiles the update that `trace` describes; equal updates share their code.
 * @throws EdgewiseError where a constant of the update depends on the nominal extents, which the real ones will not match.
 */
export function compileUpdate(graphs: readonly [UpdateGraph, UpdateGraph], dtype: VectorDType): CompiledUpdate {
  const [update, other] = graphs.map(translate);
  const text = fingerprint(update);
  if (fingerprint(other) !== text) {
    throw new EdgewiseError(
      "Update rule: a constant depends on the nominal number of tensors, rows or columns (a mean over them?); divide a sum by the rule's `size`, `rows` or `columns` instead.",
    );
  }
  const key = `${dtype}\n${text}`;
  const known = compiled.get(key);
  if (known) return known;
  const made = new CompiledUpdate(update, dtype);
  compiled.set(key, made);
  return made;
}

/** A number that goes to a kernel, as a column of a table. */
interface Column {
  readonly register: Register;
  readonly bool: boolean;
  readonly level: Level;
}

/** A stage with its tables in memory. */
interface BoundStage {
  readonly stage: Stage;
  readonly run: StageFunction;
  readonly globals: readonly Column[];
  readonly locals: readonly Column[];
  readonly reductions: readonly {
    readonly register: Register;
    readonly level: Level;
    readonly start: number;
    readonly combine: (a: number, b: number) => number;
  }[];
  readonly globalsAt: number;
  spansAt: number;
  resultsAt: number;
  /** Spans the tables have room for. */
  capacity: number;
  spanCount: number;
  /** Class of each span. */
  classes: Int32Array;
}

class WasmUpdate implements BoundUpdate {
  readonly #compiled: CompiledUpdate;
  readonly #binding: Binding;
  readonly #space: VectorSpace;
  readonly #registers = new Map<Expression, Register>();
  readonly #host: readonly (readonly Instruction[])[];
  readonly #stages: readonly BoundStage[];
  readonly #guards: readonly Register[];
  readonly #extents: Extents = { classes: 0, rows: 0, rowClass: new Int32Array(0) };
  /** Inputs and results with their registers. */
  readonly #inputs: readonly {
    readonly from: Float64Array;
    readonly register: Register;
    readonly perTensor: boolean;
  }[];
  readonly #outputs: readonly {
    readonly to: Float64Array;
    readonly register: Register;
    readonly everySegment: boolean;
    readonly perTensor: boolean;
  }[];
  #active: readonly number[];
  /** A segment of each class. */
  #representatives = new Int32Array(0);
  /** Class of each active segment. */
  #classOf = new Int32Array(0);
  #stale = true;
  #tables: Tables;

  constructor(update: CompiledUpdate, binding: Binding, space: VectorSpace) {
    this.#compiled = update;
    this.#binding = binding;
    this.#space = space;
    const { plan, dtype } = update;
    const { segments } = binding;
    this.#active = segments.map((_, i) => i);
    const totalRows = segments.reduce((sum, segment) => sum + segment.rows, 0);
    const lengths = { global: 1, tensor: segments.length, row: totalRows, element: 0 };
    const registerOf = (x: Expression): Register => {
      let register = this.#registers.get(x);
      if (!register) {
        register = new Float64Array(lengths[x.level]);
        if (x.op === 'constant') register[0] = x.value!;
        this.#registers.set(x, register);
      }
      return register;
    };
    this.#host = plan.host.map((list) => list.map((x) => hostInstruction(x, registerOf, this.#extents)));
    this.#guards = plan.update.guards.map(registerOf);
    this.#outputs = [...plan.update.results].map(([name, x]) => {
      const to = binding.results[name];
      const lengthsAllowed: readonly number[] = {
        global: [1, segments.length],
        tensor: [segments.length],
        row: [],
        element: [],
      }[x.level];
      if (!lengthsAllowed.includes(to?.length)) {
        throw new EdgewiseError(
          `Update rule: result '${name}' is one number for each ${x.level}, but is bound to ${to?.length ?? 0} numbers of ${segments.length} tensors.`,
        );
      }
      return { to, register: registerOf(x), everySegment: to.length !== 1, perTensor: x.level === 'tensor' };
    });

    const exports = new WebAssembly.Instance(update.module, {
      env: { memory: space.memory },
      host: Object.fromEntries(update.imports.map(({ name }) => [name, functions[name]])),
    }).exports;
    const column = (x: Expression): Column => ({ register: registerOf(x), bool: x.bool, level: x.level });
    this.#stages = plan.stages.map((stage, i) => ({
      stage,
      // The module was written to export this type.
      run: exports[`f${i}`] as StageFunction,
      globals: stage.globals.map(column),
      locals: stage.locals.map(column),
      reductions: stage.reductions.map((x) => ({
        register: registerOf(x),
        level: x.level,
        start: folds[x.op][0],
        combine: folds[x.op][1],
      })),
      globalsAt: space.allocBytes(globalsBytes(stage, dtype)),
      spansAt: 0,
      resultsAt: 0,
      capacity: 0,
      spanCount: 0,
      classes: new Int32Array(0),
    }));
    // Last: by now every leaf that is read has its register.
    this.#inputs = [...this.#registers].flatMap(([x, register]) =>
      x.op === 'scalar'
        ? [
            {
              from: checked(binding.scalars, x.name!, x.level === 'tensor' ? segments.length : 1),
              register,
              perTensor: x.level === 'tensor',
            },
          ]
        : [],
    );
    this.#tables = new Tables(space, dtype);
    this.#tables.refresh();
    for (const { stage, globalsAt } of this.#stages)
      stage.vectors.forEach((name, i) => this.#tables.integer(globalsAt, i, binding.vectors[name].byteOffset));
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
    for (const { from, register, perTensor } of this.#inputs) {
      if (perTensor) for (let c = 0; c < classes; c++) register[c] = from[this.#representatives[c]];
      else register[0] = from[0];
    }
    const last = this.#stages.length - 1;
    for (let i = 0; i <= last; i++) {
      for (const instruction of this.#host[i]) instruction();
      if (i === last) {
        for (let g = 0; g < this.#guards.length; g++) if (this.#guards[g][0] !== 0) return g;
      }
      this.#runStage(this.#stages[i]);
    }
    for (const instruction of this.#host[last + 1]) instruction();
    for (const { to, register, everySegment, perTensor } of this.#outputs) {
      if (everySegment)
        for (let k = 0; k < this.#active.length; k++) to[this.#active[k]] = register[perTensor ? this.#classOf[k] : 0];
      else to[0] = register[0];
    }
    return -1;
  }

  #runStage({
    stage,
    run,
    globals,
    locals,
    reductions,
    globalsAt,
    spansAt,
    resultsAt,
    spanCount,
    classes,
  }: BoundStage): void {
    const tables = this.#tables;
    const { dtype } = this.#compiled;
    for (const { register, level, start } of reductions)
      register.fill(start, 0, level === 'global' ? 1 : level === 'tensor' ? this.#extents.classes : this.#extents.rows);
    if (spanCount === 0) return;
    const numbersAt = globalsAt + globalsOffset(stage);
    for (let i = 0; i < globals.length; i++) tables.put(numbersAt, i, globals[i].register[0], globals[i].bool);
    const stride = spanBytes(stage, dtype);
    for (let i = 0; i < locals.length; i++) {
      const { register, bool, level } = locals[i];
      for (let s = 0; s < spanCount; s++)
        tables.put(spansAt + s * stride + SPAN_HEADER, i, register[level === 'row' ? s : classes[s]], bool);
    }
    run(spansAt, spansAt + spanCount * stride, globalsAt, resultsAt);
    for (let r = 0; r < reductions.length; r++) {
      const { register, level, combine } = reductions[r];
      for (let s = 0; s < spanCount; s++) {
        const at = level === 'global' ? 0 : level === 'row' ? s : classes[s];
        register[at] = combine(register[at], tables.total(resultsAt, s * reductions.length + r));
      }
    }
  }

  /** Sorts the active segments into classes and writes the span tables. */
  #arrange(): void {
    const { segments } = this.#binding;
    const perTensorInputs = this.#inputs.filter((entry) => entry.perTensor);
    const classes = new Map<string, number>();
    const representatives: number[] = [];
    this.#classOf = Int32Array.from(this.#active, (segment) => {
      const key = this.#compiled.plan.perTensor
        ? String(segment)
        : perTensorInputs.map(({ from }) => from[segment]).join();
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
    for (const stage of this.#stages) this.#arrangeSpans(stage);
    this.#stale = false;
  }

  #arrangeSpans(bound: BoundStage): void {
    const { stage } = bound;
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
    const stride = spanBytes(stage, this.#compiled.dtype);
    if (spans.length > bound.capacity) {
      bound.capacity = spans.length;
      bound.spansAt = this.#space.allocBytes(spans.length * stride);
      bound.resultsAt = this.#space.allocBytes(spans.length * stage.reductions.length * 8);
    }
    bound.spanCount = stage.writes.length === 0 && stage.reductions.length === 0 ? 0 : spans.length;
    bound.classes = Int32Array.from(spans, (span) => span.class);
    this.#tables.refresh();
    const size = bytesOf(this.#compiled.dtype);
    const lanes = 16 / size;
    spans.forEach(({ start, length }, i) => {
      const at = bound.spansAt + i * stride;
      this.#tables.integer(at, 0, start * size);
      this.#tables.integer(at, 1, Math.floor(length / lanes));
      this.#tables.integer(at, 2, length % lanes);
    });
  }
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
    if (this.#wide) {
      if (bool) this.#ints.fill(value !== 0 ? -1 : 0, (base >> 2) + 2 * index, (base >> 2) + 2 * index + 2);
      else this.#doubles[base / 8 + index] = value;
    } else if (bool) this.#ints[base / 4 + index] = value !== 0 ? -1 : 0;
    else this.#narrow[base / 4 + index] = value;
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
