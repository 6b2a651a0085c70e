import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, test, vi } from 'vitest';
import { parseTrainArguments } from '../src/config/command.ts';
import { catalog } from '../src/run/catalog.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const readme = await readFile(`${root}README.md`, 'utf8');

test('the example of the README runs as pasted and prints a loss, its gradient and a Hessian-vector product', async () => {
  const example = /```ts\n(.*?)```/s.exec(readme)?.[1] ?? '';
  expect(example).toContain("from 'edgewise'");
  const folder = `${root}node_modules/.cache/edgewise-readme`;
  await mkdir(folder, { recursive: true });
  await writeFile(`${folder}/example.ts`, example);
  const log = vi.spyOn(console, 'log').mockImplementation(() => {});
  try {
    await import(/* @vite-ignore */ `${folder}/example.ts`);
    const [{ value, dw, db, hv }] = log.mock.calls[0];
    expect([value, dw, db, hv].map((part) => part.length)).toEqual([1, 6, 2, 6]);
    expect(value[0]).toBeGreaterThan(0.1);
    expect(value[0]).toBeLessThan(2);
    // The loss is convex in the weights where no unit is off, so a curvature along v is not negative.
    expect(hv[0]).toBeGreaterThanOrEqual(0);
  } finally {
    log.mockRestore();
    await rm(folder, { recursive: true, force: true });
  }
});

test('every train command of the README is one that the command understands', async () => {
  const commands = [...readme.matchAll(/npx edgewise train ((?:[^\n\\#]|\\\n)*)/g)].map(([, flags]) =>
    flags.replaceAll('\\\n', ' ').trim().split(/\s+/),
  );
  expect(commands.length).toBeGreaterThan(2);
  for (const flags of commands) {
    if (flags.includes('--resume') || flags.includes('--help`')) continue;
    await expect(parseTrainArguments(flags, catalog)).resolves.toHaveProperty('config');
  }
});
