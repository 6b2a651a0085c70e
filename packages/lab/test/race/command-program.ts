/** @file `edgewise race` alone, as a program of the tests: arguments as after `edgewise`. */
import { isRaceWorker, parseRaceArguments, race, raceWorker } from '../../src/commands/race.ts';

const [, ...argv] = process.argv.slice(2);
if (isRaceWorker(argv)) await raceWorker();
else {
  const stop = new AbortController();
  process.on('SIGINT', () => stop.abort());
  const { stdout, env } = process;
  const complete = await race(parseRaceArguments(argv), { stream: stdout, env, now: Date.now, stop: stop.signal });
  process.exitCode = complete ? 0 : 130;
}
