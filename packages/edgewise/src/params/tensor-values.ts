/** @file The elements of safetensors tensors as typed arrays and numbers, and back. */
import { ConfigError } from '../base/errors.ts';
import { encode } from '../tensor/dtype.ts';
import type { Shape } from '../tensor/shape.ts';
import { SAFETENSORS_BITS, type SafeTensor } from './safetensors.ts';

const VIEWS = {
  F64: Float64Array,
  F32: Float32Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
  I32: Int32Array,
  U32: Uint32Array,
  I16: Int16Array,
  U16: Uint16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const;

/** A typed array over a tensor's elements. */
export type TensorArray = InstanceType<(typeof VIEWS)[keyof typeof VIEWS]>;

/**
 * The elements as the typed array of their dtype: a window of the file where they are aligned, else a copy.
 * ConfigError for dtypes no typed array has (F16, BF16, F8...); {@link tensorValues} decodes the 16-bit ones.
 */
export function tensorView({ name, dtype, data }: SafeTensor): TensorArray {
  if (!(dtype in VIEWS)) {
    throw new ConfigError(`Tensor '${name}' is ${dtype}, which no typed array holds; use tensorValues or its bytes.`);
  }
  // `in` has just been checked.
  const Type: new (b: ArrayBufferLike, at: number, length: number) => TensorArray = VIEWS[dtype as keyof typeof VIEWS];
  const width = SAFETENSORS_BITS[dtype] / 8;
  // Not `slice`: that of a Node Buffer does not copy.
  const bytes = data.byteOffset % width === 0 ? data : new Uint8Array(data);
  return new Type(bytes.buffer, bytes.byteOffset, bytes.byteLength / width);
}

/**
 * The elements as numbers: a Float32Array for F32, F16 and BF16 (in place where F32 is aligned), a Float64Array for F64 and
 * the integers (64-bit ones beyond 2^53 are rounded). ConfigError for F8, F6, F4 and complex tensors.
 */
export function tensorValues(tensor: SafeTensor): Float32Array | Float64Array {
  if (tensor.dtype === 'F16' || tensor.dtype === 'BF16') {
    const words = tensorView({ ...tensor, dtype: 'U16' });
    const out = new Float32Array(words.length);
    const outBits = new Uint32Array(out.buffer);
    for (let i = 0; i < out.length; i++) {
      const word = Number(words[i]);
      if (tensor.dtype === 'BF16') outBits[i] = word << 16;
      else out[i] = halfValue(word);
    }
    return out;
  }
  const view = tensorView(tensor);
  if (view instanceof Float32Array || view instanceof Float64Array) return view;
  return Float64Array.from<number | bigint>(view, Number);
}

/** A tensor of a floating-point dtype from numbers, rounded to nearest even; F32 and F64 arrays are used in place. */
export function tensorFrom(
  name: string,
  shape: Shape,
  values: Float32Array | Float64Array,
  dtype: 'F64' | 'F32' | 'F16' | 'BF16' = values instanceof Float64Array ? 'F64' : 'F32',
): SafeTensor {
  const array = floatArray(values, dtype);
  return { name, dtype, shape, data: new Uint8Array(array.buffer, array.byteOffset, array.byteLength) };
}

function floatArray(values: Float32Array | Float64Array, dtype: 'F64' | 'F32' | 'F16' | 'BF16') {
  if (dtype === 'F64') return values instanceof Float64Array ? values : Float64Array.from(values);
  if (dtype === 'F32') return values instanceof Float32Array ? values : Float32Array.from(values);
  return dtype === 'F16' ? encode(values, 'float16') : Uint16Array.from(values, bfloat16Bits);
}

const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** Nearest bfloat16 of the float32 nearest to `value`, ties to even; NaN stays NaN. */
function bfloat16Bits(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  float[0] = value;
  const word = floatBits[0];
  return (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
}

function halfValue(word: number): number {
  const sign = word & 0x8000 ? -1 : 1;
  const exponent = (word >> 10) & 0x1f;
  const fraction = word & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}
