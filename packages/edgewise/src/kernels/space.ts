/** @file One WebAssembly memory in which parameters, gradients, optimizer state and kernels' tables lie side by side. */
import { ConfigError, DeviceError } from '../base/errors.ts';

/** Element types of vectors that kernels work on. */
export type VectorDType = 'float32' | 'float64';
export type VectorArray = Float32Array | Float64Array;

const PAGE = 65536;
/** Addresses of WebAssembly memory are 32-bit. */
const MAX_BYTES = 2 ** 32;
const LINE = 64;
/**
 * Vectors start at different places within a 4 KiB page: streams whose addresses agree in their low 12 bits contend for
 * the same cache sets and make loads wait for unrelated stores.
 */
const STAGGER = 11 * LINE;
const COLOUR_PERIOD = 4096;

export const bytesOf = (dtype: VectorDType): number => (dtype === 'float64' ? 8 : 4);

/** A range of a {@link VectorSpace}. */
export interface Window {
  readonly byteOffset: number;
  /** Elements. */
  readonly length: number;
  readonly dtype: VectorDType;
  /** The elements. Ask again after anything that may have grown the memory: an array taken before has length 0 then. */
  view(): VectorArray;
}

export interface VectorSpaceOptions {
  /** Bytes to set aside at once, so that later allocations do not grow the memory and detach views. Default one page. */
  readonly reserve?: number;
}

/**
 * Zeroed memory that kernels read and write in place and that ONNX Runtime takes as input and preallocated output
 * without a copy. Allocation only: the memory is given back as a whole, when nothing refers to the space any more.
 */
export class VectorSpace {
  readonly memory: WebAssembly.Memory;
  #used = LINE;
  #vectors = 0;

  /** @throws DeviceError where the memory cannot be had. */
  constructor({ reserve = PAGE }: VectorSpaceOptions = {}) {
    if (!(reserve >= 0 && reserve <= MAX_BYTES)) {
      throw new ConfigError(`VectorSpace: reserve is ${reserve} bytes; give a number from 0 to ${MAX_BYTES}.`);
    }
    const initial = Math.max(1, Math.ceil(reserve / PAGE));
    try {
      this.memory = new WebAssembly.Memory({ initial, maximum: MAX_BYTES / PAGE });
    } catch {
      throw new DeviceError(
        `VectorSpace: ${showBytes(initial * PAGE)} of WebAssembly memory cannot be had on this machine; free memory or use a smaller model.`,
      );
    }
  }

  /** Bytes handed out so far. */
  get used(): number {
    return this.#used;
  }

  /** Bytes that {@link alloc} takes for `count` vectors of `length` elements, at most: for `reserve`. */
  static bytesFor(length: number, dtype: VectorDType, count: number): number {
    return count * (length * bytesOf(dtype) + STAGGER + COLOUR_PERIOD + LINE) + PAGE;
  }

  /**
   * A zeroed vector, aligned to a cache line. Growing the memory detaches every view taken before.
   * @throws DeviceError where 4 GiB, the limit of WebAssembly's 32-bit memory, or the machine's memory are exceeded.
   */
  alloc(length: number, dtype: VectorDType): Window {
    if (!Number.isSafeInteger(length) || length < 0) {
      throw new ConfigError(`VectorSpace: a vector has a whole number of elements, 0 or more, not ${length}.`);
    }
    const colour = (this.#vectors * STAGGER) % COLOUR_PERIOD;
    const start = Math.ceil((this.#used - colour) / COLOUR_PERIOD) * COLOUR_PERIOD + colour;
    const byteOffset = this.#take(start, length * bytesOf(dtype));
    this.#vectors++;
    const { memory } = this;
    let data = attach(memory, byteOffset, length, dtype);
    return {
      byteOffset,
      length,
      dtype,
      view() {
        if (data.buffer !== memory.buffer) data = attach(memory, byteOffset, length, dtype);
        return data;
      },
    };
  }

  /** The start of `byteLength` zeroed bytes for tables, aligned to a cache line. Throws like {@link alloc}. */
  allocBytes(byteLength: number): number {
    return this.#take(this.#used, byteLength);
  }

  #take(start: number, byteLength: number): number {
    // One more line: the last, partial vector of a segment is read as a whole register.
    const end = Math.ceil((start + byteLength + LINE) / LINE) * LINE;
    if (end > MAX_BYTES) {
      throw new DeviceError(
        `VectorSpace: ${showBytes(byteLength)} more on top of ${showBytes(this.#used)} exceed the 4 GiB a WebAssembly memory can hold; use a smaller model, an optimizer with less state, or float32.`,
      );
    }
    const missing = end - this.memory.buffer.byteLength;
    if (missing > 0) {
      try {
        this.memory.grow(Math.ceil(missing / PAGE));
      } catch {
        throw new DeviceError(
          `VectorSpace: the machine cannot give ${showBytes(missing)} more memory; free memory or use a smaller model.`,
        );
      }
    }
    this.#used = end;
    return start;
  }
}

function attach(memory: WebAssembly.Memory, byteOffset: number, length: number, dtype: VectorDType): VectorArray {
  return dtype === 'float64'
    ? new Float64Array(memory.buffer, byteOffset, length)
    : new Float32Array(memory.buffer, byteOffset, length);
}

function showBytes(bytes: number): string {
  const [unit, size] = bytes >= 2 ** 30 ? ['GiB', 2 ** 30] : bytes >= 2 ** 20 ? ['MiB', 2 ** 20] : ['bytes', 1];
  return `${Math.round((bytes / size) * 10) / 10} ${unit}`;
}
