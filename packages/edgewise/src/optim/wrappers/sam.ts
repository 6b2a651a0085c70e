/**
 * @file Sharpness-aware minimisation: the gradient at the worst point nearby, for any optimizer.
 *
 * P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021,
 * arXiv 2010.01412; rule of davda54/sam. ASAM: J. Kwon, J. Kim, H. Park, I. K. Choi, ICML 2021, arXiv 2102.11600. Unnormalised, and the
 * role of m: M. Andriushchenko, N. Flammarion, ICML 2022, arXiv 2206.06232.
 */
import { ConfigError } from '../../base/errors.ts';
import { abs, add, div, greater, mul, where } from '../../tensor/ops/elementwise.ts';
import { constant, type Tensor } from '../../tensor/tensor.ts';
import type { OptimizerDefinition, Stability, Update } from '../definition.ts';
import {
  type ChoiceParameter,
  type CountParameter,
  choice,
  count,
  type FlagParameter,
  flag,
  type NumberParameter,
  number,
  type Schema,
  stabiliser,
  type Values,
} from '../hyperparameters.ts';
import { globalNorm, refuseUnlessFinite } from '../math.ts';
import { type AnyPhase, type AnySymbols, type Ascent, isPart, withHyperparameters } from './gradient.ts';
import type { Wrapper } from './wrapper.ts';

/** Most steps of an ascent. */
const MAX_STEPS = 4;

const hyperparameters = {
  samRho: number({
    default: 0.05,
    min: 0,
    doc: 'Radius ρ: how far from the weights the gradient is taken, in the norm of the kind. 0.05 for `sam`, 0.5 to 2 for `adaptive` and `asam`. 0 turns it off, second gradient and all.',
    search: { low: 0.01, high: 2, scale: 'log' },
  }),
  samKind: choice({
    choices: ['sam', 'adaptive', 'asam', 'unnormalised'],
    default: 'sam',
    doc: 'Shape of the neighbourhood: `sam` a ball; `adaptive` one scaled by |θ| in every coordinate; `asam` by |θ| + η_a for tensors of rank 2 and more, 1 for the rest; `unnormalised` goes ρ times the gradient, without a norm.',
  }),
  samEta: number({
    default: 0.01,
    min: 0,
    doc: 'Least scale η_a of a coordinate, added to |θ|; for `asam`.',
  }),
  samVectors: flag({
    default: false,
    doc: 'Whether `asam` scales tensors of rank 0 and 1, such as biases, by |θ| + η_a too.',
  }),
  samEps: stabiliser(
    1e-12,
    'Stabiliser ε, added to the norm that the ascent is divided by; not for `unnormalised`. 1e-16 in the code of ASAM.',
  ),
  samSteps: count({
    default: 1,
    min: 1,
    max: MAX_STEPS,
    unit: 'steps',
    doc: 'Steps of the ascent, each of the length ρ along the gradient where the one before led; each costs a gradient.',
  }),
} as const;

interface Added extends Schema {
  readonly samRho: NumberParameter;
  readonly samKind: ChoiceParameter<'sam' | 'adaptive' | 'asam' | 'unnormalised'>;
  readonly samEta: NumberParameter;
  readonly samVectors: FlagParameter;
  readonly samEps: NumberParameter;
  readonly samSteps: CountParameter;
}

export interface SamOptions {
  /**
   * Shards n of m-SAM, 1 by default: each of n equal parts of the batch has an ascent of its own, and the gradients where they lead are
   * averaged. The gradient of the mean loss over part i is asked for as `loss:i/n`, i from 1. The gradient of the whole batch that a step
   * begins with is not used.
   */
  readonly shards?: number;
}

const SAVED = 'saved';
const SUM = 'shardMean';

/**
 * `base` along the gradient at θ + e instead of θ, where e = ρ T² g / (‖T g‖ + ε) goes uphill. θ is put back to the bit before `base` steps, so
 * that its decay and momentum see θ. Adds `samRho`, `samKind`, `samEta`, `samVectors`, `samEps`, `samSteps`, and reports `ascentNorm`, ‖T g‖.
 * A step whose norm is not finite is not taken.
 * @throws ConfigError where `base` takes several gradients a step itself, or for shards that are not a whole number of at least 1.
 */
