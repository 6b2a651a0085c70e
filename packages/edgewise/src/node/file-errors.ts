/** What the file system says, as one sentence that names the file and what to do. */
import { StoreError, type StoreErrorCode } from '../train/store.ts';

const REASONS: Readonly<Record<string, readonly [code: StoreErrorCode, reason: string, advice: string]>> = {
  ENOSPC: ['no-space', 'no space is left on the device', 'free some space or choose another folder'],
  EDQUOT: ['no-space', 'the disk quota is used up', 'free some space or choose another folder'],
  EFBIG: ['no-space', 'the file would exceed the size limit', 'raise the limit or choose another folder'],
  EACCES: ['permission', 'permission is denied', 'change its permissions or choose another folder'],
  EPERM: ['permission', 'the operation is not permitted', 'change its permissions or choose another folder'],
  EROFS: ['permission', 'the file system is read-only', 'choose another folder'],
  ENOENT: ['not-found', 'there is no such file or folder', 'check the path'],
  ENOTDIR: ['io', 'a part of the path is a file, not a folder', 'check the path'],
  EISDIR: ['io', 'it is a folder', 'check the path'],
  EEXIST: ['exists', 'a file of that name is in the way', 'choose another folder'],
  ENAMETOOLONG: ['io', 'the path is too long', 'choose a shorter one'],
  EMFILE: ['io', 'this process has too many files open', 'raise the limit on open files'],
  ENFILE: ['io', 'the system has too many files open', 'close other programs'],
  EIO: ['io', 'the device reports an error', 'check the disk'],
  EBUSY: ['io', 'another program holds it', 'close that program'],
};

/** The system's code of `error` (`ENOSPC`, ...), or undefined where it did not come from the system. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/**
 * `error` as a {@link StoreError} saying that `path` could not be `verb` (`written`, `read`, ...), why, and what to do. Errors that do
 * not come from the file system are given back as they are.
 *
 * @param note Put after the reason, such as what was left untouched.
 */
export function toStoreError(error: unknown, verb: string, path: string, note?: string): unknown {
  const code = systemCode(error);
  if (code === undefined) return error;
  const known = REASONS[code];
  const [kind, reason, advice] = known ?? (['io', (error as Error).message, 'check the path and the disk'] as const);
  const kept = note === undefined ? '' : `; ${note}`;
  return new StoreError(kind, `${path} could not be ${verb}: ${reason}${kept}; ${advice}.`, { cause: error });
}
