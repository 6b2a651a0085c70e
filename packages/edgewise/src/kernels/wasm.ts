/** @file Writer for the small part of the WebAssembly binary format that update kernels use. */

const LITTLE = new DataView(new ArrayBuffer(8));

/** Growable bytes with the format's encodings. */
export class Bytes {
  readonly list: number[] = [];

  u8(...bytes: readonly number[]): this {
    this.list.push(...bytes);
    return this;
  }

  /** Unsigned LEB128. */
  u32(value: number): this {
    let rest = value >>> 0;
    while (rest > 0x7f) {
      this.list.push((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.list.push(rest);
    return this;
  }

  /** Signed LEB128. */
  s32(value: number): this {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) {
        this.list.push(low);
        return this;
      }
      this.list.push(low | 0x80);
    }
  }

  f32(value: number): this {
    LITTLE.setFloat32(0, value, true);
    return this.#raw(4);
  }

  f64(value: number): this {
    LITTLE.setFloat64(0, value, true);
    return this.#raw(8);
  }

  name(text: string): this {
    return this.sized(new Bytes().u8(...new TextEncoder().encode(text)));
  }

  /** The bytes of `part` preceded by their number. */
  sized(part: Bytes): this {
    this.u32(part.list.length);
    for (const byte of part.list) this.list.push(byte);
    return this;
  }

  /** `items` preceded by their number. */
  vector<T>(items: readonly T[], write: (to: Bytes, item: T) => void): this {
    this.u32(items.length);
    for (const item of items) write(this, item);
    return this;
  }

  #raw(count: number): this {
    for (let i = 0; i < count; i++) this.list.push(LITTLE.getUint8(i));
    return this;
  }
}

export const type = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v128: 0x7b } as const;
export type ValueType = (typeof type)[keyof typeof type];

/** Opcodes of one byte. */
export const op = {
  loop: 0x03,
  if: 0x04,
  end: 0x0b,
  brIf: 0x0d,
  call: 0x10,
  select: 0x1b,
  localGet: 0x20,
  localSet: 0x21,
  localTee: 0x22,
  i32Load: 0x28,
  f64Store: 0x39,
  i32Const: 0x41,
  f32Const: 0x43,
  f64Const: 0x44,
  i32Eqz: 0x45,
  i32Eq: 0x46,
  i32Ne: 0x47,
  i32LtU: 0x49,
  i32Add: 0x6a,
  i32Sub: 0x6b,
  i32And: 0x71,
  i32ShrU: 0x76,
  f32Min: 0x96,
  f32Max: 0x97,
  f64Add: 0xa0,
  f64Min: 0xa4,
  f64Max: 0xa5,
  f32DemoteF64: 0xb6,
  f64PromoteF32: 0xbb,
} as const;

/** Vector opcodes, written after the prefix 0xfd. */
export const simd = {
  load: 0,
  load32Splat: 9,
  load64Splat: 10,
  store: 11,
  const: 12,
  shuffle: 13,
  i32x4Splat: 17,
  f32x4Splat: 19,
  f64x2Splat: 20,
  f32x4ExtractLane: 31,
  f32x4ReplaceLane: 32,
  f64x2ExtractLane: 33,
  f64x2ReplaceLane: 34,
  i32x4LtS: 57,
  not: 77,
  and: 78,
  or: 80,
  xor: 81,
  bitselect: 82,
  promoteLow: 95,
} as const;

const FUNCTION_TYPE = 0x60;
const VECTOR_PREFIX = 0xfd;

/** One function: parameters, locals and instructions. */
export class Code {
  readonly body = new Bytes();
  readonly #params: readonly ValueType[];
  readonly #locals: ValueType[] = [];
  readonly #free = new Map<ValueType, number[]>();

  constructor(params: readonly ValueType[]) {
    this.#params = params;
  }

  get params(): readonly ValueType[] {
    return this.#params;
  }

  /** Index of a local, a released one of the same type where there is one. */
  local(valueType: ValueType): number {
    const reused = this.#free.get(valueType)?.pop();
    if (reused !== undefined) return reused;
    this.#locals.push(valueType);
    return this.#params.length + this.#locals.length - 1;
  }

  /** Gives a local back for reuse. */
  release(valueType: ValueType, index: number): void {
    const list = this.#free.get(valueType);
    if (list) list.push(index);
    else this.#free.set(valueType, [index]);
  }

