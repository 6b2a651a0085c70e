/** @file What is measured: every optimizer at its defaults, and settings that make another kernel; beside some, PyTorch's own. */
import {
  findOptimizer,
  type OptimizerDefinition,
  optimizers,
  type Wrapper,
  wrappers,
} from '../../packages/edgewise/src/optim/index.ts';

type Value = number | boolean | string | readonly number[];

export interface Rule {
  readonly name: string;
  readonly definition: OptimizerDefinition;
  readonly values: Readonly<Record<string, Value>>;
  /** The same rule among `torch.optim`. */
  readonly torch?: { readonly name: string; readonly arguments: Readonly<Record<string, Value>> };
}

/** Settings that a rule is measured under beside its defaults. */
const variants: readonly (readonly [optimizer: string, settings: string, values: Rule['values']])[] = [
  ['sgd', 'momentum, decay', { momentum: 0.9, weightDecay: 1e-4 }],
  ['sgd', 'nesterov', { momentum: 0.9, nesterov: true }],
  ['adam', 'amsgrad', { amsgrad: true }],
  ['adan', 'decay', { weightDecay: 0.02 }],
  ['adan', 'decay, not proximal', { weightDecay: 0.02, proximal: false }],
  ['adan', 'decay, clipped', { weightDecay: 0.02, maxGradNorm: 1 }],
  ['adan', 'movement budget', { movementBudget: 1e9 }],
  ['rmsprop', 'centered, momentum', { centered: true, momentum: 0.9 }],
];

/** Rules of `torch.optim` by our name (and settings), with the same settings. */
const torch: Readonly<Record<string, Rule['torch']>> = {
  sgd: { name: 'SGD', arguments: { lr: 1e-4 } },
  'sgd, momentum, decay': { name: 'SGD', arguments: { lr: 1e-4, momentum: 0.9, weight_decay: 1e-4 } },
  'sgd, nesterov': { name: 'SGD', arguments: { lr: 1e-4, momentum: 0.9, nesterov: true } },
  adagrad: { name: 'Adagrad', arguments: { lr: 1e-4 } },
  rmsprop: { name: 'RMSprop', arguments: { lr: 1e-4 } },
  'rmsprop, centered, momentum': { name: 'RMSprop', arguments: { lr: 1e-4, centered: true, momentum: 0.9 } },
  adadelta: { name: 'Adadelta', arguments: { lr: 1e-4 } },
  adam: { name: 'Adam', arguments: { lr: 1e-4 } },
  'adam, amsgrad': { name: 'Adam', arguments: { lr: 1e-4, amsgrad: true } },
  adamw: { name: 'AdamW', arguments: { lr: 1e-4 } },
  adamax: { name: 'Adamax', arguments: { lr: 1e-4 } },
  nadam: { name: 'NAdam', arguments: { lr: 1e-4 } },
  radam: { name: 'RAdam', arguments: { lr: 1e-4 } },
  asgd: { name: 'ASGD', arguments: { lr: 1e-4 } },
};

/** Whether all of a step is done by fused kernels; matrix methods have a benchmark of their own. */
const isFused = ({ phases }: OptimizerDefinition): boolean => phases.every(({ over }) => over !== 'tensors');

/** Wrappers around plain momentum. */
const wrapped = (wrapper: Wrapper): Rule => ({
  name: `${wrapper.name} around sgd`,
  definition: wrapper.wrap(findOptimizer('sgd')),
  values: { momentum: 0.9, ...(wrapper.name.startsWith('clip') ? { [wrapper.name]: 1 } : {}) },
});

export const rules: readonly Rule[] = [
  ...optimizers
    .filter(isFused)
    .flatMap((definition): Rule[] => [
      { name: definition.name, definition, values: {} },
      ...variants
        .filter(([name]) => name === definition.name)
        .map(([name, settings, values]) => ({ name: `${name}, ${settings}`, definition, values })),
    ]),
  ...wrappers.map(wrapped).filter(({ definition }) => isFused(definition)),
].map((rule) => ({ ...rule, torch: torch[rule.name] }));
