/**
 * @file A stage as one WebAssembly function.
 *
 * `stage(spans, spansEnd, globals, results)` runs over spans of elements in whole registers of 16 bytes. The last,
 * partial register of a span is computed whole; lanes beyond the span keep what memory holds there and add nothing to
 * reductions. Totals are accumulated in float64, in an order that depends on the span's length alone.
 *
 * Tables, written by the host: at `globals` the address of each vector (int32), then from {@link globalsOffset} the
 * numbers that hold for all elements; at `spans` a row for each span: its first byte, whole registers and elements left
 * over (int32), then from {@link SPAN_HEADER} its numbers. To `results` go the totals of each span (float64).
 */
import type { Expression } from './expression.ts';
import type { Stage, StageReduction } from './plan.ts';
import { bytesOf, type VectorDType } from './space.ts';
import { type ImportOf, INSTRUCTIONS, REGISTER, ValueWriter } from './values.ts';
import { Code, op, simd, type, type ValueType } from './wasm.ts';

export const SPAN_HEADER = 16;

export const globalsOffset = (stage: Stage): number => 16 * Math.ceil((4 * stage.vectors.length) / 16);

/** Bytes of the table at `globals`. */
export const globalsBytes = (stage: Stage, dtype: VectorDType): number =>
  globalsOffset(stage) + stage.globals.length * bytesOf(dtype);

/** Bytes of a row of the span table. */
export const spanBytes = (stage: Stage, dtype: VectorDType): number =>
  SPAN_HEADER + 16 * Math.ceil((stage.locals.length * bytesOf(dtype)) / 16);

const [SPANS, END, GLOBALS, RESULTS] = [0, 1, 2, 3];

/**
 * Registers computed in one turn of the loop. Passes that write are bound by memory or by the divider, and measured no
 * faster unrolled; in passes that only add up, one chain of additions would be as slow as its latency.
 */
const unrollOf = (stage: Stage): number => (stage.writes.length === 0 ? 4 : 1);

export function emitStage(stage: Stage, dtype: VectorDType, importOf: ImportOf): Code {
  return new StageWriter(stage, dtype, importOf).write();
}

class StageWriter {
  readonly #stage: Stage;
  readonly #dtype: VectorDType;
  readonly #code = new Code(new Array<ValueType>(4).fill(type.i32));
  readonly #values: ValueWriter;
  readonly #unroll: number;
  /** Of each reduction, for each register computed in one turn. */
  readonly #accumulators: readonly (readonly number[])[];
  /** Lanes that belong to the span, while the last register of one is written. */
  #mask: number | undefined;

