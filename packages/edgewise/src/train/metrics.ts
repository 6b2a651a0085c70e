/**
 * A run's recorded quantities, as JSON lines. Two files, because a run that was killed and resumed must record what an uninterrupted one
 * does, to the bit, and clocks never agree: `metrics.jsonl` holds what follows from the configuration alone (losses, rates, probes),
 * `timing.jsonl` what depends on the machine and the moment (seconds, throughput). Both have one object per line, `step` first.
 * `metrics.schema.json` says what each name means and in which unit.
 */
import { ConfigError, FormatError, nearest } from '../base/errors.ts';
import { formatNumber } from './exact-json.ts';
import { LogFile, type RunStore } from './store.ts';

export const METRICS_FILE = 'metrics.jsonl';
export const TIMING_FILE = 'timing.jsonl';
export const METRICS_SCHEMA_FILE = 'metrics.schema.json';

const FORMAT = 'edgewise-metrics/1';

/** A quantity that a run may record. */
export interface MetricField {
  /** Unit of the values, such as `nats` or `s`; `1` for a pure number. */
  readonly unit: string;
  /** One sentence: what is measured, over what. */
  readonly doc: string;
  /** True for what depends on a clock or the machine's load; such values go to `timing.jsonl`. Default false. */
  readonly wallClock?: boolean;
}

/** Names to fields. A name is parts of letters, digits, `_`, `-` and `.` joined by `/`; the part before the slash groups plots. */
export type MetricFields = Readonly<Record<string, MetricField>>;

/** The quantities every training run knows; models, optimizers and probes add theirs. */
export const TRAINING_FIELDS = {
  epoch: { unit: 'epochs', doc: 'Passes over the training data, fractional.' },
  examples: { unit: 'examples', doc: 'Training examples seen since the start.' },
  lr: { unit: '1', doc: 'Learning rate in force at this step.' },
  'train/loss': { unit: 'nats', doc: 'Mean loss per example over the steps since the previous record.' },
  'train/accuracy': { unit: '1', doc: 'Fraction of training examples classified correctly over the same steps.' },
  'train/gradient-norm': { unit: '1', doc: 'Euclidean norm of the whole gradient at this step, before clipping.' },
  'test/loss': { unit: 'nats', doc: 'Mean loss per example over the whole test set.' },
  'test/accuracy': { unit: '1', doc: 'Fraction of the whole test set classified correctly.' },
  seconds: { unit: 's', doc: 'Time spent training since the start, pauses between resumes left out.', wallClock: true },
  'examples-per-second': {
    unit: '1/s',
    doc: 'Training examples per second since the previous record.',
    wallClock: true,
  },
} as const satisfies MetricFields;

/**
 * What is recorded at a step. A value that is not finite is written as null; one that is undefined is left out. Several records
 * may share a step.
 */
export interface MetricRecord {
  /** Optimizer steps taken so far; 0 before the first. */
  readonly step: number;
  readonly [name: string]: number | null | undefined;
}

/** Where the two files end: stored in a checkpoint, given back to {@link MetricsLog.resume}. Bytes. */
export interface MetricsPosition {
  readonly metrics: number;
  readonly timing: number;
}

/** The metrics files of a run being written. Records are kept in memory until {@link flush}. */
export class MetricsLog {
  readonly #metrics: LogFile;
  readonly #timing: LogFile;
  readonly #fields: MetricFields;
  readonly #encoder = new TextEncoder();
  #lastStep = 0;

  private constructor(metrics: LogFile, timing: LogFile, fields: MetricFields) {
    this.#metrics = metrics;
    this.#timing = timing;
    this.#fields = fields;
  }

  /**
   * Begins the metrics of a new run.
   *
   * @param fields All quantities that may be recorded, in the order in which a line lists them.
   * @throws ConfigError for a name that is malformed; StoreError `exists` where the run has metrics already.
   */
  static async create(store: RunStore, fields: MetricFields): Promise<MetricsLog> {
    checkFields(fields);
    const metrics = await LogFile.create(store, METRICS_FILE);
    const timing = await LogFile.create(store, TIMING_FILE);
    await store.writeAtomic(METRICS_SCHEMA_FILE, encodeSchema(fields));
    return new MetricsLog(metrics, timing, fields);
  }

