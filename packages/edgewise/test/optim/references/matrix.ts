/** @file Muon, Shampoo and SOAP. */
import { listOf, numberOf, type Reference, zeros } from './reference.ts';

type Matrix = number[][];

const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0].map((_, j) => row.reduce((sum, x, k) => sum + x * b[k][j], 0)));
const transposed = (a: Matrix): Matrix => a[0].map((_, j) => a.map((row) => row[j]));

/** The tensor with its first axis as rows, all others as columns. */
function rowsOf(tensor: readonly number[], rows: number): Matrix {
  const columns = tensor.length / rows;
  return Array.from({ length: rows }, (_, i) => tensor.slice(i * columns, (i + 1) * columns));
}

function newtonSchulz(given: Matrix, steps: number): Matrix {
  const tall = given.length > given[0].length;
  let x = tall ? transposed(given) : given;
  const frobenius = Math.sqrt(x.flat().reduce((sum, value) => sum + value * value, 0));
  x = x.map((row) => row.map((value) => value / (frobenius + 1e-7)));
  for (let step = 0; step < steps; step++) {
    const gram = product(x, transposed(x));
    const squared = product(gram, gram);
    const poly = gram.map((row, i) => row.map((value, j) => -4.775 * value + 2.0315 * squared[i][j]));
    const cubic = product(poly, x);
    x = x.map((row, i) => row.map((value, j) => 3.4445 * value + cubic[i][j]));
  }
  return tall ? transposed(x) : x;
}

export const muonReference: Reference = (theta, values, shapes) => {
  const [mu, decay] = [numberOf(values, 'momentum'), numberOf(values, 'weightDecay')];
  const [b1, b2] = listOf(values, 'otherBetas');
  const [otherLr, otherEps, otherDecay] = ['otherLr', 'otherEps', 'otherWeightDecay'].map((name) =>
    numberOf(values, name),
  );
  const [first, second] = [zeros(theta), zeros(theta)];
  const counts = theta.map(() => 0);
  const firstLr = numberOf(values, 'lr');
  return {
    step: (gradients, lr) => {
      for (const [p, tensor] of theta.entries()) {
        const g = gradients[p];
        if (!g) continue;
        const t = ++counts[p];
        if (shapes[p].length < 2) {
          const rate = (otherLr * lr) / firstLr;
          for (let i = 0; i < tensor.length; i++) {
            first[p][i] = b1 * first[p][i] + (1 - b1) * g[i];
            second[p][i] = b2 * second[p][i] + (1 - b2) * g[i] * g[i];
            const u = first[p][i] / (1 - b1 ** t) / (Math.sqrt(second[p][i] / (1 - b2 ** t)) + otherEps);
            tensor[i] = tensor[i] * (1 - rate * otherDecay) - rate * u;
          }
          continue;
        }
        const rows = shapes[p][0];
        const columns = tensor.length / rows;
        const x = tensor.map((_, i) => {
          first[p][i] = mu * first[p][i] + (1 - mu) * g[i];
          return values.nesterov ? (1 - mu) * g[i] + mu * first[p][i] : first[p][i];
        });
        const u = newtonSchulz(rowsOf(x, rows), numberOf(values, 'steps')).flat();
        const scale =
          values.scale === 'matchRmsAdamw'
            ? 0.2 * Math.sqrt(Math.max(rows, columns))
            : values.scale === 'rmsToRms'
              ? Math.sqrt(rows / columns)
              : Math.sqrt(Math.max(1, rows / columns));
        for (let i = 0; i < tensor.length; i++) tensor[i] = tensor[i] * (1 - lr * decay) - lr * scale * u[i];
      }
    },
  };
};