  constructor(stage: Stage, dtype: VectorDType, importOf: ImportOf) {
    this.#stage = stage;
    this.#dtype = dtype;
    this.#unroll = unrollOf(stage);
    const roots = [...stage.reductions.flatMap(factorsOf), ...stage.writes.map(([, value]) => value)];
    this.#values = new ValueWriter(this.#code, dtype, roots, importOf);
    this.#accumulators = stage.reductions.map(({ total }) =>
      Array.from({ length: this.#unroll * this.#width(total.op) }, () => this.#code.local(type.v128)),
    );
  }

  write(): Code {
    const code = this.#code;
    const { globals, locals, vectors, reductions } = this.#stage;
    const size = bytesOf(this.#dtype);
    this.#values.prepare();
    for (const { total } of reductions) if (total.op !== 'sum') this.#values.constant(neutral(total.op));
    for (const [i, x] of globals.entries()) this.#loadNumber(x, GLOBALS, globalsOffset(this.#stage) + i * size);
    const [count, tail] = [code.local(type.i32), code.local(type.i32)];
    const mask = code.local(type.v128);

    code.loop(() => {
      for (const [k, vector] of vectors.entries()) {
        code.get(SPANS).scalarMemory(op.i32Load, 0, 2);
        code.get(GLOBALS).scalarMemory(op.i32Load, 4 * k, 2);
        code.op(op.i32Add).set(this.#values.address(vector));
      }
      code.get(SPANS).scalarMemory(op.i32Load, 8, 2).set(tail);
      for (const [i, x] of locals.entries()) this.#loadNumber(x, SPANS, SPAN_HEADER + i * size);
      this.#clearAccumulators();

      code.get(SPANS).scalarMemory(op.i32Load, 4, 2);
      if (this.#unroll > 1) code.i32(Math.log2(this.#unroll)).op(op.i32ShrU);
      code.tee(count);
      code.when(() => {
        code.loop(() => {
          for (let register = 0; register < this.#unroll; register++) this.#writeRegister(register);
          this.#advance(this.#unroll);
          code.get(count).i32(1).op(op.i32Sub).tee(count);
        });
      });

      code.get(SPANS).scalarMemory(op.i32Load, 4, 2);
      code.i32(this.#unroll - 1).op(op.i32And);
      code.get(tail).i32(0).op(op.i32Ne, op.i32Add).tee(count);
      code.when(() => {
        code.v128(new Array<number>(REGISTER).fill(0xff)).set(mask);
        code.loop(() => {
          code.get(count).i32(1).op(op.i32Eq).get(tail).i32(0).op(op.i32Ne, op.i32And);
          code.when(() => {
            code.v128(this.#laneNumbers()).get(tail).simd(simd.i32x4Splat).simd(simd.i32x4LtS).set(mask);
          });
          this.#mask = mask;
          this.#writeRegister(0);
          this.#mask = undefined;
          this.#advance(1);
          code.get(count).i32(1).op(op.i32Sub).tee(count);
        });
      });

      this.#storeTotals();
      code.get(SPANS).i32(spanBytes(this.#stage, this.#dtype)).op(op.i32Add).tee(SPANS);
      code.get(END).op(op.i32LtU);
    });
    return code;
  }

  /** Number of each element's lane, as int32 over its bytes. */
  #laneNumbers(): number[] {
    const lanes = this.#values.wide ? [0, 0, 1, 1] : [0, 1, 2, 3];
    return lanes.flatMap((lane) => [lane, 0, 0, 0]);
  }

  #advance(registers: number): void {
    for (const vector of this.#stage.vectors) {
      const address = this.#values.address(vector);
      this.#code.get(address).i32(registers * REGISTER);
      this.#code.op(op.i32Add).set(address);
    }
  }

  /** Loads one of the host's numbers into every lane. */
  #loadNumber(x: Expression, base: number, offset: number): void {
    const [opcode, align] = this.#values.wide ? [simd.load64Splat, 3] : [simd.load32Splat, 2];
    this.#code.get(base).memory(opcode, offset, align).set(this.#values.fix(x));
  }

  /** Everything for the register of elements this many registers after the current address. */
  #writeRegister(register: number): void {
    const code = this.#code;
    this.#values.begin(register);
    for (const [i, reduction] of this.#stage.reductions.entries()) {
      const width = this.#width(reduction.total.op);
      this.#accumulate(reduction, this.#accumulators[i].slice(register * width, (register + 1) * width));
    }
    // All values first: a vector may be read by the value of another one.
    const values = this.#stage.writes.map(([name, value]) => {
      const local = code.local(type.v128);
      this.#values.push(value);
      code.set(local);
      return [name, local] as const;
    });
    for (const [name, local] of values) {
      this.#values.store(name, local, this.#mask);
      code.release(type.v128, local);
    }
  }

  /** Accumulators a register of elements needs: in float32, sums of its two halves in float64. */
  #width(name: string): number {
    return name === 'sum' && !this.#values.wide ? 2 : 1;
  }

  #clearAccumulators(): void {
    this.#stage.reductions.forEach(({ total: { op: name } }, i) => {
      for (const local of this.#accumulators[i]) {
        if (name === 'sum') this.#code.v128(new Array<number>(16).fill(0));
        else this.#code.get(this.#values.constant(neutral(name)));
        this.#code.set(local);
      }
    });
  }

  #accumulate({ total: { op: name }, arg }: StageReduction, accumulators: readonly number[]): void {
    const code = this.#code;
    if (name !== 'sum') {
      this.#values.push(arg);
      if (this.#mask !== undefined)
        code
          .get(this.#values.constant(neutral(name)))
          .get(this.#mask)
          .simd(simd.bitselect);
      code
        .get(accumulators[0])
        .simd(this.#values.instruction(name === 'max' ? 'maximum' : 'minimum'))
        .set(accumulators[0]);
      return;
    }
    const locals = factorsOf({ total: { op: name }, arg }).map((factor) => {
      const local = code.local(type.v128);
      this.#values.push(factor);
      if (this.#mask !== undefined) code.get(this.#mask).simd(simd.and);
      code.set(local);
      return local;
    });
    accumulators.forEach((accumulator, half) => {
      for (const local of locals) {
        code.get(local);
        if (this.#values.wide) continue;
        if (half === 1) code.get(local).shuffle([8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15]);
        code.simd(simd.promoteLow);
      }
      if (isSquare(arg)) {
        const root = code.local(type.v128);
        code.tee(root).get(root);
        code.release(type.v128, root);
      }
      if (isProduct(arg)) code.simd(INSTRUCTIONS.mul[1]);
      code.get(accumulator).simd(INSTRUCTIONS.add[1]).set(accumulator);
    });
    for (const local of locals) code.release(type.v128, local);
  }

  /** One float64 for each reduction, at the span's place in the results. */
  #storeTotals(): void {
    const code = this.#code;
    this.#stage.reductions.forEach(({ total: { op: name } }, i) => {
      const combine =
        name === 'sum' ? INSTRUCTIONS.add[1] : this.#values.instruction(name === 'max' ? 'maximum' : 'minimum');
      const total = code.local(type.v128);
      this.#pushTree(this.#accumulators[i], combine);
      code.set(total).get(RESULTS);
      const narrow = name !== 'sum' && !this.#values.wide;
      const scalar =
        name === 'sum' ? op.f64Add : name === 'max' ? (narrow ? op.f32Max : op.f64Max) : narrow ? op.f32Min : op.f64Min;
      for (let lane = 0; lane < (narrow ? 4 : 2); lane++) {
        code.get(total).lane(narrow ? simd.f32x4ExtractLane : simd.f64x2ExtractLane, lane);
        if (lane > 0) code.op(scalar);
      }
      if (narrow) code.op(op.f64PromoteF32);
      code.scalarMemory(op.f64Store, 8 * i, 3);
      code.release(type.v128, total);
    });
    if (this.#stage.reductions.length > 0)
      code
        .get(RESULTS)
        .i32(8 * this.#stage.reductions.length)
        .op(op.i32Add)
        .set(RESULTS);
  }

  /** Combines pairwise, so that rounding does not favour an accumulator. */
  #pushTree(locals: readonly number[], combine: number): void {
    if (locals.length === 1) {
      this.#code.get(locals[0]);
      return;
    }
    const half = locals.length / 2;
    this.#pushTree(locals.slice(0, half), combine);
    this.#pushTree(locals.slice(half), combine);
    this.#code.simd(combine);
  }
}

const neutral = (reduction: string): number =>
  reduction === 'max' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;

const isProduct = (x: Expression): boolean => x.op === 'mul' && x.args.every((arg) => arg.level === 'element');
const isSquare = (x: Expression): boolean => isProduct(x) && x.args[0] === x.args[1];

/**
 * What a reduction reads. A sum forms products of elements in float64: squares of large float32 overflow, those of
 * small ones vanish.
 */
function factorsOf({
  total,
  arg,
}: {
  readonly total: Pick<Expression, 'op'>;
  readonly arg: Expression;
}): readonly Expression[] {
  return total.op === 'sum' && isProduct(arg) ? [...new Set(arg.args)] : [arg];
}
