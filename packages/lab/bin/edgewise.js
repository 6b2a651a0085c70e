#!/usr/bin/env node
import { existsSync } from 'node:fs';

const entry = new URL('../dist/cli.js', import.meta.url);
if (existsSync(entry)) await import(entry.href);
else {
  process.stderr.write('edgewise: not built yet; run `npm run build` in the project first.\n');
  process.exitCode = 2;
}
