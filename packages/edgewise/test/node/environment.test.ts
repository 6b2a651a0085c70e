import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { describeEnvironment } from '../../src/node/environment.ts';

const folder = mkdtempSync(join(tmpdir(), 'edgewise-environment-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('describeEnvironment', () => {
  it('knows versions and machine', async () => {
    const manifest = (path: string): { version: string } => JSON.parse(readFileSync(path, 'utf8'));
    const root = join(import.meta.dirname, '../../../..');
    expect(await describeEnvironment()).toMatchObject({
      versions: {
        edgewise: manifest(join(root, 'packages/edgewise/package.json')).version,
        node: process.versions.node,
        'onnxruntime-node': manifest(join(root, 'node_modules/onnxruntime-node/package.json')).version,
      },
      machine: {
        platform: process.platform,
        arch: process.arch,
        cores: expect.any(Number),
        memory: expect.any(Number),
      },
    });
  });

  it('has no revision outside a checkout, nor in a folder that is not there', async () => {
    expect((await describeEnvironment(folder)).git).toBeNull();
    expect((await describeEnvironment(join(folder, 'none'))).git).toBeNull();
  });

  it.skipIf(spawnSync('git', ['--version']).status !== 0)('knows revision and changes of a checkout', async () => {
    const identity = ['-c', 'user.name=x', '-c', 'user.email=x@example.org', '-c', 'commit.gpgsign=false'];
    const git = (...args: string[]): string =>
      execFileSync('git', [...identity, ...args], { cwd: folder, stdio: 'pipe' })
        .toString()
        .trim();
    git('init', '--quiet');
    expect((await describeEnvironment(folder)).git).toBeNull();
    writeFileSync(join(folder, 'a'), '1');
    git('add', 'a');
    git('commit', '--quiet', '--message', 'one');
    writeFileSync(join(folder, 'untracked'), '1');
    expect((await describeEnvironment(folder)).git).toEqual({ revision: git('rev-parse', 'HEAD'), dirty: false });
    writeFileSync(join(folder, 'a'), '2');
    expect((await describeEnvironment(folder)).git).toEqual({ revision: git('rev-parse', 'HEAD'), dirty: true });
  });
});
