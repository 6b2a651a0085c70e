import { describe, expect, it } from 'vitest';
import { LiveTerminal } from '../../src/terminal/live.ts';
import { screenOf, truncate, visibleWidth } from '../../src/terminal/style.ts';

/** A terminal of `columns` columns that understands what LiveTerminal sends: text, newline, carriage return, up, erase below. */
class Emulator {
  readonly isTTY = true;
  columns = 40;
  rows: string[] = [''];
  row = 0;
  column = 0;

  write(text: string): void {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one.
    for (const part of text.split(/(\x1b\[\d*[AJm]|\n|\r)/)) {
      if (part === '\n') {
        this.row++;
        this.column = 0;
        this.rows[this.row] ??= '';
      } else if (part === '\r') this.column = 0;
      else if (part.endsWith('A') && part.startsWith('\x1b')) this.row -= Number(part.slice(2, -1));
      else if (part === '\x1b[J') {
        this.rows.length = this.row + 1;
        this.rows[this.row] = this.rows[this.row].slice(0, this.column);
      } else {
        for (const character of part) {
          if (this.column === this.columns) {
            this.row++;
            this.column = 0;
            this.rows[this.row] ??= '';
          }
          const line = this.rows[this.row].padEnd(this.column);
          this.rows[this.row] = line.slice(0, this.column) + character + line.slice(this.column + 1);
          this.column++;
        }
      }
    }
  }
}

function setup(stream: Emulator | { isTTY: false; text: string; write(text: string): void }) {
  const clock = { now: 0 };
  const terminal = new LiveTerminal(stream, { env: {}, now: () => clock.now });
  return { terminal, clock };
}

const never = (): never => {
  throw new Error('not to be called');
};

describe('on a terminal', () => {
  it('redraws the status in place, below what is printed', () => {
    const screen = new Emulator();
    const { terminal, clock } = setup(screen);
    terminal.print('head');
    terminal.status(() => ['one', 'two'], never);
    expect(screen.rows).toEqual(['head', 'one', 'two', '']);
    clock.now = 100;
    terminal.status(() => ['ONE'], never);
    expect(screen.rows).toEqual(['head', 'ONE', '']);
    terminal.print('row 1\nrow 2');
    expect(screen.rows).toEqual(['head', 'row 1', 'row 2', 'ONE', '']);
    terminal.clear();
    terminal.clear();
    terminal.print('end');
    expect(screen.rows).toEqual(['head', 'row 1', 'row 2', 'end', '']);
  });

  it('does not redraw more often than can be seen', () => {
    const screen = new Emulator();
    const { terminal, clock } = setup(screen);
    terminal.status(() => ['a'], never);
    clock.now = 99;
    terminal.status(never, never);
    clock.now = 100;
    terminal.status(() => ['b'], never);
    expect(screen.rows).toEqual(['b', '']);
  });

  it('erases lines that wrapped when the window was narrowed', () => {
    const screen = new Emulator();
    const { terminal, clock } = setup(screen);
    terminal.print('head');
    terminal.status(() => ['123456789', 'x'], never);
    // What a terminal makes of it: lines are laid out anew.
    screen.columns = 4;
    screen.rows = ['head', '1234', '5678', '9', 'x', ''];
    screen.row = 5;
    clock.now = 1000;
    terminal.status(() => ['new'], never);
    expect(screen.rows).toEqual(['head', 'new', '']);
  });
});

describe('elsewhere', () => {
  it('prints a plain line now and then, without escapes', () => {
    const file = {
      isTTY: false as const,
      text: '',
      write(text: string) {
        file.text += text;
      },
    };
    const { terminal, clock } = setup(file);
    terminal.print('head');
    terminal.status(never, never);
    clock.now = 14_999;
    terminal.status(never, never);
    clock.now = 15_000;
    terminal.status(never, () => 'later');
    clock.now = 29_000;
    terminal.print('row');
    clock.now = 31_000;
    terminal.status(never, never);
    terminal.clear();
    expect(file.text).toBe('head\nlater\nrow\n');
  });
});

describe('screenOf', () => {
  const terminal = { isTTY: true, columns: 100, write: () => {} };
  it.each([
    [terminal, {}, { width: 100, color: true, interactive: true }],
    [terminal, { NO_COLOR: '1' }, { width: 100, color: false, interactive: true }],
    [terminal, { NO_COLOR: '' }, { width: 100, color: true, interactive: true }],
    [terminal, { TERM: 'dumb' }, { width: 100, color: false, interactive: false }],
    [terminal, { FORCE_COLOR: '0' }, { width: 100, color: false, interactive: true }],
    [{ ...terminal, columns: 0 }, {}, { width: 80, color: true, interactive: true }],
    [{ write: () => {} }, {}, { width: 80, color: false, interactive: false }],
    [{ write: () => {} }, { FORCE_COLOR: '1' }, { width: 80, color: true, interactive: false }],
    [{ write: () => {} }, { FORCE_COLOR: '1', NO_COLOR: '1' }, { width: 80, color: false, interactive: false }],
  ])('%o with %o', (stream, env, expected) => {
    expect(screenOf(stream, env)).toEqual(expected);
  });
});

it('truncate cuts by what is seen and closes colours', () => {
  expect(truncate('abcdef', 6)).toBe('abcdef');
  expect(truncate('abcdef', 4)).toBe('abc…');
  expect(truncate('abcdef', 0)).toBe('');
  const colored = truncate('\x1b[31mabcdef\x1b[39m', 4);
  expect(colored).toBe('\x1b[31mabc\x1b[0m…');
  expect(visibleWidth(colored)).toBe(4);
});
