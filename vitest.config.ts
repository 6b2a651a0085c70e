import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const source = (path: string) => fileURLToPath(new URL(`packages/edgewise/src/${path}`, import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^edgewise\/node$/, replacement: source('node.ts') },
      { find: /^edgewise$/, replacement: source('index.ts') },
    ],
  },
  test: {
    include: ['packages/*/test/**/*.test.ts', 'packages/*/src/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 120_000,
  },
});
