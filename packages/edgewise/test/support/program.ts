/** Compiles a TypeScript program of the tests, to be run in a process of its own. */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'tsdown';

const root = join(import.meta.dirname, '../../../..');

export interface CompiledProgram {
  /** The JavaScript file to give to node. */
  readonly path: string;
  remove(): Promise<void>;
}

/**
 * Compiles `source` with everything of ours that it imports into one file. It lies below node_modules, where installed packages are found from it.
 */
export async function compileProgram(source: string): Promise<CompiledProgram> {
  const cache = join(root, 'node_modules/.cache');
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, 'edgewise-test-'));
  await build({
    config: false,
    entry: { program: source },
    outDir: folder,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    dts: false,
    clean: false,
    logLevel: 'error',
    tsconfig: join(root, 'tsconfig.json'),
    // Packages stay outside, except our own.
    external: /^(?!edgewise(\/|$))(@[a-z]|[a-z])/,
  });
  const file = (await readdir(folder)).find((name) => /^program\.m?js$/.test(name));
  if (!file) throw new Error(`${source} was not compiled`);
  return { path: join(folder, file), remove: () => rm(folder, { recursive: true, force: true }) };
}
