/** @file LARS, LAMB, Lion, Step-Tuned SGD and Sophia, from the papers' formulas. */
import { type Given, listOf, numberOf, type Reference, zeros } from './reference.ts';

const norm = (x: readonly number[]): number => Math.sqrt(x.reduce((sum, a) => sum + a * a, 0));
const dot = (a: readonly (readonly number[])[], b: readonly (readonly number[])[]): number =>
  a.reduce((sum, x, p) => sum + x.reduce((part, y, i) => part + y * b[p][i], 0), 0);

export const larsReference: Reference = (theta, values, shapes) => {
  const [mu, tau, decay, eps, dampening] = ['momentum', 'trustCoeff', 'weightDecay', 'eps', 'dampening'].map((name) =>
    numberOf(values, name),
  );
  const buffers: (number[] | undefined)[] = theta.map(() => undefined);
  return {
    step(gradients, lr) {
      for (const [p, w] of theta.entries()) {
        const g = gradients[p];
        if (!g) continue;
        const small = values.excludeVectors === true && shapes[p].length < 2;
        const lambda = small ? 0 : decay;
        const penalized = w.map((x, i) => g[i] + lambda * x);
        const [size, slope] = [norm(w), norm(values.ratio === 'joint' ? penalized : g)];
        let q = 1;
        if (!small && (lambda !== 0 || values.alwaysAdapt)) {
          const below = values.ratio === 'joint' ? slope : slope + lambda * size;
          if (size > 0 && slope > 0) q = (tau * size) / (below + eps);
          if (values.trustClip) q = Math.min(q / lr, 1);
        }
        const d = penalized.map((x) => q * x * (values.lrInside ? lr : 1));
        const before = buffers[p];
        const b = before ? before.map((x, i) => mu * x + (1 - dampening) * d[i]) : d;
        if (mu > 0) buffers[p] = b;
        for (let i = 0; i < w.length; i++) {
          const along = mu > 0 ? (values.nesterov ? d[i] + mu * b[i] : b[i]) : d[i];
          w[i] -= (values.lrInside ? 1 : lr) * along;
        }
      }
    },
  };
};

export const lambReference: Reference = (theta, values) => {
  const [b1, b2] = listOf(values, 'betas');
  const [eps, decay, limit, largest] = ['eps', 'weightDecay', 'maxGradNorm', 'normLimit'].map((name) =>
    numberOf(values, name),
  );
  const [m, v] = [zeros(theta), zeros(theta)];
  const steps = theta.map(() => 0);
  return {
    step(gradients, lr) {
      const whole = norm(gradients.flatMap((g) => g ?? []));
      const clip = limit > 0 ? Math.max(1, whole / limit) : 1;
      for (const [p, w] of theta.entries()) {
        const g = gradients[p]?.map((x) => x / clip);
        if (!g) continue;
        const t = ++steps[p];
        const [c1, c2] = values.biasCorrection ? [1 - b1 ** t, 1 - b2 ** t] : [1, 1];
        const u = w.map((x, i) => {
          m[p][i] = b1 * m[p][i] + (values.gradAveraging ? 1 - b1 : 1) * g[i];
          v[p][i] = b2 * v[p][i] + (1 - b2) * g[i] ** 2;
          return m[p][i] / c1 / (Math.sqrt(v[p][i] / c2) + eps) + decay * x;
        });
        const [size, length] = [norm(w), norm(u)];
        let q = 1;
        if (decay !== 0 || values.alwaysAdapt) {
          if (size > 0 && length > 0) q = (largest > 0 ? Math.min(size, largest) : size) / length;
          if (values.trustClip) q = Math.min(q, 1);
        }
        for (let i = 0; i < w.length; i++) w[i] -= lr * q * u[i];
      }
    },
  };
};

export const lionReference: Reference = (theta, values) => {
  const [b1, b2] = listOf(values, 'betas');
  const m = zeros(theta);
  return {
    step(gradients, lr) {
      for (const [p, w] of theta.entries()) {
        const g = gradients[p];
        if (!g) continue;
        for (let i = 0; i < w.length; i++) {
          const c = b1 * m[p][i] + (1 - b1) * g[i];
          w[i] = (1 - lr * numberOf(values, 'weightDecay')) * w[i] - lr * Math.sign(c);
          m[p][i] = b2 * m[p][i] + (1 - b2) * g[i];
        }
      }
    },
  };
};

export const stepTunedReference: Reference = (theta, values) => {
  const [nu, beta, low, high, delta] = ['nu', 'beta', 'gammaMin', 'gammaMax', 'delta'].map((name) =>
    numberOf(values, name),
  );
  const average = zeros(theta);
  let gamma = 1;
  let k = 0;
  return {
    step(gradients, lr, evaluate) {
      const a = (lr * gamma) / (k + 1) ** (0.5 + delta);
      const moved = theta.map((w, p) =>
        w.map((_, i) => {
          const g = gradients[p];
          return g ? -a * g[i] : 0;
        }),
      );
      for (const [p, w] of theta.entries()) for (let i = 0; i < w.length; i++) w[i] += moved[p][i];
      const second = evaluate('loss');
      for (const [p, w] of theta.entries()) {
        const [g, h] = [gradients[p], second[p]];
        if (!g || !h) continue;
        for (let i = 0; i < w.length; i++) {
          w[i] -= a * h[i];
          average[p][i] = beta * average[p][i] + (1 - beta) * (h[i] - g[i]);
        }
      }
      // Tensors that are left alone take no part in the inner products.
      const [active, along] = [average, moved].map((all) => all.filter((_, p) => gradients[p]));
      const curvature = dot(active, along) / (1 - beta ** (k + 1));
      gamma = Math.min(Math.max(curvature > 0 ? dot(along, along) / curvature : nu, low), high);
      k++;
    },
  };
};

const sophiaLike =
  (what: string, estimate: (x: number) => number): Reference =>
  (theta, values: Given) => {
    const [b1, b2] = listOf(values, 'betas');
    const [decay, rho, terms, gamma, eps] = ['weightDecay', 'rho', 'batchTerms', 'gamma', 'eps'].map((name) =>
      numberOf(values, name),
    );
    const [m, h] = [zeros(theta), zeros(theta)];
    let t = 0;
    return {
      step(gradients, lr, evaluate) {
        if (t % numberOf(values, 'interval') === 0) {
          const fresh = evaluate(what);
          for (const [p, x] of h.entries()) {
            const g = fresh[p];
            if (g) for (let i = 0; i < x.length; i++) x[i] = b2 * x[i] + (1 - b2) * estimate(g[i]);
          }
        }
        t++;
        for (const [p, w] of theta.entries()) {
          const g = gradients[p];
          if (!g) continue;
          for (let i = 0; i < w.length; i++) {
            m[p][i] = b1 * m[p][i] + (1 - b1) * g[i];
            const step =
              values.form === 'code'
                ? Math.sign(m[p][i]) * Math.min(Math.abs(m[p][i]) / (rho * terms * Math.max(h[p][i], 0) + 1e-15), 1)
                : Math.max(-1, Math.min(1, m[p][i] / Math.max(gamma * h[p][i], eps)));
            w[i] = (1 - lr * decay) * w[i] - lr * step;
          }
        }
      },
    };
  };
export const sophiaReference = sophiaLike('sampled labels', (x) => x * x);
export const sophiaHReference = sophiaLike('hutchinson', (x) => x);
