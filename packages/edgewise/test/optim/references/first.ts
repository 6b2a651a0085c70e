/** @file Adan, SGD, Adam, AdamW and clipping. */
import { listOf, numberOf, type Reference, zeros } from './reference.ts';

export const adanReference: Reference = (theta, values) => {
  const [b1, b2, b3] = listOf(values, 'betas');
  const [eps, decay, limit] = ['eps', 'weightDecay', 'maxGradNorm'].map((name) => numberOf(values, name));
  const [every, radius] = [numberOf(values, 'restartEvery'), numberOf(values, 'movementBudget')];
  let [m, v, n] = [zeros(theta), zeros(theta), zeros(theta)];
  const previous: (number[] | undefined)[] = theta.map(() => undefined);
  let k = 0;
  let travelled = 0;
  return {
    step: (gradients, lr) => {
      k++;
      let squares = 0;
      for (const g of gradients) for (const x of g ?? []) squares += x * x;
      const clip = limit > 0 ? Math.min(1, limit / (Math.sqrt(squares) + eps)) : 1;
      for (const [p, tensor] of theta.entries()) {
        const g = gradients[p]?.map((x) => x * clip);
        if (!g) continue;
        for (let i = 0; i < tensor.length; i++) {
          const before = previous[p];
          const d = k === 1 || !before ? 0 : g[i] - before[i];
          m[p][i] = b1 * m[p][i] + (1 - b1) * g[i];
          v[p][i] = b2 * v[p][i] + (1 - b2) * d;
          n[p][i] = b3 * n[p][i] + (1 - b3) * (g[i] + b2 * d) ** 2;
          const direction = m[p][i] / (1 - b1 ** k) + (b2 * v[p][i]) / (1 - b2 ** k);
          const u = direction / (Math.sqrt(n[p][i] / (1 - b3 ** k)) + eps);
          const old = tensor[i];
          tensor[i] = values.proximal ? (old - lr * u) / (1 + lr * decay) : (1 - lr * decay) * old - lr * u;
          travelled += Math.sqrt(n[p][i]) * (tensor[i] - old) ** 2;
        }
        previous[p] = g;
      }
      if ((every > 0 && k % every === 0) || (radius > 0 && k * travelled > radius ** 2)) {
        [m, v, n] = [zeros(theta), zeros(theta), zeros(theta)];
        k = 0;
        travelled = 0;
      }
    },
  };
};

export const sgdReference: Reference = (theta, values) => {
  const [mu, tau, decay] = ['momentum', 'dampening', 'weightDecay'].map((name) => numberOf(values, name));
  const buffers: (number[] | undefined)[] = theta.map(() => undefined);
  return {
    step: (gradients, lr) => {
      for (const [p, tensor] of theta.entries()) {
        const given = gradients[p];
        if (!given) continue;
        const g = tensor.map((x, i) => (values.maximize ? -given[i] : given[i]) + decay * x);
        const buffer = buffers[p]?.map((b, i) => mu * b + (1 - tau) * g[i]) ?? [...g];
        if (mu > 0) buffers[p] = buffer;
        for (let i = 0; i < tensor.length; i++) {
          const momentum = mu > 0 ? buffer[i] : g[i];
          tensor[i] -= lr * (values.nesterov ? g[i] + mu * momentum : momentum);
        }
      }
    },
  };
};

const adamLike =
  (decoupled: boolean): Reference =>
  (theta, values) => {
    const [b1, b2] = listOf(values, 'betas');
    const [eps, decay] = [numberOf(values, 'eps'), numberOf(values, 'weightDecay')];
    const [m, v, largest] = [zeros(theta), zeros(theta), zeros(theta)];
    const steps = theta.map(() => 0);
    return {
      step: (gradients, lr) => {
        for (const [p, tensor] of theta.entries()) {
          const given = gradients[p];
          if (!given) continue;
          const t = ++steps[p];
          for (let i = 0; i < tensor.length; i++) {
            const g = (values.maximize ? -given[i] : given[i]) + (decoupled ? 0 : decay * tensor[i]);
            m[p][i] = b1 * m[p][i] + (1 - b1) * g;
            v[p][i] = b2 * v[p][i] + (1 - b2) * g * g;
            largest[p][i] = Math.max(largest[p][i], v[p][i]);
            const second = values.amsgrad ? largest[p][i] : v[p][i];
            if (decoupled) tensor[i] *= 1 - lr * decay;
            tensor[i] -= (lr * (m[p][i] / (1 - b1 ** t))) / (Math.sqrt(second) / Math.sqrt(1 - b2 ** t) + eps);
          }
        }
      },
    };
  };
export const adamReference = adamLike(false);
export const adamwReference = adamLike(true);

/** `base` on gradients no longer than `clipNorm`. */
export const clippedNormReference =
  (base: Reference): Reference =>
  (theta, values, shapes) => {
    const run = base(theta, values, shapes);
    const limit = numberOf(values, 'clipNorm');
    return {
      ...run,
      step(gradients, lr, evaluate, loss) {
        const squares = gradients.flatMap((g) => g ?? []).reduce((sum, x) => sum + x * x, 0);
        const factor = limit > 0 ? Math.min(1, limit / (Math.sqrt(squares) + 1e-6)) : 1;
        run.step(
          gradients.map((g) => g?.map((x) => x * factor)),
          lr,
          evaluate,
          loss,
        );
      },
    };
  };

/** `base` on gradients whose components are cut at `clipValue`. */
export const clippedValueReference =
  (base: Reference): Reference =>
  (theta, values, shapes) => {
    const run = base(theta, values, shapes);
    const limit = numberOf(values, 'clipValue');
    return {
      ...run,
      step: (gradients, lr, evaluate, loss) =>
        run.step(
          gradients.map((g) => g?.map((x) => (limit > 0 ? Math.max(-limit, Math.min(limit, x)) : x))),
          lr,
          evaluate,
          loss,
        ),
    };
  };
