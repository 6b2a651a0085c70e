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
import { Code, op, simd, type, type ValueType } from './wasm.ts';

export const SPAN_HEADER = 16;

export const globalsOffset = (stage: Stage): number => 16 * Math.ceil((4 * stage.vectors.length) / 16);

/** Bytes of the table at `globals`. */
export const globalsBytes = (stage: Stage, dtype: VectorDType): number =>
  globalsOffset(stage) + stage.globals.length * bytesOf(dtype);

/** Bytes of a row of the span table. */
export const spanBytes = (stage: Stage, dtype: VectorDType): number =>
  SPAN_HEADER + 16 * Math.ceil((stage.locals.length * bytesOf(dtype)) / 16);

/** Index of a host function among the module's imports, adding it where new. */
export type ImportOf = (name: string) => number;

const REGISTER = 16;
const [SPANS, END, GLOBALS, RESULTS] = [0, 1, 2, 3];

/** Instructions [float32, float64] whose operands are in order on the stack. */
const INSTRUCTIONS: Readonly<Record<string, readonly [number, number]>> = {
  add: [228, 240],
  sub: [229, 241],
  mul: [230, 242],
  div: [231, 243],
  minimum: [232, 244],
  maximum: [233, 245],
  abs: [224, 236],
  neg: [225, 237],
  sqrt: [227, 239],
  ceil: [103, 116],
  floor: [104, 117],
  round: [106, 148],
  equal: [65, 71],
  less: [67, 73],
  greater: [68, 74],
  lessEqual: [69, 75],
  greaterEqual: [70, 76],
  logicalAnd: [simd.and, simd.and],
  logicalOr: [simd.or, simd.or],
  logicalXor: [simd.xor, simd.xor],
  logicalNot: [simd.not, simd.not],
};

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
  readonly #importOf: ImportOf;
  readonly #code: Code;
  readonly #wide: boolean;
  readonly #unroll: number;
  /** Registers that hold the same value throughout: constants, globals, a span's numbers. */
  readonly #fixed = new Map<Expression, number>();
  readonly #constants = new Map<string, number>();
  /** Address of each vector in the current span. */
  readonly #address = new Map<string, number>();
  readonly #accumulators: (readonly number[])[] = [];
  /** How often each expression is read while one register of elements is computed. */
  readonly #uses = new Map<Expression, number>();
  /** Of the copy being written: registers of expressions read again later, and how often. */
  #pending = new Map<Expression, { readonly local: number; left: number }>();
  #offset = 0;
  #mask: number | undefined;

  constructor(stage: Stage, dtype: VectorDType, importOf: ImportOf) {
    this.#stage = stage;
    this.#dtype = dtype;
    this.#importOf = importOf;
    this.#wide = dtype === 'float64';
    this.#unroll = unrollOf(stage);
    this.#code = new Code(new Array<ValueType>(4).fill(type.i32));
    for (const reduction of stage.reductions) for (const factor of factorsOf(reduction)) this.#countUses(factor);
    for (const [, value] of stage.writes) this.#countUses(value);
  }

  #countUses(x: Expression): void {
    const seen = this.#uses.get(x) ?? 0;
    this.#uses.set(x, seen + 1);
    if (seen === 0 && x.level === 'element') for (const arg of x.args) this.#countUses(arg);
  }

  write(): Code {
    const code = this.#code;
    const { globals, locals, vectors, reductions } = this.#stage;
    const size = bytesOf(this.#dtype);
    this.#prepareConstants();
    for (const [i, x] of globals.entries()) this.#loadFixed(x, GLOBALS, globalsOffset(this.#stage) + i * size);
    for (const vector of vectors) this.#address.set(vector, code.local(type.i32));
    for (const { total } of reductions) this.#accumulators.push(this.#newAccumulators(total));
    for (const x of locals) this.#fixed.set(x, code.local(type.v128));
    const [count, tail] = [code.local(type.i32), code.local(type.i32)];
    const mask = code.local(type.v128);

    code.loop(() => {
      vectors.forEach((vector, k) => {
        code.get(SPANS).scalarMemory(op.i32Load, 0, 2);
        code
          .get(GLOBALS)
          .scalarMemory(op.i32Load, 4 * k, 2)
          .op(op.i32Add)
          .set(this.#address.get(vector)!);
      });
      code.get(SPANS).scalarMemory(op.i32Load, 8, 2).set(tail);
      for (const [i, x] of locals.entries()) this.#loadFixed(x, SPANS, SPAN_HEADER + i * size);
      this.#clearAccumulators();

      code.get(SPANS).scalarMemory(op.i32Load, 4, 2);
      if (this.#unroll > 1) code.i32(Math.log2(this.#unroll)).op(op.i32ShrU);
      code.tee(count);
      code.when(() => {
        code.loop(() => {
          for (let copy = 0; copy < this.#unroll; copy++) this.#writeRegister(copy);
          this.#advance(this.#unroll);
          code.get(count).i32(1).op(op.i32Sub).tee(count);
        });
      });

      code
        .get(SPANS)
        .scalarMemory(op.i32Load, 4, 2)
        .i32(this.#unroll - 1)
        .op(op.i32And);
      code.get(tail).i32(0).op(op.i32Ne, op.i32Add).tee(count);
      code.when(() => {
        code.v128(new Array<number>(16).fill(0xff)).set(mask);
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
    const lanes = this.#wide ? [0, 0, 1, 1] : [0, 1, 2, 3];
    return lanes.flatMap((lane) => [lane, 0, 0, 0]);
  }

  #advance(registers: number): void {
    for (const address of this.#address.values())
      this.#code
        .get(address)
        .i32(registers * REGISTER)
        .op(op.i32Add)
        .set(address);
  }

  #loadFixed(x: Expression, base: number, offset: number): void {
    const local = this.#fixed.get(x) ?? this.#code.local(type.v128);
    this.#fixed.set(x, local);
    this.#code
      .get(base)
      .memory(this.#wide ? simd.load64Splat : simd.load32Splat, offset, this.#wide ? 3 : 2)
      .set(local);
  }

  #prepareConstants(): void {
    for (const x of this.#uses.keys()) {
      if (x.op === 'constant')
        this.#fixed.set(x, x.bool ? this.#boolConstant(x.value !== 0) : this.#constant(x.value!));
      if (x.op === 'sign') for (const value of [0, 1, -1]) this.#constant(value);
      if (x.op === 'isFinite') this.#constant(Number.POSITIVE_INFINITY);
    }
    for (const { total } of this.#stage.reductions) if (total.op !== 'sum') this.#constant(neutral(total.op));
  }

  #constant(value: number): number {
    const key = Object.is(value, -0) ? '-0' : String(value);
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const local = this.#code.local(type.v128);
    if (this.#wide) this.#code.f64(value).simd(simd.f64x2Splat).set(local);
    else this.#code.f32(value).simd(simd.f32x4Splat).set(local);
    this.#constants.set(key, local);
    return local;
  }

  #boolConstant(value: boolean): number {
    const local = this.#code.local(type.v128);
    this.#code.v128(new Array<number>(16).fill(value ? 0xff : 0)).set(local);
    return local;
  }

  /** Everything for the register of elements `copy` registers after the current address. */
  #writeRegister(copy: number): void {
    const code = this.#code;
    this.#offset = copy * REGISTER;
    this.#pending = new Map();
    for (const [i, reduction] of this.#stage.reductions.entries()) {
      this.#accumulate(reduction, this.#accumulatorsOf(i, reduction.total, copy));
    }
    // All values first: a vector may be read by the value of another one.
    const values = this.#stage.writes.map(([name, value]) => {
      const local = code.local(type.v128);
      this.#push(value);
      code.set(local);
      return [name, local] as const;
    });
    for (const [name, local] of values) {
      code.get(this.#address.get(name)!).get(local);
      if (this.#mask !== undefined)
        code.get(this.#address.get(name)!).memory(simd.load, this.#offset, 4).get(this.#mask).simd(simd.bitselect);
      code.memory(simd.store, this.#offset, 4);
      code.release(type.v128, local);
    }
  }

  /** Leaves the value of `x` on the stack. */
  #push(x: Expression): void {
    const code = this.#code;
    const fixed = this.#fixed.get(x);
    if (fixed !== undefined) {
      code.get(fixed);
      return;
    }
    const pending = this.#pending.get(x);
    if (pending) {
      code.get(pending.local);
      pending.left--;
      if (pending.left === 0) code.release(type.v128, pending.local);
      return;
    }
    this.#compute(x);
    const left = this.#uses.get(x)! - 1;
    if (left > 0) {
      const local = code.local(type.v128);
      code.tee(local);
      this.#pending.set(x, { local, left });
    }
  }

  #compute(x: Expression): void {
    const code = this.#code;
    const instruction = INSTRUCTIONS[x.op];
    if (x.op === 'vector') {
      code.get(this.#address.get(x.name!)!).memory(simd.load, this.#offset, 4);
    } else if (instruction) {
      for (const arg of x.args) this.#push(arg);
      code.simd(instruction[this.#wide ? 1 : 0]);
    } else if (x.op === 'where') {
      const [condition, a, b] = x.args;
      this.#push(a);
      this.#push(b);
      this.#push(condition);
      code.simd(simd.bitselect);
    } else if (x.op === 'isNaN') {
      this.#withArg(x.args[0], (local) =>
        code
          .get(local)
          .get(local)
          .simd(this.#wide ? 72 : 66),
      );
    } else if (x.op === 'isFinite') {
      this.#push(x.args[0]);
      code.simd(this.#instruction('abs')).get(this.#constant(Number.POSITIVE_INFINITY)).simd(this.#instruction('less'));
    } else if (x.op === 'sign') {
      this.#withArg(x.args[0], (local) => {
        const zero = this.#constant(0);
        code.get(local).get(zero).simd(this.#instruction('greater')).get(this.#constant(1)).simd(simd.and);
        code.get(local).get(zero).simd(this.#instruction('less')).get(this.#constant(-1)).simd(simd.and).simd(simd.or);
        // NaN, unequal to itself, stays NaN.
        code.get(local).get(local).get(local).simd(this.#instruction('equal')).simd(simd.bitselect);
      });
    } else {
      this.#callByLane(x);
    }
  }

  #instruction(name: string): number {
    return INSTRUCTIONS[name][this.#wide ? 1 : 0];
  }

  #withArg(arg: Expression, use: (local: number) => void): void {
    const local = this.#code.local(type.v128);
    this.#push(arg);
    this.#code.set(local);
    use(local);
    this.#code.release(type.v128, local);
  }

  /** A function SIMD lacks, called once an element in float64. */
  #callByLane(x: Expression): void {
    const code = this.#code;
    const target = this.#importOf(x.op);
    const args = x.args.map((arg) => {
      const local = code.local(type.v128);
      this.#push(arg);
      code.set(local);
      return local;
    });
    code.get(args[0]);
    for (let lane = 0; lane < (this.#wide ? 2 : 4); lane++) {
      for (const local of args) {
        code.get(local).lane(this.#wide ? simd.f64x2ExtractLane : simd.f32x4ExtractLane, lane);
        if (!this.#wide) code.op(op.f64PromoteF32);
      }
      code.call(target);
      if (!this.#wide) code.op(op.f32DemoteF64);
      code.lane(this.#wide ? simd.f64x2ReplaceLane : simd.f32x4ReplaceLane, lane);
    }
    for (const local of args) code.release(type.v128, local);
  }

  /** Accumulators a register of elements needs: in float32, sums of its two halves in float64. */
  #width(name: string): number {
    return name === 'sum' && !this.#wide ? 2 : 1;
  }

  #newAccumulators({ op: name }: Expression): number[] {
    return Array.from({ length: this.#unroll * this.#width(name) }, () => this.#code.local(type.v128));
  }

  #accumulatorsOf(index: number, { op: name }: Expression, copy: number): readonly number[] {
    const width = this.#width(name);
    return this.#accumulators[index].slice(copy * width, (copy + 1) * width);
  }

  #clearAccumulators(): void {
    this.#stage.reductions.forEach(({ total: { op: name } }, i) => {
      for (const local of this.#accumulators[i]) {
        if (name === 'sum') this.#code.v128(new Array<number>(16).fill(0));
        else this.#code.get(this.#constant(neutral(name)));
        this.#code.set(local);
      }
    });
  }

  #accumulate({ total: { op: name }, arg }: StageReduction, accumulators: readonly number[]): void {
    const code = this.#code;
    if (name !== 'sum') {
      this.#push(arg);
      if (this.#mask !== undefined)
        code
          .get(this.#constant(neutral(name)))
          .get(this.#mask)
          .simd(simd.bitselect);
      code
        .get(accumulators[0])
        .simd(this.#instruction(name === 'max' ? 'maximum' : 'minimum'))
        .set(accumulators[0]);
      return;
    }
    const locals = factorsOf({ total: { op: name }, arg }).map((factor) => {
      const local = code.local(type.v128);
      this.#push(factor);
      if (this.#mask !== undefined) code.get(this.#mask).simd(simd.and);
      code.set(local);
      return local;
    });
    accumulators.forEach((accumulator, half) => {
      for (const local of locals) {
        code.get(local);
        if (this.#wide) continue;
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
      const combine = name === 'sum' ? INSTRUCTIONS.add[1] : this.#instruction(name === 'max' ? 'maximum' : 'minimum');
      const total = code.local(type.v128);
      this.#pushTree(this.#accumulators[i], combine);
      code.set(total).get(RESULTS);
      const narrow = name !== 'sum' && !this.#wide;
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
