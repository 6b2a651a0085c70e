import { defineConfig } from 'tsdown';

export default defineConfig({
  entry: ['src/index.ts', 'src/node.ts'],
  platform: 'neutral',
  target: 'es2023',
  dts: false,
});
