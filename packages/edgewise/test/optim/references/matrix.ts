/** @file Muon, Shampoo and SOAP. */
import { applied, jacobi, type Matrix, orthonormal, outer, product, transposed } from './axes.ts';
import { listOf, numberOf, type Reference, zeros } from './reference.ts';

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

export const soapReference: Reference = (theta, values, shapes) => {
  const [b1, b2] = listOf(values, 'betas');
  const given = numberOf(values, 'shampooBeta');
  const bs = given < 0 ? b2 : given;
  const [eps, decay, every, limit] = ['eps', 'weightDecay', 'preconditionFrequency', 'maxDimension'].map((name) =>
    numberOf(values, name),
  );
  const [m, v] = [zeros(theta), zeros(theta)];
  const counts = theta.map(() => -1);
  const axes = shapes.map((shape) => (shape.length < 2 ? [] : shape.flatMap((d, axis) => (d > limit ? [] : [axis]))));
  const statistics: Matrix[][] = shapes.map(() => []);
  const bases: Matrix[][] = shapes.map(() => []);
  /** Into the bases of tensor p, or back. */
  const turn = (p: number, x: readonly number[], back: boolean): number[] =>
    axes[p].reduce((y, axis, i) => applied(y, shapes[p], axis, back ? bases[p][i] : transposed(bases[p][i])), [...x]);
  return {
    step: (gradients, lr) => {
      for (const [p, tensor] of theta.entries()) {
        const g = gradients[p];
        if (!g) continue;
        const k = ++counts[p];
        const shape = shapes[p];
        const fresh = axes[p].map((axis) => outer(g, shape, axis));
        if (k === 0) {
          statistics[p] = fresh.map((h) => h.map((row) => row.map((x) => (1 - bs) * x)));
          bases[p] = statistics[p].map((h) => jacobi(h).vectors);
          continue;
        }
        for (const [i, x] of turn(p, g, false).entries()) {
          m[p][i] = b1 * m[p][i] + (1 - b1) * x;
          v[p][i] = b2 * v[p][i] + (1 - b2) * x * x;
        }
        let u = turn(
          p,
          m[p].map((x, i) => x / (Math.sqrt(v[p][i]) + eps)),
          true,
        );
        if (values.normalizeGrads) {
          const rms = Math.sqrt(u.reduce((sum, x) => sum + x * x, 0) / u.length);
          u = u.map((x) => x / rms);
        }
        const rate = values.correctBias ? (lr * Math.sqrt(1 - b2 ** k)) / (1 - b1 ** k) : lr;
        for (let i = 0; i < tensor.length; i++) tensor[i] = (tensor[i] - rate * u[i]) * (1 - lr * decay);
        const back = turn(p, m[p], true);
        statistics[p] = statistics[p].map((h, a) =>
          h.map((row, i) => row.map((x, j) => bs * x + (1 - bs) * fresh[a][i][j])),
        );
        if (k % every === 0) {
          for (const [a, axis] of axes[p].entries()) {
            const [h, q] = [statistics[p][a], bases[p][a]];
            const curvature = product(product(transposed(q), h), q).map((row, i) => row[i]);
            const order = curvature.map((_, i) => i).sort((i, j) => curvature[j] - curvature[i]);
            const permutation = order.map((from) => curvature.map((_, j) => (j === from ? 1 : 0)));
            v[p] = applied(v[p], shape, axis, permutation);
            bases[p][a] = orthonormal(product(h, product(q, transposed(permutation))));
          }
        }
        m[p] = turn(p, back, false);
      }
    },
  };
};

/** (H + ε I)^(-p). */
function inverseRoot(h: Matrix, eps: number, p: number): Matrix {
  const { values, vectors } = jacobi(h.map((row, i) => row.map((x, j) => (i === j ? x + eps : x))));
  const scaled = vectors.map((row) => row.map((x, j) => x * values[j] ** -p));
  return product(scaled, transposed(vectors));
}

export const shampooReference: Reference = (theta, values, shapes) => {
  const number = (name: string) => numberOf(values, name);
  const [mu, beta2, eps, decay] = [number('momentum'), number('beta2'), number('eps'), number('weightDecay')];
  const full = shapes.map((shape) => (shape.length === 0 ? [1] : shape));
  const axes = full.map((shape) => shape.flatMap((d, axis) => (d > number('maxDimension') ? [] : [axis])));
  const statistics = full.map((shape, p) =>
    axes[p].map((axis): Matrix => Array.from({ length: shape[axis] }, () => new Array<number>(shape[axis]).fill(0))),
  );
  const roots: Matrix[][] = shapes.map(() => []);
  const [b, v] = [zeros(theta), zeros(theta)];
  const counts = theta.map(() => 0);
  const length = (x: readonly number[]) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
  return {
    step: (gradients, lr) => {
      for (const [p, tensor] of theta.entries()) {
        const g = gradients[p];
        if (!g) continue;
        const t = ++counts[p];
        const average = values.statistics === 'average';
        for (const [a, axis] of axes[p].entries()) {
          const fresh = outer(g, full[p], axis);
          statistics[p][a] = statistics[p][a].map((row, i) =>
            row.map((x, j) => (average ? beta2 * x + (1 - beta2) * fresh[i][j] : x + fresh[i][j])),
          );
        }
        if ((t - 1) % number('rootEvery') === 0) {
          const exponent = number('exponent') === 0 ? 1 / (2 * full[p].length) : number('exponent');
          const correction = average ? 1 - beta2 ** t : 1;
          roots[p] = statistics[p].map((h) =>
            inverseRoot(
              h.map((row) => row.map((x) => x / correction)),
              eps,
              exponent,
            ),
          );
        }
        let u = axes[p].reduce((x, axis, a) => applied(x, full[p], axis, roots[p][a]), [...g]);
        for (let i = 0; i < g.length; i++)
          v[p][i] = number('graftBeta') * v[p][i] + (1 - number('graftBeta')) * g[i] * g[i];
        const second = v[p].map((x) => Math.sqrt(x / (1 - number('graftBeta') ** t)) + number('graftEps'));
        const donor = values.grafting === 'adam' ? g.map((x, i) => x / second[i]) : g;
        if (values.grafting !== 'none') {
          const factor = length(donor) / length(u);
          u = u.map((x) => x * factor);
        }
        for (let i = 0; i < tensor.length; i++) {
          b[p][i] = mu * b[p][i] + u[i];
          tensor[i] = tensor[i] * (1 - lr * decay) - lr * b[p][i];
        }
      }
    },
  };
};
