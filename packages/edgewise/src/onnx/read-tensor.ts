/** TensorProto to `OnnxTensor`: the many ways a file may keep the elements of a tensor, brought to one. */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { ENTRY, TENSOR } from './fields.ts';
import { type OnnxDType, type OnnxTensor, onnxDTypeBytes, onnxDTypeOfCode } from './model.ts';
import type { MessageReader } from './wire.ts';

/** Bytes of the file at `location` beside the model, or undefined where there is none. */
export type ExternalData = (location: string) => Uint8Array | undefined;

/** What the readers of the messages of one model share. */
export interface ReadContext {
  /** Graphs around the current message. */
  graphDepth: number;
  inFunction: boolean;
  readonly externalData: ExternalData | undefined;
}

export type Reader = MessageReader<ReadContext>;

const nothing: object = Object.freeze(Object.create(null));

/**
 * An empty record whose keys come from a file: no name, not even `__proto__`, meets anything inherited, and, unlike
 * after `Object.create(null)`, the engine keeps it as compact as a literal.
 */
export function emptyRecord<T>(): Record<string, T> {
  return Object.create(nothing);
}

type ElementField = 'float_data' | 'double_data' | 'int32_data' | 'int64_data' | 'uint64_data';

/** The field that holds elements of each dtype where `raw_data` does not. */
const elementField: Readonly<Record<Exclude<OnnxDType, 'string'>, ElementField>> = {
  float32: 'float_data',
  float64: 'double_data',
  float16: 'int32_data',
  bfloat16: 'int32_data',
  int8: 'int32_data',
  int16: 'int32_data',
  int32: 'int32_data',
  uint8: 'int32_data',
  uint16: 'int32_data',
  bool: 'int32_data',
  int64: 'int64_data',
  uint32: 'uint64_data',
  uint64: 'uint64_data',
};

/** Names of the numbers in `TensorProto.DataType` that we do not represent. */
const unsupportedDTypes: Readonly<Record<number, string>> = {
  14: 'complex64',
  15: 'complex128',
  17: 'float8e4m3fn',
  18: 'float8e4m3fnuz',
  19: 'float8e5m2',
  20: 'float8e5m2fnuz',
  21: 'uint4',
  22: 'int4',
  23: 'float4e2m1',
  24: 'float8e8m0',
  25: 'uint2',
  26: 'int2',
  27: 'float6e2m3',
  28: 'float6e3m2',
};

/** Element type with this number; throws where there is none or we do not represent it. */
export function readDType(r: Reader, code: number, what: string): OnnxDType {
  const dtype = onnxDTypeOfCode(code);
  if (dtype === undefined) {
    const known = unsupportedDTypes[code];
    throw r.error(
      known === undefined
        ? `${what} has element type ${code}, which ONNX does not define`
        : `${what} has element type ${known}, which is not supported; convert it to float32 or an integer type`,
    );
  }
  return dtype;
}

/** Reads the fields of a TensorProto. */
export function readTensor(r: Reader): OnnxTensor {
  let name = '';
  let dtypeCode = 0;
  let raw: Uint8Array | undefined;
  let location = 0;
  const dims: number[] = [];
  const strings: string[] = [];
  const external = emptyRecord<string>();
  const elements = new Map<ElementField, Uint8Array | ByteJoiner>();
  const add = (field: ElementField, wire: WireType) => {
    const bytes = r.encoded(wire);
    const before = elements.get(field);
    if (before === undefined) {
      elements.set(field, bytes);
    } else if (before instanceof ByteJoiner) {
      before.add(bytes);
    } else {
      elements.set(field, new ByteJoiner(before, bytes));
    }
  };
  while (r.next()) {
    switch (r.field) {
      case TENSOR.dims:
        r.ints(dims);
        break;
      case TENSOR.dataType:
        dtypeCode = r.int();
        break;
      case TENSOR.name:
        name = r.string();
        break;
      case TENSOR.rawData:
        raw = r.bytes();
        break;
      case TENSOR.floatData:
        add('float_data', WireType.Bit32);
        break;
      case TENSOR.doubleData:
        add('double_data', WireType.Bit64);
        break;
      case TENSOR.int32Data:
        add('int32_data', WireType.Varint);
        break;
      case TENSOR.int64Data:
        add('int64_data', WireType.Varint);
        break;
      case TENSOR.uint64Data:
        add('uint64_data', WireType.Varint);
        break;
      case TENSOR.stringData:
        strings.push(r.string());
        break;
      case TENSOR.dataLocation:
        location = r.int();
        break;
      case TENSOR.externalData: {
        const [key, value] = r.message('external_data', -1, readEntry);
        external[key] = value;
        break;
      }
      case TENSOR.segment:
        throw r.error(`tensor '${name}' is one segment of a tensor, which is not supported`);
      default:
        r.skip();
    }
  }

  const what = `tensor '${name}'`;
  const dtype = readDType(r, dtypeCode, what);
  const count = elementCount(r, dims, what);
  for (const [field, bytes] of elements) {
    if (bytes.length === 0) {
      elements.delete(field);
    }
  }
  const stores = elements.size + (strings.length > 0 ? 1 : 0) + (raw === undefined || raw.length === 0 ? 0 : 1);
  if (stores > 1) {
    throw r.error(`${what} gives its elements in ${stores} fields at once`);
  }

  if (location === 1) {
    if (stores > 0) {
      throw r.error(`${what} gives elements here and also names external data`);
    }
    if (dtype === 'string') {
      throw r.error(`${what} keeps strings in external data, which ONNX does not allow`);
    }
    const data = readExternal(r, external, count * onnxDTypeBytes(dtype), what);
    return { name, dtype, dims, data };
  }
  if (location !== 0) {
    throw r.error(`${what} has data_location ${location}, which ONNX does not define`);
  }

  if (dtype === 'string') {
    if (raw !== undefined || elements.size > 0 || strings.length !== count) {
      throw r.error(`${what} of shape [${dims}] needs ${count} strings in string_data, and has ${strings.length}`);
    }
    return { name, dtype, dims, data: new Uint8Array(0), strings };
  }
  const field = elementField[dtype];
  const stored = elements.get(field);
  if (strings.length > 0 || (stored === undefined && elements.size > 0)) {
    const found = strings.length > 0 ? 'string_data' : [...elements.keys()][0];
    throw r.error(`${what} of type ${dtype} keeps its elements in ${found} where ${field} or raw_data is due`);
  }
  const encoded = stored instanceof ByteJoiner ? stored.bytes() : stored;
  if (encoded !== undefined && field !== 'float_data' && field !== 'double_data') {
    return { name, dtype, dims, data: decodeVarints(r, encoded, count, dtype, what) };
  }
  const data = encoded ?? raw ?? new Uint8Array(0);
  const wanted = count * onnxDTypeBytes(dtype);
  if (data.length !== wanted) {
    throw r.error(`${what} of type ${dtype} and shape [${dims}] needs ${wanted} bytes, and has ${data.length}`);
  }
  return { name, dtype, dims, data };
}