  op(...opcodes: readonly number[]): this {
    this.body.u8(...opcodes);
    return this;
  }

  get(index: number): this {
    this.body.u8(op.localGet).u32(index);
    return this;
  }

  set(index: number): this {
    this.body.u8(op.localSet).u32(index);
    return this;
  }

  tee(index: number): this {
    this.body.u8(op.localTee).u32(index);
    return this;
  }

  i32(value: number): this {
    this.body.u8(op.i32Const).s32(value);
    return this;
  }

  f32(value: number): this {
    this.body.u8(op.f32Const).f32(value);
    return this;
  }

  f64(value: number): this {
    this.body.u8(op.f64Const).f64(value);
    return this;
  }

  /** A vector instruction without immediates. */
  simd(opcode: number): this {
    this.body.u8(VECTOR_PREFIX).u32(opcode);
    return this;
  }

  lane(opcode: number, lane: number): this {
    this.simd(opcode).body.u8(lane);
    return this;
  }

  shuffle(lanes: readonly number[]): this {
    this.simd(simd.shuffle).body.u8(...lanes);
    return this;
  }

  /** 16 constant bytes. */
  v128(bytes: readonly number[]): this {
    this.simd(simd.const).body.u8(...bytes);
    return this;
  }

  /** A vector load or store at the address on the stack plus `offset`. */
  memory(opcode: number, offset: number, align: number): this {
    this.simd(opcode).body.u32(align).u32(offset);
    return this;
  }

  /** A scalar load or store. */
  scalarMemory(opcode: number, offset: number, align: number): this {
    this.body.u8(opcode).u32(align).u32(offset);
    return this;
  }

  call(index: number): this {
    this.body.u8(op.call).u32(index);
    return this;
  }

  /** A loop without results; `br_if 0` inside repeats it. */
  loop(inside: () => void): this {
    this.body.u8(op.loop, 0x40);
    inside();
    this.body.u8(op.brIf, 0, op.end);
    return this;
  }

  /** Runs `inside` where the number on the stack is not 0. */
  when(inside: () => void): this {
    this.body.u8(op.if, 0x40);
    inside();
    this.body.u8(op.end);
    return this;
  }

  write(to: Bytes): void {
    const runs: [number, ValueType][] = [];
    for (const local of this.#locals) {
      const last = runs.at(-1);
      if (last?.[1] === local) last[0]++;
      else runs.push([1, local]);
    }
    const bytes = new Bytes().vector(runs, (out, [count, valueType]) => out.u32(count).u8(valueType));
    for (const byte of this.body.list) bytes.list.push(byte);
    to.sized(bytes.u8(op.end));
  }
}

/** A host function of f64 arguments and an f64 result. */
export interface ImportedFunction {
  readonly name: string;
  readonly arity: number;
}

/** A module that imports `env.memory` and `imports` from `host`, and exports `functions` by index as `f0`, `f1`, ... */
export function encodeModule(
  imports: readonly ImportedFunction[],
  functions: readonly Code[],
): Uint8Array<ArrayBuffer> {
  const section = (id: number, write: (to: Bytes) => void) => {
    const content = new Bytes();
    write(content);
    return new Bytes().u8(id).sized(content).list;
  };
  const signatures = [
    ...imports.map(({ arity }) => ({ params: new Array<ValueType>(arity).fill(type.f64), results: [type.f64] })),
    ...functions.map(({ params }) => ({ params, results: [] as ValueType[] })),
  ];
  const bytes = [
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, (to) =>
      to.vector(signatures, (out, { params, results }) =>
        out
          .u8(FUNCTION_TYPE)
          .vector(params, (list, param) => list.u8(param))
          .vector(results, (list, result) => list.u8(result)),
      ),
    ),
    ...section(2, (to) => {
      to.u32(imports.length + 1);
      to.name('env').name('memory').u8(2, 0, 1);
      for (const [i, { name }] of imports.entries()) to.name('host').name(name).u8(0).u32(i);
    }),
    ...section(3, (to) => to.vector(functions, (out, f) => out.u32(imports.length + functions.indexOf(f)))),
    ...section(7, (to) =>
      to.vector(functions, (out, f) =>
        out
          .name(`f${functions.indexOf(f)}`)
          .u8(0)
          .u32(imports.length + functions.indexOf(f)),
      ),
    ),
    ...section(10, (to) => to.vector(functions, (out, f) => f.write(out))),
  ];
  return new Uint8Array(bytes);
}
