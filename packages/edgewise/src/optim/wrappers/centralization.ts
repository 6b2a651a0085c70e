/**
 * @file Gradient centralization: gradients of weight matrices without their mean over each output.
 *
 * H. Yong, J. Huang, X. Hua, L. Zhang, "Gradient Centralization: A New Optimization Technique for Deep Neural Networks", ECCV 2020,
 * arXiv 2004.01461. Options of the authors' classes: SGD_GC and its like, GCC for convolutions only, GC2 for the finished update.
 */
import { ConfigError } from '../../base/errors.ts';
import { add, div, greater, mul, neg, sub, where } from '../../tensor/ops/elementwise.ts';
import { mean, sum } from '../../tensor/ops/reduce.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { OptimizerDefinition } from '../definition.ts';
import {
  type ChoiceParameter,
  choice,
  type FlagParameter,
  flag,
  type Schema,
  type Values,
} from '../hyperparameters.ts';
import { type AnyPhase, type AnySymbols, rewriteGradient, withHyperparameters } from './gradient.ts';
import type { Wrapper } from './wrapper.ts';

const hyperparameters = {
  centralize: choice({
    choices: ['off', 'weights', 'convolutions'],
    default: 'weights',
    doc: 'Which tensors: `weights` those of rank 2 and more (GC), `convolutions` those of rank 4 and more (GCC), `off` none.',
  }),
  centralizeOf: choice({
    choices: ['gradient', 'update'],
    default: 'gradient',
    doc: 'What loses its mean: the gradient, or the finished step with any decay in it (GC2).',
  }),
  centralizeDecay: flag({
    default: false,
    doc: "Take the mean of the gradient together with the L2 term, as the authors' code does, so that decay leaves the mean of the weights alone. For optimizers that add λθ to the gradient.",
  }),
} as const;

interface Added extends Schema {
  readonly centralize: ChoiceParameter<'off' | 'weights' | 'convolutions'>;
  readonly centralizeOf: ChoiceParameter<'gradient' | 'update'>;
  readonly centralizeDecay: FlagParameter;
}

/**
 * Rules that add λθ to the gradient before anything else, whatever their options: there the two orders are this far apart and no further.
 * Others that are declared `coupled` add it elsewhere (lamb), for some tensors (lars) or at another point.
 */
const ADDS_PENALTY: ReadonlySet<string> = new Set([
  'sgd',
  'adam',
  'adamax',
  'nadam',
  'adagrad',
  'rmsprop',
  'adadelta',
  'generalizedSignSgd',
  'adabound',
]);

/**
 * `base` on gradients without their mean over all axes but the first, which is that of outputs, for tensors of rank 2 (or 4) and more.
 * Adds `centralize`, `centralizeOf`, `centralizeDecay`.
 * @throws ConfigError where `base` is wrapped in this already or steps along no gradient of the loss itself.
 */
export function centralize<H extends Schema, S extends string, C extends string>(
  base: OptimizerDefinition<H, S, C>,
): OptimizerDefinition<H & Added, S, C> {
  // The same definition with more hyper-parameters, which its own rule does not read.
  return around(base) as unknown as OptimizerDefinition<H & Added, S, C>;
}

const isOff = ({ h }: AnySymbols): boolean => choiceOf(h, 'centralize') === 'off';

function around(base: OptimizerDefinition): OptimizerDefinition {
  withHyperparameters(base, hyperparameters);
  const several = base.phases.filter(({ evaluate }) => evaluate !== undefined).length > 1;
  const ofGradient = rewriteGradient(
    centredSteps(base),
    'centralize',
    hyperparameters,
    (s) => isOff(s) || choiceOf(s.h, 'centralizeOf') !== 'gradient',
    { change: (s, _, tensor) => sub(s.grad, meanOf(penalized(s), s, tensor)) },
  );
  return {
    ...ofGradient,
    title: `${base.title} with gradient centralization`,
    formula: `${formula.trimEnd()}\n${base.formula.trimStart()}`,
    check(values) {
      base.check?.(values);
      check(base, several, values);
    },
    // Without their mean, gradients follow the Hessian on a subspace, whose largest eigenvalue is another one.
    stability: (values) => (values.centralize === 'off' ? base.stability?.(values) : undefined),
  };
}

