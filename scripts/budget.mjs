// What a page pays: bundles small programs against the built library, minified, and holds their compressed size to a budget.
// `node scripts/budget.mjs` prints the table and fails where one is over; run `npm run build` before.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/** Compressed bytes allowed. A change that needs more says why where it raises the number. */
const programs = [
  {
    name: 'Adan and what runs it',
    budget: 31_000,
    code: `import { adan, createOptimizer, parameterVector } from 'edgewise/optim';
import { VectorSpace } from 'edgewise/kernels';
import { ParamLayout } from 'edgewise/params';
export { adan, createOptimizer, parameterVector, VectorSpace, ParamLayout };`,
    // Pages of other optimizers and everything that trains.
    without: [/optim\/rules\/(?!adan)/, /optim\/registry/, /optim\/wrappers/, /\/train\//, /\/nn\//, /\/onnx\//],
  },
  {
    name: 'the engine: graphs, derivatives, devices',
    budget: 47_000,
    code: `export * from 'edgewise';`,
    without: [/\/optim\//, /\/train\//, /\/models\//],
  },
  {
    name: 'every optimizer',
    budget: 95_000,
    code: `export * from 'edgewise/optim';`,
    without: [/\/train\//, /\/nn\//],
  },
];

// Outside the workspace, where nothing but the published files can be found.
const folder = mkdtempSync(join(resolve('packages/edgewise'), '.budget-'));
try {
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(resolve('packages/edgewise'), join(folder, 'node_modules', 'edgewise'), 'dir');
  symlinkSync(resolve('node_modules', '@bufbuild'), join(folder, 'node_modules', '@bufbuild'), 'dir');
  writeFileSync(join(folder, 'tsconfig.json'), '{}');
  let failed = false;
  for (const { name, budget, code, without } of programs) {
    writeFileSync(join(folder, 'entry.mjs'), code);
    const { outputFiles, metafile } = await build({
      absWorkingDir: folder,
      entryPoints: ['entry.mjs'],
      bundle: true,
      minify: true,
      format: 'esm',
      platform: 'browser',
      external: ['onnxruntime-web', 'onnxruntime-web/*', 'onnxruntime-node', 'node:*'],
      write: false,
      metafile: true,
      logLevel: 'error',
    });
    const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
    const [output] = Object.values(metafile.outputs);
    const strangers = Object.entries(output.inputs)
      .filter(([path, { bytesInOutput }]) => bytesInOutput > 0 && without.some((pattern) => pattern.test(path)))
      .map(([path]) => path.replace(/^.*dist\//, ''));
    const verdict = bytes > budget ? 'OVER BUDGET' : strangers.length > 0 ? `holds ${strangers.join(', ')}` : 'ok';
    failed ||= verdict !== 'ok';
    console.log(
      `${name.padEnd(44)} ${String(outputFiles[0].contents.length).padStart(8)} bytes ${String(bytes).padStart(7)} compressed, budget ${budget}: ${verdict}`,
    );
  }
  process.exitCode = failed ? 1 : 0;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
