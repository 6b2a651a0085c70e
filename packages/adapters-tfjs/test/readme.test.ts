/** @file The example of the README, run as it stands. */
import { readFileSync } from 'node:fs';
import * as adapter from '@edgewise/tfjs';
import * as tf from '@tensorflow/tfjs';
import * as optim from 'edgewise/optim';
import { expect, test } from 'vitest';

test('the example of the README lowers its loss', async () => {
  const text = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const [, example] = /```js\n([\s\S]*?)```/.exec(text) ?? [];
  const body = example.replace(/^import .*$/gm, '');
  const said: string[] = [];
  const run = new Function('tf', 'createOptimizer', 'adan', 'console', `return (async () => {${body}})();`);
  await run(tf, adapter.createOptimizer, optim.adan, { log: (line: string) => said.push(line) });
  const [before, after] = said[0].split(' -> ').map(Number);
  expect(after).toBeLessThan(before / 2);
});
