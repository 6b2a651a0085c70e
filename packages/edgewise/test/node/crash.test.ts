import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'tsdown';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openRunStore } from '../../src/node/store.ts';
import { listCheckpoints, loadCheckpoint } from '../../src/train/checkpoint.ts';
import { readEvents } from '../../src/train/events-reader.ts';
import { parseLogPosition } from '../../src/train/logs.ts';
import { readMetrics } from '../../src/train/metrics.ts';

const STEPS = 600;
const KILLS = 12;

let base = '';
let program = '';
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'edgewise-crash-'));
  // Compiled once: starting it a dozen times through a loader would take most of the test.
  await build({
    config: false,
    entry: { writer: join(import.meta.dirname, 'crash-writer.ts') },
    outDir: base,
    platform: 'node',
    format: 'esm',
    dts: false,
    clean: false,
    logLevel: 'error',
    noExternal: /./,
  });
  const written = (await readdir(base)).find((name) => name.startsWith('writer.'));
  if (!written) throw new Error('the writer was not compiled');
  program = join(base, written);
});
afterAll(() => rm(base, { recursive: true }));

/**
 * Runs the writer; kills it `after` milliseconds past its start where that is given.
 *
 * @returns what it printed, and whether it got to its end.
 */
async function write(folder: string, after?: number): Promise<{ output: string; killed: boolean }> {
  const child = spawn(process.execPath, [program, folder, String(STEPS)], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  let timer: NodeJS.Timeout | undefined;
  child.stdout.on('data', (data) => {
    output += data;
    if (after !== undefined) timer ??= setTimeout(() => child.kill('SIGKILL'), after);
  });
  const [code, signal] = await once(child, 'close');
  clearTimeout(timer);
  if (code !== 0 && signal !== 'SIGKILL') throw new Error(`the writer ended with code ${code}: ${output}`);
  return { output, killed: signal === 'SIGKILL' };
}

it('a run killed at random moments and resumed ends as an uninterrupted one, to the bit', async () => {
  const whole = join(base, 'whole');
  const broken = join(base, 'broken');
  await write(whole);

  let kills = 0;
  for (let state = 1; kills < KILLS; ) {
    state = (state * 48271) % 2147483647;
    const { killed } = await write(broken, (state / 2147483647) * 60);
    if (!killed) break;
    kills++;
    const store = await openRunStore(broken, { access: 'read' });
    const loaded = await loadCheckpoint(store);
    if (!loaded) continue;
    // Whatever the moment: the newest checkpoint is whole and the logs reach at least as far as it says.
    expect(loaded.warnings).toEqual([]);
    const position = parseLogPosition(loaded.state, loaded.name);
    expect(await store.size('metrics.jsonl')).toBeGreaterThanOrEqual(position.metrics);
    const lines = readMetrics((await store.read('metrics.jsonl')).subarray(0, position.metrics));
    expect(lines.damage).toBeUndefined();
    expect(lines.records.at(-1)?.step).toBe(loaded.step);
    expect(readEvents((await store.read(position.eventFile)).subarray(0, position.events)).damage).toBeUndefined();
    expect((await listCheckpoints(store)).length).toBeLessThanOrEqual(4);
  }
  // Fewer would mean that the run is too short to be interrupted.
  expect(kills).toBeGreaterThanOrEqual(KILLS / 2);
  expect((await write(broken)).output).toContain('done');

  expect((await readFile(join(broken, 'metrics.jsonl'))).equals(await readFile(join(whole, 'metrics.jsonl')))).toBe(
    true,
  );
  const [a, b] = await Promise.all(
    [whole, broken].map(async (folder) => loadCheckpoint(await openRunStore(folder, { access: 'read' }))),
  );
  expect(b?.step).toBe(STEPS);
  for (const name of ['weights', 'momentum']) {
    const [x, y] = [a, b].map((loaded) => Buffer.from(loaded?.file.tensors.get(name)?.data ?? ''));
    expect(x.length).toBe(80_000);
    expect(x.equals(y)).toBe(true);
  }
  const steps = (folder: string, file: string) =>
    readFile(join(folder, file)).then((content) => readEvents(content).events.map((event) => event.step));
  const eventFile = (await readdir(broken)).find((name) => name.includes('tfevents')) ?? '';
  expect(await steps(broken, eventFile)).toEqual(Array.from({ length: STEPS + 1 }, (_, i) => i));
  // Neither lock nor half-written files are left.
  expect((await readdir(broken)).filter((name) => name.startsWith('.'))).toEqual([]);
  expect(await readdir(join(broken, 'checkpoints'))).toHaveLength(3);
});
