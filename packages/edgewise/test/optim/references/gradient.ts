/** @file Gradient descent, accelerated and bounded. */
import { type Gradients, numberOf, type Reference, zeros } from './reference.ts';

/** Euclidean length of all tensors with a gradient joined; of `of` where given, else of the gradients. */
function length(gradients: Gradients, of: readonly (readonly number[] | undefined)[] = gradients): number {
  let squares = 0;
  for (const [p, g] of gradients.entries()) if (g) for (const x of of[p] ?? []) squares += x * x;
  return Math.sqrt(squares);
}

/** Form (b) of section 2.4: sums of gradients plus β times their differences, from g_0 = 0. */
export const nmeReference: Reference = (theta, values) => {
  const [beta, decay] = [numberOf(values, 'momentum'), numberOf(values, 'weightDecay')];
  const [sums, last] = [zeros(theta), zeros(theta)];
  return {
    step: (gradients, lr) => {
      for (const [p, y] of theta.entries()) {
        for (const [i, raw] of gradients[p]?.entries() ?? []) {
          const g = raw + decay * y[i];
          sums[p][i] = beta * sums[p][i] + g + beta * (g - last[p][i]);
          last[p][i] = g;
          y[i] -= lr * sums[p][i];
        }
      }
    },
  };
};

/** μ of the k-th update, k from 1. */
function momentumOf(schedule: unknown, mu: number, kappa: number): (k: number) => number {
  if (schedule === 'convex') return (k) => (k - 1) / (k + 2);
  if (schedule === 'strongly convex') return () => (Math.sqrt(kappa) - 1) / (Math.sqrt(kappa) + 1);
  if (schedule === 'fista') {
    const sequence = [Number.NaN, 1];
    return (k) => {
      for (let j = sequence.length; j <= k + 1; j++) sequence.push((1 + Math.sqrt(1 + 4 * sequence[j - 1] ** 2)) / 2);
      return (sequence[k] - 1) / sequence[k + 1];
    };
  }
  return () => mu;
}

/** Form (a): the theory's x is stepped, the trained y is x looked ahead of; θ is y, x is what is evaluated. */
export const agdReference: Reference = (theta, values) => {
  const [decay, kappa] = [numberOf(values, 'weightDecay'), numberOf(values, 'conditionNumber')];
  const mu = momentumOf(values.momentumSchedule, numberOf(values, 'momentum'), kappa);
  const x = theta.map((tensor) => [...tensor]);
  const m = zeros(theta);
  const updates = theta.map(() => 0);
  return {
    step: (gradients, lr) => {
      for (const [p, y] of theta.entries()) {
        const g = gradients[p];
        if (!g) continue;
        const k = ++updates[p];
        for (let i = 0; i < y.length; i++) {
          m[p][i] = mu(k) * m[p][i] + g[i] + decay * y[i];
          x[p][i] -= lr * m[p][i];
          y[i] = x[p][i] - lr * mu(k + 1) * m[p][i];
        }
      }
    },
    evaluated: () => x,
  };
};

/** Calls `scale` with the length of heavy-ball or Nesterov directions (section 3.1), and steps by what it returns times them. */
const alongDirection =
  (scale: (length: number, lr: number, values: Parameters<Reference>[1]) => number): Reference =>
  (theta, values) => {
    const [mu, tau, decay] = ['momentum', 'dampening', 'weightDecay'].map((name) => numberOf(values, name));
    const buffers: (number[] | undefined)[] = theta.map(() => undefined);
    return {
      step: (gradients, lr) => {
        const directions = theta.map((tensor, p) => {
          const g = gradients[p]?.map((x, i) => x + decay * tensor[i]);
          if (!g || mu === 0) return g;
          const old = buffers[p];
          const b = old ? old.map((x, i) => mu * x + (1 - tau) * g[i]) : g;
          buffers[p] = b;
          return values.nesterov ? g.map((x, i) => x + mu * b[i]) : b;
        });
        const rate = scale(length(directions), lr, values);
        for (const [p, d] of directions.entries()) for (const [i, x] of d?.entries() ?? []) theta[p][i] -= rate * x;
      },
    };
  };

export const sgdClipReference: Reference = alongDirection((norm, lr, values) => {
  const c = numberOf(values, 'clippingParam');
  return values.form === 'theory' ? Math.min(lr, (c * lr) / norm) : Math.min(lr, c / (norm + 1e-10));
});

export const sgdNormalizedReference: Reference = alongDirection((norm, lr, values) =>
  norm === 0 ? 0 : lr / (norm + numberOf(values, 'eps')),
);

export const sqrtLossReference: Reference = (theta, values) => ({
  step: (gradients, lr, _, loss) => {
    const excess = loss - numberOf(values, 'minLoss');
    if (excess <= 0) return;
    for (const [p, g] of gradients.entries())
      for (const [i, x] of g?.entries() ?? []) theta[p][i] -= (lr * x) / (2 * Math.sqrt(excess));
  },
});

export const siSgdReference: Reference = (theta, values) => {
  const [decay, c] = [numberOf(values, 'weightDecay'), numberOf(values, 'clipFactor')];
  const off = decay === 0 || c === 0;
  return {
    step: (gradients, lr) => {
      const factor = (size: number, slope: number) =>
        off || slope === 0 ? 1 : Math.min(1, (Math.sqrt((2 * c * decay) / lr) * size) / slope);
      const joint = factor(length(gradients, theta), length(gradients));
      for (const [p, g] of gradients.entries()) {
        if (!g) continue;
        const own = values.per === 'tensor' ? factor(Math.hypot(...theta[p]), Math.hypot(...g)) : joint;
        for (const [i, x] of g.entries()) theta[p][i] = (1 - lr * decay) * theta[p][i] - lr * own * x;
      }
    },
  };
};
