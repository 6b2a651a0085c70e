import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const source = fileURLToPath(new URL('packages/edgewise/src', import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^edgewise\/(.+)$/, replacement: `${source}/$1/index.ts` },
      { find: /^edgewise$/, replacement: `${source}/index.ts` },
    ],
  },
  test: {
    include: ['packages/*/test/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 120_000,
  },
});
