import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CompiledProgram, compileProgram } from '../../../edgewise/test/support/program.ts';
import type { Race } from '../../src/race/race.ts';
import { edgewise, words } from '../e2e/support.ts';

let program: CompiledProgram;
let root: string;
beforeAll(async () => {
  program = await compileProgram(join(import.meta.dirname, 'command-program.ts'));
  root = await mkdtemp(join(tmpdir(), 'edgewise-race-'));
});
afterAll(async () => {
  await program.remove();
  await rm(root, { recursive: true });
});

const plan = words`--optimizers adan,sgd --model mlp --model-widths 8 --data moons --data-count 200 --batch-size 20
  --budgets 1,2 --trials 3 --tuning-epochs 1 --seeds 2`;

const read = async (folder: string): Promise<Race> => JSON.parse(await readFile(join(folder, 'race.json'), 'utf8'));

/** Everything but the time it took, and how it was run. */
const results = ({ plan: planned, trials }: Race): unknown => [
  planned,
  Object.fromEntries(
    Object.entries(trials)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([id, { status, curve }]) => [id, status, curve.map(({ seconds: _, ...point }) => point)]),
  ),
];

describe('edgewise race', () => {
  it('leaves tables, JSON and figures', async () => {
    const folder = join(root, 'whole');
    const { code, stdout, stderr } = await edgewise(program, ['race', ...plan, '--out', folder]);
    expect([code, stderr]).toEqual([0, '']);
    expect((await readdir(folder)).sort()).toEqual(['README.md', 'claim.svg', 'curves.svg', 'race.json']);
    expect(stdout).toContain('Final runs, on the test set');
    const race = await read(folder);
    expect(Object.keys(race.trials)).toHaveLength(2 * 3 + 2 * 2 * 2);
    expect(race.environments[0].versions.node).toBe(process.versions.node);
  });

  it('goes on after it was killed, with the trials that were finished, and ends the same', async () => {
    const folder = join(root, 'killed');
    const killed = await edgewise(program, ['race', ...plan, '--out', folder], {
      watch: (stdout, child) => {
        if (stdout.includes('final/')) child.kill('SIGKILL');
      },
    });
    expect(killed.signal).toBe('SIGKILL');
    const before = await read(folder);
    const count = Object.keys(before.trials).length;
    expect(count).toBeGreaterThanOrEqual(6);
    const { code, stdout } = await edgewise(program, ['race', '--resume', folder]);
    expect(code).toBe(0);
    expect(stdout).toContain(`${count} of 14 trials were finished before`);
    const after = await read(folder);
    for (const [id, trial] of Object.entries(before.trials)) expect(after.trials[id]).toEqual(trial);
    expect(results(after)).toEqual(results(await read(join(root, 'whole'))));
  });

  it('is the same with two processes at once, which end with it', async () => {
    const folder = join(root, 'two');
    const { code } = await edgewise(program, ['race', ...plan, '--jobs', '2', '--out', folder]);
    expect(code).toBe(0);
    const race = await read(folder);
    expect(Object.values(race.trials).every(({ shared }) => shared)).toBe(true);
    expect(results(race)).toEqual(results(await read(join(root, 'whole'))));
  });

  it('stops when it is asked to, and says how to go on', async () => {
    const folder = join(root, 'stopped');
    const { code, stdout } = await edgewise(program, ['race', ...plan, '--jobs', '2', '--out', folder], {
      watch: (text, child) => {
        if (text.includes('tuning/')) child.kill('SIGINT');
      },
    });
    expect(code).toBe(130);
    expect(stdout).toMatch(/interrupted with \d+ of 14 trials finished; go on with edgewise race --resume/);
    expect((await edgewise(program, ['race', '--resume', folder])).code).toBe(0);
    expect(results(await read(folder))).toEqual(results(await read(join(root, 'whole'))));
  });

  it('sums up the races of a folder', async () => {
    const { code, stdout } = await edgewise(program, ['race', '--overview', root]);
    expect([code, stdout]).toEqual([0, `4 races summed up in ${join(root, 'README.md')}\n`]);
    const text = await readFile(join(root, 'README.md'), 'utf8');
    const { summary } = await read(join(root, 'whole'));
    const claim = summary.claim.loss.at(-1);
    const row = text.split('\n').find((line) => line.includes('(whole/README.md)'));
    expect(row?.split(' | ').slice(1, 4)).toEqual(['adan', 'sgd', '2']);
    expect(Number(row?.split(' | ')[4])).toBeCloseTo(claim?.value ?? 0, 3);
    expect(await readFile(join(root, 'loss.svg'), 'utf8')).toContain('</svg>');
    const none = await edgewise(program, ['race', '--overview', join(root, 'whole')]);
    expect(none.stderr).toContain('holds a race');
  });

  it('leaves no folder behind for a plan that is refused', async () => {
    const folder = join(root, 'refused');
    const { code, stderr } = await edgewise(program, ['race', '--optimizers', 'adann', '--out', folder]);
    expect(code).toBe(1);
    expect(stderr).toContain("did you mean 'adan'");
    await expect(stat(folder)).rejects.toThrow('ENOENT');
    const missing = await edgewise(program, ['race', '--resume', folder]);
    expect(missing.stderr).toMatch(/no such file or folder/);
    const again = await edgewise(program, ['race', ...plan, '--out', join(root, 'whole')]);
    expect(again.stderr).toContain('There is a race in');
  });
});
