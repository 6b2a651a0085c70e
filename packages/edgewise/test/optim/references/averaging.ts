/** @file Averaging, dual averaging and parameter-free methods, from the papers' formulas. */
import { listOf, numberOf, type Reference, zeros } from './reference.ts';

const copy = (theta: readonly (readonly number[])[]): number[][] => theta.map((w) => [...w]);
const all = (x: readonly (readonly number[])[]): number[] => x.flat();
const norm = (x: readonly number[]): number => Math.sqrt(x.reduce((sum, a) => sum + a * a, 0));

export const asgdReference: Reference = (theta, values) => {
  const [lambd, alpha, t0, decay] = ['lambd', 'alpha', 't0', 'weightDecay'].map((name) => numberOf(values, name));
  const average = copy(theta);
  const steps = theta.map(() => 0);
  return {
    step(gradients, lr) {
      for (const [p, w] of theta.entries()) {
        const g = gradients[p];
        if (!g) continue;
        const t = ++steps[p];
        const eta = lr / (1 + lambd * lr * (t - 1)) ** alpha;
        const mu = 1 / Math.max(1, t - 1 - t0);
        for (let i = 0; i < w.length; i++) {
          const slope = g[i] + decay * w[i];
          w[i] = (1 - lambd * eta) * w[i] - eta * slope;
          average[p][i] += mu * (w[i] - average[p][i]);
        }
      }
    },
    evaluated: () => average,
  };
};

export const ftrlReference: Reference = (theta, values) => {
  const start = copy(theta);
  const [sums, squares] = [zeros(theta), zeros(theta)];
  const steps = theta.map(() => 0);
  const weight = (t: number) => (values.weights === 'increasing' ? t : 1);
  const total = (t: number): number => (t === 0 ? 0 : total(t - 1) + weight(t));
  return {
    step(gradients, lr) {
      for (const [p, w] of theta.entries()) {
        const g = gradients[p];
        if (!g) continue;
        const t = ++steps[p];
        for (let i = 0; i < w.length; i++) {
          const before = squares[p][i];
          sums[p][i] += weight(t) * g[i];
          squares[p][i] += g[i] ** 2;
          const seen = values.delayed ? before : squares[p][i];
          const eta =
            values.rate === 'constant'
              ? lr
              : values.rate === 'decreasing'
                ? lr / Math.sqrt(t)
                : lr / Math.sqrt(numberOf(values, 'eps') + seen);
          w[i] = (total(t) * w[i] + weight(t + 1) * (start[p][i] - eta * sums[p][i])) / total(t + 1);
        }
      }
    },
  };
};

export const momentEstimationReference: Reference = (theta, values) => {
  const [floor, beta] = ['floor', 'beta'].map((name) => numberOf(values, name));
  const average = copy(theta);
  const weight = theta.map(() => 0);
  let moment = 0;
  return {
    step(gradients, lr) {
      const eta = lr / (Math.sqrt(moment) + floor);
      for (const [p, w] of theta.entries()) {
        const g = gradients[p];
        if (!g) continue;
        weight[p] += eta;
        for (let i = 0; i < w.length; i++) {
          average[p][i] += (eta / weight[p]) * (w[i] - average[p][i]);
          w[i] -= eta * g[i];
        }
      }
      moment = beta * moment + (1 - beta) * norm(gradients.flatMap((g) => g ?? [])) ** 2;
    },
    evaluated: () => (values.averaged ? average : theta),
  };
};

