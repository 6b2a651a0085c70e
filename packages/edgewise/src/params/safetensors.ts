/**
 * @file The safetensors format: an 8-byte little-endian header length, a JSON header, the tensors' bytes.
 *
 * Specification: the README of huggingface/safetensors. Files are read as hostile input: nothing of the header is believed
 * before it is checked against the length of the file. Tensors are little-endian, as is every machine that runs
 * WebAssembly, so they are viewed in place.
 */
import { ConfigError, FormatError } from '../base/errors.ts';
import { type Shape, showShape } from '../tensor/shape.ts';

/** Bits of one element, ordered as the reference implementation orders tensors in a file: last dtype first. */
export const SAFETENSORS_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** Element type of a tensor in a file. */
export type SafetensorsDType = keyof typeof SAFETENSORS_BITS;

const ORDER: readonly string[] = Object.keys(SAFETENSORS_BITS);
const MAX_HEADER = 100_000_000;

/** A tensor and its bytes, row-major and little-endian. */
export interface SafeTensor {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: Shape;
  readonly data: Uint8Array;
}

/** Where a tensor lies in a file. */
export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: Shape;
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** What a header says. */
export interface SafetensorsHeader {
  /** What to call the file in messages. */
  readonly label: string;
  readonly metadata: ReadonlyMap<string, string>;
  /** By name, in the order of their bytes. */
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
}

/** A file in memory. */
export interface SafetensorsFile {
  readonly label: string;
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, SafeTensor>;
}

/** Length in bytes of everything before the tensors, from the first 8 bytes of a file of `fileLength` bytes. */
export function safetensorsHeaderLength(start: Uint8Array, fileLength: number, label: string): number {
  if (start.length < 8 || fileLength < 8) {
    throw new FormatError(
      `${label}: a safetensors file starts with an 8-byte header length, but the file has ${Math.min(start.length, fileLength)} bytes.`,
    );
  }
  const length = new DataView(start.buffer, start.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER)) {
    throw new FormatError(
      `${label}: the header length at offset 0 is ${length} bytes, above the format's limit of ${MAX_HEADER}; this is not a safetensors file.`,
    );
  }
  if (Number(length) > fileLength - 8) {
    throw new FormatError(
      `${label}: the header length at offset 0 is ${length} bytes, but only ${fileLength - 8} bytes follow it; the file is cut off or not a safetensors file.`,
    );
  }
  return 8 + Number(length);
}

/**
 * Reads and checks the header. `start` holds at least the first {@link safetensorsHeaderLength} bytes of a file of
 * `fileLength` bytes, so that a large file need not be in memory. FormatError for anything the format forbids: bad JSON,
 * a name twice, metadata that is not text, an unknown dtype, a shape that does not fit its bytes, tensors that overlap,
 * leave gaps or do not end with the file.
 */
export function parseSafetensorsHeader(start: Uint8Array, fileLength: number, label: string): SafetensorsHeader {
  const dataStart = safetensorsHeaderLength(start, fileLength, label);
  if (start.length < dataStart) {
    throw new FormatError(`${label}: ${dataStart} bytes of header are needed, only ${start.length} were given.`);
  }
  const header = parseJson(start.subarray(8, dataStart), label);
  const metadata = new Map<string, string>();
  const entries: SafetensorsEntry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name !== '__metadata__') {
      entries.push(parseEntry(name, value, dataStart, fileLength, label));
      continue;
    }
    if (!isRecord(value)) throw new FormatError(`${label}: __metadata__ must map names to strings.`);
    for (const [key, text] of Object.entries(value)) {
      if (typeof text !== 'string') {
        throw new FormatError(`${label}: __metadata__ entry ${show(key)} must be a string, not ${typeof text}.`);
      }
      metadata.set(key, text);
    }
  }
  entries.sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  let end = dataStart;
  for (const { name, offset, byteLength } of entries) {
    if (offset !== end) {
      throw new FormatError(
        `${label}: tensor ${show(name)} starts at offset ${offset}, ${offset < end ? 'inside the tensor before it, which ends' : 'leaving a gap after the tensor before it, which ends'} at ${end}.`,
      );
    }
    end += byteLength;
  }
  if (end !== fileLength) {
    throw new FormatError(
      `${label}: the tensors end at offset ${end}, but the file has ${fileLength} bytes; the header must cover all of it.`,
    );
  }
  return { label, metadata, entries: new Map(entries.map((entry) => [entry.name, entry])) };
}

