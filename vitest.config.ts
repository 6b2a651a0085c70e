import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const packages = fileURLToPath(new URL('packages', import.meta.url));
const source = `${packages}/edgewise/src`;

export default defineConfig({
  resolve: {
    alias: [
      { find: /^edgewise\/(.+)$/, replacement: `${source}/$1/index.ts` },
      { find: /^@edgewise\/(.+)$/, replacement: `${packages}/adapters-$1/src/index.ts` },
      { find: /^edgewise$/, replacement: `${source}/index.ts` },
    ],
  },
  test: {
    include: ['packages/*/test/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 120_000,
  },
});