export function sam<H extends Schema, S extends string, C extends string>(
  base: OptimizerDefinition<H, S, C>,
  options: SamOptions = {},
): OptimizerDefinition<H & Added, S | 'saved', C> {
  // More slots and hyper-parameters, which the rule of `base` does not read.
  return around(base, options) as unknown as OptimizerDefinition<H & Added, S | 'saved', C>;
}

function around(base: OptimizerDefinition, { shards = 1 }: SamOptions): OptimizerDefinition {
  const schema = withHyperparameters(base, hyperparameters);
  if (!(Number.isInteger(shards) && shards >= 1))
    throw new ConfigError(`sam: shards is ${shards}; give a whole number of at least 1.`);
  if (base.phases.filter(({ evaluate }) => evaluate !== undefined).length > 1)
    throw new ConfigError(
      `sam: ${base.name} takes several gradients a step, and which of them should be taken uphill is not defined; wrap an optimizer that takes one.`,
    );
  const on = ({ samRho }: Values<Schema>) => Number(samRho) > 0;
  const [first] = base.phases;
  const phases =
    shards > 1
      ? [...ofShards(shards), ...base.phases.map(alongMean)]
      : base.phases.length === 1 && !isPart(first) && !first.when
        ? [...ascentOf('loss'), fused(first)]
        : [...ascentOf('loss'), restoring, ...base.phases.map(withoutEvaluation)];
  return {
    ...base,
    name: `${base.name}+sam${shards > 1 ? shards : ''}`,
    aliases: [],
    title: `${base.title} with SAM`,
    formula: `${formula.trimEnd()}\n${base.formula.trimStart()}`,
    hyperparameters: schema,
    slots: {
      ...base.slots,
      [SAVED]: { doc: 'weights before the ascent', when: on },
      ...(shards > 1 && { [SUM]: { doc: 'mean of the shards’ gradients', when: on } }),
    },
    stability: (values) => {
      const inner = base.stability?.(values);
      return inner && on(values) ? uphill(inner, values, shards) : inner;
    },
    phases,
  };
}

const isOff = (s: AnySymbols): boolean => s.is('samRho', 0);
const numberOf = (s: AnySymbols, name: keyof typeof hyperparameters): Tensor => s.h[name] as unknown as Tensor;

/**
 * The ascent along the gradient of `word`, as many phases as there may be steps. Those beyond `samSteps` leave the weights where they are,
 * and with them the gradient. @param saves Whether the first keeps the weights.
 */
function ascentOf(word: string, saves = true): Ascent[] {
  return Array.from({ length: MAX_STEPS }, (_, step): Ascent => {
    const opening = step === 0 && saves;
    return {
      ascent: true,
      evaluate: word,
      update(s): Update<string, string> {
        if (isOff(s) || Number(s.h.samSteps) <= step) return {};
        const { theta } = s;
        return { ...uphillFrom(s, step === 0), ...(opening && { slots: { [SAVED]: theta } }) };
      },
      ...(opening && { undo: (s: AnySymbols) => (isOff(s) ? {} : { theta: s.slots[SAVED] }) }),
    };
  });
}

/** One step of the ascent. */
function uphillFrom(s: AnySymbols, reports: boolean): Update<never, never> {
  const { theta, grad } = s;
  const rho = numberOf(s, 'samRho');
  if (s.h.samKind === ('unnormalised' as unknown)) return { theta: add(theta, mul(rho, grad)) };
  const scale = scaleOf(s);
  const scaled = scale ? mul(scale, grad) : grad;
  const ascentNorm = globalNorm(scaled);
  const factor = div(rho, add(ascentNorm, numberOf(s, 'samEps')));
  return {
    theta: add(theta, mul(factor, scale ? mul(scale, scaled) : grad)),
    refuse: [refuseUnlessFinite(ascentNorm)],
    ...(reports && { report: { ascentNorm } }),
  };
}

/** T, where it is not 1. */
function scaleOf(s: AnySymbols): Tensor | undefined {
  const { theta, rank, h } = s;
  switch (h.samKind as unknown) {
    case 'adaptive':
      return abs(theta);
    case 'asam': {
      const scale = add(abs(theta), numberOf(s, 'samEta'));
      return h.samVectors === (true as unknown) ? scale : where(greater(rank, 1), scale, 1);
    }
    default:
      return undefined;
  }
}

