/** @file Code for the values of expressions, one register of elements at a time. */
import type { Expression } from './expression.ts';
import type { VectorDType } from './space.ts';
import { type Code, op, simd, type } from './wasm.ts';

/** Bytes of a register. */
export const REGISTER = 16;

/** Index of a host function among the module's imports, adding it where new. */
export type ImportOf = (name: string) => number;

/** Instructions [float32, float64] whose operands are in order on the stack. */
export const INSTRUCTIONS: Readonly<Record<string, readonly [number, number]>> = {
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

export class ValueWriter {
  readonly #code: Code;
  readonly #importOf: ImportOf;
  /** Whether elements are float64. */
  readonly wide: boolean;
  /** Local of each expression that holds the same value throughout: constants, and the host's numbers. */
  readonly #fixed = new Map<Expression, number>();
  readonly #constants = new Map<string, number>();
  /** Local with the address of each vector. */
  readonly #address = new Map<string, number>();
  /** How often each expression is read while one register of elements is computed. */
  readonly #uses = new Map<Expression, number>();
  /** Locals of expressions that are read again for the register under way, and how often. */
  #pending = new Map<Expression, { readonly local: number; left: number }>();
  #offset = 0;

  /** @param roots What will be pushed for each register of elements, each once. */
  constructor(code: Code, dtype: VectorDType, roots: readonly Expression[], importOf: ImportOf) {
    this.#code = code;
    this.#importOf = importOf;
    this.wide = dtype === 'float64';
    for (const root of roots) this.#countUses(root);
  }

  /** Local that `x` will be read from; the caller sets it. */
  fix(x: Expression): number {
    const local = this.#fixed.get(x) ?? this.#code.local(type.v128);
    this.#fixed.set(x, local);
    return local;
  }

  /** Local with the address of a vector; the caller keeps it up to date. */
  address(vector: string): number {
    const local = this.#address.get(vector) ?? this.#code.local(type.i32);
    this.#address.set(vector, local);
    return local;
  }

  /** Writes what expressions read in every turn, once: to be called before any loop. */
  prepare(): void {
    for (const x of this.#uses.keys()) {
      if (x.op === 'constant') {
        if (x.bool) this.#code.v128(new Array<number>(REGISTER).fill(x.value !== 0 ? 0xff : 0)).set(this.fix(x));
        else this.#fixed.set(x, this.constant(x.value!));
      }
      if (x.op === 'sign') for (const value of [0, 1, -1]) this.constant(value);
      if (x.op === 'isFinite') this.constant(Number.POSITIVE_INFINITY);
    }
  }

  /** Local that holds `value` in every lane; set where this is first called for it, which must be before any loop. */
  constant(value: number): number {
    const key = Object.is(value, -0) ? '-0' : String(value);
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const local = this.#code.local(type.v128);
    if (this.wide) this.#code.f64(value).simd(simd.f64x2Splat).set(local);
    else this.#code.f32(value).simd(simd.f32x4Splat).set(local);
    this.#constants.set(key, local);
    return local;
  }

  /** Starts on the register of elements this many registers after the addresses. */
  begin(register: number): void {
    this.#offset = register * REGISTER;
    this.#pending = new Map();
  }

  /** Reads the memory of the register under way. */
  load(vector: string): void {
    this.#code.get(this.address(vector)).memory(simd.load, this.#offset, 4);
  }

  /** Writes a local to the memory of the register under way; where a mask is given, to the lanes it has only. */
  store(vector: string, local: number, mask: number | undefined): void {
    this.#code.get(this.address(vector)).get(local);
    if (mask !== undefined) {
      this.load(vector);
      this.#code.get(mask).simd(simd.bitselect);
    }
    this.#code.memory(simd.store, this.#offset, 4);
  }

  /** Opcode of an instruction for the elements' dtype. */
  instruction(name: string): number {
    return INSTRUCTIONS[name][this.wide ? 1 : 0];
  }

  /** Leaves the value of `x` on the stack. */
  push(x: Expression): void {
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
      this.load(x.name!);
    } else if (instruction) {
      for (const arg of x.args) this.push(arg);
      code.simd(instruction[this.wide ? 1 : 0]);
    } else if (x.op === 'where') {
      const [condition, a, b] = x.args;
      this.push(a);
      this.push(b);
      this.push(condition);
      code.simd(simd.bitselect);
    } else if (x.op === 'isNaN') {
      this.#withArg(x.args[0], (local) =>
        code
          .get(local)
          .get(local)
          .simd(this.wide ? 72 : 66),
      );
    } else if (x.op === 'isFinite') {
      this.push(x.args[0]);
      code.simd(this.instruction('abs')).get(this.constant(Number.POSITIVE_INFINITY)).simd(this.instruction('less'));
    } else if (x.op === 'sign') {
      this.#withArg(x.args[0], (local) => {
        const zero = this.constant(0);
        code.get(local).get(zero).simd(this.instruction('greater')).get(this.constant(1)).simd(simd.and);
        code.get(local).get(zero).simd(this.instruction('less')).get(this.constant(-1)).simd(simd.and).simd(simd.or);
        // NaN, unequal to itself, stays NaN.
        code.get(local).get(local).get(local).simd(this.instruction('equal')).simd(simd.bitselect);
      });
    } else {
      this.#callByLane(x);
    }
  }

  #withArg(arg: Expression, use: (local: number) => void): void {
    const local = this.#code.local(type.v128);
    this.push(arg);
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
      this.push(arg);
      code.set(local);
      return local;
    });
    code.get(args[0]);
    for (let lane = 0; lane < (this.wide ? 2 : 4); lane++) {
      for (const local of args) {
        code.get(local).lane(this.wide ? simd.f64x2ExtractLane : simd.f32x4ExtractLane, lane);
        if (!this.wide) code.op(op.f64PromoteF32);
      }
      code.call(target);
      if (!this.wide) code.op(op.f32DemoteF64);
      code.lane(this.wide ? simd.f64x2ReplaceLane : simd.f32x4ReplaceLane, lane);
    }
    for (const local of args) code.release(type.v128, local);
  }

  #countUses(x: Expression): void {
    const seen = this.#uses.get(x) ?? 0;
    this.#uses.set(x, seen + 1);
    if (seen === 0 && x.level === 'element') for (const arg of x.args) this.#countUses(arg);
  }
}