/** Reads a whole file; tensors are windows of `bytes`. FormatError as in {@link parseSafetensorsHeader}. */
export function parseSafetensors(bytes: Uint8Array, label: string): SafetensorsFile {
  const { metadata, entries } = parseSafetensorsHeader(bytes, bytes.length, label);
  const tensors = new Map<string, SafeTensor>();
  for (const { name, dtype, shape, offset, byteLength } of entries.values()) {
    tensors.set(name, { name, dtype, shape, data: bytes.subarray(offset, offset + byteLength) });
  }
  return { label, metadata, tensors };
}

/**
 * A file as pieces to be written after each other: the header, then the tensors' own bytes, not copied; they must not
 * change before they are written. Tensors are put in the reference implementation's order (wide dtypes first, then by
 * name), which aligns every tensor to its element size. ConfigError for a name that is repeated, reserved or not
 * well-formed Unicode and for data that does not fit its shape.
 */
export function safetensorsChunks(
  tensors: Iterable<SafeTensor>,
  metadata: Iterable<readonly [string, string]> = [],
): Uint8Array[] {
  const sorted = [...tensors].sort(
    (a, b) => ORDER.indexOf(b.dtype) - ORDER.indexOf(a.dtype) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  );
  const seen = new Set<string>(['__metadata__']);
  const fields: string[] = [];
  const meta = [...metadata];
  if (meta.length > 0) {
    const pairs = [...new Map(meta)].map(([key, value]) => `${quote(key)}:${quote(value)}`);
    fields.push(`"__metadata__":{${pairs.join(',')}}`);
  }
  let offset = 0;
  for (const { name, dtype, shape, data } of sorted) {
    if (seen.has(name)) {
      throw new ConfigError(
        name === '__metadata__'
          ? 'A tensor cannot be named __metadata__: the safetensors format reserves that name.'
          : `Two tensors are named ${show(name)}; names in a safetensors file must be unique.`,
      );
    }
    seen.add(name);
    const needed = tensorBytes(dtype, shape);
    if (needed !== data.length) {
      throw new ConfigError(
        `Tensor ${show(name)} is ${dtype} of shape ${show(shape)}, which ${showBytes(needed)}, but its data has ${data.length}.`,
      );
    }
    const fieldValue = { dtype, shape, data_offsets: [offset, offset + data.length] };
    fields.push(`${quote(name)}:${JSON.stringify(fieldValue)}`);
    offset += data.length;
  }
  const json = new TextEncoder().encode(`{${fields.join(',')}}`);
  const length = Math.ceil(json.length / 8) * 8;
  if (length > MAX_HEADER) {
    throw new ConfigError(`The header would have ${length} bytes, above the format's limit of ${MAX_HEADER}.`);
  }
  const head = new Uint8Array(8 + length).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(length), true);
  head.set(json, 8);
  return [head, ...sorted.map(({ data }) => data)];
}

/** A whole file in one buffer; {@link safetensorsChunks} does without the copy. */
export function writeSafetensors(
  tensors: Iterable<SafeTensor>,
  metadata: Iterable<readonly [string, string]> = [],
): Uint8Array {
  const chunks = safetensorsChunks(tensors, metadata);
  const out = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const chunk of chunks) {
    out.set(chunk, offset);
    offset += chunk.length;
  }
  return out;
}

