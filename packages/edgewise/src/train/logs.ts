/** Everything a run records as it goes: metrics, timings and TensorBoard events, kept in step with each other. */
import { FormatError } from '../base/errors.ts';
import { listCheckpoints } from './checkpoint.ts';
import { EventLog, type TrainingEvent } from './events.ts';
import type { JsonValue } from './exact-json.ts';
import { METRICS_FILE, type MetricFields, type MetricRecord, MetricsLog, TIMING_FILE } from './metrics.ts';
import { type RunStore, StoreError } from './store.ts';

/** Where a run's logs end: part of a checkpoint's state. */
export type LogPosition = {
  /** Bytes of `metrics.jsonl`. */
  readonly metrics: number;
  /** Bytes of `timing.jsonl`. */
  readonly timing: number;
  /** Bytes of the event file. */
  readonly events: number;
  readonly eventFile: string;
};

/** A run's logs being written. What is recorded stays in memory until {@link flush}. */
export class RunLogs {
  readonly #metrics: MetricsLog;
  readonly #events: EventLog;

  private constructor(metrics: MetricsLog, events: EventLog) {
    this.#metrics = metrics;
    this.#events = events;
  }

  /**
   * Begins the logs of a run that has no checkpoint yet. Logs that are there were left by a start that was killed before its first checkpoint;
   * they are replaced.
   *
   * @param fields All quantities that may be recorded.
   * @param wallTime Now, in seconds since the Unix epoch.
   * @throws StoreError `exists` where the run has checkpoints.
   */
  static async begin(store: RunStore, fields: MetricFields, wallTime: number): Promise<RunLogs> {
    if ((await listCheckpoints(store)).length > 0) {
      throw new StoreError(
        'exists',
        `There is a run in ${store.location} already; resume it or choose another folder.`,
      );
    }
    for (const name of await store.list()) {
      if (name === METRICS_FILE || name === TIMING_FILE || name.startsWith('events.out.tfevents.')) {
        await store.remove(name);
      }
    }
    return new RunLogs(await MetricsLog.create(store, fields), await EventLog.create(store, wallTime));
  }

  /** Goes on with the logs of a run from where a checkpoint saw them end; what was recorded later is cut off. */
  static async resume(store: RunStore, fields: MetricFields, position: LogPosition): Promise<RunLogs> {
    const { metrics, timing, events, eventFile } = position;
    return new RunLogs(
      await MetricsLog.resume(store, fields, { metrics, timing }),
      await EventLog.resume(store, { file: eventFile, length: events }),
    );
  }

  /**
   * Records quantities at a step, for the metrics files and TensorBoard alike (null goes to the former only).
   *
   * @param wallTime Now, in seconds since the Unix epoch.
   */
  record(record: MetricRecord, wallTime: number): void {
    this.#metrics.record(record);
    const { step, ...values } = record;
    const scalars: Record<string, number> = {};
    for (const [name, value] of Object.entries(values)) if (typeof value === 'number') scalars[name] = value;
    this.#events.scalars(step, wallTime, scalars);
  }

  /** Records something for TensorBoard only, such as a histogram. */
  event(event: TrainingEvent): void {
    this.#events.add(event);
  }

  /** Writes what was recorded since the last call. Call it before a checkpoint stores the {@link position}. */
  async flush(): Promise<void> {
    await Promise.all([this.#metrics.flush(), this.#events.flush()]);
  }

  /** Where the logs will end once everything recorded is written. */
  get position(): LogPosition {
    const { file, length } = this.#events.position;
    return { ...this.#metrics.position, events: length, eventFile: file };
  }
}

/** The log position in a checkpoint's state. Throws FormatError where `value` is none. */
export function parseLogPosition(value: JsonValue | undefined, label: string): LogPosition {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const { metrics, timing, events, eventFile } = value as Readonly<Record<string, JsonValue>>;
    if (isLength(metrics) && isLength(timing) && isLength(events) && typeof eventFile === 'string') {
      return { metrics, timing, events, eventFile };
    }
  }
  throw new FormatError(`${label} does not say where the run's logs end; it is not a checkpoint of a training run.`);
}

function isLength(value: JsonValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
