/** @file SAM, Lookahead and gradient centralization around anything; SGD, Adam, AdamW and Adan with their momentum in reach. */
import { type Given, type Gradients, listOf, numberOf, type Reference, type Run, zeros } from './reference.ts';

/** A rule whose momentum can be read and overwritten. */
interface Inner extends Run {
  readonly momentum: number[][];
}
type InnerRule = (theta: number[][], values: Given) => Inner;

export const innerSgd: InnerRule = (theta, values) => {
  const momentum = zeros(theta);
  const begun = theta.map(() => false);
  const [mu, tau, decay] = ['momentum', 'dampening', 'weightDecay'].map((name) => numberOf(values, name));
  return {
    momentum,
    step(gradients, lr) {
      gradients.forEach((given, p) => {
        given?.forEach((raw, i) => {
          const g = (values.maximize ? -raw : raw) + decay * theta[p][i];
          const b = begun[p] ? mu * momentum[p][i] + (1 - tau) * g : g;
          momentum[p][i] = b;
          const d = mu === 0 ? g : values.nesterov ? g + mu * b : b;
          theta[p][i] -= lr * d;
        });
        if (given) begun[p] = true;
      });
    },
  };
};

const innerAdamLike =
  (decoupled: boolean): InnerRule =>
  (theta, values) => {
    const [momentum, second, largest] = [zeros(theta), zeros(theta), zeros(theta)];
    const counts = theta.map(() => 0);
    const [b1, b2] = listOf(values, 'betas');
    const [eps, decay] = [numberOf(values, 'eps'), numberOf(values, 'weightDecay')];
    return {
      momentum,
      step(gradients, lr) {
        gradients.forEach((given, p) => {
          if (!given) return;
          const t = ++counts[p];
          given.forEach((raw, i) => {
            const x = theta[p][i];
            const g = (values.maximize ? -raw : raw) + (decoupled ? 0 : decay * x);
            momentum[p][i] = b1 * momentum[p][i] + (1 - b1) * g;
            second[p][i] = b2 * second[p][i] + (1 - b2) * g ** 2;
            largest[p][i] = Math.max(largest[p][i], second[p][i]);
            const v = values.amsgrad ? largest[p][i] : second[p][i];
            const u = momentum[p][i] / (1 - b1 ** t) / (Math.sqrt(v / (1 - b2 ** t)) + eps);
            theta[p][i] = x - lr * (u + (decoupled ? decay * x : 0));
          });
        });
      },
    };
  };
export const innerAdam = innerAdamLike(false);
export const innerAdamw = innerAdamLike(true);

export const innerAdan: InnerRule = (theta, values) => {
  const [momentum, v, n, before] = [zeros(theta), zeros(theta), zeros(theta), zeros(theta)];
  const seen = theta.map(() => false);
  const [b1, b2, b3] = listOf(values, 'betas');
  const [eps, decay, largest, every, radius] = [
    'eps',
    'weightDecay',
    'maxGradNorm',
    'restartEvery',
    'movementBudget',
  ].map((name) => numberOf(values, name));
  let [t, moved] = [0, 0];
  return {
    momentum,
    step(gradients, lr) {
      t++;
      const length = Math.hypot(...gradients.flatMap((g) => [...(g ?? [])]));
      const clip = largest > 0 ? Math.min(1, largest / (length + eps)) : 1;
      gradients.forEach((given, p) => {
        given?.forEach((raw, i) => {
          const g = clip * raw;
          const d = t === 1 || !seen[p] ? 0 : g - before[p][i];
          before[p][i] = g;
          momentum[p][i] = b1 * momentum[p][i] + (1 - b1) * g;
          v[p][i] = b2 * v[p][i] + (1 - b2) * d;
          n[p][i] = b3 * n[p][i] + (1 - b3) * (g + b2 * d) ** 2;
          const top = momentum[p][i] / (1 - b1 ** t) + (b2 * v[p][i]) / (1 - b2 ** t);
          const u = top / (Math.sqrt(n[p][i]) / Math.sqrt(1 - b3 ** t) + eps);
          const x = theta[p][i];
          theta[p][i] = values.proximal ? (x - lr * u) / (1 + lr * decay) : x - lr * decay * x - lr * u;
          moved += Math.sqrt(n[p][i]) * (theta[p][i] - x) ** 2;
        });
        if (given) seen[p] = true;
      });
      if ((every > 0 && t % every === 0) || (radius > 0 && t * moved > radius ** 2)) {
        for (const state of [momentum, v, n]) for (const list of state) list.fill(0);
        [t, moved] = [0, 0];
      }
    },
  };
};

