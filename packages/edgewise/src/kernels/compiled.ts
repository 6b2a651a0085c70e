/** @file Updates compiled to WebAssembly. */
import { EdgewiseError } from '../base/errors.ts';
import { WasmUpdate } from './bound.ts';
import type { Segment, UpdateGraph } from './domain.ts';
import { emitStage } from './emit.ts';
import type { Expression, Update } from './expression.ts';
import { functions } from './functions.ts';
import { fingerprint, type Plan, planUpdate, type Stage, specialize } from './plan.ts';
import { simplify } from './simplify.ts';
import { bytesOf, type VectorArray, type VectorDType, type VectorSpace } from './space.ts';
import { translate } from './translate.ts';
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

/** The type of a stage's WebAssembly function; see `emit.ts`. */
export type StageFunction = (spans: number, end: number, globals: number, results: number) => void;

/** A stage as WebAssembly code that exports it as `f0`. */
export interface StageCode {
  readonly stage: Stage;
  readonly module: WebAssembly.Module;
  readonly imports: readonly ImportedFunction[];
  /** Size of the module. */
  readonly bytes: number;
}

/** An update as WebAssembly code, independent of where its vectors lie. Stages are compiled when they first run. */
export class CompiledUpdate {
  readonly plan: Plan;
  readonly dtype: VectorDType;
  readonly #code = new Map<string, StageCode>();

  constructor(update: Update, dtype: VectorDType) {
    this.plan = planUpdate(update);
    this.dtype = dtype;
  }

  /** Bytes of memory that one run reads and writes for each element, every condition open. */
  get traffic(): number {
    const streams = this.plan.stages.reduce((sum, { reads, writes }) => sum + reads.length + writes.length, 0);
    return streams * bytesOf(this.dtype);
  }

  /** Size of the WebAssembly modules made so far. */
  get codeBytes(): number {
    return [...this.#code.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** The code of a stage under known values of its conditions. */
  stageCode(index: number, known: ReadonlyMap<Expression, boolean>): StageCode {
    const key = `${index} ${[...known].map(([x, value]) => `${x.id} ${value}`)}`;
    const made = this.#code.get(key) ?? compileStage(specialize(this.plan.stages[index], known), this.dtype);
    this.#code.set(key, made);
    return made;
  }

  bind(binding: Binding, space: VectorSpace): BoundUpdate {
    return new WasmUpdate(this, binding, space);
  }
}

function compileStage(stage: Stage, dtype: VectorDType): StageCode {
  const imports: ImportedFunction[] = [];
  const importOf = (name: string) => {
    const known = imports.findIndex((entry) => entry.name === name);
    return known >= 0 ? known : imports.push({ name, arity: functions[name].length }) - 1;
  };
  const code = encodeModule(imports, [emitStage(stage, dtype, importOf)]);
  return { stage, module: new WebAssembly.Module(code), imports, bytes: code.length };
}

const compiled = new Map<string, CompiledUpdate>();

/**
 * Compiles an update, given at both nominal shapes; equal updates share their code.
 * @throws EdgewiseError where a constant of the update depends on the nominal extents, which the real ones will not match.
 */
export function compileUpdate(graphs: readonly [UpdateGraph, UpdateGraph], dtype: VectorDType): CompiledUpdate {
  const [update, other] = [translate(graphs[0]), translate(graphs[1])];
  const text = fingerprint(update);
  if (fingerprint(other) !== text) {
    throw new EdgewiseError(
      "Update rule: a constant depends on the nominal number of tensors, rows or columns (a mean over them?); divide a sum by the rule's `size`, `rows` or `columns` instead.",
    );
  }
  const key = `${dtype}\n${text}`;
  const known = compiled.get(key);
  if (known) return known;
  const made = new CompiledUpdate(simplify(update), dtype);
  compiled.set(key, made);
  return made;
}
