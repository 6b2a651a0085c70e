import { defineConfig } from 'tsdown';

const folders = ['onnx', 'kernels', 'params', 'optim', 'nn', 'models', 'data', 'train', 'probes', 'node'];

export default defineConfig({
  entry: { index: 'src/index.ts', ...Object.fromEntries(folders.map((folder) => [folder, `src/${folder}/index.ts`])) },
  platform: 'neutral',
  target: 'es2023',
  dts: false,
  outExtensions: () => ({ js: '.js' }),
});
