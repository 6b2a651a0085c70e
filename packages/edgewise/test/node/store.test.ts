import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as realFs from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LOCK_FILE, TEMPORARY_SUFFIX } from '../../src/node/run-lock.ts';
import { type FileSystem, openRunStore } from '../../src/node/store.ts';
import { LogFile, type RunStore } from '../../src/train/store.ts';
import { bytes, runStoreSuite, text } from '../train/store-suite.ts';

let base = '';
let counter = 0;
const opened: RunStore[] = [];
const freshFolder = (): string => join(base, `run-${counter++}`);
const open = async (folder: string, fileSystem?: FileSystem): Promise<RunStore> => {
  const store = await openRunStore(folder, { access: 'write', fileSystem });
  opened.push(store);
  return store;
};

beforeAll(async () => {
  base = await realFs.mkdtemp(join(tmpdir(), 'edgewise-store-'));
});
afterAll(async () => {
  for (const store of opened) await store.close();
  await realFs.rm(base, { recursive: true });
});

runStoreSuite('folder', () => open(freshFolder()));

const systemError = (code: string, syscall: string): Error =>
  Object.assign(new Error(`${code}: made up, ${syscall}`), { code, syscall });

/** A file system on which the `failAt`-th call that changes something fails with `code`; counts those calls. */
function failing(code: string, failAt: number): FileSystem & { calls: number } {
  const guarded = <A extends unknown[], R>(syscall: string, call: (...args: A) => Promise<R>) => {
    return async (...args: A): Promise<R> => {
      fs.calls++;
      if (fs.calls === failAt) throw systemError(code, syscall);
      return call(...args);
    };
  };
  const fs = {
    ...realFs,
    calls: 0,
    rename: guarded('rename', realFs.rename),
    mkdir: guarded('mkdir', realFs.mkdir as (path: string) => Promise<string | undefined>),
    open: guarded('open', async (path: string, flags?: string | number, mode?: number) => {
      const handle = await realFs.open(path, flags, mode);
      const write = handle.write.bind(handle) as (
        data: Uint8Array,
        from: number,
        length: number,
        at: number,
      ) => Promise<{ bytesWritten: number }>;
      const sync = handle.sync.bind(handle);
      return Object.assign(handle, {
        // A full disk takes the beginning of a write before it refuses.
        write: async (data: Uint8Array, from: number, length: number, at: number) => {
          fs.calls++;
          if (fs.calls !== failAt) return write(data, from, length, at);
          await write(data, from, Math.floor(length / 2), at);
          throw systemError(code, 'write');
        },
        sync: guarded('fsync', sync),
      });
    }),
  };
  return fs as unknown as FileSystem & { calls: number };
}