/** The step of a rule of one phase, from the weights before the ascent: puts them back in the same pass. */
function fused(phase: AnyPhase): AnyPhase {
  const update = (s: AnySymbols): Update<string, string> => {
    if (isOff(s)) return phase.update(s);
    const theta = s.slots[SAVED];
    return { theta, ...phase.update({ ...s, theta }) };
  };
  return { ...phase, evaluate: 'loss', update };
}

/** Takes the gradient uphill and puts the weights back. */
const restoring: AnyPhase = {
  evaluate: 'loss',
  update: (s) => (isOff(s) ? {} : { theta: s.slots[SAVED] }),
};

/** The gradient it needs is there already. */
function withoutEvaluation({ evaluate: _, ...phase }: AnyPhase): AnyPhase {
  return phase;
}

/** An ascent for each shard; the gradients where they lead are averaged. */
function ofShards(shards: number): AnyPhase[] {
  const takesPlace = (s: AnySymbols) => constant(isOff(s) ? 0 : 1, [], 'bool');
  return Array.from({ length: shards }, (_, i) => i).flatMap((i): Ascent[] => {
    const word = `loss:${i + 1}/${shards}`;
    const averaging: Ascent = {
      ascent: true,
      evaluate: word,
      update(s) {
        if (isOff(s)) return {};
        const share = div(s.grad, shards);
        return { theta: s.slots[SAVED], slots: { [SUM]: i === 0 ? share : add(s.slots[SUM], share) } };
      },
    };
    return [...ascentOf(word, i === 0), averaging].map((phase) => ({ ...phase, when: takesPlace }));
  });
}

/** A phase of the rule along the mean of the shards' gradients. */
function alongMean({ evaluate: _, ...phase }: AnyPhase): AnyPhase {
  const { when } = phase;
  const along = (s: AnySymbols): AnySymbols => (isOff(s) ? s : { ...s, grad: s.slots[SUM] });
  return {
    ...phase,
    update: (s) => phase.update(along(s)),
    ...(when && { when: (s: AnySymbols) => when(along(s)) }),
  };
}

/**
 * The threshold uphill. Unnormalised, the gradient of a quadratic is H (1 + ρH)^k θ, so that the curvature λ acts as λ (1 + ρλ)^k; for
 * the other kinds the step depends on the norm, and for shards on their own Hessians, of which there is no such theory.
 */
function uphill({ threshold, of }: Stability, values: Values<Schema>, shards: number): Stability | undefined {
  if (values.samKind !== 'unnormalised' || of !== 'hessian' || shards > 1) return undefined;
  const [rho, steps] = [Number(values.samRho), Number(values.samSteps)];
  if (!Number.isFinite(threshold)) return { threshold, of };
  let [low, high] = [0, threshold];
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2;
    if (middle * (1 + rho * middle) ** steps < threshold) low = middle;
    else high = middle;
  }
  return { threshold: high, of };
}

const formula = `
g' = g(θ)                                        the same batch throughout
e  = ρ T² g' / (‖T g'‖ + ε)                      T = 1 (sam), |θ| (adaptive), |θ| + η_a or 1 (asam)
e  = ρ g'                                        unnormalised
g  = g(θ + e)                                    again from there for samSteps above 1; then from θ:
`;

export const samWrapper: Wrapper = {
  name: 'sam',
  title: 'Sharpness-aware minimisation',
  source: {
    title:
      'Sharpness-Aware Minimization for Efficiently Improving Generalization; ASAM: Adaptive Sharpness-Aware Minimization; Towards Understanding Sharpness-Aware Minimization',
    authors: 'Foret, Kleiner, Mobahi, Neyshabur; Kwon, Kim, Park, Choi; Andriushchenko, Flammarion',
    year: 2021,
    arxiv: '2010.01412',
    reference: 'github.com/davda54/sam sam.py, commit 3c3afdb; github.com/SamsungLabs/ASAM asam.py, commit f156a68',
  },
  formula,
  use: 'Better generalisation and robustness to wrong labels, for twice the gradients a step. ρ is tuned; put clipping of the gradient the step takes around it or inside, both act on the one uphill.',
  hyperparameters,
  wrap: (base) => around(base, {}),
};
