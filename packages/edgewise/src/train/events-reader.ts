/** Reads TensorBoard event files, ours and those of other programs (TensorFlow 1 and 2, PyTorch, tensorboardX). */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { FormatError } from '../base/errors.ts';
import { crc32c, maskCrc32c } from './crc32c.ts';
import { type EventValue, type Histogram, RECORD_OVERHEAD, type TrainingEvent } from './events.ts';

/** What an event file holds, as far as it is whole. */
export interface EventFile {
  readonly events: readonly TrainingEvent[];
  /** `ends[i]`: offset of the byte after the record of `events[i]`. */
  readonly ends: readonly number[];
  /** Bytes from the start of the file that are whole records; the file's length where nothing is wrong. */
  readonly length: number;
  /**
   * What was found at offset `length` where that is not the end of the file. A record cut short (`truncated`) is what a killed
   * writer leaves behind, or one that is still writing; `corrupt` is a checksum or a message that is wrong.
   */
  readonly damage?: { readonly kind: 'truncated' | 'corrupt'; readonly message: string };
}

/**
 * Reads the records of an event file up to its end or to the first that is not whole. Scalars and histograms are
 * understood in both forms TensorFlow has written (`simple_value` and `histo`; tensors of the plugins `scalars` and `histograms`).
 *
 * @param bytes The file's content; treated as hostile.
 * @param source Named in messages. Default `event file`.
 */
export function readEvents(bytes: Uint8Array, source = 'event file'): EventFile {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const events: TrainingEvent[] = [];
  const ends: number[] = [];
  let offset = 0;
  const stop = (kind: 'truncated' | 'corrupt', what: string): EventFile => ({
    events,
    ends,
    length: offset,
    damage: { kind, message: `${source}: the record at offset ${offset} ${what}.` },
  });
  while (offset < bytes.length) {
    const left = bytes.length - offset;
    if (left < 12) return stop('truncated', `is cut short: ${left} bytes are left, its head alone has 12`);
    if (view.getUint32(offset + 8, true) !== maskCrc32c(crc32c(bytes.subarray(offset, offset + 8)))) {
      return stop('corrupt', 'has a length whose checksum does not match');
    }
    const messageLength = view.getBigUint64(offset, true);
    if (messageLength > BigInt(left - RECORD_OVERHEAD)) {
      return stop('truncated', `is cut short: it claims ${messageLength} bytes, ${left - 12} are left`);
    }
    const start = offset + 12;
    const end = start + Number(messageLength);
    const message = bytes.subarray(start, end);
    if (view.getUint32(end, true) !== maskCrc32c(crc32c(message))) {
      return stop('corrupt', `has a message of ${messageLength} bytes whose checksum does not match`);
    }
    try {
      events.push(decodeEvent(message));
    } catch (error) {
      return stop('corrupt', `is not an event (${error instanceof Error ? error.message : String(error)})`);
    }
    offset = end + 4;
    ends.push(offset);
  }
  return { events, ends, length: offset };
}

/**
 * Length in bytes of the longest beginning of `file` whose events all lie at or before `step`: where to cut the file when
 * a run is resumed from there.
 */
export function eventsLengthAtStep(file: EventFile, step: number): number {
  const first = file.events.findIndex((event) => event.step > step);
  if (first === -1) return file.length;
  return first === 0 ? 0 : file.ends[first - 1];
}

const VARINT = WireType.Varint;
const BIT64 = WireType.Bit64;
const BYTES = WireType.LengthDelimited;
const BIT32 = WireType.Bit32;

/** A field number and the wire type it was written with, as protocol buffers join them into a tag. */
const tag = (field: number, wire: WireType): number => (field << 3) | wire;

/** Calls `field` for each field of `message`; a field that it does not take (returns false) is skipped. */
function readFields(message: Uint8Array, field: (tag: number, reader: BinaryReader) => boolean): void {
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    if (!field(tag(number, wire), reader)) reader.skip(wire, number);
  }
}

function decodeEvent(message: Uint8Array): TrainingEvent {
  let wallTime = 0;
  let step = 0;
  let fileVersion: string | undefined;
  const values: EventValue[] = [];
  readFields(message, (field, reader) => {
    if (field === tag(1, BIT64)) wallTime = reader.double();
    else if (field === tag(2, VARINT)) step = safeInteger(reader.int64());
    else if (field === tag(3, BYTES)) fileVersion = reader.string();
    else if (field === tag(5, BYTES)) {
      readFields(reader.bytes(), (inner, summary) => {
        if (inner !== tag(1, BYTES)) return false;
        values.push(decodeValue(summary.bytes()));
        return true;
      });
    } else return false;
    return true;
  });
  return fileVersion === undefined ? { wallTime, step, values } : { wallTime, step, fileVersion, values };
}

function decodeValue(message: Uint8Array): EventValue {
  let name = '';
  let scalar: number | undefined;
  let histogram: Histogram | undefined;
  let tensor: Uint8Array | undefined;
  let plugin: string | undefined;
  readFields(message, (field, reader) => {
    if (field === tag(1, BYTES)) name = reader.string();
    else if (field === tag(2, BIT32)) scalar = reader.float();
    else if (field === tag(5, BYTES)) histogram = decodeHistogram(reader.bytes());
    else if (field === tag(8, BYTES)) tensor = reader.bytes();
    else if (field === tag(9, BYTES)) plugin = decodePluginName(reader.bytes()) ?? plugin;
    else return false;
    return true;
  });
  if (scalar !== undefined) return { kind: 'scalar', tag: name, value: scalar };
  if (histogram !== undefined) return { kind: 'histogram', tag: name, histogram };
  if (tensor !== undefined && (plugin === 'scalars' || plugin === 'histograms')) {
    const numbers = decodeTensor(tensor);
    if (plugin === 'scalars' && numbers?.length === 1) return { kind: 'scalar', tag: name, value: numbers[0] };
    if (plugin === 'histograms' && numbers && numbers.length % 3 === 0) {
      return { kind: 'histogram', tag: name, histogram: histogramFromRows(numbers) };
    }
  }
  return plugin === undefined ? { kind: 'other', tag: name } : { kind: 'other', tag: name, plugin };
}

