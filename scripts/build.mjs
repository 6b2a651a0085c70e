// Builds all packages into their dist folders; with --types also their declarations, as for publishing.
import { build } from 'tsdown';

const folders = ['onnx', 'kernels', 'params', 'optim', 'nn', 'models', 'data', 'train', 'probes', 'node'];
const dts = process.argv.includes('--types');
const common = {
  platform: 'node',
  dts,
  config: false,
  logLevel: 'error',
  outExtensions: () => ({ js: '.js', dts: '.d.ts' }),
};

const library = {
  ...common,
  // A module a source file: a bundler then leaves out the optimizers and ops that a page does not use.
  unbundle: true,
  cwd: 'packages/edgewise',
  target: 'es2023',
  entry: { index: 'src/index.ts', ...Object.fromEntries(folders.map((folder) => [folder, `src/${folder}/index.ts`])) },
};
const lab = { ...common, cwd: 'packages/lab', target: 'node20', dts: false, entry: ['src/cli.ts'] };

const adapters = ['tfjs', 'jax'].map((name) => ({
  ...common,
  cwd: `packages/adapters-${name}`,
  target: 'es2023',
  entry: ['src/index.ts'],
}));

for (const options of [library, lab, ...adapters]) await build(options);