describe('a full disk or a forbidden folder', () => {
  it.each([
    ['ENOSPC', 'no-space', 'no space is left on the device'],
    ['EDQUOT', 'no-space', 'the disk quota is used up'],
    ['EACCES', 'permission', 'permission is denied'],
    ['EROFS', 'permission', 'the file system is read-only'],
    ['EIO', 'io', 'the device reports an error'],
    ['EWEIRD', 'io', 'EWEIRD: made up'],
  ])(
    '%s at any call of an atomic write leaves the old content and nothing half-written',
    async (code, kind, reason) => {
      const folder = freshFolder();
      const writer = await open(folder);
      await writer.writeAtomic('checkpoints/latest', bytes('whole'));
      await writer.close();
      let failures = 0;
      for (let at = 1; ; at++) {
        const fs = failing(code, Number.POSITIVE_INFINITY);
        const store = await open(folder, fs);
        const failAt = fs.calls + at;
        const failingFs = failing(code, failAt);
        await store.close();
        const failingStore = await open(folder, failingFs);
        const error: unknown = await failingStore.writeAtomic('checkpoints/latest', bytes('WHOLE')).catch((e) => e);
        await failingStore.close();
        const reader = await openRunStore(folder, { access: 'read' });
        const content = text(await reader.read('checkpoints/latest'));
        const names = await realFs.readdir(join(folder, 'checkpoints'));
        expect(names).toEqual(['latest']);
        if (error === undefined) {
          expect(content).toBe('WHOLE');
          break;
        }
        failures++;
        expect(error).toMatchObject({ name: 'StoreError', code: kind });
        expect(String(error)).toContain(reason);
        expect(String(error)).toContain(join(folder, 'checkpoints/latest'));
        expect(String(error)).toContain('what was stored before is untouched');
        // Once the new content has its name, only the folder's own sync can still fail.
        expect(['whole', 'WHOLE']).toContain(content);
        if (content === 'WHOLE') {
          const again = await open(folder);
          await again.writeAtomic('checkpoints/latest', bytes('whole'));
          await again.close();
        }
      }
      // open, write, fsync, rename, open and fsync of the folder.
      expect(failures).toBe(6);
    },
  );

  it('cuts off what a failed append wrote, and writes it when there is room again', async () => {
    const folder = freshFolder();
    const fs = failing('ENOSPC', Number.POSITIVE_INFINITY);
    const store = await open(folder, fs);
    const log = await LogFile.create(store, 'metrics.jsonl');
    log.push(bytes('first line\n'));
    await log.flush();
    // The call before it opens the file.
    const full = failing('ENOSPC', 2);
    await store.close();
    const second = await open(folder, full);
    const resumed = await LogFile.resume(second, 'metrics.jsonl', 11);
    resumed.push(bytes('second line\n'));
    await expect(resumed.flush()).rejects.toMatchObject({ code: 'no-space' });
    expect(await realFs.readFile(join(folder, 'metrics.jsonl'), 'utf8')).toBe('first line\n');
    resumed.push(bytes('third line\n'));
    await resumed.flush();
    expect(await realFs.readFile(join(folder, 'metrics.jsonl'), 'utf8')).toBe('first line\nsecond line\nthird line\n');
  });

  it('refuses a folder that is a file, or below one', async () => {
    const file = join(base, 'file');
    await realFs.writeFile(file, 'x');
    await expect(open(file)).rejects.toMatchObject({ name: 'StoreError', code: 'exists' });
    await expect(open(join(file, 'run'))).rejects.toThrow(/a part of the path is a file/);
    await expect(openRunStore(file, { access: 'read' })).rejects.toThrow(/is a file, not a run folder/);
    await expect(openRunStore(join(base, 'none'), { access: 'read' })).rejects.toMatchObject({ code: 'not-found' });
  });

  it.skipIf(process.platform !== 'linux')('refuses a folder where the system makes none', async () => {
    await expect(open('/proc/edgewise/run')).rejects.toThrow(
      '/proc/edgewise/run could not be created: there is no such file or folder; check the path.',
    );
  });

  it.skipIf(process.platform !== 'linux')('stops at a real limit on file size with the old file whole', async () => {
    const folder = freshFolder();
    const script = `
      import { openRunStore } from ${JSON.stringify(join(import.meta.dirname, '../../src/node/store.ts'))};
      const store = await openRunStore(${JSON.stringify(folder)}, { access: 'write' });
      await store.writeAtomic('x', new Uint8Array(1000).fill(1));
      const error = await store.writeAtomic('x', new Uint8Array(3 << 20)).catch((e) => e);
      console.log(JSON.stringify({ code: error.code, message: error.message }));
      await store.close();`;
    const program = join(base, 'limited.mts');
    await realFs.writeFile(program, script);
    const child = spawn('bash', ['-c', `ulimit -f 1024; exec node --import tsx ${program}`], {
      cwd: import.meta.dirname,
    });
    let output = '';
    child.stdout.on('data', (data) => {
      output += data;
    });
    await once(child, 'close');
    expect(JSON.parse(output)).toMatchObject({ code: 'no-space', message: expect.stringContaining('size limit') });
    expect((await realFs.readFile(join(folder, 'x'))).equals(Buffer.alloc(1000, 1))).toBe(true);
    expect(await realFs.readdir(folder)).toEqual(['x']);
  });
});

