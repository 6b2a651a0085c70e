/**
 * @file Adam, AdamW and AMSGrad.
 *
 * D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv 1412.6980. AdamW: I. Loshchilov,
 * F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, arXiv 1711.05101. AMSGrad: S. Reddi, S. Kale, S. Kumar,
 * "On the Convergence of Adam and Beyond", ICLR 2018, arXiv 1904.09237. Rules of `torch.optim.Adam` and `AdamW`.
 *
 * The maximum of AMSGrad is over uncorrected averages, as in PyTorch; optax corrects first.
 */
import { add, div, maximum, mul, neg, sqrt, square, sub } from '../../tensor/ops/elementwise.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { defineOptimizer, type RuleSymbols, type Source, type Update } from '../definition.ts';
import { decayCoefficient, decayRates, flag, learningRate, number, type Values } from '../hyperparameters.ts';
import { correction, ema } from '../math.ts';

const hyperparameters = (weightDecay: number, decay: string) =>
  ({
    lr: learningRate(1e-3),
    betas: decayRates([0.9, 0.999], 'Decay rates of the averages of gradients and of their squares.'),
    eps: number({
      default: 1e-8,
      above: 0,
      doc: 'Stabiliser ε, added to the root of the second moment after its bias correction.',
    }),
    weightDecay: decayCoefficient(weightDecay, decay),
    amsgrad: flag({
      default: false,
      doc: 'Divide by the root of the largest second moment so far instead of the current one.',
    }),
    maximize: flag({ default: false, doc: 'Ascend instead of descend; decay still shrinks the weights.' }),
  }) as const;

type AdamSchema = ReturnType<typeof hyperparameters>;
type Slot = 'm' | 'v' | 'w';

const page = {
  source: {
    title: 'Adam: A Method for Stochastic Optimization',
    authors: 'Kingma, Ba',
    year: 2015,
    arxiv: '1412.6980',
    reference: 'torch.optim.Adam, PyTorch 1.13',
  } satisfies Source as Source,
  family: 'adaptive moments' as const,
  slots: {
    m: { doc: 'average of gradients' },
    v: { doc: 'average of squared gradients' },
    w: { doc: 'largest v so far', when: ({ amsgrad }: Values<AdamSchema>) => amsgrad },
  },
  restart: { slots: ['m', 'v', 'w'] as const, scalars: [] },
  /** The heavy ball's edge in its averaged form, with the preconditioner (1 - β1^t)(√v̂ + ε). */
  stability({ lr, betas: [beta1], maximize }: Values<AdamSchema>) {
    return maximize || lr === 0
      ? undefined
      : ({ threshold: (2 + 2 * beta1) / ((1 - beta1) * lr), of: 'preconditioned hessian' } as const);
  },
  preconditioner({ t, slots, h }: RuleSymbols<AdamSchema, Slot, never>) {
    const [beta1, beta2] = h.betas;
    const second = div(sqrt(h.amsgrad ? slots.w : slots.v), sqrt(correction(beta2, t)));
    return mul(correction(beta1, t), add(second, h.eps));
  },
};

export const adam = defineOptimizer({
  ...page,
  name: 'adam',
  title: 'Adam',
  formula: `
g = -g                                           if maximize
g = g + λ θ
m = β1 m + (1 - β1) g
v = β2 v + (1 - β2) g²
w = max(w, v)                                    amsgrad: takes the place of v below
θ = θ - η (m / (1 - β1^t)) / (√v / √(1 - β2^t) + ε)
`,
  use: 'A first try on anything, with its default settings; where weights decay, AdamW instead.',
  decay: 'coupled',
  hyperparameters: hyperparameters(
    0,
    'Coefficient λ of the L2 penalty: λθ is added to the gradient, and so is divided like it. For decay that is not, use adamw.',
  ),
  update: ({ theta, grad, t, slots, h, is }) => {
    const ascent = h.maximize ? neg(grad) : grad;
    const g = is('weightDecay', 0) ? ascent : add(ascent, mul(h.weightDecay, theta));
    return moments(theta, g, { t, slots, h });
  },
});

/** `adam` that is told so by its name. */
export const amsgrad = {
  ...adam,
  name: 'amsgrad',
  title: 'AMSGrad',
  source: {
    ...adam.source,
    title: 'On the Convergence of Adam and Beyond',
    authors: 'Reddi, Kale, Kumar',
    year: 2018,
    arxiv: '1904.09237',
  },
  use: "Where Adam's steps grow back too soon: the denominator never shrinks.",
  hyperparameters: {
    ...adam.hyperparameters,
    amsgrad: { ...adam.hyperparameters.amsgrad, default: true },
  },
} satisfies typeof adam;

export const adamw = defineOptimizer({
  ...page,
  name: 'adamw',
  title: 'AdamW',
  formula: `
g = -g                                           if maximize
m = β1 m + (1 - β1) g
v = β2 v + (1 - β2) g²
w = max(w, v)                                    amsgrad: takes the place of v below
θ = (1 - η λ) θ - η (m / (1 - β1^t)) / (√v / √(1 - β2^t) + ε)
`,
  use: 'Transformers, and anything with weight decay: the decay of a weight does not depend on the size of its gradients.',
  decay: 'decoupled',
  source: {
    ...page.source,
    title: 'Decoupled Weight Decay Regularization',
    authors: 'Loshchilov, Hutter',
    year: 2019,
    arxiv: '1711.05101',
    reference: 'torch.optim.AdamW, PyTorch 1.13',
  },
  hyperparameters: hyperparameters(
    1e-2,
    'Weight-decay coefficient λ: weights are multiplied by 1 - ηλ with the learning rate in force (PyTorch, optax). The paper multiplies by the schedule only.',
  ),
  update: ({ theta, grad, t, slots, h }) =>
    moments(mul(sub(1, mul(h.lr, h.weightDecay)), theta), h.maximize ? neg(grad) : grad, { t, slots, h }),
});

/** Adam's step from `theta` along `g`. */
function moments(
  theta: Tensor,
  g: Tensor,
  { t, slots, h }: Pick<RuleSymbols<AdamSchema, Slot, never>, 't' | 'slots' | 'h'>,
): Update<Slot, never> {
  const [beta1, beta2] = h.betas;
  const m = ema(beta1, slots.m, g);
  const v = ema(beta2, slots.v, square(g));
  const w = h.amsgrad ? maximum(slots.w, v) : undefined;
  const direction = div(div(m, correction(beta1, t)), add(div(sqrt(w ?? v), sqrt(correction(beta2, t))), h.eps));
  return { theta: sub(theta, mul(h.lr, direction)), slots: w ? { m, v, w } : { m, v } };
}