/** All three sequences kept, as in the paper. */
const scheduleFree =
  (adaptive: boolean): Reference =>
  (theta, values) => {
    const [x, z, v] = [copy(theta), copy(theta), zeros(theta)];
    const beta = adaptive ? listOf(values, 'betas')[0] : numberOf(values, 'momentum');
    const beta2 = adaptive ? listOf(values, 'betas')[1] : 0;
    const [decay, warmup, r, power] = ['weightDecay', 'warmupSteps', 'stepPower', 'weightPower'].map((name) =>
      numberOf(values, name),
    );
    let t = 0;
    const [largest, total] = [theta.map(() => 0), theta.map(() => 0)];
    return {
      step(gradients, lr) {
        t++;
        const eta = lr * (warmup > 0 ? Math.min(1, t / warmup) : 1);
        for (const [p, y] of theta.entries()) {
          const g = gradients[p];
          if (!g) continue;
          largest[p] = Math.max(largest[p], eta);
          const weight = t ** r * largest[p] ** power;
          total[p] += weight;
          const c = weight / total[p];
          for (let i = 0; i < y.length; i++) {
            v[p][i] = beta2 * v[p][i] + (1 - beta2) * g[i] ** 2;
            const scaled = adaptive ? g[i] / (Math.sqrt(v[p][i] / (1 - beta2 ** t)) + numberOf(values, 'eps')) : g[i];
            z[p][i] -= eta * (scaled + decay * (values.decayAt === 'y' ? y[i] : z[p][i]));
            x[p][i] = (1 - c) * x[p][i] + c * z[p][i];
            y[i] = beta * x[p][i] + (1 - beta) * z[p][i];
          }
        }
      },
      evaluated: () => x,
    };
  };
export const scheduleFreeSgdReference = scheduleFree(false);
export const scheduleFreeAdamwReference = scheduleFree(true);

export const dadaptAdamReference: Reference = (theta, values) => {
  const [b1, b2] = listOf(values, 'betas');
  const [eps, decay, growth] = ['eps', 'weightDecay', 'growthRate'].map((name) => numberOf(values, name));
  const sigma = Math.sqrt(b2);
  const [m, v, s] = [zeros(theta), zeros(theta), zeros(theta)];
  let [d, r, t] = [numberOf(values, 'd0'), 0, 0];
  return {
    step(gradients, lr) {
      t++;
      const rate = d * lr * (values.biasCorrection ? Math.sqrt(1 - b2 ** t) / (1 - b1 ** t) : 1);
      let numerator = 0;
      const touched = theta.flatMap((_, p) => (gradients[p] ? [p] : []));
      const slopes = theta.map((w, p) => gradients[p]?.map((g, i) => g + (values.decouple ? 0 : decay * w[i])));
      for (const p of touched) {
        const g = slopes[p] ?? [];
        for (let i = 0; i < g.length; i++) {
          numerator += (rate * g[i] * s[p][i]) / (Math.sqrt(v[p][i]) + eps);
          m[p][i] = b1 * m[p][i] + rate * (1 - b1) * g[i];
          v[p][i] = b2 * v[p][i] + (1 - b2) * g[i] ** 2;
          s[p][i] = sigma * s[p][i] + (1 - sigma) * rate * g[i];
        }
      }
      r = sigma * r + (1 - sigma) * numerator;
      const total = touched.reduce((sum, p) => sum + s[p].reduce((part, x) => part + Math.abs(x), 0), 0);
      d = Math.max(d, Math.min(r / ((1 - sigma) * total), growth * d));
      for (const p of touched)
        for (let i = 0; i < theta[p].length; i++) {
          if (values.decouple) theta[p][i] *= 1 - decay * rate;
          theta[p][i] -= m[p][i] / (Math.sqrt(v[p][i]) + eps);
        }
    },
  };
};

export const dadaptSgdReference: Reference = (theta, values) => {
  const [mu, decay, growth] = ['momentum', 'weightDecay', 'growthRate'].map((name) => numberOf(values, name));
  const [start, s] = [copy(theta), zeros(theta)];
  let [d, r, first] = [numberOf(values, 'd0'), 0, 0];
  return {
    step(gradients, lr) {
      first ||= norm(gradients.flatMap((g) => g ?? []));
      const rate = (d * lr) / first;
      const touched = theta.flatMap((_, p) => (gradients[p] ? [p] : []));
      for (const p of touched)
        (gradients[p] ?? []).forEach((raw, i) => {
          const g = raw + decay * theta[p][i];
          r += rate * g * s[p][i];
          s[p][i] += rate * g;
        });
      d = Math.max(d, Math.min((2 * r) / norm(all(touched.map((p) => s[p]))), growth * d));
      for (const p of touched)
        for (let i = 0; i < theta[p].length; i++) theta[p][i] = mu * theta[p][i] + (1 - mu) * (start[p][i] - s[p][i]);
    },
  };
};