describe('the lock of a run folder', () => {
  const writeLock = (folder: string, owner: unknown): Promise<void> =>
    realFs.writeFile(join(folder, LOCK_FILE), typeof owner === 'string' ? owner : JSON.stringify(owner));

  it('lets one store write and any number read', async () => {
    const folder = freshFolder();
    const store = await open(folder);
    await expect(open(folder)).rejects.toMatchObject({ name: 'StoreError', code: 'locked' });
    await expect(open(folder)).rejects.toThrow(`${folder} is already being written by this process`);
    await store.append('log', 0, bytes('a'));
    const reader = await openRunStore(folder, { access: 'read' });
    expect(await reader.list()).toEqual(['log']);
    await expect(reader.append('log', 1, bytes('b'))).rejects.toThrow(/was opened for reading/);
    await reader.close();
    await store.close();
    expect(await realFs.readdir(folder)).toEqual(['log']);
    await (await open(folder)).close();
  });

  it('is taken over from a process that no longer runs, whatever is left in it', async () => {
    const child = spawn('true');
    const pid = child.pid;
    await once(child, 'close');
    const boot = 'another boot';
    for (const stale of [
      { pid, host: hostname(), token: 'x' },
      { pid: process.pid, host: hostname(), token: 'x', boot, started: '1' },
      '',
      '{"pid":',
      { pid: -1, host: hostname(), token: 'x' },
    ]) {
      const folder = freshFolder();
      await realFs.mkdir(folder);
      await writeLock(folder, stale);
      // Only Linux tells a process from a later one with its number.
      if (typeof stale === 'object' && 'boot' in stale && process.platform !== 'linux') continue;
      const store = await open(folder);
      await expect(open(folder)).rejects.toMatchObject({ code: 'locked' });
      await store.close();
    }
  });

  it('is respected where the holder runs, or runs on another machine', async () => {
    const folder = freshFolder();
    await realFs.mkdir(folder);
    await writeLock(folder, { pid: process.ppid, host: hostname(), token: 'x' });
    await expect(open(folder)).rejects.toThrow(`is already being written by process ${process.ppid}; end it`);
    await writeLock(folder, { pid: 1, host: 'elsewhere', token: 'x' });
    await expect(open(folder)).rejects.toThrow(/by process 1 on elsewhere; end it, or remove .*\.lock/);
  });

  it('goes to exactly one of many that find it stale at once', async () => {
    for (let round = 0; round < 5; round++) {
      const folder = freshFolder();
      await realFs.mkdir(folder);
      await writeLock(folder, { pid: 2 ** 22 + 5, host: hostname(), token: 'x' });
      const results = await Promise.allSettled(Array.from({ length: 8 }, () => open(folder)));
      const winners = results.filter((result) => result.status === 'fulfilled');
      expect(winners).toHaveLength(1);
      await winners[0].value.writeAtomic('x', bytes('y'));
      await winners[0].value.close();
    }
  });

  it('stops a store whose lock was taken by another, before it replaces anything', async () => {
    const folder = freshFolder();
    const store = await open(folder);
    await store.writeAtomic('x', bytes('old'));
    await realFs.unlink(join(folder, LOCK_FILE));
    await store.writeAtomic('x', bytes('mine'));
    await writeLock(folder, { pid: process.ppid, host: hostname(), token: 'x' });
    await expect(store.writeAtomic('x', bytes('lost'))).rejects.toMatchObject({ code: 'locked' });
    expect(text(await store.read('x'))).toBe('mine');
    await store.close();
    expect(await realFs.readdir(folder)).toEqual(['.lock', 'x']);
  });

  it('sweeps up half-written files when it is taken', async () => {
    const folder = freshFolder();
    await realFs.mkdir(join(folder, 'checkpoints'), { recursive: true });
    for (const name of [`.x.1${TEMPORARY_SUFFIX}`, `checkpoints/.y.2${TEMPORARY_SUFFIX}`, '.keep', 'checkpoints/z']) {
      await realFs.writeFile(join(folder, name), 'half');
    }
    await (await open(folder)).close();
    expect(await realFs.readdir(folder)).toEqual(['.keep', 'checkpoints']);
    expect(await realFs.readdir(join(folder, 'checkpoints'))).toEqual(['z']);
  });
});
