/**
 * @file Adan: adaptive Nesterov momentum.
 *
 * X. Xie, P. Zhou, H. Li, Z. Lin, S. Yan, "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
 * 2022, arXiv 2208.06677. Rule and start-up of the authors' code (sail-sg/Adan).
 */
import { ConfigError } from '../../base/errors.ts';
import {
  add,
  div,
  equal,
  greater,
  logicalOr,
  mod,
  mul,
  sqrt,
  square,
  sub,
  where,
} from '../../tensor/ops/elementwise.ts';
import { sum } from '../../tensor/ops/reduce.ts';
import { defineOptimizer } from '../definition.ts';
import { decayCoefficient, decayRates, flag, integer, learningRate, number } from '../hyperparameters.ts';
import { clipFactor, correction, ema, globalNorm, refuseUnlessFinite } from '../math.ts';

export const adan = defineOptimizer({
  name: 'adan',
  title: 'Adan',
  source: {
    title: 'Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models',
    authors: 'Xie, Zhou, Li, Lin, Yan',
    year: 2022,
    arxiv: '2208.06677',
    reference: 'github.com/sail-sg/Adan adan.py, commit 2c65bea',
  },
  family: 'adaptive moments',
  formula: `
c   = min(1, G / (‖g‖ + ε));  g ← c g          if G > 0
d   = 0 at the first step, else g - g'
m   = β1 m + (1 - β1) g
v   = β2 v + (1 - β2) d
n   = β3 n + (1 - β3) (g + β2 d)²
u   = (m / (1 - β1^t) + β2 v / (1 - β2^t)) / (√n / √(1 - β3^t) + ε)
θ   = (θ - η u) / (1 + η λ)                     proximal
      (1 - η λ) θ - η u                         otherwise
g'  = g
`,
  use: 'The default of this library: the paper reports the quality of others in about half the epochs, for large batches too. Learning rates are 5 to 10 times those of Adam, and the first steps want a warm-up.',
  decay: 'proximal',
  hyperparameters: {
    lr: {
      ...learningRate(
        1e-3,
        "Learning rate η, before the schedule. The authors advise 5 to 10 times Adam's, with warm-up: the first step moves every weight by η.",
      ),
      // Ten times that of Adam.
      search: { low: 3e-4, high: 0.3, scale: 'log' },
    },
    betas: decayRates(
      [0.98, 0.92, 0.99],
      "Decay rates of the averages of gradients, of gradient differences, and of squared look-ahead gradients. The paper's β are one minus these. Tune the third first (0.9 to 0.999), then the first (0.9 to 0.98).",
    ),
    eps: number({
      default: 1e-8,
      above: 0,
      doc: 'Stabiliser ε, added to the root of the second moment after its bias correction, and to the norm in clipping.',
    }),
    weightDecay: decayCoefficient(
      0,
      'Weight-decay coefficient λ, multiplied by the learning rate in force. The paper uses 0.02 nearly everywhere.',
    ),
    maxGradNorm: number({
      default: 0,
      min: 0,
      doc: 'Largest Euclidean norm of the gradient over all tensors; larger gradients are scaled down to it. 0 turns clipping off. A step whose norm is not finite is not taken.',
      search: { low: 0.1, high: 10, scale: 'log' },
    }),
    proximal: flag({
      default: true,
      doc: "How weights decay: divided by 1 + ηλ after the step (the paper's proximal form), or, where false, multiplied by 1 - ηλ before it as in AdamW (`no_prox` of the authors' code).",
    }),
    restartEvery: integer({
      default: 0,
      min: 0,
      unit: 'steps',
      doc: 'Restart after every so many steps; 0 for never.',
    }),
    movementBudget: number({
      default: 0,
      min: 0,
      doc: "Radius R of the paper's restart condition: restart after k steps once k Σ ‖θ_{j+1} - θ_j‖²_{√n_j} over them exceeds R². 0 turns it off.",
    }),
  },
  slots: {
    m: { doc: 'average of gradients' },
    v: { doc: 'average of gradient differences' },
    n: { doc: 'average of squared look-ahead gradients' },
    previous: { doc: 'gradient of the step before, after clipping' },
  },
  scalars: {
    seen: { per: 'tensor', doc: '1 once the tensor has had a gradient, so that `previous` holds one' },
    moved: { per: 'optimizer', doc: 'squared distance travelled since the last restart, in the metric √n' },
  },
  // The authors keep one counter for all tensors: a tensor whose first gradient comes late starts with the corrections of that step.
  counter: 'optimizer',
  restart: { slots: ['m', 'v', 'n'], scalars: ['moved'] },
  check({ restartEvery, movementBudget }) {
    if (restartEvery > 0 && movementBudget > 0)
      throw new ConfigError('adan: restartEvery and movementBudget are both set; choose one restart policy.');
  },

  // At the edge the sign of a quadratic's coordinate alternates, z = -1 in the characteristic equation of m, v and θ:
  // 2 = η λ1 [(1 - β1)/(1 + β1) + 2 β2 (1 - β2)/(1 + β2)], once the bias corrections of m and v have faded.
  stability({ lr, betas: [beta1, beta2] }) {
    if (lr === 0) return undefined;
    const gain = (1 - beta1) / (1 + beta1) + (2 * beta2 * (1 - beta2)) / (1 + beta2);
    return { threshold: 2 / (gain * lr), of: 'preconditioned hessian' };
  },
  preconditioner: ({ t, slots: { n }, h: { betas, eps } }) => add(div(sqrt(n), sqrt(correction(betas[2], t))), eps),

  update({ theta, grad, t, slots: { m, v, n, previous }, scalars: { seen, moved }, h, is }) {
    const [beta1, beta2, beta3] = h.betas;
    const clips = !is('maxGradNorm', 0);
    const gradNorm = globalNorm(grad);
    const factor = where(greater(h.maxGradNorm, 0), clipFactor(gradNorm, h.maxGradNorm, h.eps), 1);
    const g = clips ? mul(grad, factor) : grad;

    const first = logicalOr(equal(t, 1), equal(seen, 0));
    const d = where(first, 0, sub(g, previous));
    const m1 = ema(beta1, m, g);
    const v1 = ema(beta2, v, d);
    const n1 = ema(beta3, n, square(add(g, mul(beta2, d))));
    const momentum = add(div(m1, correction(beta1, t)), mul(beta2, div(v1, correction(beta2, t))));
    const u = div(momentum, add(div(sqrt(n1), sqrt(correction(beta3, t))), h.eps));
    const shrink = mul(h.lr, h.weightDecay);
    const next = h.proximal
      ? div(sub(theta, mul(h.lr, u)), add(shrink, 1))
      : sub(mul(sub(1, shrink), theta), mul(h.lr, u));

    const measures = !is('movementBudget', 0);
    const movedNow = measures ? add(moved, sum(mul(sqrt(n1), square(sub(next, theta))))) : moved;
    const far = greater(mul(t, movedNow), square(h.movementBudget));
    const due = equal(mod(t, h.restartEvery), 0);
    return {
      theta: next,
      slots: { m: m1, v: v1, n: n1, previous: g },
      scalars: { seen: 1, moved: movedNow },
      refuse: clips ? [refuseUnlessFinite(gradNorm)] : [],
      restart: measures ? far : is('restartEvery', 0) ? undefined : due,
      report: clips ? { gradNorm } : undefined,
    };
  },
});