function decodePluginName(metadata: Uint8Array): string | undefined {
  let name: string | undefined;
  readFields(metadata, (field, reader) => {
    if (field !== tag(1, BYTES)) return false;
    readFields(reader.bytes(), (inner, data) => {
      if (inner !== tag(1, BYTES)) return false;
      name = data.string();
      return true;
    });
    return true;
  });
  return name;
}

function decodeHistogram(message: Uint8Array): Histogram {
  const numbers = [0, 0, 0, 0, 0];
  const bucketLimits: number[] = [];
  const buckets: number[] = [];
  readFields(message, (field, reader) => {
    const number = field >>> 3;
    if ((field & 7) === BIT64 && number <= 5) numbers[number - 1] = reader.double();
    else if (number === 6 || number === 7) return readDoubles(field, reader, number === 6 ? bucketLimits : buckets);
    else return false;
    return true;
  });
  if (bucketLimits.length !== buckets.length) {
    throw new FormatError(`histogram with ${bucketLimits.length} limits and ${buckets.length} counts`);
  }
  const [min, max, count, sum, sumOfSquares] = numbers;
  return { min, max, count, sum, sumOfSquares, bucketLimits, buckets };
}

/** A repeated double, packed or not. */
function readDoubles(field: number, reader: BinaryReader, into: number[]): boolean {
  const wire = field & 7;
  if (wire === BIT64) into.push(reader.double());
  else if (wire === BYTES) {
    const packed = reader.bytes();
    if (packed.length % 8 !== 0) throw new FormatError(`${packed.length} bytes of packed doubles`);
    const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
    for (let i = 0; i < packed.length; i += 8) into.push(view.getFloat64(i, true));
  } else return false;
  return true;
}

/** Rows of (left end, right end, count): the histogram plugin's tensor. Sums are not in it; they are estimated from bucket centres. */
function histogramFromRows(rows: readonly number[]): Histogram {
  const bucketLimits: number[] = [];
  const buckets: number[] = [];
  let count = 0;
  let sum = 0;
  let sumOfSquares = 0;
  for (let i = 0; i < rows.length; i += 3) {
    const centre = (rows[i] + rows[i + 1]) / 2;
    bucketLimits.push(rows[i + 1]);
    buckets.push(rows[i + 2]);
    count += rows[i + 2];
    sum += centre * rows[i + 2];
    sumOfSquares += centre * centre * rows[i + 2];
  }
  const [min, max] = [rows[0] ?? 0, rows[rows.length - 2] ?? 0];
  return { min, max, count, sum, sumOfSquares, bucketLimits, buckets };
}

const DT_FLOAT = 1;
const DT_DOUBLE = 2;
const DT_INT32 = 3;
const DT_INT64 = 9;

/** The numbers of a `TensorProto` of float, double, int32 or int64; undefined for other types. */
function decodeTensor(message: Uint8Array): number[] | undefined {
  let dtype = 0;
  let content: Uint8Array | undefined;
  const numbers: number[] = [];
  readFields(message, (field, reader) => {
    if (field === tag(1, VARINT)) dtype = reader.int32();
    else if (field === tag(4, BYTES)) content = reader.bytes();
    else if (field === tag(5, BIT32)) numbers.push(reader.float());
    else if (field === tag(5, BYTES))
      for (const number of decodeContent(DT_FLOAT, reader.bytes())) numbers.push(number);
    else if (field >>> 3 === 6) return readDoubles(field, reader, numbers);
    else if (field === tag(7, VARINT) || field === tag(10, VARINT)) numbers.push(safeInteger(reader.int64()));
    else if (field === tag(7, BYTES) || field === tag(10, BYTES)) {
      const packed = new BinaryReader(reader.bytes());
      while (packed.pos < packed.len) numbers.push(safeInteger(packed.int64()));
    } else return false;
    return true;
  });
  if (![DT_FLOAT, DT_DOUBLE, DT_INT32, DT_INT64].includes(dtype)) return undefined;
  return content !== undefined && content.length > 0 ? decodeContent(dtype, content) : numbers;
}

function decodeContent(dtype: number, content: Uint8Array): number[] {
  const size = dtype === DT_FLOAT || dtype === DT_INT32 ? 4 : 8;
  if (content.length % size !== 0) {
    throw new FormatError(`tensor content of ${content.length} bytes, not a multiple of ${size}`);
  }
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const numbers: number[] = [];
  for (let i = 0; i < content.length; i += size) {
    if (dtype === DT_FLOAT) numbers.push(view.getFloat32(i, true));
    else if (dtype === DT_DOUBLE) numbers.push(view.getFloat64(i, true));
    else if (dtype === DT_INT32) numbers.push(view.getInt32(i, true));
    else numbers.push(safeInteger(view.getBigInt64(i, true)));
  }
  return numbers;
}

function safeInteger(value: bigint | string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new FormatError(`integer ${value} beyond 2^53`);
  return number;
}
