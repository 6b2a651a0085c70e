import fc from 'fast-check';
import * as t from '../../../src/tensor/index.ts';
import { at, broadcasting, indicesOf, type OpCase } from './case.ts';

const extent = fc.integer({ min: 1, max: 4 });

export const matmulCases: readonly OpCase[] = [
  {
    name: 'matmul',
    runs: 16,
    samples: fc
      .record({
        batch: broadcasting(2, 2),
        m: extent,
        n: extent,
        k: extent,
        transposeA: fc.boolean(),
        transposeB: fc.boolean(),
      })
      .map(({ batch, m, n, k, transposeA, transposeB }) => ({
        inputs: [
          { shape: [...batch[0], ...(transposeA ? [k, m] : [m, k])] },
          { shape: [...batch[1], ...(transposeB ? [n, k] : [k, n])] },
        ],
        build: ([a, b]) => t.matmul(a, b, { transposeA, transposeB }),
        reference: ([a, b]) => [
          indicesOf([...t.broadcastShapes('reference', ...batch), m, n]).map((index) => {
            const [i, j] = index.slice(-2);
            const outer = index.slice(0, -2);
            let total = 0;
            for (let p = 0; p < k; p++) {
              total +=
                at(a, [...outer, ...(transposeA ? [p, i] : [i, p])]) *
                at(b, [...outer, ...(transposeB ? [j, p] : [p, j])]);
            }
            return total;
          }),
        ],
      })),
  },
  {
    name: 'matmul of a matrix with itself',
    runs: 3,
    samples: extent.map((n) => ({
      inputs: [{ shape: [n, n] }],
      build: ([a]) => t.matmul(a, a, { transposeB: true }),
    })),
  },
];
