/** @file The worker process of the tests: `--die` ends it at the first message. */
import { serveTrials } from '../../src/race/runner.ts';

if (process.argv.includes('--die')) process.on('message', () => process.exit(3));
else await serveTrials(() => performance.now());
