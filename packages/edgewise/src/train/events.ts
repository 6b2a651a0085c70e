/**
 * TensorBoard event files: a sequence of TFRecords, each an `Event` protocol-buffer message. This file writes them,
 * `events-reader.ts` reads them back. Layout of a record (TensorFlow, `record_writer.cc`): length as uint64, masked
 * CRC-32C of those eight bytes, the message, masked CRC-32C of the message; everything little-endian. Messages:
 * TensorFlow's `event.proto`, `summary.proto`.
 */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { ConfigError } from '../base/errors.ts';
import { crc32c, maskCrc32c } from './crc32c.ts';
import { LogFile, type RunStore } from './store.ts';

/** First record of every event file; TensorBoard refuses a file whose number after the colon is below 2. */
export const EVENT_FILE_VERSION = 'brain.Event:2';

/** Bytes of a record besides its message: length, checksum of the length, checksum of the message. */
export const RECORD_OVERHEAD = 16;

/** Counts of values by magnitude. Bucket `i` holds the values in `(bucketLimits[i - 1], bucketLimits[i]]`. */
export interface Histogram {
  readonly min: number;
  readonly max: number;
  /** How many values were counted. */
  readonly count: number;
  readonly sum: number;
  readonly sumOfSquares: number;
  /** Upper ends of the buckets, ascending. */
  readonly bucketLimits: readonly number[];
  /** Counts, one for each limit. */
  readonly buckets: readonly number[];
}

/** One named quantity of an event. `other`: a kind this library does not interpret (image, text, graph, ...). */
export type EventValue =
  | { readonly kind: 'scalar'; readonly tag: string; readonly value: number }
  | { readonly kind: 'histogram'; readonly tag: string; readonly histogram: Histogram }
  | { readonly kind: 'other'; readonly tag: string; readonly plugin?: string };

/** One record of an event file. */
export interface TrainingEvent {
  /** Seconds since the Unix epoch. */
  readonly wallTime: number;
  /** Training step; a whole number. */
  readonly step: number;
  /** Set in the first record only. */
  readonly fileVersion?: string;
  readonly values: readonly EventValue[];
}

/**
 * `event` as one framed record, ready to be appended to an event file. Scalars are stored as float32 (the format has
 * nothing wider); non-finite ones are kept.
 *
 * @throws ConfigError where the step is not a whole number, the wall time not finite, a tag empty, or a value is of kind `other`.
 */
export function encodeEvent(event: TrainingEvent): Uint8Array {
  if (!Number.isSafeInteger(event.step)) {
    throw new ConfigError(`An event's step must be a whole number, got ${event.step}.`);
  }
  if (!Number.isFinite(event.wallTime)) {
    throw new ConfigError(`An event's wall time must be finite seconds since the Unix epoch, got ${event.wallTime}.`);
  }
  const writer = new BinaryWriter();
  writer.tag(1, WireType.Bit64).double(event.wallTime);
  if (event.step !== 0) writer.tag(2, WireType.Varint).int64(event.step);
  if (event.fileVersion !== undefined) writer.tag(3, WireType.LengthDelimited).string(event.fileVersion);
  if (event.values.length > 0) {
    writer.tag(5, WireType.LengthDelimited).fork();
    for (const value of event.values) writeValue(writer, value);
    writer.join();
  }
  return frameRecord(writer.finish());
}

function writeValue(writer: BinaryWriter, value: EventValue): void {
  if (value.tag === '') throw new ConfigError('An event value needs a tag to be shown under, got an empty one.');
  writer.tag(1, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.LengthDelimited).string(value.tag);
  if (value.kind === 'scalar') {
    writer.tag(2, WireType.Bit32).float(Math.fround(value.value));
  } else if (value.kind === 'histogram') {
    writer.tag(5, WireType.LengthDelimited).fork();
    writeHistogram(writer, value.histogram);
    writer.join();
  } else {
    throw new ConfigError(`Only scalars and histograms can be written to an event file; ${value.tag} is neither.`);
  }
  writer.join();
}

function writeHistogram(writer: BinaryWriter, histogram: Histogram): void {
  const { min, max, count, sum, sumOfSquares, bucketLimits, buckets } = histogram;
  if (bucketLimits.length !== buckets.length) {
    throw new ConfigError(
      `A histogram needs one count for each bucket limit, got ${buckets.length} for ${bucketLimits.length}.`,
    );
  }
  for (const [index, number] of [min, max, count, sum, sumOfSquares].entries()) {
    writer.tag(index + 1, WireType.Bit64).double(number);
  }
  for (const [field, numbers] of [[6, bucketLimits] as const, [7, buckets] as const]) {
    writer.tag(field, WireType.LengthDelimited).fork();
    for (const number of numbers) writer.double(number);
    writer.join();
  }
}

