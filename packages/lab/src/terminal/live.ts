/** Writes to a terminal: lines that stay, and below them lines that are redrawn in place. */
import { type OutputStream, type Screen, screenOf, visibleWidth } from './style.ts';

export interface LiveOptions {
  /** Variables that decide on colours; `process.env`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** A clock in milliseconds, such as `performance.now`. */
  readonly now: () => number;
  /** Milliseconds between redraws. Default 100. */
  readonly redrawInterval?: number;
  /** Where nothing can be redrawn: milliseconds between the plain lines that stand in for it. Default 15,000. */
  readonly plainInterval?: number;
}

const ERASE_BELOW = '\x1b[J';
const up = (lines: number): string => (lines > 0 ? `\x1b[${lines}A` : '');

/**
 * A terminal, or a file or pipe in its place. On a terminal, {@link status} is redrawn in place; elsewhere a plain line is printed
 * now and then. The cursor is left visible and below everything written, so that an interrupted program leaves a usable screen.
 */
export class LiveTerminal {
  readonly #stream: OutputStream;
  readonly #options: LiveOptions;
  /** The lines now standing below, to be redrawn. */
  #shown: readonly string[] = [];
  #lastDraw = Number.NEGATIVE_INFINITY;
  #lastPlain = Number.NEGATIVE_INFINITY;

  constructor(stream: OutputStream, options: LiveOptions) {
    this.#stream = stream;
    this.#options = options;
  }

  /** What the terminal can show now; its width may change. */
  get screen(): Screen {
    return screenOf(this.#stream, this.#options.env);
  }

  /** Prints `text` (one or more lines) for good, above the redrawn lines. */
  print(text: string): void {
    this.#stream.write(`${this.#erase()}${text}\n${this.#shown.map((line) => `${line}\n`).join('')}`);
    this.#lastPlain = this.#options.now();
  }

  /**
   * Shows the latest state, unless it was shown a moment ago. The functions are called only when their text is needed.
   *
   * @param lines For a terminal: lines redrawn in place.
   * @param plain For anything else: one line, printed for good.
   */
  status(lines: (screen: Screen) => readonly string[], plain: (screen: Screen) => string): void {
    const now = this.#options.now();
    const { screen } = this;
    if (screen.interactive) {
      if (now - this.#lastDraw < (this.#options.redrawInterval ?? 100)) return;
      this.#lastDraw = now;
      const erase = this.#erase();
      this.#shown = lines(screen);
      this.#stream.write(erase + this.#shown.map((line) => `${line}\n`).join(''));
    } else if (now - this.#lastPlain >= (this.#options.plainInterval ?? 15_000)) {
      this.#lastPlain = now;
      this.#stream.write(`${plain(screen)}\n`);
    }
  }

  /** Removes the redrawn lines; what is printed next follows the lines that stay. */
  clear(): void {
    const erase = this.#erase();
    if (erase !== '') this.#stream.write(erase);
    this.#shown = [];
    this.#lastDraw = Number.NEGATIVE_INFINITY;
  }

  /** Moves to the first redrawn line and erases from there on. Lines may have wrapped where the window was narrowed since. */
  #erase(): string {
    if (this.#shown.length === 0) return '';
    const { width } = this.screen;
    const rows = this.#shown.reduce((sum, line) => sum + Math.max(1, Math.ceil(visibleWidth(line) / width)), 0);
    return `\r${up(rows)}${ERASE_BELOW}`;
  }
}
