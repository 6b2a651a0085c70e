/** @file The Adam family without Adam: section 5 from Adamax on. */
import { listOf, numberOf, type Reference, zeros } from './reference.ts';

/** A component of a step: its tensor's place, the number of the tensor's update, the gradient, and what it is read and written by. */
interface Component {
  readonly p: number;
  readonly i: number;
  readonly t: number;
  readonly lr: number;
  /** The gradient, with λθ added where decay is coupled. */
  readonly g: number;
}

/** A rule that treats components alone: `change` gives the new value of one from its old value x. */
function componentwise(
  theta: number[][],
  penalty: number,
  change: (component: Component, x: number) => number,
): ReturnType<Reference> {
  const updates = theta.map(() => 0);
  return {
    step: (gradients, lr) => {
      for (const [p, given] of gradients.entries()) {
        if (!given) continue;
        updates[p]++;
        for (const [i, raw] of given.entries()) {
          const x = theta[p][i];
          theta[p][i] = change({ p, i, t: updates[p], lr, g: raw + penalty * x }, x);
        }
      }
    },
  };
}

/** Averages of section 1: EMA_β(s, x) = β s + (1-β) x, kept by component. */
function average(theta: readonly (readonly number[])[], beta: number) {
  const kept = zeros(theta);
  return ({ p, i }: Component, x: number): number => {
    kept[p][i] = beta * kept[p][i] + (1 - beta) * x;
    return kept[p][i];
  };
}

/** The largest value so far of a component, from 0. */
function maximum(theta: readonly (readonly number[])[]) {
  const kept = zeros(theta);
  return ({ p, i }: Component, x: number): number => {
    kept[p][i] = Math.max(kept[p][i], x);
    return kept[p][i];
  };
}

export const adamaxReference: Reference = (theta, values) => {
  const [b1, b2] = listOf(values, 'betas');
  const eps = numberOf(values, 'eps');
  const m = average(theta, b1);
  const largest = zeros(theta);
  return componentwise(theta, numberOf(values, 'weightDecay'), (at, x) => {
    const u = Math.max(b2 * largest[at.p][at.i], Math.abs(at.g) + eps);
    largest[at.p][at.i] = u;
    return x - ((at.lr / (1 - b1 ** at.t)) * m(at, at.g)) / u;
  });
};

export const nadamReference: Reference = (theta, values) => {
  const [b1, b2] = listOf(values, 'betas');
  const [eps, psi] = [numberOf(values, 'eps'), numberOf(values, 'momentumDecay')];
  const [m, v] = [average(theta, b1), average(theta, b2)];
  const mu = (t: number) => b1 * (1 - 0.5 * 0.96 ** (t * psi));
  const product = (t: number): number => (t === 0 ? 1 : product(t - 1) * mu(t));
  return componentwise(theta, numberOf(values, 'weightDecay'), (at, x) => {
    const { g, t, lr } = at;
    const denominator = Math.sqrt(v(at, g ** 2) / (1 - b2 ** t)) + eps;
    const now = ((1 - mu(t)) / (1 - product(t))) * g;
    const ahead = (mu(t + 1) / (1 - product(t) * mu(t + 1))) * m(at, g);
    return x - (lr * (now + ahead)) / denominator;
  });
};

export const nadamwReference: Reference = (theta, values) => {
  const [b1, b2] = listOf(values, 'betas');
  const [eps, decay] = [numberOf(values, 'eps'), numberOf(values, 'weightDecay')];
  const [m, v] = [average(theta, b1), average(theta, b2)];
  return componentwise(theta, 0, (at, x) => {
    const { g, t, lr } = at;
    const ahead = b1 * m(at, g) + (1 - b1) * g;
    const denominator = Math.sqrt(v(at, g ** 2)) / Math.sqrt(1 - b2 ** t) + eps;
    return (1 - lr * decay) * x - (lr * (ahead / (1 - b1 ** t))) / denominator;
  });
};

/** ρ_t and R of section 5.6. */
function rectified(b2: number, t: number): { rho: number; factor: number } {
  const limit = 2 / (1 - b2) - 1;
  const rho = limit - (2 * t * b2 ** t) / (1 - b2 ** t);
  return { rho, factor: Math.sqrt(((rho - 4) * (rho - 2) * limit) / ((limit - 4) * (limit - 2) * rho)) };
}

