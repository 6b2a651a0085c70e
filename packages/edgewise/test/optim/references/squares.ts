/** @file Rules that accumulate or average squares. */
import { numberOf, type Reference, zeros } from './reference.ts';

export const adagradReference: Reference = (theta, values) => {
  const [decay, delta, start, eps] = ['weightDecay', 'lrDecay', 'initialAccumulatorValue', 'eps'].map((name) =>
    numberOf(values, name),
  );
  const s = theta.map((tensor) => tensor.map(() => start));
  const updates = theta.map(() => 0);
  return {
    step: (gradients, lr) => {
      for (const [p, given] of gradients.entries()) {
        if (!given) continue;
        const rate = lr / (1 + updates[p]++ * delta);
        for (const [i, x] of given.entries()) {
          const g = x + decay * theta[p][i];
          s[p][i] += g * g;
          theta[p][i] -=
            (rate * g) / (values.epsPlacement === 'inside' ? Math.sqrt(s[p][i] + eps) : Math.sqrt(s[p][i]) + eps);
        }
      }
    },
  };
};

export const adagradNormReference: Reference = (theta, values) => {
  const [decay, b0] = [numberOf(values, 'weightDecay'), numberOf(values, 'b0')];
  let joint = b0 ** 2;
  const own = theta.map(() => b0 ** 2);
  return {
    step: (gradients, lr) => {
      const penalized = gradients.map((g, p) => g?.map((x, i) => x + decay * theta[p][i]));
      for (const [p, g] of penalized.entries()) {
        for (const x of g ?? []) {
          joint += x ** 2;
          own[p] += x ** 2;
        }
      }
      for (const [p, g] of penalized.entries())
        for (const [i, x] of g?.entries() ?? [])
          theta[p][i] -= (lr * x) / Math.sqrt(values.per === 'tensor' ? own[p] : joint);
    },
  };
};

export const delayedAdagradReference: Reference = (theta, values) => {
  const [beta, excess, mu] = ['beta', 'epsilon', 'momentum'].map((name) => numberOf(values, name));
  let joint = 0;
  const [sums, m] = [zeros(theta), zeros(theta)];
  return {
    step: (gradients, alpha) => {
      const before = joint;
      for (const [p, g] of gradients.entries()) {
        for (const [i, x] of g?.entries() ?? []) {
          const past = values.per === 'model' ? before : sums[p][i];
          m[p][i] = mu * m[p][i] + (alpha / (beta + past) ** (0.5 + excess)) * x;
          theta[p][i] -= m[p][i];
          sums[p][i] += x ** 2;
          joint += x ** 2;
        }
      }
    },
  };
};

export const rmspropReference: Reference = (theta, values) => {
  const [alpha, eps, mu, decay] = ['alpha', 'eps', 'momentum', 'weightDecay'].map((name) => numberOf(values, name));
  const tf = values.tfStyle === true;
  const v: number[][] = theta.map((tensor) => tensor.map(() => (tf ? 1 : 0)));
  const [mean, b] = [zeros(theta), zeros(theta)];
  return {
    step: (gradients, lr) => {
      for (const [p, given] of gradients.entries()) {
        for (const [i, x] of given?.entries() ?? []) {
          const g = x + decay * theta[p][i];
          v[p][i] = alpha * v[p][i] + (1 - alpha) * g ** 2;
          mean[p][i] = alpha * mean[p][i] + (1 - alpha) * g;
          const w = values.centered ? Math.max(0, v[p][i] - mean[p][i] ** 2) : v[p][i];
          const d = g / (tf ? Math.sqrt(w + eps) : Math.sqrt(w) + eps);
          b[p][i] = mu * b[p][i] + (tf ? lr * d : d);
          theta[p][i] -= tf ? b[p][i] : lr * b[p][i];
        }
      }
    },
  };
};

export const adadeltaReference: Reference = (theta, values) => {
  const [rho, eps, decay] = ['rho', 'eps', 'weightDecay'].map((name) => numberOf(values, name));
  const [v, a] = [zeros(theta), zeros(theta)];
  return {
    step: (gradients, lr) => {
      for (const [p, given] of gradients.entries()) {
        for (const [i, x] of given?.entries() ?? []) {
          const g = x + decay * theta[p][i];
          v[p][i] = rho * v[p][i] + (1 - rho) * g ** 2;
          const change = (Math.sqrt(a[p][i] + eps) / Math.sqrt(v[p][i] + eps)) * g;
          a[p][i] = rho * a[p][i] + (1 - rho) * change ** 2;
          theta[p][i] -= lr * change;
        }
      }
    },
  };
};
