/**
 * @file NAdam: Adam with Nesterov's momentum, in Dozat's form with a schedule of momenta and in the simple form.
 *
 * T. Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016. NAdam: rule of `torch.optim.NAdam`'s multi-tensor path
 * (the single-tensor path of PyTorch 1.13 has one momentum too many in its last fraction). NAdamW: timm's.
 */
import { add, div, mul, pow, sqrt, square, sub } from '../../tensor/ops/elementwise.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer, type Source } from '../definition.ts';
import { decayCoefficient, decayRates, learningRate, number, stabiliser } from '../hyperparameters.ts';
import { correction, ema, shrunk, withPenalty } from '../math.ts';

const source: Source = {
  title: 'Incorporating Nesterov Momentum into Adam',
  authors: 'Dozat',
  year: 2016,
  reference: 'torch.optim.NAdam (multi-tensor path), PyTorch 1.13',
};
const betas = decayRates([0.9, 0.999], 'Decay rates of the averages of gradients and of their squares.');
const eps = stabiliser(1e-8, 'Stabiliser ε, added to the root of the corrected second moment.');
const slots = { m: { doc: 'average of gradients' }, v: { doc: 'average of squared gradients' } };

export const nadam = defineOptimizer({
  name: 'nadam',
  title: 'NAdam',
  source,
  family: 'adaptive moments',
  formula: `
g   = g + λ θ
μ_t = β1 (1 - ½ · 0.96^(t ψ));   Π_t = Π_{t-1} μ_t
m   = β1 m + (1 - β1) g
v   = β2 v + (1 - β2) g²
θ   = θ - η [ (1 - μ_t) / (1 - Π_t) g + μ_{t+1} / (1 - Π_t μ_{t+1}) m ] / (√(v / (1 - β2^t)) + ε)
`,
  use: 'In place of Adam where a look ahead helps: small batches, recurrent networks. Momentum rises over the first thousands of steps.',
  decay: 'coupled',
  hyperparameters: {
    lr: learningRate(2e-3),
    betas,
    eps,
    weightDecay: decayCoefficient(0, 'Coefficient λ of the L2 penalty: λθ is added to the gradient.'),
    momentumDecay: number({
      default: 4e-3,
      min: 0,
      doc: 'Rate ψ at which the momentum rises from half of β1 to β1; with 0 it stays at half.',
    }),
  },
  slots,
  scalars: { product: { per: 'tensor', doc: 'product Π of momenta so far', init: () => 1 } },
  restart: { slots: ['m', 'v'], scalars: ['product'] },
  update(s) {
    const { theta, grad, t, scalars, h } = s;
    const [beta1, beta2] = h.betas;
    const momentum = (step: Tensor) => mul(beta1, sub(1, mul(0.5, pow(0.96, mul(step, h.momentumDecay)))));
    const g = withPenalty(grad, s);
    const [now, ahead] = [momentum(t), momentum(add(t, 1))];
    const product = mul(scalars.product, now);
    const m = ema(beta1, s.slots.m, g);
    const v = ema(beta2, s.slots.v, square(g));
    const step = add(mul(div(sub(1, now), sub(1, product)), g), mul(div(ahead, sub(1, mul(product, ahead))), m));
    const denominator = add(div(sqrt(v), sqrt(correction(beta2, t))), h.eps);
    return { theta: sub(theta, mul(h.lr, div(step, denominator))), slots: { m, v }, scalars: { product } };
  },
});

export const nadamw = defineOptimizer({
  name: 'nadamw',
  title: 'NAdamW',
  source: { ...source, reference: undefined },
  family: 'adaptive moments',
  formula: `
m = β1 m + (1 - β1) g
v = β2 v + (1 - β2) g²
θ = (1 - η λ) θ - η (β1 m + (1 - β1) g) / (1 - β1^t) / (√v / √(1 - β2^t) + ε)
`,
  use: 'AdamW with a look ahead, the simple form of timm: no schedule of momenta, decoupled decay.',
  decay: 'decoupled',
  hyperparameters: {
    lr: learningRate(2e-3),
    betas,
    eps,
    weightDecay: decayCoefficient(1e-2, 'Weight-decay coefficient λ: weights are multiplied by 1 - ηλ.'),
  },
  slots,
  restart: { slots: ['m', 'v'], scalars: [] },
  update(s) {
    const { grad, t, h } = s;
    const [beta1, beta2] = h.betas;
    const m = ema(beta1, s.slots.m, grad);
    const v = ema(beta2, s.slots.v, square(grad));
    const step = div(ema(beta1, m, grad), correction(beta1, t));
    const denominator = add(div(sqrt(v), sqrt(correction(beta2, t))), h.eps);
    return { theta: sub(shrunk(s), mul(h.lr, div(step, denominator))), slots: { m, v } };
  },
});
