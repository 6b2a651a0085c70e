/** Base of every error the library throws on purpose; the message is one sentence a user can act on. */
export class EdgewiseError extends Error {
  override readonly name: string = 'EdgewiseError';
}

/** Shapes, axes or dtypes that do not fit the op they were given to; thrown where the op is written. */
export class ShapeError extends EdgewiseError {
  override readonly name = 'ShapeError';
}

/** An op was differentiated that has no derivative. */
export class DerivativeError extends EdgewiseError {
  override readonly name = 'DerivativeError';
}

/** A device that does not exist here, or that cannot run an op of the program. */
export class DeviceError extends EdgewiseError {
  override readonly name = 'DeviceError';
}

/** A file or byte buffer that is not what it claims to be. */
export class FormatError extends EdgewiseError {
  override readonly name = 'FormatError';
}

/** A setting, hyper-parameter or argument outside what is allowed. */
export class ConfigError extends EdgewiseError {
  override readonly name = 'ConfigError';
}

/** Training produced a loss, gradient or weight that is not finite. */
export class NonFiniteError extends EdgewiseError {
  override readonly name = 'NonFiniteError';
}

/**
 * The entry of `candidates` closest to `word` in edit distance, or undefined where none is near
 * (distance above a third of the longer word, at least 2).
 */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    const allowed = Math.max(2, Math.floor(Math.max(word.length, candidate.length) / 3));
    if (distance <= allowed && distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row[j] = Math.min(row[j - 1] + 1, previous[j] + 1, substitution);
    }
    previous = row;
  }
  return previous[b.length];
}
