import { ConfigError, NonFiniteError } from '../base/errors.ts';
import { type Key, normal } from '../base/random.ts';
import type { Batches } from '../data/batches.ts';
import type { Optimizer } from '../optim/optimizer.ts';
import { ParamVector } from '../params/vector.ts';
import type { Network } from '../train/network.ts';
import { crossEntropyObjective } from '../train/objective.ts';
import type { Probe } from '../train/probe.ts';
import { hessian } from './hessian.ts';
import { type LinearOperator, lanczos } from './lanczos.ts';
import { preconditioned as preconditionedBy } from './operators.ts';

export interface SharpnessOptions {
  readonly network: Network;
  /** Whose stability threshold is reported beside the sharpness; none where absent. */
  readonly optimizer?: Optimizer;
  /** Where the examples come from; the first `examples` of its data set are used, always the same. */
  readonly batches: Batches;
  /** Examples of the fixed subset, at most the data set. */
  readonly examples: number;
  /** Measure after every so many steps. */
  readonly every: number;
  /** Most Hessian-vector products a measurement may spend; 12 by default (20 where nothing is known yet). */
  readonly products?: number;
  /** Stop once the residual is below this share of the eigenvalue; 0.01 by default. */
  readonly tolerance?: number;
  /** Draws the first start vector. */
  readonly key: Key;
}

/**
 * Question: how curved is the loss in its most curved direction, at the present weights, and how far is that from where the optimizer becomes unstable?
 *
 * Sharpness λ₁ = largest eigenvalue of the Hessian of the mean loss on a fixed subset of the training examples, in evaluation mode
 * and without label smoothing. Lanczos with exact Hessian-vector products, started from the last leading eigenvector (Cohen et al. 2021;
 * pitfalls in the training-dynamics notes). Unit: loss per squared weight. Error: the Lanczos residual, in the same unit.
 * For optimizers that divide by a diagonal P, also the largest eigenvalue of P^(-1/2) H P^(-1/2), which is what their threshold is for.
 * NaN where the loss or its derivatives are not finite at the weights.
 * Cost: up to `products` Hessian-vector products on the subset (twice that with P), about two gradients each; memory: one vector for each product.
 */
export async function sharpness(options: SharpnessOptions): Promise<Probe> {
  const { network, optimizer, batches, examples, every, key, products = 12, tolerance = 0.01 } = options;
  const { count, name } = batches.dataset;
  if (!Number.isInteger(examples) || examples < 1 || examples > count) {
    throw new ConfigError(
      `The sharpness probe wants ${examples} examples; data set '${name}' has ${count}, give 1 to ${count}.`,
    );
  }
  const objective = network.objective.name === 'crossEntropy' ? crossEntropyObjective() : network.objective;
  const chunks = fixedChunks(network, batches, examples).map(({ size, ...memory }) =>
    network.probeLoss(size, memory, objective),
  );
  const operator = await hessian({
    device: network.device,
    loss: chunks[0].loss,
    params: network.symbols,
    layout: network.layout,
    weights: network.weights,
    batches: chunks.map((chunk) => chunk.feeds),
  });
  const tracked = (name: string, of: LinearOperator) =>
    new Leading(of, network, { key: key.split(name), products, tolerance });
  const plain = tracked('hessian', operator);
  const diagonal = new ParamVector(network.layout, network.dtype);
  const preconditioned =
    optimizer?.definition.preconditioner && tracked('preconditioned', preconditionedBy(operator, diagonal));
  return {
    name: 'sharpness',
    every,
    fields: {
      sharpness: {
        unit: 'loss / weight²',
        doc: `Largest eigenvalue of the Hessian H of the mean loss on the first ${examples} training examples, by Lanczos.`,
      },
      'sharpness/residual': {
        unit: 'loss / weight²',
        doc: 'Residual of that eigenvalue: some eigenvalue lies within this distance.',
      },
      'sharpness/preconditioned': {
        unit: '1',
        doc: 'Largest eigenvalue of P^(-1/2) H P^(-1/2), where P is the diagonal the optimizer divides its steps by.',
      },
      'sharpness/preconditioned-residual': { unit: '1', doc: 'Residual of that eigenvalue.' },
      'sharpness/threshold': {
        unit: 'as the eigenvalue it is for',
        doc: 'Eigenvalue (preconditioned where that is recorded) above which a step of this optimizer at the learning rate in force diverges on a quadratic, where theory gives one.',
      },
      'sharpness/products': { unit: '1', doc: 'Hessian-vector products the measurement took.' },
    },
    memory: new Map([
      ['vector', plain.vector],
      ...(preconditioned ? [['preconditioned', preconditioned.vector] as const] : []),
    ]),
    measure: async ({ lr }) => {
      const first = await plain.measure();
      const stability = lr > 0 ? optimizer?.stability(lr) : undefined;
      const second = preconditioned && optimizer?.preconditioner(diagonal) ? await preconditioned.measure() : undefined;
      const applies = stability?.of === 'hessian' || (stability !== undefined && second !== undefined);
      return {
        sharpness: first.eigenvalue,
        'sharpness/residual': first.residual,
        ...(second
          ? { 'sharpness/preconditioned': second.eigenvalue, 'sharpness/preconditioned-residual': second.residual }
          : {}),
        ...(applies ? { 'sharpness/threshold': stability.threshold } : {}),
        'sharpness/products': first.products + (second?.products ?? 0),
      };
    },
    dispose: () => operator.dispose(),
  };
}

