/** @file Wrappers around the rules people wrap most, under everything that optimizers promise. */
import {
  adam,
  adamw,
  adan,
  centralize,
  lookahead,
  type OptimizerDefinition,
  sam,
  sgd,
} from '../../../src/optim/index.ts';
import type { Reference } from '../references/reference.ts';
import {
  centralizeReference,
  innerAdam,
  innerAdamw,
  innerAdan,
  innerSgd,
  lookaheadReference,
  samReference,
} from '../references/wrappers.ts';
import { type Given, runOptimizerSuite, type SuiteRow } from '../suite.ts';

const adamChanges: SuiteRow['changes'] = {
  lr: 0.03,
  betas: [0.8, 0.9],
  eps: 0.1,
  weightDecay: 0.5,
  amsgrad: { amsgrad: true, betas: [0.9, 0.5] },
  maximize: true,
};
const adamBase: Given = { lr: 0.02, weightDecay: 0.1, eps: 1e-3 };

interface Base {
  readonly definition: OptimizerDefinition;
  readonly inner: Parameters<typeof lookaheadReference>[0];
  readonly base: Given;
  readonly changes: SuiteRow['changes'];
  readonly quadratic: Given;
  readonly groupOption: string;
  /** Whether λθ is added to the gradient. */
  readonly coupled: boolean;
}
const bases: readonly Base[] = [
  {
    definition: sgd,
    inner: innerSgd,
    base: { lr: 0.05, momentum: 0.9, weightDecay: 0.1 },
    changes: { lr: 0.1, momentum: 0.5, dampening: 0.3, nesterov: true, weightDecay: 0.5, maximize: true },
    quadratic: { lr: 0.05, momentum: 0.9 },
    groupOption: 'momentum',
    coupled: true,
  },
  {
    definition: adam,
    inner: innerAdam,
    base: adamBase,
    changes: adamChanges,
    quadratic: { lr: 0.05 },
    groupOption: 'eps',
    coupled: true,
  },
  {
    definition: adamw,
    inner: innerAdamw,
    base: adamBase,
    changes: adamChanges,
    quadratic: { lr: 0.05, weightDecay: 0 },
    groupOption: 'eps',
    coupled: false,
  },
  {
    definition: adan,
    inner: innerAdan,
    base: { lr: 0.02, weightDecay: 0.1, eps: 1e-3 },
    changes: {
      lr: 0.03,
      betas: [0.9, 0.8, 0.95],
      eps: 0.1,
      weightDecay: 0.5,
      maxGradNorm: 1,
      proximal: { proximal: false, weightDecay: 2 },
      restartEvery: 3,
      movementBudget: 0.05,
    },
    quadratic: { lr: 0.05 },
    groupOption: 'eps',
    coupled: false,
  },
];

for (const { definition, inner, base, changes, quadratic, groupOption, coupled } of bases) {
  const plain: Reference = (theta, values) => inner(theta, values);

  runOptimizerSuite({
    definition: lookahead(definition),
    reference: lookaheadReference(inner),
    base: { ...base, lookaheadSteps: 3, lookaheadAlpha: 0.5 },
    changes: {
      ...changes,
      ...(definition === adan && {
        restartEvery: { restartEvery: 3, lookaheadSteps: 1 },
        movementBudget: { movementBudget: 0.05, lookaheadSteps: 1 },
      }),
      lookaheadSteps: 2,
      lookaheadAlpha: 0.8,
      lookaheadMomentum: 'reset',
    },
    quadratic,
    groupOption,
    ...(definition === adan && { refusesNonFinite: { ...base, maxGradNorm: 1 } }),
  });

  runOptimizerSuite({
    definition: sam(definition),
    reference: samReference(plain),
    base: { ...base, samRho: 0.5 },
    changes: {
      ...changes,
      samRho: 1,
      samKind: 'asam',
      samEta: { samEta: 0.3, samKind: 'asam' },
      samVectors: { samVectors: true, samKind: 'asam' },
      samEps: 0.5,
      samSteps: 3,
    },
    // Gradients here do not depend on the weights.
    elsewhere: Object.fromEntries(
      ['samRho', 'samKind', 'samEta', 'samVectors', 'samEps'].map((name) => [
        name,
        'wrapped.test.ts: SAM on a loss equals the scalar reference',
      ]),
    ),
    quadratic: { ...quadratic, samRho: 0.01 },
    refusesNonFinite: 'always',
    skip: [
      {
        test: 'groups act as separate optimizers',
        reason:
          'the ascent has a length over all tensors, so that the weights of one group move the gradients of another',
      },
    ],
  });

  runOptimizerSuite({
    definition: centralize(definition),
    reference: centralizeReference(plain),
    base,
    changes: {
      ...changes,
      centralize: 'convolutions',
      centralizeOf: 'update',
      centralizeDecay: coupled ? true : { centralizeDecay: true, centralize: 'off' },
    },
    elsewhere: coupled ? {} : { centralizeDecay: 'wrapped.test.ts: what cannot be wrapped is said' },
    quadratic: { ...quadratic, centralize: 'off' },
    groupOption,
    skip: [{ test: 'non-finite gradients', reason: 'a mean is shared by all components of its row' }],
  });
}