function check(base: OptimizerDefinition, several: boolean, values: Values<Schema>): void {
  const { centralize: of, centralizeOf: what, centralizeDecay: official } = values as Values<Added>;
  if (of === 'off') return;
  if (what === 'update' && several)
    throw new ConfigError(
      `${base.name}: centralizeOf is update, but a step moves the weights more than once; use gradient, or put centralize around the optimizer inside.`,
    );
  if (!official) return;
  if (what === 'update')
    throw new ConfigError(
      `${base.name}: centralizeDecay is about the gradient, but centralizeOf is update, which has the decay in it already; choose one.`,
    );
  if (!ADDS_PENALTY.has(base.name))
    throw new ConfigError(
      `${base.name}: centralizeDecay needs an optimizer that adds λθ to the gradient first of all (${[...ADDS_PENALTY].join(', ')}), with centralize as its innermost wrapper; leave it out here.`,
    );
}

/** `base` whose steps lose their means where asked for. Not for phases that lead elsewhere: `check` refuses several gradients a step. */
function centredSteps(base: OptimizerDefinition): OptimizerDefinition {
  const phases = base.phases.map((phase): AnyPhase => {
    const update: AnyPhase['update'] = (s) => {
      const made = phase.update(s);
      if (!made.theta || isOff(s) || choiceOf(s.h, 'centralizeOf') !== 'update') return made;
      return { ...made, theta: sub(made.theta, meanOf(sub(made.theta, s.theta), s, phase.over === 'tensors')) };
    };
    return { ...phase, update };
  });
  return { ...base, phases };
}

/** What the mean is taken of: the gradient, with the L2 term where asked for. The rule adds that itself, so it enters the mean alone. */
function penalized({ grad, theta, h, is }: AnySymbols): Tensor {
  if (h.centralizeDecay !== (true as unknown) || is('weightDecay', 0)) return grad;
  const penalty = mul(h.weightDecay as unknown as Tensor, theta);
  // Where it ascends, the rule negates the gradient before it adds the L2 term.
  return add(grad, h.maximize === (true as unknown) ? neg(penalty) : penalty);
}

/** Mean over all axes but the first where the tensor's rank is high enough, 0 elsewhere. */
function meanOf(x: Tensor, { h, rank, columns }: AnySymbols, tensor: boolean): Tensor {
  const above = choiceOf(h, 'centralize') === 'convolutions' ? 3 : 1;
  if (!tensor) return where(greater(rank, above), div(sum(x, { axes: 2, keepDims: true }), columns), 0);
  if (x.rank <= above) return mul(x, 0);
  return mean(x, { axes: Array.from({ length: x.rank - 1 }, (_, i) => i + 1), keepDims: true });
}

/** A choice by its declaration is itself in a rule. */
const choiceOf = (h: AnySymbols['h'], name: keyof typeof hyperparameters): unknown => h[name];

const formula = `
g = g - mean(g)                                  over all axes but the first, for tensors of rank 2 and more
g = g - mean(g + λ θ)                            with the L2 term
θ' = θ' - mean(θ' - θ)                           of the update θ → θ' instead
`;

export const centralizeWrapper: Wrapper = {
  name: 'centralize',
  title: 'Gradient centralization',
  source: {
    title: 'Gradient Centralization: A New Optimization Technique for Deep Neural Networks',
    authors: 'Yong, Huang, Hua, Zhang',
    year: 2020,
    arxiv: '2004.01461',
    reference: 'github.com/Yonghongwei/Gradient-Centralization, commit ed2a608',
  },
  formula,
  use: 'Networks with normalisation, whose outputs do not feel the mean of a weight row: a regulariser at the cost of one mean a row. The first axis must be that of outputs, as it is in this library.',
  hyperparameters,
  wrap: around,
};
