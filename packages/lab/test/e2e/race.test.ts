import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { CompiledProgram } from '../../../edgewise/test/support/program.ts';
import { compileCli, edgewise, words } from './support.ts';

let base = '';
let cli: CompiledProgram;
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'edgewise-race-e2e-'));
  cli = await compileCli();
});
afterAll(async () => {
  await cli.remove();
  await rm(base, { recursive: true });
});

const plan = words`race --optimizers adan,sgd --model mlp --model-widths 8 --data moons --data-count 200 --batch-size 20
  --budgets 1 --trials 2 --seeds 1`;

it('races from the command line, in one process and in several', async () => {
  const tables: string[] = [];
  for (const jobs of [1, 2]) {
    const folder = join(base, `jobs-${jobs}`);
    const { code, stderr, stdout } = await edgewise(cli, [...plan, '--jobs', jobs, '--out', folder]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('Final runs, on the test set');
    expect((await readdir(folder)).sort()).toEqual(['README.md', 'claim.svg', 'curves.svg', 'race.json']);
    const { trials } = JSON.parse(await readFile(join(folder, 'race.json'), 'utf8'));
    tables.push(
      JSON.stringify(
        Object.keys(trials)
          .sort()
          .map((id) => [id, trials[id].curve.map(({ loss }: { loss: number }) => loss)]),
      ),
    );
  }
  expect(tables[1]).toBe(tables[0]);
});

it('an interrupted race has the exit code of the signal, and goes on', async () => {
  const folder = join(base, 'stopped');
  const ended = await edgewise(cli, [...plan, '--out', folder], {
    watch: (stdout, child) => {
      if (stdout.includes('tuning/')) child.kill('SIGTERM');
    },
  });
  expect(ended.code).toBe(143);
  expect((await edgewise(cli, ['race', '--resume', folder])).code).toBe(0);
});

it('has help, is in the list of commands, and refuses what is wrong', async () => {
  const help = await edgewise(cli, words`race --help`);
  expect(help.code).toBe(0);
  expect(help.stdout).toContain('--budgets <epochs>');
  expect((await edgewise(cli, words`--help`)).stdout).toMatch(/^ {2}race \[plan\.json\] +race optimizers/m);
  expect((await edgewise(cli, words`rase`)).stderr).toMatch(/there is no command 'rase'; there are .*race/);
  const wrong = await edgewise(cli, words`race --optimizers adann --out ${join(base, 'wrong')}`);
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toContain("did you mean 'adan'");
});