type SearchOptions = Required<Pick<SharpnessOptions, 'key' | 'products' | 'tolerance'>>;

/** The leading eigenvalue of an operator that changes slowly: each search starts where the last one ended. */
class Leading {
  readonly vector: ParamVector;
  readonly #operator: LinearOperator;
  readonly #options: SearchOptions;

  constructor(operator: LinearOperator, { layout, dtype }: Network, options: SearchOptions) {
    this.#operator = operator;
    this.#options = options;
    this.vector = new ParamVector(layout, dtype);
  }

  /** NaN where a product is not finite: what to do about that is training's to decide, a probe ends no run. */
  async measure(): Promise<{ eigenvalue: number; residual: number; products: number }> {
    const { key, products, tolerance } = this.#options;
    const cold = this.vector.data.every((x) => x === 0);
    if (cold) for (const [segment, view] of this.vector.entries()) normal(key.split(segment.name), view);
    try {
      const steps = cold ? Math.max(20, products) : products;
      const found = await lanczos(this.#operator, { start: this.vector.data, steps, tolerance });
      this.vector.data.set(found.vector);
      return found;
    } catch (error) {
      if (!(error instanceof NonFiniteError)) throw error;
      if (cold) this.vector.fill(0);
      return { eigenvalue: Number.NaN, residual: Number.NaN, products: 0 };
    }
  }
}

/** Products run on chunks of at most so many examples, which bounds the memory they need. */
const CHUNK = 1000;

/**
 * The first `examples` in chunks of equal size. Where they do not come out even, the last chunk is filled up with first examples that have no share in
 * the mean, and every other example one that makes the mean over chunks the mean over examples.
 */
function fixedChunks({ dtype }: Network, batches: Batches, examples: number) {
  const count = Math.ceil(examples / CHUNK);
  const size = Math.ceil(examples / count);
  const floats = (length: number) => (dtype === 'float64' ? new Float64Array(length) : new Float32Array(length));
  return Array.from({ length: count }, (_, chunk) => {
    const numbers = Uint32Array.from({ length: size }, (_, i) => chunk * size + i);
    const x = floats(size * batches.inputSize);
    const answers = size * batches.targetSize;
    const y = batches.dataset.kind === 'classification' ? new Int32Array(answers) : floats(answers);
    batches.fillExamples(
      numbers.map((number) => number % examples),
      x,
      y,
    );
    if (count * size === examples) return { size, x, y };
    const share = floats(size).map((_, i) => (numbers[i] < examples ? count / examples : 0));
    return { size, x, y, share };
  });
}