/** JSON text of a string; other readers refuse half a surrogate pair, so it is not written. */
function quote(text: string): string {
  if (/\p{Surrogate}/u.test(text)) throw new ConfigError(`${show(text)} is not well-formed Unicode; rename it.`);
  return JSON.stringify(text);
}

function parseEntry(
  name: string,
  value: unknown,
  dataStart: number,
  fileLength: number,
  label: string,
): SafetensorsEntry {
  const where = `${label}: tensor ${show(name)}`;
  if (!isRecord(value)) throw new FormatError(`${where} must be an object with dtype, shape and data_offsets.`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(SAFETENSORS_BITS, dtype)) {
    throw new FormatError(`${where} has the unknown dtype ${show(dtype)}; known are ${ORDER.join(', ')}.`);
  }
  if (!isCounts(shape))
    throw new FormatError(`${where} has the shape ${show(shape)}; it must list whole numbers >= 0.`);
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw new FormatError(
      `${where} has the data_offsets ${show(offsets)}; they must be two whole numbers [begin, end].`,
    );
  }
  const [begin, end] = offsets;
  if (begin > end || end > fileLength - dataStart) {
    throw new FormatError(
      `${where} has the data_offsets [${begin}, ${end}], outside the ${fileLength - dataStart} bytes of data after offset ${dataStart}.`,
    );
  }
  const known = dtype as SafetensorsDType; // A key of the table, just checked.
  const needed = tensorBytes(known, shape);
  if (needed !== end - begin) {
    throw new FormatError(
      `${where} at offset ${dataStart + begin} is ${dtype} of shape ${show(shape)}, which ${showBytes(needed)}, but has ${end - begin}.`,
    );
  }
  return { name, dtype: known, shape, offset: dataStart + begin, byteLength: end - begin };
}

/** Undefined where the size is no whole number of bytes or beyond 2^53. */
function tensorBytes(dtype: SafetensorsDType, shape: Shape): number | undefined {
  const bytes = shape.includes(0) ? 0 : shape.reduce((a, b) => a * b, 1) * (SAFETENSORS_BITS[dtype] / 8);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

function showBytes(bytes: number | undefined): string {
  return bytes === undefined ? 'is no whole number of bytes below 2^53' : `takes ${bytes} bytes`;
}

function parseJson(bytes: Uint8Array, label: string): Record<string, unknown> {
  if (bytes[0] !== 0x7b) {
    throw new FormatError(`${label}: the header at offset 8 must start with '{'; this is not a safetensors file.`);
  }
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(`${label}: the header (offset 8, ${bytes.length} bytes) is not valid UTF-8.`, { cause });
  }
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${label}: the header (offset 8, ${bytes.length} bytes) is not valid JSON.`, { cause });
  }
  if (!isRecord(header)) throw new FormatError(`${label}: the header must be a JSON object.`);
  const repeated = repeatedKey(text);
  if (repeated !== undefined) throw new FormatError(`${label}: the header has ${show(repeated)} twice.`);
  return header;
}

/** The first key that an object of valid JSON has twice (`JSON.parse` keeps the last without a word). */
function repeatedKey(text: string): string | undefined {
  const open: Set<string>[] = [];
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '{') open.push(new Set());
    else if (c === '}') open.pop();
    else if (c === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      let after = i + 1;
      while (' \t\r\n'.includes(text[after])) after++;
      if (text[after] !== ':') continue;
      const key: string = JSON.parse(text.slice(start, i + 1));
      const keys = open[open.length - 1];
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/** A piece of a hostile header for a message: quoted, and neither endless nor deep. */
function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length <= 100 ? value : `${value.slice(0, 100)}...`);
  if (isCounts(value)) return value.length <= 12 ? showShape(value) : `[${value.slice(0, 12).join(', ')}, ...]`;
  if (Array.isArray(value)) return 'a list of something else';
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}
