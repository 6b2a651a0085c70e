/** A run's files in a folder of the file system. */
import { randomUUID } from 'node:crypto';
import * as nodeFs from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { ConfigError } from '../base/errors.ts';
import {
  byteLength,
  type Chunks,
  checkFileName,
  notFound,
  type RunStore,
  StoreError,
  toChunks,
  tooShort,
} from '../train/store.ts';
import { systemCode, toStoreError } from './file-errors.ts';
import { RunLock, TEMPORARY_SUFFIX } from './run-lock.ts';

/** The calls of `node:fs/promises` that a store makes; tests put one in that fails. */
export type FileSystem = Pick<
  typeof nodeFs,
  'open' | 'rename' | 'unlink' | 'link' | 'mkdir' | 'readdir' | 'readFile' | 'writeFile' | 'stat'
>;

/** How {@link openRunStore} opens a folder. */
export interface OpenOptions {
  /**
   * `write` creates the folder where it is missing, takes its lock, and sweeps up what a killed writer left half-written. `read` needs an
   * existing folder, takes no lock (the run may go on meanwhile) and refuses every write.
   */
  readonly access: 'read' | 'write';
  /** Default: `node:fs/promises`. */
  readonly fileSystem?: FileSystem;
}

/**
 * Opens the run in `folder`.
 *
 * @throws StoreError `locked` where another process writes it, `not-found` where it is to be read and is not there, and for whatever the
 * file system refuses.
 */
export async function openRunStore(folder: string, options: OpenOptions): Promise<RunStore> {
  if (folder === '') throw new ConfigError('A run needs a folder, got an empty path.');
  const fs = options.fileSystem ?? nodeFs;
  const root = resolve(folder);
  if (options.access === 'read') {
    try {
      if (!(await fs.stat(root)).isDirectory()) throw new StoreError('io', `${folder} is a file, not a run folder.`);
    } catch (error) {
      throw toStoreError(error, 'opened', folder);
    }
    return new FileRunStore(fs, folder, root, undefined);
  }
  try {
    await makeFolders(fs, root);
  } catch (error) {
    throw toStoreError(error, 'created', folder);
  }
  const lock = await RunLock.acquire(fs, root);
  try {
    await sweep(fs, root, SWEEP_DEPTH);
  } catch (error) {
    await lock.release().catch(() => {});
    throw toStoreError(error, 'cleaned of half-written files', folder);
  }
  return new FileRunStore(fs, folder, root, lock);
}

/** Folders below the run folder that are searched for half-written files. */
const SWEEP_DEPTH = 3;

async function sweep(fs: FileSystem, folder: string, depth: number): Promise<void> {
  for (const entry of await fs.readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isFile() && entry.name.startsWith('.') && entry.name.endsWith(TEMPORARY_SUFFIX)) {
      await fs.unlink(path).catch((error: unknown) => {
        if (systemCode(error) !== 'ENOENT') throw error;
      });
    } else if (entry.isDirectory() && depth > 0) await sweep(fs, path, depth - 1);
  }
}

/** An appended file kept open. */
interface OpenFile {
  readonly handle: nodeFs.FileHandle;
  size: number;
  /** Holds bytes that the device may not have yet. */
  dirty: boolean;
}

/** Pieces are joined into one write up to this many bytes; larger ones are written in parts of this size. */
const WRITE_SIZE = 8 << 20;

class FileRunStore implements RunStore {
  readonly location: string;
  readonly #fs: FileSystem;
  readonly #root: string;
  readonly #lock: RunLock | undefined;
  readonly #open = new Map<string, OpenFile>();
  /** Folders with entries that the device may not have yet. */
  readonly #dirtyFolders = new Set<string>();
  /** The last call made; the next one begins when it has ended. */
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(fs: FileSystem, location: string, root: string, lock: RunLock | undefined) {
    this.#fs = fs;
    this.location = location;
    this.#root = root;
    this.#lock = lock;
  }