export const radamReference: Reference = (theta, values) => {
  const [b1, b2] = listOf(values, 'betas');
  const [eps, decay, threshold] = ['eps', 'weightDecay', 'threshold'].map((name) => numberOf(values, name));
  const [m, v] = [average(theta, b1), average(theta, b2)];
  return componentwise(theta, values.decoupled ? 0 : decay, (at, x) => {
    const { g, t, lr } = at;
    const mean = m(at, g) / (1 - b1 ** t);
    const root = Math.sqrt(v(at, g ** 2));
    const { rho, factor } = rectified(b2, t);
    if (rho <= threshold && values.below === 'skip') return x;
    const decayed = values.decoupled ? x - lr * decay * x : x;
    return decayed - lr * (rho > threshold ? (factor * mean * Math.sqrt(1 - b2 ** t)) / (root + eps) : mean);
  });
};

export const padamReference: Reference = (theta, values) => {
  const [b1, b2] = listOf(values, 'betas');
  const [eps, decay, partial] = ['eps', 'weightDecay', 'partial'].map((name) => numberOf(values, name));
  const [m, v, largest] = [average(theta, b1), average(theta, b2), maximum(theta)];
  return componentwise(theta, values.decoupled ? 0 : decay, (at, x) => {
    const { g, t, lr } = at;
    const second = v(at, g ** 2);
    const denominator = (Math.sqrt(values.amsgrad ? largest(at, second) : second) + eps) ** (2 * partial);
    const decayed = values.decoupled ? x - lr * decay * x : x;
    return decayed - (((lr * Math.sqrt(1 - b2 ** t)) / (1 - b1 ** t)) * m(at, g)) / denominator;
  });
};

const bounded =
  (decoupled: boolean): Reference =>
  (theta, values) => {
    const [b1, b2] = listOf(values, 'betas');
    const [eps, decay, final, gamma, base] = ['eps', 'weightDecay', 'finalLr', 'gamma', 'lr'].map((name) =>
      numberOf(values, name),
    );
    const [m, v, largest] = [average(theta, b1), average(theta, b2), maximum(theta)];
    return componentwise(theta, decoupled ? 0 : decay, (at, x) => {
      const { g, t, lr } = at;
      const second = v(at, g ** 2);
      const a = (lr * Math.sqrt(1 - b2 ** t)) / (1 - b1 ** t);
      const f = (final * lr) / base;
      const [low, high] = [f * (1 - 1 / (gamma * t + 1)), f * (1 + 1 / (gamma * t))];
      const own = a / (Math.sqrt(values.amsbound ? largest(at, second) : second) + eps);
      const decayed = decoupled ? x - decay * (values.plainDecay ? 1 : lr) * x : x;
      return decayed - Math.max(low, Math.min(high, own)) * m(at, g);
    });
  };
export const adaboundReference = bounded(false);
export const adaboundwReference = bounded(true);

export const adabeliefReference: Reference = (theta, values) => {
  const [b1, b2] = listOf(values, 'betas');
  const [eps, decay] = [numberOf(values, 'eps'), numberOf(values, 'weightDecay')];
  const [m, largest] = [average(theta, b1), maximum(theta)];
  const surprise = zeros(theta);
  return componentwise(theta, values.decoupled ? 0 : decay, (at, x) => {
    const { g, t, lr, p, i } = at;
    const first = m(at, g);
    const s = b2 * surprise[p][i] + (1 - b2) * (g - first) ** 2 + eps;
    surprise[p][i] = s;
    const top = largest(at, s);
    const decayed = values.decoupled ? x - decay * (values.fixedDecay ? 1 : lr) * x : x;
    const [one, two] = [1 - b1 ** t, 1 - b2 ** t];
    if (!values.rectify)
      return decayed - ((lr / one) * first) / (Math.sqrt(values.amsgrad ? top : s) / Math.sqrt(two) + eps);
    const { rho, factor } = rectified(b2, t);
    if (rho >= 5) return decayed - (((lr * factor * Math.sqrt(two)) / one) * first) / (Math.sqrt(s) + eps);
    return values.below === 'skip' ? decayed : decayed - (lr * first) / one;
  });
};

export const generalizedSignReference: Reference = (theta, values) => {
  const [b1, b2] = listOf(values, 'betas');
  const eps = numberOf(values, 'eps');
  const [m, v] = [average(theta, b1), average(theta, b2)];
  return componentwise(theta, numberOf(values, 'weightDecay'), (at, x) => {
    const first = m(at, at.g);
    const second = v(at, first ** 2);
    const [one, two] = values.biasCorrection ? [1 - b1 ** at.t, 1 - b2 ** at.t] : [1, 1];
    return x - (at.lr * (first / one)) / (Math.sqrt(second / two) + eps);
  });
};
