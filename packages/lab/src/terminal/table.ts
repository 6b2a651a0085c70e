/** Rows under a heading. */
import { pad, paint, type Screen, truncate, visibleWidth } from './style.ts';

/** Columns as wide as they need; on a terminal, lines are cut at its edge. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  { width, color, interactive }: Screen,
): string {
  const widths = head.map((title, i) => Math.max(visibleWidth(title), ...rows.map((row) => visibleWidth(row[i]))));
  const line = (cells: readonly string[]): string => {
    const text = cells
      .map((cell, i) => (i === cells.length - 1 ? cell : pad(cell, widths[i] + 2)))
      .join('')
      .trimEnd();
    return interactive ? truncate(text, width) : text;
  };
  return `${[paint(line(head), 'bold', color), ...rows.map(line)].join('\n')}\n`;
}