/** Section 6.3: every k steps φ ← φ + α(θ - φ), θ ← φ, for the tensors that took part in the step. */
export const lookaheadReference =
  (rule: InnerRule): Reference =>
  (theta, values) => {
    const inner = rule(theta, values);
    const slow = theta.map((list) => [...list]);
    const slowMomentum = zeros(theta);
    const [k, alpha] = [numberOf(values, 'lookaheadSteps'), numberOf(values, 'lookaheadAlpha')];
    let count = 0;
    return {
      step(gradients, lr, evaluate, loss) {
        inner.step(gradients, lr, evaluate, loss);
        if (++count % k !== 0) return;
        gradients.forEach((given, p) => {
          given?.forEach((_, i) => {
            slow[p][i] += alpha * (theta[p][i] - slow[p][i]);
            theta[p][i] = slow[p][i];
            if (values.lookaheadMomentum === 'reset') inner.momentum[p][i] = 0;
            if (values.lookaheadMomentum === 'pullback') {
              inner.momentum[p][i] = alpha * inner.momentum[p][i] + (1 - alpha) * slowMomentum[p][i];
              slowMomentum[p][i] = inner.momentum[p][i];
            }
          });
        });
      },
      evaluated: () => slow.map((list) => [...list]),
    };
  };

/** Section 7.1. */
export const samReference =
  (rule: Reference): Reference =>
  (theta, values, shapes) => {
    const run = rule(theta, values, shapes);
    const [rho, eta, eps] = ['samRho', 'samEta', 'samEps'].map((name) => numberOf(values, name));
    const scale = (p: number, x: number): number => {
      if (values.samKind === 'adaptive') return Math.abs(x);
      if (values.samKind !== 'asam' || (shapes[p].length < 2 && !values.samVectors)) return 1;
      return Math.abs(x) + eta;
    };
    return {
      ...run,
      step(gradients, lr, evaluate, loss) {
        const saved = theta.map((list) => [...list]);
        let g: Gradients = gradients;
        for (let ascent = 0; ascent < numberOf(values, 'samSteps'); ascent++) {
          let squares = 0;
          g.forEach((list, p) => {
            list?.forEach((x, i) => {
              squares += (scale(p, theta[p][i]) * x) ** 2;
            });
          });
          const factor = values.samKind === 'unnormalised' ? rho : rho / (Math.sqrt(squares) + eps);
          g.forEach((list, p) => {
            list?.forEach((x, i) => {
              theta[p][i] += factor * scale(p, theta[p][i]) ** 2 * x;
            });
          });
          g = evaluate('loss');
        }
        saved.forEach((list, p) => {
          list.forEach((x, i) => {
            theta[p][i] = x;
          });
        });
        run.step(g, lr, evaluate, loss);
      },
    };
  };

/** `list` of a tensor of this shape, each row (an index of the first axis) without its mean where the rank is high enough. */
function centred(list: readonly number[], shape: readonly number[], rank: number): number[] {
  if (shape.length < rank) return [...list];
  const columns = list.length / shape[0];
  return list.map((x, i) => {
    const start = i - (i % columns);
    return x - list.slice(start, start + columns).reduce((sum, y) => sum + y, 0) / columns;
  });
}

/** Section 3.3. */
export const centralizeReference =
  (rule: Reference): Reference =>
  (theta, values, shapes) => {
    const run = rule(theta, values, shapes);
    const rank =
      { off: Number.POSITIVE_INFINITY, weights: 2, convolutions: 4 }[String(values.centralize)] ?? Number.NaN;
    return {
      ...run,
      step(gradients, lr, evaluate, loss) {
        if (values.centralizeOf === 'update') {
          const before = theta.map((list) => [...list]);
          run.step(gradients, lr, evaluate, loss);
          gradients.forEach((given, p) => {
            const change = centred(
              theta[p].map((x, i) => x - before[p][i]),
              shapes[p],
              rank,
            );
            if (given)
              change.forEach((x, i) => {
                theta[p][i] = before[p][i] + x;
              });
          });
          return;
        }
        const sign = values.maximize ? -1 : 1;
        const along = gradients.map((given, p) => {
          if (!given) return undefined;
          if (!values.centralizeDecay) return centred(given, shapes[p], rank);
          // What the rule makes of it, λθ ± g, has no mean.
          const penalty = theta[p].map((x) => numberOf(values, 'weightDecay') * x);
          const wanted = centred(
            given.map((x, i) => sign * x + penalty[i]),
            shapes[p],
            rank,
          );
          return wanted.map((x, i) => sign * (x - penalty[i]));
        });
        run.step(along, lr, evaluate, loss);
      },
    };
  };
