import { decode, encode } from '../tensor/dtype.ts';
import { evaluate } from '../tensor/evaluate.ts';
import { type Device, type Feeds, feedFor, resultMemory } from './device.ts';

/**
 * The reference interpreter as a device: everything is computed in float64, whatever the dtype, and rounded only when
 * results are stored. Slow; for tests, teaching and tiny problems.
 */
export function interpreter(): Device {
  return {
    name: 'interpreter',
    floats: ['float64', 'float32', 'float16'],
    dispose: async () => {},
    compile: async (inputs, outputs) => {
      const bind = (feeds: Feeds, given: Parameters<typeof resultMemory>[1] = []) => {
        const sources = inputs.map((x) => feedFor(x, feeds));
        const results = resultMemory(outputs, given);
        const run = async () => {
          const values = evaluate(outputs, new Map(inputs.map((x, i) => [x, decode(sources[i], x.dtype)])));
          values.forEach((value, i) => {
            copyInto(results[i], encode(value, outputs[i].dtype));
          });
        };
        return { run, results };
      };
      return {
        inputs,
        outputs,
        bind,
        run: async (feeds) => {
          const call = bind(feeds);
          await call.run();
          return call.results;
        },
        dispose: async () => {},
      };
    },
  };
}

/** Both are memory of one dtype, which the type system cannot see. */
function copyInto(target: ReturnType<typeof encode>, source: ReturnType<typeof encode>): void {
  new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(
    new Uint8Array(source.buffer, source.byteOffset, source.byteLength),
  );
}
