/** @file `edgewise optimizers` as a person uses it. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { optimizers } from 'edgewise/optim';
import { describe, expect, test } from 'vitest';
import { optimizersHelp, optimizersMain } from '../src/commands/optimizers.ts';

const fixture = (name: string): string => new URL(`fixtures/optimizers/${name}.json`, import.meta.url).pathname;

async function run(...argv: string[]): Promise<{ readonly code: number; readonly text: string }> {
  let text = '';
  const stream = {
    isTTY: false,
    columns: 100,
    write: (part: string) => {
      text += part;
    },
  };
  const code = await optimizersMain(argv, { stream, env: {} });
  return { code, text };
}

describe('listing', () => {
  test('names every optimizer', async () => {
    const { code, text } = await run();
    expect(code).toBe(0);
    for (const { name } of optimizers) expect(text).toMatch(new RegExp(`^${name} `, 'm'));
  });
  test('finds by words in names, families and authors', async () => {
    const { text } = await run('kingma');
    expect(text).toMatch(/^adam /m);
    expect(text).not.toMatch(/^sgd /m);
  });
  test('suggests the nearest for a mistyped name', async () => {
    await expect(run('adanx')).rejects.toThrow(/No optimizer is described by 'adanx'; did you mean 'adan'\?/);
  });
});

describe('the page of one', () => {
  test('has formula, every option with its default, state, cost and source', async () => {
    const { text } = await run('show', 'adan');
    for (const part of ['m   = β1 m + (1 - β1) g', 'betas = 0.98, 0.92, 0.99', 'eps = 1e-8', '4 vectors', '2208.06677'])
      expect(text).toContain(part);
  });
  test('by an alias, or not at all', async () => {
    expect((await run('show', 'nesterov')).text).toContain('SGD, heavy ball');
    await expect(run('show', 'sdg')).rejects.toThrow(/did you mean 'sgd'/);
  });
});

describe('checking recorded trajectories', () => {
  test('prints the largest error of each case', async () => {
    const { code, text } = await run('check', fixture('adan'));
    expect(code).toBe(0);
    expect(text).toMatch(/adan-00 +adan +30 +\d\.\de-1\d +\d\.\de-1\d +ok/);
    expect(text).toContain('10 of 10 cases within 1e-9');
  });

  test('a wrong value fails its case, says where, and the exit code is 1', async () => {
    const file = JSON.parse(readFileSync(fixture('sgd'), 'utf8'));
    file.cases = file.cases.slice(0, 2);
    file.cases[1].params[4][0][3] *= 1 + 1e-6;
    const path = join(mkdtempSync(join(tmpdir(), 'edgewise-check-')), 'sgd.json');
    writeFileSync(path, JSON.stringify(file));
    const { code, text } = await run('check', path);
    expect(code).toBe(1);
    expect(text).toMatch(/sgd-00 .* ok/);
    expect(text).toMatch(/sgd-01 .*1\.0e-6 .*above 1e-9 \(step 5, params\)/);
    expect((await run('check', '--tolerance', '1e-5', path)).code).toBe(0);
    expect((await run('check', '--steps', '4', path)).code).toBe(0);
    const json = JSON.parse((await run('check', '--json', '--engine', 'float64', path)).text);
    expect(json.cases.map(({ within }: { within: boolean }) => within)).toEqual([true, false]);
    expect(Object.keys(json.cases[0].errors)).toEqual(['float64 kernel']);
  });

  test('files that are something else are refused with what is wrong', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'edgewise-check-'));
    const write = (text: string): string => {
      const path = join(folder, 'x.json');
      writeFileSync(path, text);
      return path;
    };
    await expect(run('check', join(folder, 'none.json'))).rejects.toThrow(/none\.json cannot be read/);
    await expect(run('check', write('{'))).rejects.toThrow(/is not JSON/);
    await expect(run('check', write('{"optimizer":"sgd"}'))).rejects.toThrow(/no file of recorded trajectories/);
    const file = JSON.parse(readFileSync(fixture('sgd'), 'utf8'));
    file.cases[0].params[3][0].pop();
    await expect(run('check', write(JSON.stringify(file)))).rejects.toThrow(/case sgd-00: params\[3\] does not hold/);
    const other = JSON.parse(readFileSync(fixture('sgd'), 'utf8'));
    other.optimizer = 'sdg';
    await expect(run('check', write(JSON.stringify(other)))).rejects.toThrow(/rule 'sdg'.*did you mean 'sgd'/);
  });

  test('help tells of the options', () => {
    expect(optimizersHelp(['check'], 100)).toContain('--tolerance');
    expect(optimizersHelp([], 100)).toContain('check');
  });
});
