/** One process writes a run at a time: a lock file that says which, and that outlives a killed process without blocking the next. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { StoreError } from '../train/store.ts';
import { systemCode, toStoreError } from './file-errors.ts';
import type { FileSystem } from './store.ts';

/** Name of the lock file in a run folder. */
export const LOCK_FILE = '.lock';

/** Suffix of files that exist only while something is being written; one found when no process writes is left over. */
export const TEMPORARY_SUFFIX = '.edgewise-tmp';

/** Who holds the lock. `boot` and `started` (Linux only) tell a process from a later one that was given the same number. */
interface Owner {
  readonly pid: number;
  readonly host: string;
  readonly boot?: string;
  readonly started?: string;
  /** Distinguishes two holders within one process. */
  readonly token: string;
}

const ATTEMPTS = 10;

/** The lock of a run folder, held by this process. */
export class RunLock {
  readonly #fs: FileSystem;
  readonly #folder: string;
  readonly #path: string;
  readonly #text: string;

  private constructor(fs: FileSystem, folder: string, text: string) {
    this.#fs = fs;
    this.#folder = folder;
    this.#path = join(folder, LOCK_FILE);
    this.#text = text;
  }

  /**
   * Takes the lock of `folder`; one whose holder no longer runs is taken over.
   *
   * @throws StoreError `locked` where another process (or this one, by another store) holds it; `permission` or `no-space` where the
   * folder cannot be written.
   */
  static async acquire(fs: FileSystem, folder: string): Promise<RunLock> {
    const pid = process.pid;
    const owner: Owner = { pid, host: hostname(), ...(await identify(fs, pid)), token: randomUUID() };
    const lock = new RunLock(fs, folder, `${JSON.stringify(owner)}\n`);
    try {
      await lock.#take();
    } catch (error) {
      throw toStoreError(error, 'locked', folder);
    }
    return lock;
  }

  /**
   * Makes sure that the lock is still held, before something is replaced for good. A lock file that was removed by hand is put
   * back.
   *
   * @throws StoreError `locked` where another process has taken over.
   */
  async verify(): Promise<void> {
    const text = await this.#read();
    if (text === this.#text) return;
    if (text !== undefined || !(await this.#tryCreate())) throw this.#lockedBy(text);
  }

  /** Gives the lock back. */
  async release(): Promise<void> {
    if ((await this.#read()) === this.#text) await this.#fs.unlink(this.#path);
  }

  async #take(): Promise<void> {
    let text: string | undefined;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (await this.#tryCreate()) return;
      text = await this.#read();
      if (text === undefined) continue;
      if (await this.#isHeld(text)) break;
      if (!(await this.#removeStale(text))) break;
    }
    throw this.#lockedBy(text);
  }

  /** Creates the lock file with its content in one step, by a hard link; false where there is one already. */
  async #tryCreate(): Promise<boolean> {
    const draft = this.#temporary();
    try {
      await this.#fs.writeFile(draft, this.#text, { flag: 'wx' });
      await this.#fs.link(draft, this.#path);
      return true;
    } catch (error) {
      const code = systemCode(error);
      // ENOENT: the holder swept our draft away as a leftover.
      if (code === 'EEXIST' || code === 'ENOENT') return false;
      if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'ENOSYS' && code !== 'EOPNOTSUPP') throw error;
      return await this.#createWithoutLink();
    } finally {
      await this.#fs.unlink(draft).catch(() => {});
    }
  }

  /** For file systems without hard links. */
  async #createWithoutLink(): Promise<boolean> {
    try {
      await this.#fs.writeFile(this.#path, this.#text, { flag: 'wx' });
      return true;
    } catch (error) {
      if (systemCode(error) === 'EEXIST') return false;
      throw error;
    }
  }

  async #read(): Promise<string | undefined> {
    try {
      return await this.#fs.readFile(this.#path, 'utf8');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  /**
   * Removes the lock file if its content is still `text`. It is moved aside first: of several processes that try, one gets it. Should it
   * turn out to be a new lock, it is put back.
   */
  async #removeStale(text: string): Promise<boolean> {
    const aside = this.#temporary();
    try {
      await this.#fs.rename(this.#path, aside);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return true;
      throw error;
    }
    const moved = await this.#fs.readFile(aside, 'utf8');
    if (moved !== text) await this.#fs.link(aside, this.#path).catch(() => {});
    await this.#fs.unlink(aside);
    return moved === text;
  }

  /** Whether the holder described by `text` may still be running. What cannot be read was left by a power failure. */
  async #isHeld(text: string): Promise<boolean> {
    const owner = parseOwner(text);
    if (!owner) return false;
    if (owner.host !== hostname()) return true;
    if (!isRunning(owner.pid)) return false;
    const now = await identify(this.#fs, owner.pid);
    if (owner.boot === undefined || now.boot === undefined || now.started === undefined) return true;
    return owner.boot === now.boot && owner.started === now.started;
  }

  #lockedBy(text: string | undefined): StoreError {
    const owner = text === undefined ? undefined : parseOwner(text);
    const who = !owner
      ? 'another process'
      : owner.host === hostname()
        ? owner.pid === process.pid
          ? 'this process'
          : `process ${owner.pid}`
        : `process ${owner.pid} on ${owner.host}`;
    const advice =
      owner && owner.host !== hostname()
        ? `end it, or remove ${this.#path} if it no longer runs`
        : 'end it or choose another folder';
    return new StoreError('locked', `The run in ${this.#folder} is already being written by ${who}; ${advice}.`);
  }

  #temporary(): string {
    return join(this.#folder, `${LOCK_FILE}.${randomUUID()}${TEMPORARY_SUFFIX}`);
  }
}

function parseOwner(text: string): Owner | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const { pid, host, boot, started, token } = value as Record<string, unknown>;
    if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid <= 0) return undefined;
    if (typeof host !== 'string' || typeof token !== 'string') return undefined;
    return {
      pid,
      host,
      token,
      ...(typeof boot === 'string' ? { boot } : {}),
      ...(typeof started === 'string' ? { started } : {}),
    };
  } catch {
    return undefined;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === 'EPERM';
  }
}

/** Linux: the boot's id and the process's start in clock ticks after it (`/proc/PID/stat`, field 22). Elsewhere nothing. */
async function identify(fs: FileSystem, pid: number): Promise<{ boot?: string; started?: string }> {
  try {
    const boot = (await fs.readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
    const stat = await fs.readFile(`/proc/${pid}/stat`, 'utf8');
    // Field 2, the command, may hold blanks and parentheses; field 3 follows its last parenthesis.
    const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    return started === undefined ? {} : { boot, started };
  } catch {
    return {};
  }
}
