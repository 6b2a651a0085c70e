/** @file Hyper-parameters changed by hand while a run is under way: recorded before they act, so that the run can be repeated. */
import { ConfigError, FormatError } from '../base/errors.ts';
import type { Values } from '../optim/hyperparameters.ts';
import type { Optimizer } from '../optim/optimizer.ts';
import { encodeJson, type JsonValue } from './exact-json.ts';
import type { RunStore } from './store.ts';

export const CHANGES_FILE = 'changes.jsonl';

/** A change to make at a step. */
export interface PlannedChange {
  /** First step taken with it, from 1. */
  readonly step: number;
  /** Hyper-parameter of the optimizer; `lr` stands for the rate the schedule is relative to. */
  readonly name: string;
  readonly to: JsonValue;
}

/** A change that was made: a line of `changes.jsonl`. */
export interface Change extends PlannedChange {
  readonly from: JsonValue;
}

type HyperValues = Readonly<Record<string, JsonValue>>;

/** Where a run's changes are kept, and how many bytes of it are whole lines. */
export interface ChangesFile {
  readonly store: RunStore;
  readonly length: number;
}

/**
 * The changes in a `changes.jsonl`, and the length of its whole lines: a last line that was cut off was never acted upon.
 * @throws FormatError where a whole line is no change.
 */
export function readChanges(bytes: Uint8Array, source = CHANGES_FILE): { changes: Change[]; length: number } {
  const length = bytes.lastIndexOf(0x0a) + 1;
  const lines = new TextDecoder().decode(bytes.subarray(0, length)).split('\n').slice(0, -1);
  return { changes: lines.map((line, i) => parseChange(line, `${source}, line ${i + 1}`)), length };
}

function parseChange(line: string, where: string): Change {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new FormatError(`${where} is not JSON.`);
  }
  return checkChange(value, where);
}

/** A change read from a file. @throws FormatError where it is none. */
export function checkChange(value: unknown, where: string): Change {
  const { step, name, from, to } = (typeof value === 'object' && value !== null ? value : {}) as Partial<Change>;
  if (
    !Number.isSafeInteger(step) ||
    Number(step) < 1 ||
    typeof name !== 'string' ||
    from === undefined ||
    to === undefined
  )
    throw new FormatError(`${where} is no change of a hyper-parameter: it wants step, name, from and to.`);
  return { step: Number(step), name, from, to };
}

/** The changes of a run: made, planned, and asked for since the last step. */
export class Changes {
  readonly #optimizer: Optimizer;
  /** Hyper-parameters that follow schedules of their own. */
  readonly #scheduled: ReadonlySet<string>;
  readonly #planned = new Map<number, PlannedChange[]>();
  readonly #recorded = new Set<string>();
  readonly #made: Change[] = [];
  #file: ChangesFile | undefined;
  #asked: HyperValues = {};

  /** @throws ConfigError for planned changes that could not be made. */
  constructor(optimizer: Optimizer, planned: readonly PlannedChange[], scheduled: Iterable<string>) {
    this.#optimizer = optimizer;
    this.#scheduled = new Set(scheduled);
    for (const change of planned) {
      const { step, name, to } = change;
      if (!Number.isSafeInteger(step) || step < 1)
        throw new ConfigError(`A change of ${name} is planned at step ${step}; steps are whole numbers from 1.`);
      this.check({ [name]: to });
      this.#plan(change);
    }
  }

  /** All changes made, in their order. */
  get made(): readonly Change[] {
    return this.#made;
  }

  /** Throws a ConfigError for what could not be changed. */
  check(values: HyperValues): void {
    const scheduled = Object.keys(values).find((name) => this.#scheduled.has(name));
    if (scheduled !== undefined)
      throw new ConfigError(`'${scheduled}' follows a schedule in this run; it cannot be changed by hand as well.`);
    this.#optimizer.checkChanges(valuesOf(values));
  }

  /** Asks for changes at the next step; the last one asked for counts. @throws ConfigError for what cannot be changed. */
  ask(values: HyperValues): void {
    const asked = { ...this.#asked, ...values };
    this.check(asked);
    this.#asked = asked;
  }

  /** Begins the record of a new run; one that a run without a checkpoint left is removed. */
  async begin(store: RunStore): Promise<void> {
    await store.remove(CHANGES_FILE);
    this.#file = { store, length: 0 };
  }

  /**
   * Goes on after `step`: changes made up to it are in force again, and those that the record has at later steps will be made at them.
   * @param made What the checkpoint says was made.
   */
  async resume(store: RunStore | undefined, step: number, made: readonly Change[]): Promise<void> {
    for (const change of made) this.#make([change]);
    for (const at of this.#planned.keys()) if (at <= step) this.#planned.delete(at);
    if (!store) return;
    const bytes = (await store.size(CHANGES_FILE)) === undefined ? new Uint8Array(0) : await store.read(CHANGES_FILE);
    const { changes, length } = readChanges(bytes, `${CHANGES_FILE} in ${store.location}`);
    this.#file = { store, length };
    for (const change of changes) {
      this.#recorded.add(identity(change));
      if (change.step > step) this.#plan(change);
    }
  }

  /** Makes what is planned for `step` and what was asked for, once it is recorded. Later wishes win. */
  async makeAt(step: number): Promise<void> {
    const planned = this.#planned.get(step);
    if (!planned && Object.keys(this.#asked).length === 0) return;
    const asked = this.#asked;
    this.#asked = {};
    try {
      const wanted: HyperValues = {
        ...Object.fromEntries((planned ?? []).map(({ name, to }) => [name, to])),
        ...asked,
      };
      const now: HyperValues = this.#optimizer.values;
      const changes = Object.entries(wanted).flatMap(([name, to]): Change[] => {
        const from = now[name];
        return encodeJson(from) === encodeJson(to) ? [] : [{ step, name, from, to }];
      });
      if (changes.length === 0) return;
      this.check(Object.fromEntries(changes.map(({ name, to }) => [name, to])));
      await this.#record(changes.filter((change) => !this.#recorded.has(identity(change))));
      this.#make(changes);
    } catch (error) {
      this.#asked = { ...asked, ...this.#asked };
      throw error;
    }
  }

  async #record(changes: readonly Change[]): Promise<void> {
    if (!this.#file || changes.length === 0) return;
    const { store, length } = this.#file;
    const lines = changes.map(({ step, name, from, to }) => `${encodeJson({ step, name, from, to })}\n`);
    this.#file = { store, length: await store.append(CHANGES_FILE, length, new TextEncoder().encode(lines.join(''))) };
    await store.sync();
    for (const change of changes) this.#recorded.add(identity(change));
  }

  #make(changes: readonly Change[]): void {
    this.#optimizer.set(valuesOf(Object.fromEntries(changes.map(({ name, to }) => [name, to]))));
    this.#made.push(...changes);
  }

  #plan(change: PlannedChange): void {
    const list = this.#planned.get(change.step) ?? [];
    list.push(change);
    this.#planned.set(change.step, list);
  }
}

const identity = ({ step, name, to }: PlannedChange): string => encodeJson([step, name, to]);

/** The optimizer checks every value against its own schema. */
const valuesOf = (values: HyperValues) => values as Partial<Values<Optimizer['definition']['hyperparameters']>>;
