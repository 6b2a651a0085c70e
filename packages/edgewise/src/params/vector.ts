/** @file The parameters as one vector; gradients, optimizer slots and Lanczos vectors are such vectors too. */
import { ConfigError } from '../base/errors.ts';
import type { FloatArray, Key } from '../base/random.ts';
import { showShape } from '../tensor/shape.ts';
import { ALIGNMENT, ParamLayout, type ParamSpec, type Segment } from './layout.ts';

/** Element types of a parameter vector. */
export type FloatDType = 'float32' | 'float64';
/** The typed array that holds a dtype. */
export type ArrayOf<D extends FloatDType> = D extends 'float64' ? Float64Array : Float32Array;

/** Anything whose bytes lie in `buffer`: a `WebAssembly.Memory` (whose buffer changes when it grows) or a typed array. */
export interface Memory {
  readonly buffer: ArrayBufferLike;
}

/** A vector over a {@link ParamLayout}, in memory of its own or in a window of the caller's. */
export class ParamVector<D extends FloatDType = FloatDType> {
  readonly layout: ParamLayout;
  readonly dtype: D;
  /** Where the vector starts in its memory, in bytes. */
  readonly byteOffset: number;
  readonly #memory: Memory;
  #data: ArrayOf<D>;

  /**
   * @param dtype `float32` for training; `float64` for tests and for probes that need it.
   * @param memory Memory to use instead of new, zeroed memory. What lies there is kept, except that padding is set to
   *   zero.
   * @param byteOffset Start of the window in `memory`; a multiple of 16 in float32 and of 32 in float64, default 0.
   */
  constructor(layout: ParamLayout, dtype: D, memory?: Memory, byteOffset = 0) {
    const unit = bytesOf(dtype) * ALIGNMENT;
    if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || byteOffset % unit !== 0) {
      throw new ConfigError(
        `A ${dtype} parameter vector must start at a multiple of ${unit} bytes, not at ${byteOffset}.`,
      );
    }
    this.layout = layout;
    this.dtype = dtype;
    this.byteOffset = byteOffset;
    this.#memory = memory ?? { buffer: new ArrayBuffer(byteOffset + layout.size * bytesOf(dtype)) };
    this.#data = this.#attach();
    if (memory) this.zeroPadding();
  }

  /** Bytes the vector occupies. */
  get byteLength(): number {
    return this.layout.size * bytesOf(this.dtype);
  }

  /**
   * All elements, padding included. Ask again after anything that may grow a WebAssembly memory: an array taken before
   * has length 0 then.
   */
  get data(): ArrayOf<D> {
    if (this.#data.buffer !== this.#memory.buffer || this.#data.length !== this.layout.size)
      this.#data = this.#attach();
    return this.#data;
  }

  /** The elements of one parameter, row-major, as a window of the vector. ConfigError for an unknown name. */
  view(name: string): ArrayOf<D> {
    const { offset, length } = this.layout.segment(name);
    return this.#window(offset, length);
  }

  /** Every segment with its window, in order. */
  *entries(): IterableIterator<[segment: Segment, view: ArrayOf<D>]> {
    for (const segment of this.layout.segments) yield [segment, this.#window(segment.offset, segment.length)];
  }

  /** Writes one parameter. ConfigError where the number of values is not the parameter's. */
  set(name: string, values: ArrayLike<number>): void {
    const { length, shape } = this.layout.segment(name);
    if (values.length !== length) {
      throw new ConfigError(
        `Parameter '${name}' of shape ${showShape(shape)} takes ${length} values, got ${values.length}.`,
      );
    }
    this.view(name).set(values);
  }

  /** Writes `value` into every parameter; padding stays zero. */
  fill(value: number): void {
    for (const [, view] of this.entries()) view.fill(value);
  }

  /** Takes the values of `other`, rounding to this dtype. ConfigError where it is a vector of another model. */
  copyFrom(other: ParamVector): void {
    this.layout.assertSame(other.layout, 'the vector copied from');
    this.data.set(other.data);
  }

  /** A copy in memory of its own. */
  clone(): ParamVector<D> {
    const copy = new ParamVector(this.layout, this.dtype);
    copy.data.set(this.data);
    return copy;
  }

  /** Sets the padding between segments to zero, for callers that wrote over the whole vector. */
  zeroPadding(): void {
    const data = this.data;
    for (const { offset, length } of this.layout.segments) {
      data.fill(0, offset + length, offset + Math.ceil(length / ALIGNMENT) * ALIGNMENT);
    }
  }

  #window(offset: number, length: number): ArrayOf<D> {
    // `subarray` gives the type it was called on; the union inside the conditional type hides that.
    return (this.data as FloatArray).subarray(offset, offset + length) as ArrayOf<D>;
  }

  #attach(): ArrayOf<D> {
    const { buffer } = this.#memory;
    const needed = this.byteOffset + this.byteLength;
    if (buffer.byteLength < needed) {
      throw new ConfigError(
        `A ${this.dtype} vector of ${this.layout.size} elements at byte ${this.byteOffset} needs ${needed} bytes of memory; the buffer has ${buffer.byteLength}${buffer.byteLength === 0 ? ' (was it transferred?)' : ''}.`,
      );
    }
    const { size } = this.layout;
    const data =
      this.dtype === 'float64'
        ? new Float64Array(buffer, this.byteOffset, size)
        : new Float32Array(buffer, this.byteOffset, size);
    return data as ArrayOf<D>; // D decides which of the two it is.
  }
}

/**
 * Draws the first values of every parameter of `vector` by its initializer. Each parameter draws from
 * `key.split(name)`, so that adding, removing or reordering parameters changes no other one.
 */
export function initialize(vector: ParamVector, params: readonly ParamSpec[], key: Key): void {
  vector.layout.assertSame(new ParamLayout(params), 'the list of parameters to initialize');
  for (const { name, shape, init } of params) init.fill(key.split(name), vector.view(name), shape);
}

function bytesOf(dtype: FloatDType): number {
  return dtype === 'float64' ? 8 : 4;
}
