/**
 * Writes the parts of the docs that are made from the code: `npm run docs [-- NAME ...]` for all, or the pages of some optimizers.
 * A test compares what is committed with what this would write.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { optimizers } from 'edgewise/optim';
import {
  optimizerMarkdown,
  overviewMarkdown,
  parityMarkdown,
  wrappersMarkdown,
} from '../packages/lab/src/docs/markdown.ts';
import { bestTrajectory, surfaces, type Trajectory } from '../packages/lab/src/docs/trajectories.ts';
import { trajectoryFigure } from '../packages/lab/src/docs/trajectory-figure.ts';
import { type GoldenFile, parseGolden } from '../packages/lab/src/golden/index.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = join(root, 'docs', 'optimizers');
const figures = join(folder, 'figures');
const chosen = process.argv.slice(2);

function goldenFiles(): GoldenFile[] {
  const from = join(root, 'packages', 'lab', 'test', 'fixtures', 'optimizers');
  return readdirSync(from)
    .filter((name) => name.endsWith('.json') && name !== 'schedules.json')
    .sort()
    .map((name) => parseGolden(readFileSync(join(from, name), 'utf8'), name));
}

mkdirSync(figures, { recursive: true });
if (chosen.length === 0) {
  const wanted = new Set([...optimizers.map(({ name }) => `${name}.md`), 'README.md', 'wrappers.md', 'figures']);
  for (const name of readdirSync(folder)) if (!wanted.has(name)) rmSync(join(folder, name));
  const drawn = new Set(optimizers.map(({ name }) => `${name}.svg`));
  for (const name of readdirSync(figures)) if (!drawn.has(name)) rmSync(join(figures, name));
}
for (const definition of optimizers) {
  if (chosen.length > 0 && !chosen.includes(definition.name)) continue;
  const paths: { surface: (typeof surfaces)[number]; path: Trajectory | undefined }[] = [];
  for (const surface of surfaces) paths.push({ surface, path: await bestTrajectory(definition, surface) });
  const name = `${definition.name}.svg`;
  writeFileSync(join(figures, name), trajectoryFigure(`${definition.title} on three functions`, paths));
  writeFileSync(join(folder, `${definition.name}.md`), optimizerMarkdown(definition, `figures/${name}`));
}
if (chosen.length === 0) {
  writeFileSync(join(folder, 'README.md'), overviewMarkdown());
  writeFileSync(join(folder, 'wrappers.md'), wrappersMarkdown());
  writeFileSync(join(root, 'docs', 'parity.md'), await parityMarkdown(goldenFiles()));
}
