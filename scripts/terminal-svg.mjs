// Draws what a terminal shows (text with colours, on standard input) as an SVG: node scripts/terminal-svg.mjs 'Title' < screen.txt > picture.svg
import { readFileSync } from 'node:fs';

const colors = { 31: '#e06c75', 32: '#98c379', 33: '#e5c07b', 34: '#61afef', 35: '#c678dd', 36: '#56b6c2' };
const [cell, line, margin] = [8.4, 18, 16];
const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
const control = String.fromCharCode(27);
const pattern = new RegExp(`${control}\\[([0-9;]*)m`, 'g');

const lines = readFileSync(0, 'utf8').replace(/\n+$/, '').split('\n');
let width = 0;
const rows = lines.map((text, row) => {
  let [column, style, at] = [0, '', 0];
  const spans = [];
  const emit = (part) => {
    if (part.trim() !== '') {
      // One span a word at its own column: fonts differ in the width of braille and block characters.
      for (const { 0: word, index } of part.matchAll(/\S+/g)) {
        const x = margin + (column + [...part.slice(0, index)].length) * cell;
        const length = [...word].length * cell;
        spans.push(
          `<tspan x="${x.toFixed(1)}" textLength="${length.toFixed(1)}" lengthAdjust="spacingAndGlyphs"${style}>${escape(word)}</tspan>`,
        );
      }
    }
    column += [...part].length;
  };
  for (const match of text.matchAll(pattern)) {
    emit(text.slice(at, match.index));
    at = match.index + match[0].length;
    const codes = match[1].split(';').map(Number);
    const color = codes.map((code) => colors[code]).find(Boolean);
    style = color
      ? ` fill="${color}"`
      : codes.includes(2)
        ? ' fill="#7f848e"'
        : codes.includes(1)
          ? ' font-weight="bold"'
          : '';
  }
  emit(text.slice(at));
  width = Math.max(width, column);
  return `<text y="${(margin + (row + 0.8) * line).toFixed(1)}">${spans.join('')}</text>`;
});
const [w, h] = [Math.ceil(width * cell + 2 * margin), Math.ceil(lines.length * line + 2 * margin)];
process.stdout.write(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${h}" width="${w}" height="${h}" font-family="ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', Consolas, monospace" font-size="14" fill="#dcdfe4">
<title>${escape(process.argv[2] ?? 'A terminal')}</title>
<rect width="100%" height="100%" rx="8" fill="#21252b"/>
${rows.filter((row) => !row.endsWith('"></text>')).join('\n')}
</svg>
`);
