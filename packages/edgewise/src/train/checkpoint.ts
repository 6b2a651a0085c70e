/**
 * Checkpoints: one safetensors file each, with everything a run needs to go on. Weights, optimizer slots and buffers are its tensors;
 * what is not a tensor (position in the data, random key, schedule, where the logs end) is JSON in its metadata. One file, so that one
 * rename makes it exist; a checksum over every byte, so that a damaged one is noticed and the one before it used.
 */
import { ConfigError, FormatError } from '../base/errors.ts';
import { parseSafetensors, type SafeTensor, type SafetensorsFile, safetensorsChunks } from '../params/safetensors.ts';
import { crc32c } from './crc32c.ts';
import { encodeJson, type JsonValue } from './exact-json.ts';
import { type RunStore, StoreError } from './store.ts';

const FOLDER = 'checkpoints';
const FORMAT = 'edgewise-checkpoint/1';
const CHECKSUM = 'crc32c';
const NO_SUM = '00000000';
/** How every checkpoint's header begins; the checksum's eight hexadecimal digits follow. */
const HEADER_START = `{"__metadata__":{"${CHECKSUM}":"`;
/** Offset of those digits in the file. */
const SUM_OFFSET = 8 + HEADER_START.length;

/** What {@link saveCheckpoint} stores. */
export interface Checkpoint {
  /** Optimizer steps taken. */
  readonly step: number;
  /** Every tensor the run cannot do without. Their bytes must not change until the checkpoint is saved. */
  readonly tensors: Iterable<SafeTensor>;
  /** Everything else; kept exactly (see `encodeJson`). */
  readonly state: JsonValue;
}

/** What {@link loadCheckpoint} gives back. */
export interface LoadedCheckpoint {
  /** Name of the file in the store. */
  readonly name: string;
  readonly step: number;
  /** The tensors, as windows of one buffer; `loadVector` reads parameter vectors from it. */
  readonly file: SafetensorsFile;
  readonly state: JsonValue;
  /** One sentence for each newer checkpoint that was passed over because it is damaged. */
  readonly warnings: readonly string[];
}

/** Name of the checkpoint of `step` in a run's store. */
export function checkpointName(step: number): string {
  return `${FOLDER}/step-${String(step).padStart(8, '0')}.safetensors`;
}

/** The checkpoints of a run, oldest first. */
export async function listCheckpoints(store: RunStore): Promise<{ name: string; step: number }[]> {
  const found: { name: string; step: number }[] = [];
  for (const name of await store.list(FOLDER)) {
    const step = Number(/\/step-(\d{8,15})\.safetensors$/.exec(name)?.[1]);
    if (name === checkpointName(step)) found.push({ name, step });
  }
  return found.sort((a, b) => a.step - b.step);
}

/**
 * Saves a checkpoint, after what was appended to the run's logs has reached the device. Then removes old ones, and those of later
 * steps: they belong to a continuation that was given up by resuming before it.
 *
 * @param options.keep How many to keep, this one included; at least 1. Default 3: more than one, in case the newest is damaged.
 * @returns The file's name.
 * @throws ConfigError where the step is no whole number or the state cannot be kept exactly; StoreError where it cannot be written,
 * in which case the checkpoints before it are still there.
 */
export async function saveCheckpoint(
  store: RunStore,
  checkpoint: Checkpoint,
  options: { readonly keep?: number } = {},
): Promise<string> {
  const { step, tensors, state } = checkpoint;
  const keep = options.keep ?? 3;
  if (!Number.isSafeInteger(step) || step < 0) {
    throw new ConfigError(`A checkpoint's step is a whole number from 0, got ${step}.`);
  }
  if (!Number.isInteger(keep) || keep < 1) throw new ConfigError(`At least 1 checkpoint must be kept, got ${keep}.`);
  const chunks = encodeCheckpoint(step, tensors, encodeJson(state));
  await store.sync();
  const name = checkpointName(step);
  await store.writeAtomic(name, chunks);
  const others = await listCheckpoints(store);
  const older = others.filter((other) => other.step < step);
  const newer = others.filter((other) => other.step > step);
  for (const other of [...newer, ...older.slice(0, Math.max(0, older.length - (keep - 1)))]) {
    await store.remove(other.name);
  }
  return name;
}

