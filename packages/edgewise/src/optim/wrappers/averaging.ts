/**
 * @file Averages of iterates, evaluated and never trained: Polyak's uniform mean, the exponential one, and by their timing SWA.
 *
 * B. Polyak, A. Juditsky, 1992; P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018,
 * arXiv 1803.05407. As `torch.optim.swa_utils.AveragedModel`; warm-ups of the decay rate as in TensorFlow and timm.
 */
import { ConfigError } from '../../base/errors.ts';
import {
  add,
  div,
  equal,
  greater,
  logicalAnd,
  maximum,
  minimum,
  mod,
  mul,
  pow,
  sub,
  where,
} from '../../tensor/ops/elementwise.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { OptimizerDefinition, RuleSymbols } from '../definition.ts';
import { choice, count, decayRate, flag, type Schema, type Values } from '../hyperparameters.ts';
import { ema } from '../math.ts';
import type { Wrapper } from './wrapper.ts';

const hyperparameters = {
  averageKind: choice({
    choices: ['mean', 'ema'],
    default: 'mean',
    doc: 'Uniform mean of what is collected, or an exponential one.',
  }),
  averageStart: count({
    default: 0,
    min: 0,
    unit: 'steps',
    doc: 'Steps before anything is collected; the last iterate is evaluated until then.',
  }),
  averageEvery: count({
    default: 1,
    min: 1,
    unit: 'steps',
    doc: 'Steps between collections: an epoch or a cycle for SWA.',
  }),
  averageDecay: decayRate(
    0.999,
    'Decay rate d of the exponential mean, which looks back over about 1/(1 - d) collections.',
  ),
  averageWarmup: choice({
    choices: ['none', 'tensorflow', 'timm'],
    default: 'none',
    doc: 'How d rises at first: not at all, as min(d, (1 + n)/(10 + n)), or as min(d, 1 - (1 + n)^(-2/3)) after n collections.',
  }),
  averageDebias: flag({
    default: false,
    doc: 'Start the exponential mean at zero and divide by the weight it has (optax), instead of starting at the first iterate.',
  }),
} satisfies Schema;

type AverageSymbols = RuleSymbols<typeof hyperparameters, 'average', 'collected' | 'missing' | 'averageSteps'>;

function checkAverage({ averageKind, averageWarmup, averageDebias }: Values<typeof hyperparameters>): void {
  if (averageKind === 'mean' && (averageDebias || averageWarmup !== 'none'))
    throw new ConfigError(
      `average: ${averageDebias ? 'averageDebias' : `averageWarmup ${averageWarmup}`} with averageKind mean, which weighs all iterates alike; choose averageKind ema or drop it.`,
    );
  if (averageDebias && averageWarmup === 'timm')
    throw new ConfigError(
      'average: averageDebias with averageWarmup timm, whose first decay rate 0 takes the whole first iterate, so that nothing is left to correct; choose one.',
    );
}

/** The decay rate after n collections. */
function decayAfter(n: Tensor, h: AverageSymbols['h']): Tensor {
  switch (h.averageWarmup) {
    case 'none':
      return h.averageDecay;
    case 'tensorflow':
      return minimum(h.averageDecay, div(add(1, n), add(10, n)));
    case 'timm':
      return minimum(h.averageDecay, sub(1, pow(add(1, n), -2 / 3)));
  }
}

function collect({ theta, slots, scalars, h }: AverageSymbols) {
  const n = scalars.collected;
  const collected = add(n, 1);
  if (h.averageKind === 'mean') {
    return {
      slots: { average: add(slots.average, div(sub(theta, slots.average), collected)) },
      scalars: { collected },
    };
  }
  const d = decayAfter(n, h);
  const next = ema(d, slots.average, theta);
  return {
    slots: { average: h.averageDebias ? next : where(equal(n, 0), theta, next) },
    scalars: { collected, missing: mul(scalars.missing, d) },
  };
}

function evaluated({ theta, slots, scalars, h }: AverageSymbols): Tensor {
  const debiased = h.averageKind === 'ema' && h.averageDebias;
  // The weight of the iterates in a mean that started at zero; 1 before there is any, where it is not used.
  const weight = where(equal(scalars.collected, 0), 1, maximum(sub(1, scalars.missing), 0));
  return where(greater(scalars.collected, 0), debiased ? div(slots.average, weight) : slots.average, theta);
}

/** An average of the iterates of any optimizer that is evaluated at the point it trains. */
export const average: Wrapper = {
  name: 'average',
  title: 'Averages of iterates: Polyak, exponential, SWA',
  source: {
    title:
      'Acceleration of Stochastic Approximation by Averaging; Averaging Weights Leads to Wider Optima and Better Generalization',
    authors: 'Polyak, Juditsky; Izmailov, Podoprikhin, Garipov, Vetrov, Wilson',
    year: 2018,
    arxiv: '1803.05407',
    reference: 'torch.optim.swa_utils.AveragedModel, PyTorch 1.13',
  },
  formula: `
after steps t > start with (t - start) divisible by every:
n = n + 1
a = a + (θ - a) / n                              mean
    d a + (1 - d) θ, from the first θ            ema;  debiased: from 0, evaluated a / (1 - Π d)
a is evaluated, θ is trained
`,
  use: 'The last stretch of training with a rate that is not small: the average is better than any iterate. SWA collects once an epoch over the last quarter; exponential means with d of 0.999 to 0.9999 run from the start. Batch-norm statistics are computed anew for the average.',
  hyperparameters,
  wrap(base) {
    if (base.evaluated)
      throw new ConfigError(
        `average: ${base.name} is evaluated at another point than the one it trains already; averaging the trained points would average the wrong ones.`,
      );
    const taken = Object.keys(hyperparameters).find((name) => name in base.hyperparameters);
    if (taken) throw new ConfigError(`average: ${base.name} has a hyper-parameter '${taken}' already; wrap it once.`);
    // The symbols of a definition with these hyper-parameters, slot and scalars among its own.
    const own = (s: RuleSymbols<Schema, string, string>) => s as unknown as AverageSymbols;
    const made: OptimizerDefinition = {
      ...base,
      name: `${base.name}+average`,
      formula: `${base.formula.trim()}\n\n${average.formula.trim()}`,
      aliases: [],
      check(values) {
        base.check?.(values);
        // The schema below has them all.
        checkAverage(values as unknown as Values<typeof hyperparameters>);
      },
      hyperparameters: { ...base.hyperparameters, ...hyperparameters },
      slots: { ...base.slots, average: { doc: 'average of iterates' } },
      scalars: {
        ...base.scalars,
        // Not the optimizer's count, which a restart of the base sets to 0.
        averageSteps: { per: 'optimizer', doc: 'steps, whether restarted or not' },
        collected: { per: 'tensor', doc: 'iterates in the average' },
        missing: { per: 'tensor', doc: 'weight of the zero an exponential mean starts with', init: () => 1 },
      },
      phases: [
        ...base.phases,
        { update: (s) => ({ scalars: { averageSteps: add(own(s).scalars.averageSteps, 1) } }) },
        {
          when: (s) => {
            const { scalars, h } = own(s);
            const since = sub(scalars.averageSteps, h.averageStart);
            return logicalAnd(greater(since, 0), equal(mod(since, h.averageEvery), 0));
          },
          update: (s) => collect(own(s)),
        },
      ],
      evaluated: (s) => evaluated(own(s)),
    };
    return made;
  },
};
