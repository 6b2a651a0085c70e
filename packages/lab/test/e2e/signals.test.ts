import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CompiledProgram } from '../../../edgewise/test/support/program.ts';
import { compileCli, edgewise, filesIn, newestCheckpoint, outcome, words } from './support.ts';

let base = '';
let cli: CompiledProgram;
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'edgewise-e2e-'));
  cli = await compileCli();
});
afterAll(async () => {
  await cli.remove();
  await rm(base, { recursive: true });
});

const settings = words`train --data moons --model mlp --model-widths 16,16 --model-dropout 0.1 --batch-size 50 --steps 1600
    --eval-every 100 --checkpoint-every 0 --sharpness-every 700 --sharpness-examples 50`;

/** Sends `signal` when the first row of progress is printed. */
const interrupted = (args: readonly (string | number)[], signal: NodeJS.Signals) => {
  let sent = false;
  return edgewise(cli, args, {
    watch: (stdout, child) => {
      if (sent || !/\n +\d/.test(stdout)) return;
      sent = true;
      child.kill(signal);
    },
  });
};

describe('a run that is asked to stop', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)(
    'by %s ends its step, saves, says how to go on, and then ends as an uninterrupted one',
    async (signal, exit) => {
      const [whole, broken] = [join(base, `whole-${signal}`), join(base, `broken-${signal}`)];
      expect(await edgewise(cli, [...settings, '--out', whole])).toMatchObject({ code: 0, stderr: '' });
      const first = await interrupted([...settings, '--out', broken], signal);
      expect(first).toMatchObject({ code: exit, signal: null, stderr: '' });
      const saved = await newestCheckpoint(broken);
      expect(saved?.step).toBeGreaterThanOrEqual(100);
      expect(saved?.step).toBeLessThan(1600);
      const step = String(saved?.step).replace(/\B(?=(\d{3})+$)/g, ',');
      expect(first.stdout).toContain(`interrupted at step ${step}; go on with --resume ${broken}`);
      expect((await filesIn(broken)).filter((name) => name.startsWith('.'))).toEqual([]);

      expect(await interrupted(['train', '--resume', broken], signal)).toMatchObject({ code: exit, stderr: '' });
      const last = await edgewise(cli, ['train', '--resume', broken]);
      expect(last).toMatchObject({ code: 0, stderr: '' });
      expect(last.stdout).toMatch(/resumed +from step [\d,]+/);
      expect(await outcome(broken)).toEqual(await outcome(whole));
    },
  );

  it('by two signals ends at once', async () => {
    const folder = join(base, 'twice');
    let sent = false;
    const slow = words`--sharpness-every 1 --sharpness-examples 1000 --sharpness-tolerance 1e-9`;
    const ended = await edgewise(cli, [...settings, ...slow, '--out', folder], {
      watch: (stdout, child) => {
        if (sent || !stdout.includes('\nrun ')) return;
        sent = true;
        // A step with its measurement takes long; the second signal comes within it.
        setTimeout(() => {
          child.kill('SIGINT');
          setTimeout(() => child.kill('SIGINT'), 2);
        }, 300);
      },
    });
    expect(ended).toMatchObject({ code: 130, stderr: '' });
  });

  it('by a reader that has seen enough saves too', async () => {
    const folder = join(base, 'pipe');
    const ended = await edgewise(cli, [...settings, '--steps', 200_000, '--out', folder], {
      watch: (stdout, child) => {
        if (/\n +\d/.test(stdout)) child.stdout?.destroy();
      },
    });
    expect(ended).toMatchObject({ code: 130, stderr: '' });
    expect((await newestCheckpoint(folder))?.step).toBeGreaterThanOrEqual(100);
  });
});
