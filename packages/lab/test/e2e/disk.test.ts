import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CompiledProgram } from '../../../edgewise/test/support/program.ts';
import { compileCli, edgewise, filesIn, newestCheckpoint, outcome, words } from './support.ts';

const run = promisify(execFile);

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

const settings = words`train --data moons --model mlp --model-widths 16 --batch-size 50 --sharpness-every 0 --steps 600
    --eval-every 50 --checkpoint-every 20 --keep-checkpoints 2`;

/** A small file system of its own, in memory; only root may mount one. */
async function mounted(kilobytes: number): Promise<{ folder: string; unmount(): Promise<void> } | undefined> {
  const folder = await mkdtemp(join(base, 'disk-'));
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${kilobytes}k`, 'edgewise', folder]);
  } catch {
    return undefined;
  }
  const unmount = async (): Promise<void> => {
    await run('umount', [folder]);
  };
  return { folder, unmount };
}

describe('a disk that is full', () => {
  it('stops the run in one sentence, with the last checkpoint whole, from which it goes on elsewhere', async (test) => {
    const disk = await mounted(128);
    if (!disk) return test.skip('mounting a file system takes root');
    try {
      const folder = join(disk.folder, 'run');
      const { code, stdout, stderr } = await edgewise(cli, [...settings, '--out', folder]);
      expect(code).toBe(1);
      expect(stderr).toMatch(
        /^edgewise: \S+ could not be written: no space is left on the device; what was stored before is untouched; free some space or choose another folder\.\n$/,
      );
      expect(stdout).toContain('epoch');
      const checkpoint = await newestCheckpoint(folder);
      expect(checkpoint?.warnings).toEqual([]);
      expect(checkpoint?.step).toBeGreaterThanOrEqual(20);
      expect((checkpoint?.step ?? 0) % 20).toBe(0);
      expect((await filesIn(folder)).filter((name) => /(^|\/)\./.test(name))).toEqual([]);

      // The same on the full disk fails again; with room it ends as a run that never ran out.
      const again = await edgewise(cli, ['train', '--resume', folder]);
      expect(again.code).toBe(1);
      expect(again.stderr).toMatch(/no space is left on the device/);
      expect((await newestCheckpoint(folder))?.step).toBeGreaterThanOrEqual(checkpoint?.step ?? 0);
      const [moved, whole] = [join(base, 'moved'), join(base, 'whole')];
      await cp(folder, moved, { recursive: true });
      expect(await edgewise(cli, ['train', '--resume', moved])).toMatchObject({ code: 0, stderr: '' });
      expect(await edgewise(cli, [...settings, '--out', whole])).toMatchObject({ code: 0, stderr: '' });
      expect(await outcome(moved)).toEqual(await outcome(whole));
    } finally {
      await disk.unmount();
    }
  });

  it('from the start says so, and leaves nothing half-written', async (test) => {
    const disk = await mounted(16);
    if (!disk) return test.skip('mounting a file system takes root');
    try {
      await writeFile(join(disk.folder, 'full'), new Uint8Array(1 << 16)).catch(() => {});
      const { code, stderr } = await edgewise(cli, [...settings, '--out', join(disk.folder, 'run')]);
      expect(code).toBe(1);
      expect(stderr).toMatch(/^edgewise: [^\n]*no space is left on the device[^\n]*\.\n$/);
      expect(await readdir(disk.folder)).toEqual(['full']);
    } finally {
      await disk.unmount();
    }
  });

  it('read-only is refused before anything is computed', async (test) => {
    const disk = await mounted(256);
    if (!disk) return test.skip('mounting a file system takes root');
    try {
      await run('mount', ['-o', 'remount,ro', disk.folder]);
      const { code, stdout, stderr } = await edgewise(cli, [...settings, '--out', join(disk.folder, 'run')]);
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
      expect(stderr).toMatch(/^edgewise: [^\n]*the file system is read-only; choose another folder\.\n$/);
    } finally {
      await disk.unmount();
    }
  });
});

describe('a folder that may not be written', () => {
  const nobody = 65534;

  it('is refused in one sentence, before the run and in the middle of it', async (test) => {
    if (process.getuid?.() !== 0) return test.skip('trying it as another user takes root');
    const folder = join(base, 'locked');
    await mkdir(folder);
    for (const path of [base, dirname(cli.path)]) await chmod(path, 0o755);
    await chmod(folder, 0o500);
    const as = { uid: nobody, gid: nobody };
    const before = await edgewise(cli, [...settings, '--out', join(folder, 'run')], as);
    expect({ code: before.code, stdout: before.stdout }).toEqual({ code: 2, stdout: '' });
    expect(before.stderr).toMatch(/^edgewise: \S+ could not be created: permission is denied[^\n]*\.\n$/);

    await chmod(folder, 0o777);
    const within = join(folder, 'run');
    const amid = await edgewise(cli, [...settings, '--steps', 100_000, '--out', within], {
      ...as,
      watch: (stdout) => {
        if (/\n +\d/.test(stdout)) void chmod(join(within, 'checkpoints'), 0o500);
      },
    });
    expect(amid.code).toBe(1);
    expect(amid.stderr).toMatch(/^edgewise: \S+ could not be written: permission is denied[^\n]*\.\n$/);
    expect((await newestCheckpoint(within))?.warnings).toEqual([]);
  });
});
