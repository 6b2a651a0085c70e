/** @file Recorded names of wrappers around optimizers. */
import { centralize, findOptimizer, lookahead, type OptimizerDefinition, sam } from 'edgewise/optim';
import { type Recorded, renamed, type Translation } from '../subjects.ts';

/** The rule inside, by the name of `which`, and its hyper-parameters. */
function inside(hyperparameters: Recorded, which: 'inner' | 'base') {
  const { [which]: name, [`${which}_hyperparameters`]: values, ...rest } = hyperparameters;
  return { base: findOptimizer(String(name)), values: renamed(Object(values)), rest };
}

const lookaheadNames = {
  la_steps: 'lookaheadSteps',
  la_alpha: 'lookaheadAlpha',
  pullback_momentum: 'lookaheadMomentum',
};

const samOf =
  (kind: (hyperparameters: Recorded) => string): Translation =>
  (hyperparameters) => {
    const { base, values, rest } = inside(hyperparameters, 'base');
    return {
      definition: sam(base),
      settings: {
        values: {
          ...values,
          ...renamed(rest, { rho: 'samRho', eta: 'samEta', adaptive: undefined }),
          samKind: kind(hyperparameters),
        },
      },
    };
  };

/** The authors' classes centre gradients with the L2 term in them. */
const centralized =
  (base: OptimizerDefinition): Translation =>
  (hyperparameters) => ({
    definition: centralize(base),
    settings: { values: { ...renamed(hyperparameters), centralizeDecay: true } },
  });

export const translations: Readonly<Record<string, Translation>> = {
  lookahead(hyperparameters) {
    const { base, values, rest } = inside(hyperparameters, 'inner');
    return { definition: lookahead(base), settings: { values: { ...values, ...renamed(rest, lookaheadNames) } } };
  },
  sam: samOf(({ adaptive }) => (adaptive === true ? 'adaptive' : 'sam')),
  asam: samOf(() => 'asam'),
  sgd_gc: centralized(findOptimizer('sgd')),
  adam_gc: centralized(findOptimizer('adam')),
};
