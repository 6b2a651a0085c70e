/** Element types of tensors. `float16` and `int64` exist where the device has them; the interpreter holds both in float64. */
export type DType = 'float32' | 'float64' | 'float16' | 'int32' | 'int64' | 'bool';

/** Memory in which a device takes and returns elements of a dtype (`bool` is one byte, `float16` its bit pattern). */
export type TypedArray = Float32Array | Float64Array | Uint16Array | Int32Array | BigInt64Array | Uint8Array;

const constructors = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
} as const;

export const isFloat = (dtype: DType): boolean => dtype.startsWith('float');

export const isInteger = (dtype: DType): boolean => dtype.startsWith('int');

/** Bytes of one element. */
export const bytesPerElement = (dtype: DType): number => constructors[dtype].BYTES_PER_ELEMENT;

/** Zeroed memory for `length` elements of `dtype`. */
export function allocate(dtype: DType, length: number): TypedArray {
  return new constructors[dtype](length);
}

/** Whether `data` is the memory a device expects for `dtype`. */
export function holds(data: unknown, dtype: DType): data is TypedArray {
  return data instanceof constructors[dtype];
}

/** Numbers → device memory of `dtype`, rounding as the dtype does. */
export function encode(values: ArrayLike<number>, dtype: DType): TypedArray {
  if (dtype === 'int64') return BigInt64Array.from({ length: values.length }, (_, i) => BigInt(Math.trunc(values[i])));
  if (dtype === 'float16') return Uint16Array.from({ length: values.length }, (_, i) => float16Bits(values[i]));
  if (dtype === 'bool') return Uint8Array.from({ length: values.length }, (_, i) => (values[i] === 0 ? 0 : 1));
  const out = new constructors[dtype](values.length);
  out.set(values);
  return out;
}

/** Device memory of `dtype` → float64; int64 beyond 2^53 loses its last bits. */
export function decode(data: TypedArray, dtype: DType): Float64Array {
  if (data instanceof BigInt64Array) return Float64Array.from(data, Number);
  if (dtype === 'float16') return Float64Array.from(data, float16Value);
  return Float64Array.from(data);
}

const scratch = new DataView(new ArrayBuffer(8));

/** Nearest binary16 bit pattern, ties to even. */
function float16Bits(value: number): number {
  scratch.setFloat64(0, value);
  const sign = (scratch.getUint8(0) & 0x80) << 8;
  const magnitude = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | roundHalfEven(magnitude * 2 ** 24);
  const exponent = Math.floor(Math.log2(magnitude));
  const corrected =
    2 ** exponent > magnitude ? exponent - 1 : 2 ** (exponent + 1) <= magnitude ? exponent + 1 : exponent;
  const mantissa = roundHalfEven((magnitude / 2 ** corrected - 1) * 1024);
  return sign | (((corrected + 15) << 10) + mantissa);
}

function float16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

function roundHalfEven(x: number): number {
  const low = Math.floor(x);
  const rest = x - low;
  if (rest !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}