/**
 * Loads the newest checkpoint that is whole, or the one of `options.step`.
 *
 * @returns undefined where the run has none.
 * @throws StoreError `damaged` where all are damaged, or the one asked for is; `not-found` where there is none of that step.
 */
export async function loadCheckpoint(
  store: RunStore,
  options: { readonly step?: number } = {},
): Promise<LoadedCheckpoint | undefined> {
  const all = await listCheckpoints(store);
  const wanted = options.step === undefined ? all : all.filter(({ step }) => step === options.step);
  if (options.step !== undefined && wanted.length === 0) {
    const others = all.length === 0 ? 'it has none' : `it has those of steps ${all.map(({ step }) => step).join(', ')}`;
    throw new StoreError(
      'not-found',
      `There is no checkpoint of step ${options.step} in ${store.location}; ${others}.`,
    );
  }
  const warnings: string[] = [];
  for (const { name, step } of wanted.toReversed()) {
    try {
      return { name, step, ...decodeCheckpoint(await store.read(name), step, `${store.location}/${name}`), warnings };
    } catch (error) {
      const damaged =
        error instanceof FormatError || (error instanceof StoreError && ['damaged', 'io'].includes(error.code));
      if (!damaged) throw error;
      warnings.push(error.message);
    }
  }
  if (warnings.length === 0) return undefined;
  throw new StoreError('damaged', `No checkpoint in ${store.location} can be used. ${warnings.join(' ')}`);
}

function encodeCheckpoint(step: number, tensors: Iterable<SafeTensor>, state: string): readonly Uint8Array[] {
  const chunks = safetensorsChunks(tensors, [
    [CHECKSUM, NO_SUM],
    ['format', FORMAT],
    ['step', String(step)],
    ['state', state],
  ]);
  const [head] = chunks;
  let sum = 0;
  for (const chunk of chunks) sum = crc32c(chunk, sum);
  if (new TextDecoder().decode(head.subarray(8, SUM_OFFSET)) !== HEADER_START) {
    throw new Error('safetensorsChunks no longer puts metadata first'); // The reader could not find the checksum.
  }
  head.set(new TextEncoder().encode(sum.toString(16).padStart(8, '0')), SUM_OFFSET);
  return chunks;
}

function decodeCheckpoint(bytes: Uint8Array, step: number, label: string): { file: SafetensorsFile; state: JsonValue } {
  // Before anything is parsed: a damaged file should be called that, whatever its header now seems to say.
  const end = SUM_OFFSET + NO_SUM.length;
  if (bytes.length < end || decode(bytes.subarray(8, SUM_OFFSET)) !== HEADER_START) {
    throw new FormatError(
      `${label} is damaged, or no checkpoint of this program: its first bytes are not those of one.`,
    );
  }
  const claimed = decode(bytes.subarray(SUM_OFFSET, end));
  const placeholder = new TextEncoder().encode(NO_SUM);
  const sum = crc32c(bytes.subarray(end), crc32c(placeholder, crc32c(bytes.subarray(0, SUM_OFFSET))));
  if (claimed !== sum.toString(16).padStart(8, '0')) {
    throw new FormatError(`${label} is damaged: its ${bytes.length} bytes do not match their checksum.`);
  }
  const file = parseSafetensors(bytes, label);
  const format = file.metadata.get('format');
  if (format !== FORMAT) {
    throw new FormatError(`${label} has the format ${JSON.stringify(format ?? null)}; this version reads ${FORMAT}.`);
  }
  if (file.metadata.get('step') !== String(step)) {
    throw new FormatError(`${label} holds step ${file.metadata.get('step') ?? 'unknown'}; the file was renamed.`);
  }
  try {
    const state: JsonValue = JSON.parse(file.metadata.get('state') ?? '');
    return { file, state };
  } catch {
    throw new FormatError(`${label} has a state that is not JSON.`);
  }
}

/** Bytes as Latin-1: never fails, whatever they are. */
function decode(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
