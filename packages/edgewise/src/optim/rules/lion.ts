/**
 * @file Lion: the sign of an average of gradients.
 *
 * X. Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, arXiv 2302.06675. Rule of the authors' code.
 */
import { mul, sign, sub } from '../../tensor/ops/elementwise.ts';
import { defineOptimizer } from '../definition.ts';
import { decayCoefficient, decayRates, learningRate } from '../hyperparameters.ts';
import { ema, shrunk } from '../math.ts';

export const lion = defineOptimizer({
  name: 'lion',
  title: 'Lion',
  source: {
    title: 'Symbolic Discovery of Optimization Algorithms',
    authors: 'Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu, Le',
    year: 2023,
    arxiv: '2302.06675',
    reference: 'github.com/google/automl lion_pytorch.py, commit 6a54c87',
  },
  family: 'sign',
  formula: `
c = β1 m + (1 - β1) g
θ = (1 - η λ) θ - η sign(c)                      sign(0) = 0
m = β2 m + (1 - β2) g                            after use
`,
  use: "One vector of state. Learning rates 3 to 10 times smaller than AdamW's and decay as many times larger; best with large batches, since every step has the same size.",
  decay: 'decoupled',
  hyperparameters: {
    lr: learningRate(1e-4),
    betas: decayRates(
      [0.9, 0.99],
      'Decay rates β1 of what the sign is taken of, β2 of what is kept. 0.95 and 0.98 for language.',
    ),
    weightDecay: decayCoefficient(0, 'Weight-decay coefficient λ: weights are multiplied by 1 - ηλ.'),
  },
  slots: { m: { doc: 'average of gradients' } },
  restart: { slots: ['m'], scalars: [] },
  update(s) {
    const { grad, slots, h } = s;
    const [beta1, beta2] = h.betas;
    const direction = sign(ema(beta1, slots.m, grad));
    return { theta: sub(shrunk(s), mul(h.lr, direction)), slots: { m: ema(beta2, slots.m, grad) } };
  },
});
