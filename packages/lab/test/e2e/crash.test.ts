import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { CompiledProgram } from '../../../edgewise/test/support/program.ts';
import {
  compileCli,
  type Ended,
  edgewise,
  newestCheckpoint,
  outcome,
  random,
  words,
  writeIdxFolder,
} from './support.ts';

const KILLS = 20;
/** Of these, killed before they print anything: while they start, read data, compile. */
const EARLY_KILLS = 4;
const EVAL_EVERY = 7;

let base = '';
let cli: CompiledProgram;
let settings: readonly (string | number)[] = [];
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'edgewise-e2e-'));
  cli = await compileCli();
  await writeIdxFolder(join(base, 'data'));
  settings = words`--data idx --data-path ${join(base, 'data')} --augment-crop 1 --augment-flip 0.5
    --augment-cutout 2 --model convnet --model-channels 4,4 --model-widths 8 --model-batch-norm
    --model-dropout 0.2 --optimizer adan --restart-every 64 --clip-norm 1 --batch-size 16
    --micro-batch-size 8 --sharpness-every 11 --sharpness-examples 16 --checkpoint-every 5
    --eval-every ${EVAL_EVERY} --early-stopping-patience 1000 --steps 600`;
});
afterAll(async () => {
  await cli.remove();
  await rm(base, { recursive: true });
});

/** Runs the command and kills it a while after it has printed `rows` rows of progress, or after its start where that is undefined. */
async function killed(args: readonly (string | number)[], rows: number | undefined, delay: number): Promise<Ended> {
  let timer: NodeJS.Timeout | undefined;
  const ended = await edgewise(cli, args, {
    watch: (stdout, child) => {
      const printed = stdout.split('\n').filter((line) => /^ +\d/.test(line)).length;
      if (rows === undefined || printed >= rows) timer ??= setTimeout(() => child.kill('SIGKILL'), delay);
    },
  });
  clearTimeout(timer);
  return ended;
}

it(`killed at ${KILLS} random moments and resumed each time, a run ends as an uninterrupted one, to the bit`, {
  timeout: 400_000,
}, async () => {
  const [whole, broken] = [join(base, 'whole'), join(base, 'broken')];
  const uninterrupted = await edgewise(cli, ['train', ...settings, '--out', whole]);
  expect(uninterrupted).toMatchObject({ code: 0, stderr: '' });

  const next = random(20261125);
  let begun = false;
  let steps = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const early = kill % Math.floor(KILLS / EARLY_KILLS) === 0;
    const rows = early ? undefined : 1 + Math.floor(3 * next());
    const args = begun ? ['train', '--resume', broken] : ['train', ...settings, '--out', broken];
    const { signal, stderr, code } = await killed(args, rows, (early ? 600 : 25) * next());
    expect({ signal, stderr, code }, 'the run must be long enough to be killed').toEqual({
      signal: 'SIGKILL',
      stderr: '',
      code: null,
    });
    const there: string[] = await readdir(broken).catch(() => []);
    begun ||= there.includes('config.json');
    if (!begun) continue;
    // Whatever the moment, the newest checkpoint is whole, and never older than it was.
    const checkpoint = await newestCheckpoint(broken);
    expect(checkpoint?.warnings ?? []).toEqual([]);
    expect(checkpoint?.step ?? 0).toBeGreaterThanOrEqual(steps);
    steps = checkpoint?.step ?? 0;
  }
  expect(await edgewise(cli, ['train', '--resume', broken])).toMatchObject({ code: 0, stderr: '' });

  const [expected, actual] = [await outcome(whole), await outcome(broken)];
  expect(expected.step).toBe(600);
  // Weights, running statistics, three slots of Adan, the eigenvector.
  for (const part of ['params.', 'buffers.', 'optimizer.', 'probes.sharpness.'])
    expect([...expected.tensors.keys()].some((name) => name.startsWith(part))).toBe(true);
  expect([...actual.tensors.keys()]).toEqual([...expected.tensors.keys()]);
  for (const [name, bytes] of expected.tensors) expect(actual.tensors.get(name)?.equals(bytes), name).toBe(true);
  expect(actual.state).toEqual(expected.state);
  expect(actual.metrics).toBe(expected.metrics);
  expect(expected.metrics.split('\n')).toHaveLength(601);
  // Neither a lock nor half-written files are left.
  expect((await readdir(broken, { recursive: true })).filter((name) => /(^|\/)\./.test(name))).toEqual([]);
});