export const prodigyReference: Reference = (theta, values) => {
  const [b1, b2] = listOf(values, 'betas');
  const [eps, decay, d0, coefficient, growth] = ['eps', 'weightDecay', 'd0', 'dCoef', 'growthRate'].map((name) =>
    numberOf(values, name),
  );
  const b3 = Math.sqrt(b2);
  const [m, v, s, start] = [zeros(theta), zeros(theta), zeros(theta), copy(theta)];
  let [d, largest, r, t] = [d0, d0, 0, 0];
  return {
    step(gradients, lr) {
      t++;
      const rate = d * lr * (values.biasCorrection ? Math.sqrt(1 - b2 ** t) / (1 - b1 ** t) : 1);
      const touched = theta.flatMap((_, p) => (gradients[p] ? [p] : []));
      r *= b3;
      for (const p of touched)
        (gradients[p] ?? []).forEach((raw, i) => {
          const g = raw + (values.decouple ? 0 : decay * theta[p][i]);
          r += (d / d0) * rate * g * (start[p][i] - theta[p][i]);
          m[p][i] = b1 * m[p][i] + d * (1 - b1) * g;
          v[p][i] = b2 * v[p][i] + d * d * (1 - b2) * g * g;
          s[p][i] = b3 * s[p][i] + (d / d0) * (values.safeguardWarmup ? d : rate) * g;
        });
      const total = touched.reduce((sum, p) => sum + s[p].reduce((part, x) => part + Math.abs(x), 0), 0);
      const estimate = (coefficient * r) / total;
      let next = d === d0 ? Math.max(d, estimate) : d;
      largest = Math.max(largest, estimate);
      next = Math.min(largest, growth * next);
      for (const p of touched)
        for (let i = 0; i < theta[p].length; i++) {
          if (values.decouple) theta[p][i] *= 1 - decay * rate;
          theta[p][i] -= (rate * m[p][i]) / (Math.sqrt(v[p][i]) + next * eps);
        }
      d = next;
    },
  };
};

/** `base` with an average of its iterates. */
export const averagedReference =
  (base: Reference): Reference =>
  (theta, values, shapes) => {
    const run = base(theta, values, shapes);
    const [start, every, decay] = ['averageStart', 'averageEvery', 'averageDecay'].map((name) =>
      numberOf(values, name),
    );
    // A tensor without a gradient is left alone, its average too.
    const collected: number[][][] = theta.map(() => []);
    const average: (number[] | undefined)[] = theta.map(() => undefined);
    const missing = theta.map(() => 1);
    let t = 0;
    return {
      step(gradients, lr, evaluate, loss) {
        run.step(gradients, lr, evaluate, loss);
        t++;
        if (t <= start || (t - start) % every !== 0) return;
        for (const [p, w] of theta.entries()) {
          if (!gradients[p]) continue;
          const n = collected[p].push([...w]) - 1;
          const warm = { none: decay, tensorflow: (1 + n) / (10 + n), timm: 1 - (1 + n) ** (-2 / 3) }[
            String(values.averageWarmup) as 'none' | 'tensorflow' | 'timm'
          ];
          const d = Math.min(decay, warm);
          missing[p] *= d;
          const before = average[p] ?? w.map((x) => (values.averageDebias ? 0 : x));
          average[p] = w.map((x, i) => d * before[i] + (1 - d) * x);
        }
      },
      evaluated: () =>
        theta.map((w, p) => {
          if (collected[p].length === 0) return w;
          if (values.averageKind === 'mean')
            return w.map((_, i) => collected[p].reduce((sum, c) => sum + c[i], 0) / collected[p].length);
          return (average[p] ?? w).map((x) => x / (values.averageDebias ? 1 - missing[p] : 1));
        }),
    };
  };
