import { ConfigError } from '../base/errors.ts';
import { type Key, normal } from '../base/random.ts';
import type { Batches } from '../data/batches.ts';
import type { Optimizer } from '../optim/optimizer.ts';
import { ParamVector } from '../params/vector.ts';
import type { Network } from '../train/network.ts';
import { crossEntropyObjective } from '../train/objective.ts';
import type { Probe } from '../train/probe.ts';
import { hessian } from './hessian.ts';
import { lanczos } from './lanczos.ts';

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
 * Question: how curved is the loss in its most curved direction, at the present weights?
 *
 * Sharpness λ₁ = largest eigenvalue of the Hessian of the mean loss on a fixed subset of the training examples, in evaluation mode
 * and without label smoothing. Lanczos with exact Hessian-vector products, started from the last leading eigenvector (Cohen et al. 2021;
 * pitfalls in the training-dynamics notes). Unit: loss per squared weight. Error: the Lanczos residual, in the same unit.
 * Cost: up to `products` Hessian-vector products on the subset, about two gradients each; memory: one vector for each product.
 */
export async function sharpness(options: SharpnessOptions): Promise<Probe> {
  const { network, optimizer, batches, examples, every, key, products = 12, tolerance = 0.01 } = options;
  const { count, name } = batches.dataset;
  if (!Number.isInteger(examples) || examples < 1 || examples > count) {
    throw new ConfigError(
      `The sharpness probe wants ${examples} examples; data set '${name}' has ${count}, give 1 to ${count}.`,
    );
  }
  const size = chunkOf(examples);
  const objective = network.objective.name === 'crossEntropy' ? crossEntropyObjective() : network.objective;
  const chunks = Array.from({ length: examples / size }, (_, chunk) => {
    const indices = Uint32Array.from({ length: size }, (_, i) => chunk * size + i);
    const x =
      network.dtype === 'float64'
        ? new Float64Array(size * batches.inputSize)
        : new Float32Array(size * batches.inputSize);
    const answers = size * batches.targetSize;
    const y =
      batches.dataset.kind === 'classification'
        ? new Int32Array(answers)
        : network.dtype === 'float64'
          ? new Float64Array(answers)
          : new Float32Array(answers);
    batches.fillExamples(indices, x, y);
    return network.probeLoss(size, { x, y }, objective);
  });
  const operator = await hessian({
    device: network.device,
    loss: chunks[0].loss,
    params: network.symbols,
    layout: network.layout,
    weights: network.weights,
    batches: chunks.map((chunk) => chunk.feeds),
  });
  const leading = new ParamVector(network.layout, network.dtype);
  const isNew = () => leading.data.every((x) => x === 0);
  return {
    name: 'sharpness',
    every,
    fields: {
      sharpness: {
        unit: 'loss / weight²',
        doc: `Largest eigenvalue of the Hessian of the mean loss on the first ${examples} training examples, by Lanczos.`,
      },
      'sharpness/residual': {
        unit: 'loss / weight²',
        doc: 'Residual of that eigenvalue: some eigenvalue lies within this distance.',
      },
      'sharpness/threshold': {
        unit: 'loss / weight²',
        doc: 'Sharpness above which a step of this optimizer at the learning rate in force diverges on a quadratic, where theory gives one.',
      },
      'sharpness/products': { unit: '1', doc: 'Hessian-vector products the measurement took.' },
    },
    memory: new Map([['vector', leading]]),
    measure: async ({ lr }) => {
      const cold = isNew();
      if (cold) {
        for (const [segment, view] of leading.entries()) normal(key.split(segment.name), view);
      }
      const found = await lanczos(operator, {
        start: leading.data,
        steps: cold ? Math.max(20, products) : products,
        tolerance,
      });
      leading.data.set(found.vector);
      const stability = lr > 0 ? optimizer?.stability(lr) : undefined;
      return {
        sharpness: found.eigenvalue,
        'sharpness/residual': found.residual,
        ...(stability?.of === 'hessian' ? { 'sharpness/threshold': stability.threshold } : {}),
        'sharpness/products': found.products,
      };
    },
    dispose: () => operator.dispose(),
  };
}

/** The largest divisor of `examples` up to 1000: products run on chunks of this size, which bounds the memory they need. */
function chunkOf(examples: number): number {
  for (let size = Math.min(examples, 1000); size > 1; size--) if (examples % size === 0) return size;
  return 1;
}
