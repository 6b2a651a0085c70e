/** Colours and widths: what the terminal can show, and how wide a text is on it. */

export type Color = 'red' | 'green' | 'yellow' | 'blue' | 'magenta' | 'cyan' | 'dim' | 'bold';

const CODES: Readonly<Record<Color, readonly [on: number, off: number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  blue: [34, 39],
  magenta: [35, 39],
  cyan: [36, 39],
};

/** What is known about where text goes. */
export interface Screen {
  /** Columns. */
  readonly width: number;
  /** Whether colours may be used. */
  readonly color: boolean;
  /** Whether the cursor can be moved to redraw in place. */
  readonly interactive: boolean;
}

/** The part of a stream that says what it is; `process.stdout` is one. */
export interface OutputStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** Columns assumed where the stream does not say. */
const DEFAULT_WIDTH = 80;

/**
 * What `stream` can show. Colours need a terminal other than `dumb` and no `NO_COLOR` in `env` (no-color.org); `FORCE_COLOR`, other than
 * `0`, asks for them anywhere.
 */
export function screenOf(stream: OutputStream, env: Readonly<Record<string, string | undefined>>): Screen {
  const interactive = stream.isTTY === true && env.TERM !== 'dumb';
  const forced = env.FORCE_COLOR !== undefined && env.FORCE_COLOR !== '' && env.FORCE_COLOR !== '0';
  const refused = (env.NO_COLOR !== undefined && env.NO_COLOR !== '') || env.FORCE_COLOR === '0';
  const width = stream.columns !== undefined && stream.columns > 0 ? stream.columns : DEFAULT_WIDTH;
  return { width, interactive, color: !refused && (forced || interactive) };
}

/** `text` in `color`, or as it is where colours are off. */
export function paint(text: string, color: Color | undefined, enabled: boolean): string {
  if (!enabled || color === undefined || text === '') return text;
  const [on, off] = CODES[color];
  return `\x1b[${on}m${text}\x1b[${off}m`;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one.
const ESCAPES = /(\x1b\[[0-9;]*m)/;

/** Columns that `text` takes: its characters without colour sequences. */
export function visibleWidth(text: string): number {
  let width = 0;
  for (const part of text.split(ESCAPES)) if (!part.startsWith('\x1b')) width += [...part].length;
  return width;
}

/** `text` cut to `width` columns, ending in an ellipsis where something was cut; colours are kept and closed. */
export function truncate(text: string, width: number): string {
  if (visibleWidth(text) <= width) return text;
  let kept = '';
  let room = Math.max(0, width - 1);
  let colored = false;
  for (const part of text.split(ESCAPES)) {
    if (part.startsWith('\x1b')) {
      kept += part;
      colored = true;
      continue;
    }
    const characters = [...part];
    kept += characters.slice(0, room).join('');
    if (characters.length > room) break;
    room -= characters.length;
  }
  return `${kept}${colored ? '\x1b[0m' : ''}${width > 0 ? '…' : ''}`;
}

/** `text` padded with blanks to `width` columns. */
export function pad(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  const blanks = ' '.repeat(Math.max(0, width - visibleWidth(text)));
  return align === 'left' ? text + blanks : blanks + text;
}