  read(name: string): Promise<Uint8Array> {
    return this.#run('read', name, async (path) => {
      const handle = await this.#fs.open(path, 'r');
      try {
        const bytes = new Uint8Array((await handle.stat()).size);
        for (let at = 0; at < bytes.length; ) {
          const { bytesRead } = await handle.read(bytes, at, Math.min(bytes.length - at, 1 << 30), at);
          if (bytesRead === 0) throw tooShort(this.location, name, at, bytes.length);
          at += bytesRead;
        }
        return bytes;
      } finally {
        await handle.close();
      }
    });
  }

  size(name: string): Promise<number | undefined> {
    return this.#run('read', name, async (path) => {
      try {
        const stat = await this.#fs.stat(path);
        return stat.isFile() ? stat.size : undefined;
      } catch (error) {
        if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return undefined;
        throw error;
      }
    });
  }

  list(folder?: string): Promise<string[]> {
    return this.#run('read', folder, async (path) => {
      try {
        const prefix = folder === undefined ? '' : `${folder}/`;
        return (await this.#fs.readdir(path, { withFileTypes: true }))
          .filter((entry) => entry.isFile() && !entry.name.startsWith('.'))
          .map((entry) => prefix + entry.name)
          .sort();
      } catch (error) {
        if (systemCode(error) === 'ENOENT') return [];
        throw error;
      }
    });
  }

  writeAtomic(name: string, content: Chunks): Promise<void> {
    return this.#run('written', name, async (path) => {
      await this.#makeFolder(dirname(path));
      const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}${TEMPORARY_SUFFIX}`);
      const handle = await this.#fs.open(temporary, 'wx');
      try {
        try {
          await writeChunks(handle, content, 0);
          await handle.sync();
        } finally {
          await handle.close();
        }
        await this.#lock?.verify();
        await this.#fs.rename(temporary, path);
      } catch (error) {
        await this.#fs.unlink(temporary).catch(() => {});
        throw error;
      }
      await this.#forget(name);
      this.#dirtyFolders.add(dirname(path));
      await this.#syncFolders();
    });
  }

  append(name: string, length: number, content: Chunks): Promise<number> {
    return this.#run('written', name, async (path) => {
      const file = this.#open.get(name) ?? (await this.#openForAppending(name, path));
      await this.#cut(name, file, length);
      file.dirty = true;
      const end = length + byteLength(content);
      try {
        await writeChunks(file.handle, content, length);
      } catch (error) {
        await file.handle.truncate(length).catch(() => {});
        await this.#forget(name);
        throw error;
      }
      file.size = end;
      return end;
    });
  }

  truncate(name: string, length: number): Promise<void> {
    return this.#run('cut', name, async (path) => {
      if (!this.#open.has(name)) await this.#fs.stat(path);
      await this.#cut(name, this.#open.get(name) ?? (await this.#openForAppending(name, path)), length);
    });
  }

  remove(name: string): Promise<void> {
    return this.#run('removed', name, async (path) => {
      await this.#forget(name);
      try {
        await this.#fs.unlink(path);
        this.#dirtyFolders.add(dirname(path));
      } catch (error) {
        if (systemCode(error) !== 'ENOENT') throw error;
      }
    });
  }

  sync(): Promise<void> {
    return this.#run('written', undefined, () => this.#syncFiles());
  }

  close(): Promise<void> {
    const closing = this.#last.then(async () => {
      if (this.#closed) return;
      this.#closed = true;
      try {
        await this.#syncFiles();
      } catch (error) {
        throw toStoreError(error, 'written', this.location);
      } finally {
        for (const name of [...this.#open.keys()]) await this.#forget(name).catch(() => {});
        await this.#lock?.release().catch(() => {});
      }
    });
    this.#last = closing.catch(() => {});
    return closing;
  }

  /** Runs `work` on the path of `name` after every earlier call, and puts what the file system says into words. */
  #run<T>(verb: 'read' | 'written' | 'cut' | 'removed', name: string | undefined, work: (path: string) => Promise<T>) {
    const result = this.#last.then(async () => {
      const path = name === undefined ? this.#root : join(this.#root, ...checkFileName(name).split('/'));
      const shown = name === undefined ? this.location : join(this.location, name);
      if (verb !== 'read' && this.#closed) {
        throw new StoreError('closed', `The run in ${this.location} is closed; ${name ?? 'it'} was not ${verb}.`);
      }
      if (verb !== 'read' && !this.#lock) {
        throw new StoreError(
          'permission',
          `The run in ${this.location} was opened for reading; ${shown} was not ${verb}.`,
        );
      }
      try {
        return await work(path);
      } catch (error) {
        if (name !== undefined && verb !== 'written' && systemCode(error) === 'ENOENT') {
          throw notFound(this.location, name);
        }
        throw toStoreError(error, verb, shown, verb === 'written' ? 'what was stored before is untouched' : undefined);
      }
    });
    this.#last = result.catch(() => {});
    return result;
  }

  async #makeFolder(path: string): Promise<void> {
    for (const folder of await makeFolders(this.#fs, path)) this.#dirtyFolders.add(dirname(folder));
  }

  async #openForAppending(name: string, path: string): Promise<OpenFile> {
    await this.#makeFolder(dirname(path));
    // Opened without O_APPEND: the position of each write is given.
    const handle = await this.#fs.open(path, nodeFs.constants.O_RDWR | nodeFs.constants.O_CREAT, 0o666);
    const file: OpenFile = { handle, size: (await handle.stat()).size, dirty: true };
    this.#dirtyFolders.add(dirname(path));
    this.#open.set(name, file);
    return file;
  }

  async #cut(name: string, file: OpenFile, length: number): Promise<void> {
    if (file.size < length) throw tooShort(this.location, name, file.size, length);
    if (file.size === length) return;
    await file.handle.truncate(length);
    file.size = length;
    file.dirty = true;
  }

  async #forget(name: string): Promise<void> {
    const file = this.#open.get(name);
    if (!file) return;
    this.#open.delete(name);
    await file.handle.close();
  }

  async #syncFiles(): Promise<void> {
    for (const file of this.#open.values()) {
      if (!file.dirty) continue;
      await file.handle.sync();
      file.dirty = false;
    }
    await this.#syncFolders();
  }

  async #syncFolders(): Promise<void> {
    for (const folder of this.#dirtyFolders) {
      await syncFolder(this.#fs, folder);
      this.#dirtyFolders.delete(folder);
    }
  }
}

/**
 * Makes a folder and those above it that are missing; gives those it made, topmost first. (`mkdir` with `recursive` never ends where the
 * system says ENOENT of a folder whose parent exists, as Linux does in /proc.)
 */
async function makeFolders(fs: FileSystem, path: string): Promise<string[]> {
  const missing: string[] = [];
  for (let at = path; ; at = dirname(at)) {
    try {
      if ((await fs.stat(at)).isDirectory()) break;
    } catch (error) {
      if (systemCode(error) !== 'ENOENT' || at === dirname(at)) throw error;
      missing.unshift(at);
      continue;
    }
    // A file in the way: the system's own error says so.
    await fs.mkdir(at);
  }
  for (const folder of missing) {
    try {
      await fs.mkdir(folder);
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
  }
  return missing;
}

/** Writes all of `content` at `position`, small pieces together. */
async function writeChunks(handle: nodeFs.FileHandle, content: Chunks, position: number): Promise<void> {
  const total = byteLength(content);
  let at = position;
  const write = async (bytes: Uint8Array): Promise<void> => {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await handle.write(bytes, done, Math.min(bytes.length - done, WRITE_SIZE), at);
      done += bytesWritten;
      at += bytesWritten;
    }
  };
  const joined = new Uint8Array(Math.min(total, WRITE_SIZE));
  let filled = 0;
  for (const chunk of toChunks(content)) {
    const large = chunk.length > joined.length / 2;
    if (large || filled + chunk.length > joined.length) {
      await write(joined.subarray(0, filled));
      filled = 0;
    }
    if (large) await write(chunk);
    else {
      joined.set(chunk, filled);
      filled += chunk.length;
    }
  }
  await write(joined.subarray(0, filled));
  if (at - position !== total) {
    throw new StoreError('io', `Only ${at - position} of ${total} bytes were written: the data changed meanwhile.`);
  }
}

async function syncFolder(fs: FileSystem, folder: string): Promise<void> {
  // Windows has no such call on folders.
  if (process.platform === 'win32') return;
  const handle = await fs.open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