/** `message` with length and checksums around it: one TFRecord. */
export function frameRecord(message: Uint8Array): Uint8Array {
  const record = new Uint8Array(message.length + RECORD_OVERHEAD);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(message.length), true);
  view.setUint32(8, maskCrc32c(crc32c(record.subarray(0, 8))), true);
  record.set(message, 12);
  view.setUint32(12 + message.length, maskCrc32c(crc32c(message)), true);
  return record;
}

/**
 * Counts the finite entries of `values` in `buckets` intervals of equal width between the smallest and the largest.
 * Where all are equal, one bucket holds them; where none is finite, there are no buckets and min and max are 0.
 */
export function histogramOf(values: ArrayLike<number>, buckets = 30): Histogram {
  if (!Number.isInteger(buckets) || buckets < 1) {
    throw new ConfigError(`A histogram needs at least one bucket, got ${buckets}.`);
  }
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  let count = 0;
  let sum = 0;
  let sumOfSquares = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (!Number.isFinite(value)) continue;
    count++;
    sum += value;
    sumOfSquares += value * value;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  if (count === 0) return { min: 0, max: 0, count, sum, sumOfSquares, bucketLimits: [], buckets: [] };
  if (min === max) return { min, max, count, sum, sumOfSquares, bucketLimits: [max], buckets: [count] };
  // Halved where the range itself overflows.
  const scale = Number.isFinite(max - min) ? 1 : 0.5;
  const span = max * scale - min * scale;
  const limits = Array.from({ length: buckets }, (_, i) => (min * scale + span * ((i + 1) / buckets)) / scale);
  limits[buckets - 1] = max;
  const counts = new Array<number>(buckets).fill(0);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (!Number.isFinite(value)) continue;
    let bucket = Math.min(buckets - 1, Math.max(0, Math.ceil(((value * scale - min * scale) / span) * buckets) - 1));
    // The quotient above is rounded; the limits decide.
    while (bucket > 0 && value <= limits[bucket - 1]) bucket--;
    while (value > limits[bucket]) bucket++;
    counts[bucket]++;
  }
  return { min, max, count, sum, sumOfSquares, bucketLimits: limits, buckets: counts };
}

/**
 * The name of an event file begun at `wallTime` (seconds since the Unix epoch). TensorBoard takes any file whose name
 * contains `tfevents`; files of one folder are read in the order of their names.
 */
export function eventFileName(wallTime: number): string {
  return `events.out.tfevents.${String(Math.floor(wallTime)).padStart(10, '0')}.edgewise`;
}

/** Where an event file ends: stored in a checkpoint, given back to {@link EventLog.resume}. */
export interface EventPosition {
  readonly file: string;
  /** Bytes. */
  readonly length: number;
}

/** An event file being written. Events are kept in memory until {@link flush}. */
export class EventLog {
  readonly #file: LogFile;

  private constructor(file: LogFile) {
    this.#file = file;
  }

  /**
   * Begins a new event file in `store`.
   *
   * @param wallTime Now, in seconds since the Unix epoch.
   * @throws StoreError where the file exists or cannot be written.
   */
  static async create(store: RunStore, wallTime: number): Promise<EventLog> {
    const log = new EventLog(await LogFile.create(store, eventFileName(wallTime)));
    log.#file.push(encodeEvent({ wallTime, step: 0, fileVersion: EVENT_FILE_VERSION, values: [] }));
    await log.flush();
    return log;
  }

  /** Goes on with the file of `position`, cutting off what was written after it. */
  static async resume(store: RunStore, position: EventPosition): Promise<EventLog> {
    return new EventLog(await LogFile.resume(store, position.file, position.length));
  }

  /**
   * Adds one event with a scalar for each entry of `values`.
   *
   * @param wallTime Now, in seconds since the Unix epoch.
   */
  scalars(step: number, wallTime: number, values: Readonly<Record<string, number>>): void {
    const list = Object.entries(values).map(([tag, value]) => ({ kind: 'scalar', tag, value }) as const);
    if (list.length > 0) this.add({ wallTime, step, values: list });
  }

  /** Adds one event. */
  add(event: TrainingEvent): void {
    this.#file.push(encodeEvent(event));
  }

  /** Writes what was added since the last call. */
  flush(): Promise<void> {
    return this.#file.flush();
  }

  /** Where the file will end once everything added is written. */
  get position(): EventPosition {
    return { file: this.#file.name, length: this.#file.length };
  }
}
