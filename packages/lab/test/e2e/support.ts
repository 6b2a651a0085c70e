/** The `edgewise` command in processes of its own, small data sets in files, and what a run left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openRunStore } from '../../../edgewise/src/node/store.ts';
import { type LoadedCheckpoint, loadCheckpoint } from '../../../edgewise/src/train/checkpoint.ts';
import { type CompiledProgram, compileProgram } from '../../../edgewise/test/support/program.ts';

/** The command, built from the sources. */
export const compileCli = (): Promise<CompiledProgram> => compileProgram(join(import.meta.dirname, '../../src/cli.ts'));

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Called with everything printed so far, at the start (nothing) and whenever there is more. */
  readonly watch?: (stdout: string, child: ChildProcess) => void;
  /** Runs it as another user; takes root. */
  readonly uid?: number;
  readonly gid?: number;
}

/** Runs the command to its end. */
export async function edgewise(
  cli: CompiledProgram,
  args: readonly (string | number)[],
  { env, watch, ...where }: RunOptions = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [cli.path, ...args.map(String)], {
    ...where,
    env: { ...process.env, NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  watch?.('', child);
  child.stdout.on('data', (data) => {
    stdout += data;
    watch?.(stdout, child);
  });
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const [code, signal] = await once(child, 'close');
  return { code, signal, stdout, stderr };
}

/** A command line as a list of words: split at blanks, except within what is put in. */
export function words(text: TemplateStringsArray, ...values: readonly (string | number)[]): string[] {
  return text.flatMap((part, i) => [
    ...part.split(/\s+/).filter((word) => word !== ''),
    ...(i < values.length ? [String(values[i])] : []),
  ]);
}

/** Uniform numbers in [0, 1) from a seed. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

/** Bytes of an IDX file: type 8 (unsigned byte), big-endian extents. */
export function idx(extents: readonly number[], data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + 4 * extents.length + data.length);
  bytes.set([0, 0, 8, extents.length]);
  const view = new DataView(bytes.buffer);
  extents.forEach((extent, i) => {
    view.setUint32(4 + 4 * i, extent);
  });
  bytes.set(data, 4 + 4 * extents.length);
  return bytes;
}

/** Images with a bright square whose place tells the class (0 to 3), and noise. */
export async function writeIdxFolder(folder: string, { train = 160, test = 48, size = 8 } = {}): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [stem, count, seed] of [
    ['train', train, 11],
    ['t10k', test, 12],
  ] as const) {
    const next = random(seed);
    const labels = Uint8Array.from({ length: count }, (_, i) => i % 4);
    const half = size / 2;
    const images = Uint8Array.from({ length: count * size * size }, (_, at) => {
      const [x, y] = [at % size, Math.floor(at / size) % size];
      const label = labels[Math.floor(at / size ** 2)];
      const bright = x < half === (label % 2 === 0) && y < half === label < 2;
      return Math.floor(next() * 120) + (bright ? 100 : 0);
    });
    await writeFile(join(folder, `${stem}-images-idx3-ubyte`), idx([count, size, size], images));
    await writeFile(join(folder, `${stem}-labels-idx1-ubyte`), idx([count], labels));
  }
}

/** Random images in the binary format of CIFAR-10. */
export async function writeCifar10Folder(folder: string, perFile: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  const names = [...[1, 2, 3, 4, 5].map((i) => `data_batch_${i}.bin`), 'test_batch.bin'];
  for (const [i, name] of names.entries()) {
    const next = random(100 + i);
    const bytes = Uint8Array.from({ length: perFile * 3073 }, (_, at) =>
      at % 3073 === 0 ? Math.floor(at / 3073) % 10 : Math.floor(next() * 256),
    );
    await writeFile(join(folder, name), bytes);
  }
}

/** What a run has come to, without what depends on clocks: checkpoint tensors by name, the rest of its state, and the metrics. */
export interface Outcome {
  readonly step: number;
  readonly tensors: ReadonlyMap<string, Buffer>;
  readonly state: unknown;
  readonly metrics: string;
}

export async function outcome(folder: string): Promise<Outcome> {
  const checkpoint = await newestCheckpoint(folder);
  if (!checkpoint) throw new Error(`${folder} has no checkpoint`);
  return {
    step: checkpoint.step,
    tensors: new Map([...checkpoint.file.tensors].map(([name, { data }]) => [name, Buffer.from(data)])),
    state: withoutClocks(checkpoint.state),
    metrics: await readFile(join(folder, 'metrics.jsonl'), 'utf8'),
  };
}

export async function newestCheckpoint(folder: string): Promise<LoadedCheckpoint | undefined> {
  const store = await openRunStore(folder, { access: 'read' });
  try {
    return await loadCheckpoint(store);
  } finally {
    await store.close();
  }
}

/** Seconds spent, lengths of files that hold them, and the name of the event file, which holds when the run began. */
const CLOCKS = new Set(['seconds', 'timing', 'eventFile']);

function withoutClocks(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => !CLOCKS.has(name))
      .map(([name, entry]) => [name, withoutClocks(entry)]),
  );
}

/** Every file below a folder, by path from there. */
export async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}