  /**
   * Goes on with the metrics of a run, cutting off what was recorded after `position`. Quantities that the run did not know before are
   * added to its schema.
   *
   * @throws StoreError `damaged` where a file is shorter than that; FormatError where `position` is not the end of a line.
   */
  static async resume(store: RunStore, fields: MetricFields, position: MetricsPosition): Promise<MetricsLog> {
    checkFields(fields);
    await checkLineEnd(store, METRICS_FILE, position.metrics);
    await checkLineEnd(store, TIMING_FILE, position.timing);
    const metrics = await LogFile.resume(store, METRICS_FILE, position.metrics);
    const timing = await LogFile.resume(store, TIMING_FILE, position.timing);
    const before = (await store.size(METRICS_SCHEMA_FILE)) === undefined ? {} : await readMetricFields(store);
    const all = { ...before, ...fields };
    if (Object.keys(all).length > Object.keys(before).length) {
      await store.writeAtomic(METRICS_SCHEMA_FILE, encodeSchema(all));
    }
    return new MetricsLog(metrics, timing, fields);
  }

  /**
   * Adds a record: its deterministic values as one line of `metrics.jsonl`, its timings as one of `timing.jsonl`.
   *
   * @throws ConfigError for a step that is not a whole number or goes back, or a name that was not declared.
   */
  record(record: MetricRecord): void {
    const { step } = record;
    if (!Number.isSafeInteger(step) || step < this.#lastStep) {
      throw new ConfigError(`Metrics are recorded at whole, never falling steps; got ${step} after ${this.#lastStep}.`);
    }
    for (const name of Object.keys(record)) {
      if (name === 'step' || Object.hasOwn(this.#fields, name)) continue;
      const near = nearest(name, Object.keys(this.#fields));
      throw new ConfigError(`The metric ${name} was not declared${near ? `; did you mean ${near}?` : '.'}`);
    }
    const lines = { metrics: `{"step":${step}`, timing: `{"step":${step}` };
    const empty = lines.metrics.length;
    for (const [name, field] of Object.entries(this.#fields)) {
      const value = record[name];
      if (value === undefined) continue;
      const text = value !== null && Number.isFinite(value) ? formatNumber(value) : 'null';
      lines[field.wallClock ? 'timing' : 'metrics'] += `,${JSON.stringify(name)}:${text}`;
    }
    if (lines.metrics.length > empty) this.#metrics.push(this.#encoder.encode(`${lines.metrics}}\n`));
    if (lines.timing.length > empty) this.#timing.push(this.#encoder.encode(`${lines.timing}}\n`));
    this.#lastStep = step;
  }

  /** Writes what was recorded since the last call. */
  async flush(): Promise<void> {
    await Promise.all([this.#metrics.flush(), this.#timing.flush()]);
  }

  /** Where the files will end once everything recorded is written. */
  get position(): MetricsPosition {
    return { metrics: this.#metrics.length, timing: this.#timing.length };
  }
}

/** What a metrics file holds, as far as it is whole. */
export interface MetricsFile {
  readonly records: readonly MetricRecord[];
  /** `ends[i]`: offset of the byte after the line of `records[i]`. */
  readonly ends: readonly number[];
  /** Bytes from the start of the file that are whole lines; the file's length where nothing is wrong. */
  readonly length: number;
  /** What was found at offset `length` where that is not the end: a line cut short, or one that is no record. */
  readonly damage?: { readonly kind: 'truncated' | 'corrupt'; readonly message: string };
}

/**
 * Reads the lines of a metrics file up to its end or to the first that is no record.
 *
 * @param bytes The file's content; treated as hostile.
 * @param source Named in messages. Default `metrics file`.
 */
export function readMetrics(bytes: Uint8Array, source = 'metrics file'): MetricsFile {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const records: MetricRecord[] = [];
  const ends: number[] = [];
  let offset = 0;
  let lastStep = Number.NEGATIVE_INFINITY;
  while (offset < bytes.length) {
    const newline = bytes.indexOf(0x0a, offset);
    const stop = (kind: 'truncated' | 'corrupt', what: string): MetricsFile => {
      const message = `${source}: line ${records.length + 1} (at offset ${offset}) ${what}.`;
      return { records, ends, length: offset, damage: { kind, message } };
    };
    if (newline === -1) return stop('truncated', 'is cut short');
    let record: MetricRecord;
    try {
      record = checkRecord(JSON.parse(decoder.decode(bytes.subarray(offset, newline))), lastStep);
    } catch (error) {
      return stop('corrupt', `is no record (${error instanceof Error ? error.message : String(error)})`);
    }
    lastStep = record.step;
    records.push(record);
    offset = newline + 1;
    ends.push(offset);
  }
  return { records, ends, length: offset };
}

function checkRecord(value: unknown, lastStep: number): MetricRecord {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new FormatError('not an object');
  let step: number | undefined;
  for (const [name, entry] of Object.entries(value)) {
    if (entry !== null && (typeof entry !== 'number' || !Number.isFinite(entry))) {
      throw new FormatError(`${JSON.stringify(name)} is neither a finite number nor null`);
    }
    if (name === 'step' && entry !== null) step = entry;
  }
  if (step === undefined || !Number.isSafeInteger(step)) throw new FormatError('"step" is not a whole number');
  if (step < lastStep) throw new FormatError(`step ${step} after step ${lastStep}`);
  return value as MetricRecord;
}

/** Length in bytes of the beginning of `file` whose records all lie at or before `step`. */
export function metricsLengthAtStep(file: MetricsFile, step: number): number {
  const first = file.records.findIndex((record) => record.step > step);
  if (first === -1) return file.length;
  return first === 0 ? 0 : file.ends[first - 1];
}

/** The values of one quantity over the steps at which it was recorded; NaN where it was not finite. */
export function metricSeries(records: Iterable<MetricRecord>, name: string): { steps: number[]; values: number[] } {
  const steps: number[] = [];
  const values: number[] = [];
  for (const record of records) {
    if (!Object.hasOwn(record, name)) continue;
    const value = record[name];
    if (value === undefined) continue;
    steps.push(record.step);
    values.push(value ?? Number.NaN);
  }
  return { steps, values };
}

/** The quantities of a run, from its `metrics.schema.json`. Throws FormatError where that is not one. */
export async function readMetricFields(store: RunStore): Promise<MetricFields> {
  const where = `${METRICS_SCHEMA_FILE} in ${store.location}`;
  let schema: unknown;
  try {
    schema = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(await store.read(METRICS_SCHEMA_FILE)));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) {
      throw new FormatError(`${where} is not JSON (${error.message}).`);
    }
    throw error;
  }
  const { format, files } = (typeof schema === 'object' && schema !== null ? schema : {}) as Record<string, unknown>;
  if (format !== FORMAT) throw new FormatError(`${where} is not of format ${FORMAT}: its format is ${String(format)}.`);
  const fields: Record<string, MetricField> = {};
  for (const [file, wallClock] of [[METRICS_FILE, false] as const, [TIMING_FILE, true] as const]) {
    const list: unknown = typeof files === 'object' && files !== null ? Reflect.get(files, file) : undefined;
    if (typeof list !== 'object' || list === null) throw new FormatError(`${where} has no fields for ${file}.`);
    for (const [name, field] of Object.entries(list)) {
      const { unit, doc } = (typeof field === 'object' && field !== null ? field : {}) as Record<string, unknown>;
      if (typeof unit !== 'string' || typeof doc !== 'string') {
        throw new FormatError(`${where} gives no unit and doc for ${name}.`);
      }
      fields[name] = wallClock ? { unit, doc, wallClock } : { unit, doc };
    }
  }
  return fields;
}

function checkFields(fields: MetricFields): void {
  for (const name of Object.keys(fields)) {
    if (name === 'step' || name === '__proto__' || !/^[\w.-]+(\/[\w.-]+)*$/.test(name)) {
      throw new ConfigError(
        `A metric's name is letters, digits, _, - and . with / between groups, and not "step"; got ${JSON.stringify(name)}.`,
      );
    }
  }
}

function encodeSchema(fields: MetricFields): Uint8Array {
  const select = (wallClock: boolean): Record<string, MetricField> =>
    Object.fromEntries(
      Object.entries(fields)
        .filter(([, field]) => (field.wallClock ?? false) === wallClock)
        .map(([name, { unit, doc }]) => [name, { unit, doc }]),
    );
  const schema = {
    format: FORMAT,
    about: 'One JSON object per line. null: the value was not finite. Absent: not measured at this step.',
    step: { unit: 'steps', doc: 'Optimizer steps taken so far.' },
    files: { [METRICS_FILE]: select(false), [TIMING_FILE]: select(true) },
  };
  return new TextEncoder().encode(`${JSON.stringify(schema, null, 2)}\n`);
}

async function checkLineEnd(store: RunStore, name: string, length: number): Promise<void> {
  if (length === 0) return;
  const bytes = await store.read(name);
  // A file that is too short is reported when it is cut.
  if (bytes.length >= length && bytes[length - 1] !== 0x0a) {
    throw new FormatError(`${name} in ${store.location} has no end of line at offset ${length}; it was changed since.`);
  }
}