/** Key and value of a StringStringEntryProto. */
export function readEntry(r: Reader): [string, string] {
  let key = '';
  let value = '';
  while (r.next()) {
    switch (r.field) {
      case ENTRY.key:
        key = r.string();
        break;
      case ENTRY.value:
        value = r.string();
        break;
      default:
        r.skip();
    }
  }
  return [key, value];
}

function elementCount(r: Reader, dims: readonly number[], what: string): number {
  let count = 1;
  for (const dim of dims) {
    if (!Number.isSafeInteger(dim) || dim < 0) {
      throw r.error(`${what} has a dimension of ${dim}`);
    }
    count *= dim;
  }
  if (dims.includes(0)) {
    return 0;
  }
  // No element takes less than a bit of a file that protobuf keeps below 2 GiB or of external data below 2^53 bytes.
  if (count > Number.MAX_SAFE_INTEGER / 8) {
    throw r.error(`${what} of shape [${dims}] has more elements than any file can hold`);
  }
  return count;
}

function readExternal(r: Reader, entries: Readonly<Record<string, string>>, wanted: number, what: string): Uint8Array {
  const location = entries.location;
  if (location === undefined || location === '') {
    throw r.error(`${what} keeps its elements in external data without a location`);
  }
  const file = r.context.externalData?.(location);
  if (file === undefined) {
    throw r.error(
      `${what} keeps its elements in the file '${location}'; ` +
        'give that file by the option externalData, or save the model as one file',
    );
  }
  const offset = entries.offset === undefined ? 0 : decimal(r, entries.offset, what);
  const length = entries.length === undefined ? wanted : decimal(r, entries.length, what);
  if (length !== wanted) {
    throw r.error(`${what} needs ${wanted} bytes, and its external data claims ${length}`);
  }
  if (offset > file.length || wanted > file.length - offset) {
    throw r.error(`${what} needs ${wanted} bytes at ${offset} of '${location}', which has ${file.length}`);
  }
  return new Uint8Array(file.buffer, file.byteOffset + offset, wanted);
}

function decimal(r: Reader, text: string, what: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) {
    throw r.error(`${what} has '${text}' as offset or length of its external data`);
  }
  return value;
}

/** Little-endian elements from varints; values beyond the dtype keep their low bits, as in ONNX Runtime. */
function decodeVarints(r: Reader, encoded: Uint8Array, count: number, dtype: OnnxDType, what: string): Uint8Array {
  let found = 0;
  for (const byte of encoded) {
    found += byte < 0x80 ? 1 : 0;
  }
  if (found !== count) {
    throw r.error(`${what} needs ${count} elements, and has ${found}`);
  }
  const input = new BinaryReader(encoded);
  const fill = (elements: Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array) => {
    for (let i = 0; i < count; i++) {
      elements[i] = input.uint32();
    }
    return elements;
  };
  const elements = ((): ArrayBufferView => {
    switch (dtype) {
      case 'int8':
      case 'uint8':
        return fill(new Uint8Array(count));
      case 'int16':
      case 'uint16':
      case 'float16':
      case 'bfloat16':
        return fill(new Uint16Array(count));
      case 'int32':
      case 'uint32':
        return fill(new Uint32Array(count));
      case 'bool': {
        const flags = new Uint8Array(count);
        for (let i = 0; i < count; i++) {
          flags[i] = input.uint32() === 0 ? 0 : 1;
        }
        return flags;
      }
      default: {
        const wide = new BigInt64Array(count);
        for (let i = 0; i < count; i++) {
          wide[i] = BigInt(input.int64());
        }
        return wide;
      }
    }
  })();
  if (input.pos !== encoded.length) {
    throw r.error(`the elements of ${what} end inside an element`);
  }
  return new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
}

/** Pieces of bytes put one after another, in space that doubles. */
class ByteJoiner {
  length = 0;
  #buffer: Uint8Array;

  constructor(first: Uint8Array, second: Uint8Array) {
    this.#buffer = new Uint8Array(2 * (first.length + second.length));
    this.add(first);
    this.add(second);
  }

  add(piece: Uint8Array): void {
    if (this.length + piece.length > this.#buffer.length) {
      const larger = new Uint8Array(2 * (this.length + piece.length));
      larger.set(this.bytes());
      this.#buffer = larger;
    }
    this.#buffer.set(piece, this.length);
    this.length += piece.length;
  }

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.length);
  }
}
