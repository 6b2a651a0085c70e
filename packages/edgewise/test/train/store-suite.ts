import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/base/errors.ts';
import { checkFileName, LogFile, type RunStore } from '../../src/train/store.ts';

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const text = (content: Uint8Array): string => new TextDecoder().decode(content);

/** What every store must do; `make` gives an empty one. */
export function runStoreSuite(label: string, make: () => Promise<RunStore>): void {
  describe(`${label}: a run store`, () => {
    it('replaces a file whole, from any number of pieces', async () => {
      const store = await make();
      await store.writeAtomic('a/b/config.json', bytes('old content'));
      await store.writeAtomic('a/b/config.json', [bytes('ne'), bytes(''), bytes('w')]);
      expect(text(await store.read('a/b/config.json'))).toBe('new');
      await store.writeAtomic('empty', []);
      expect(await store.size('empty')).toBe(0);
    });

    it('writes pieces large and small in their order', async () => {
      const store = await make();
      const sizes = [3, 5 << 20, 7, 9 << 20, 1, (8 << 20) - 4, 2, 4 << 20, 4 << 20, 5];
      const pieces = sizes.map((size, i) => {
        const piece = new Uint8Array(size).fill(i + 1);
        for (let at = 0; at < size; at += 1021) piece[at] = at >> 10;
        return piece;
      });
      await store.writeAtomic('big', pieces);
      expect(Buffer.concat(pieces).equals(await store.read('big'))).toBe(true);
    });

    it('appends at the given length and drops what lies behind it', async () => {
      const store = await make();
      expect(await store.append('log', 0, bytes('one\n'))).toBe(4);
      expect(await store.append('log', 4, [bytes('two\n'), bytes('thr')])).toBe(11);
      expect(await store.append('log', 8, bytes('three\n'))).toBe(14);
      expect(text(await store.read('log'))).toBe('one\ntwo\nthree\n');
      await store.truncate('log', 4);
      expect(text(await store.read('log'))).toBe('one\n');
      expect(await store.append('log', 4, [])).toBe(4);
      await store.sync();
    });

    it('refuses to append beyond the end', async () => {
      const store = await make();
      await store.append('log', 0, bytes('abc'));
      await expect(store.append('log', 5, bytes('x'))).rejects.toMatchObject({ name: 'StoreError', code: 'damaged' });
      await expect(store.truncate('log', 4)).rejects.toThrow(/has 3 bytes where 4 were written/);
      expect(text(await store.read('log'))).toBe('abc');
    });

    it('lists the files of one folder, sorted', async () => {
      const store = await make();
      for (const name of ['b', 'a', 'c/2', 'c/10', 'c/d/e', 'ca']) await store.writeAtomic(name, bytes(name));
      expect(await store.list()).toEqual(['a', 'b', 'ca']);
      expect(await store.list('c')).toEqual(['c/10', 'c/2']);
      expect(await store.list('nowhere')).toEqual([]);
    });

    it('says what is missing', async () => {
      const store = await make();
      const missing = { name: 'StoreError', code: 'not-found' };
      await expect(store.read('config.json')).rejects.toMatchObject(missing);
      await expect(store.read('config.json')).rejects.toThrow(`There is no file config.json in ${store.location}.`);
      await expect(store.truncate('config.json', 0)).rejects.toMatchObject(missing);
      expect(await store.size('config.json')).toBeUndefined();
      await store.remove('config.json');
    });

    it('removes files', async () => {
      const store = await make();
      await store.append('log', 0, bytes('abc'));
      await store.remove('log');
      expect(await store.list()).toEqual([]);
      expect(await store.append('log', 0, bytes('x'))).toBe(1);
    });

    it('refuses names that lead elsewhere', async () => {
      const store = await make();
      for (const name of ['', '/etc/x', '../x', 'a/../../x', 'a//b', 'a/', '.lock', 'a/.b', 'a\\b', 'a\0b', 'C:x']) {
        expect(() => checkFileName(name)).toThrow(ConfigError);
        await expect(store.read(name)).rejects.toThrow(ConfigError);
        await expect(store.writeAtomic(name, bytes('x'))).rejects.toThrow(ConfigError);
        await expect(store.append(name, 0, bytes('x'))).rejects.toThrow(ConfigError);
      }
      expect(await store.list()).toEqual([]);
    });

    it('takes calls in the order they were made', async () => {
      const store = await make();
      const calls = [
        store.append('log', 0, bytes('a')),
        store.append('log', 1, bytes('b')),
        store.writeAtomic('log', bytes('xyz')),
        store.append('log', 3, bytes('!')),
      ];
      const read = store.read('log');
      await Promise.all(calls);
      expect(text(await read)).toBe('xyz!');
    });

    it('is not written once closed', async () => {
      const store = await make();
      await store.append('log', 0, bytes('a'));
      await store.close();
      await store.close();
      await expect(store.append('log', 1, bytes('b'))).rejects.toMatchObject({ code: 'closed' });
      await expect(store.writeAtomic('x', bytes('b'))).rejects.toMatchObject({ code: 'closed' });
      expect(text(await store.read('log'))).toBe('a');
    });

    it('equals a plain list of files after any sequence of calls', async () => {
      const name = fc.constantFrom('log', 'config.json', 'c/1', 'c/2');
      const content = fc.array(fc.uint8Array({ maxLength: 5 }), { maxLength: 3 });
      const call = fc.oneof(
        fc.record({ kind: fc.constant('write' as const), name, content }),
        fc.record({ kind: fc.constant('append' as const), name, content, keep: fc.nat(10) }),
        fc.record({ kind: fc.constant('truncate' as const), name, keep: fc.nat(10) }),
        fc.record({ kind: fc.constant('remove' as const), name }),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(call, { maxLength: 12 }), async (calls) => {
          const store = await make();
          const model = new Map<string, number[]>();
          for (const call of calls) {
            const old = model.get(call.name);
            const length = old && 'keep' in call ? Math.min(call.keep, old.length) : 0;
            if (call.kind === 'write') {
              await store.writeAtomic(call.name, call.content);
              model.set(
                call.name,
                call.content.flatMap((piece) => [...piece]),
              );
            } else if (call.kind === 'append') {
              await store.append(call.name, length, call.content);
              model.set(call.name, [...(old ?? []).slice(0, length), ...call.content.flatMap((piece) => [...piece])]);
            } else if (call.kind === 'remove') {
              await store.remove(call.name);
              model.delete(call.name);
            } else if (old) {
              await store.truncate(call.name, length);
              model.set(call.name, old.slice(0, length));
            }
          }
          const names = [...(await store.list()), ...(await store.list('c'))].sort();
          expect(names).toEqual([...model.keys()].sort());
          for (const [key, value] of model) expect([...(await store.read(key))]).toEqual(value);
          await store.close();
        }),
        { numRuns: 30 },
      );
    });
  });

  describe(`${label}: a growing file`, () => {
    it('collects pieces, writes them in order, and goes on where it was cut', async () => {
      const store = await make();
      const log = await LogFile.create(store, 'metrics.jsonl');
      log.push(bytes('1\n'));
      log.push(bytes('2\n'));
      expect(log.length).toBe(4);
      const first = log.flush();
      log.push(bytes('3\n'));
      const second = log.flush();
      await Promise.all([first, second]);
      expect(log.length).toBe(6);
      expect(text(await store.read('metrics.jsonl'))).toBe('1\n2\n3\n');
      const resumed = await LogFile.resume(store, 'metrics.jsonl', 2);
      resumed.push(bytes('II\n'));
      await resumed.flush();
      expect(text(await store.read('metrics.jsonl'))).toBe('1\nII\n');
      await expect(LogFile.create(store, 'metrics.jsonl')).rejects.toMatchObject({ code: 'exists' });
      await expect(LogFile.resume(store, 'metrics.jsonl', 99)).rejects.toMatchObject({ code: 'damaged' });
    });
  });
}
