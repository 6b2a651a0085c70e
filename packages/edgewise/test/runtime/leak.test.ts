import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { compileProgram } from '../support/program.ts';

const STEPS = 10_000;
const MB = 1 << 20;

interface Line {
  readonly what: 'training' | 'calls' | 'programs';
  readonly step: number;
  readonly rss: number;
  readonly heapUsed: number;
  readonly external: number;
}

it('memory stays as it is over 10,000 steps, 10,000 calls and 200 programs', async () => {
  const program = await compileProgram(join(import.meta.dirname, 'leak-worker.ts'));
  const folder = await mkdtemp(join(tmpdir(), 'edgewise-leak-'));
  try {
    const child = spawn(process.execPath, ['--expose-gc', program.path, String(STEPS), folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
      // One pool for all threads: what stays resident then is what is held, rather than how threads share out free memory.
      env: { ...process.env, MALLOC_ARENA_MAX: '1' },
    });
    let output = '';
    child.stdout.on('data', (data) => {
      output += data;
    });
    expect(await once(child, 'close')).toEqual([0, null]);
    // Written by the worker as Lines.
    const lines = output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Line);
    const growth = (what: Line['what'], of: 'rss' | 'heapUsed' | 'external', from: number): number => {
      const values = lines.filter((line) => line.what === what && line.step >= from).map((line) => line[of]);
      expect(values.length).toBeGreaterThan(1);
      return (values[values.length - 1] - values[0]) / MB;
    };
    const shown = lines.filter(({ what, step }) => what !== 'programs' && (step === 1000 || step === STEPS));
    console.log(
      shown.map(({ what, step, rss }) => `${what} ${step}: ${(rss / MB).toFixed(1)} MiB resident`).join(', '),
    );
    // 100 bytes of JavaScript a step would be 0.9 MiB, 400 bytes of native memory 3.4.
    for (const what of ['training', 'calls'] as const) expect(growth(what, 'heapUsed', 1000), what).toBeLessThan(0.9);
    expect(growth('calls', 'rss', 1000)).toBeLessThan(3);
    expect(growth('calls', 'external', 1000)).toBeLessThan(1);
    // The loop's code is compiled anew while it warms up, for a few thousand steps.
    expect(growth('training', 'rss', 1000)).toBeLessThan(20);
    expect(growth('training', 'rss', 6000)).toBeLessThan(4);
    expect(growth('programs', 'rss', 40)).toBeLessThan(3);
  } finally {
    await Promise.all([program.remove(), rm(folder, { recursive: true })]);
  }
});
