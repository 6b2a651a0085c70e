import { ShapeError } from '../base/errors.ts';
import { uniform } from '../params/initializers.ts';
import { add, mul, sigmoid, tanh } from '../tensor/ops/elementwise.ts';
import { concat, reshape, sliceAxis, split, stack, transpose } from '../tensor/ops/layout.ts';
import { matmul } from '../tensor/ops/matmul.ts';
import { showShape } from '../tensor/shape.ts';
import { expectShape, type Tensor } from '../tensor/tensor.ts';
import { layerName, wholeNumber } from './check.ts';
import { dropout } from './dropout.ts';
import type { Scope } from './scope.ts';

/** What an LSTM carries from step to step. */
export interface LstmState {
  /** Hidden state, which is also the output: [N, hiddenSize]. */
  readonly h: Tensor;
  /** Cell state: [N, hiddenSize]. */
  readonly c: Tensor;
}

export interface LstmCellOptions {
  /** Width of the hidden and of the cell state. */
  readonly hiddenSize: number;
  /** State before this step; zeros by default. */
  readonly state?: LstmState;
  /** Whether the two products have a bias each; true by default. */
  readonly bias?: boolean;
}

/**
 * One step of a long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000), with the
 * parameters of `torch.nn.LSTMCell`: `weight_ih` [4H, in], `weight_hh` [4H, H], `bias_ih` and `bias_hh` [4H], the gates in the
 * order input, forget, cell, output, all drawn from U(-1/√H, 1/√H).
 *
 * @param x [N, in]
 */
export function lstmCell(scope: Scope, x: Tensor, { hiddenSize, state, bias = true }: LstmCellOptions): LstmState {
  const layer = layerName('lstmCell', scope);
  if (x.rank !== 2) throw new ShapeError(`${layer}: x ${showShape(x.shape)} must be [N, in].`);
  const weights = declareWeights(scope, '', x.shape[1], wholeNumber(layer, 'hiddenSize', hiddenSize), bias);
  return step(matmul(x, weights.ih, { transposeB: true }), weights, state);
}

export interface LstmOptions {
  /** Width of the hidden and of the cell state of every layer and direction. */
  readonly hiddenSize: number;
  /** Layers on top of each other, 1 by default. */
  readonly layers?: number;
  /** Whether each layer also runs from the last step to the first and both results are joined; false by default. */
  readonly bidirectional?: boolean;
  /** Whether the two products have a bias each; true by default. */
  readonly bias?: boolean;
  /** Probability of dropping an output of a layer before the next one reads it; 0 by default. */
  readonly dropout?: number;
  /** States before the first step, one for each layer and direction in the order of the result; zeros by default. */
  readonly states?: readonly LstmState[];
}

export interface LstmResult {
  /** Hidden state of the last layer at every step: [N, T, hiddenSize], or twice the width where bidirectional. */
  readonly output: Tensor;
  /** State after the last step of each layer (layer 0 forward, layer 0 reverse, layer 1 forward, ...). */
  readonly states: readonly LstmState[];
}

/**
 * A long short-term memory over a sequence, unrolled, with the parameters of `torch.nn.LSTM`: `weight_ih_l0`, `weight_hh_l0`,
 * `bias_ih_l0`, `bias_hh_l0`, ... and the same with the suffix `_reverse`; gates and first values as in {@link lstmCell}.
 *
 * @param x [N, T, in]
 */
export function lstm(scope: Scope, x: Tensor, options: LstmOptions): LstmResult {
  const { bidirectional = false, bias = true, states: initial = [] } = options;
  const layer = layerName('lstm', scope);
  const hiddenSize = wholeNumber(layer, 'hiddenSize', options.hiddenSize);
  const layers = wholeNumber(layer, 'layers', options.layers ?? 1);
  if (x.rank !== 3 || x.shape[1] === 0)
    throw new ShapeError(`${layer}: x ${showShape(x.shape)} must be [N, T, in] with at least one step.`);
  const directions = bidirectional ? ['', '_reverse'] : [''];
  if (initial.length !== 0 && initial.length !== layers * directions.length) {
    throw new ShapeError(
      `${layer}: ${initial.length} initial states were given, but ${layers} layers in ${directions.length} directions want ${layers * directions.length}.`,
    );
  }
  const states: LstmState[] = [];
  let seen = transpose(x, [1, 0, 2]);
  for (let l = 0; l < layers; l++) {
    if (l > 0) seen = dropout(scope.at(`dropout_l${l - 1}`), seen, { p: options.dropout ?? 0 });
    const outputs = directions.map((suffix) => {
      const weights = declareWeights(scope, `_l${l}${suffix}`, seen.shape[2], hiddenSize, bias);
      const run = overSteps(seen, weights, initial[states.length], suffix !== '');
      states.push(run.state);
      return run.output;
    });
    seen = concat(outputs, 2);
  }
  return { output: transpose(seen, [1, 0, 2]), states };
}

/** Runs one layer in one direction over [T, N, in]. */
function overSteps(
  x: Tensor,
  weights: LstmWeights,
  initial: LstmState | undefined,
  reverse: boolean,
): { output: Tensor; state: LstmState } {
  const [steps, batch, width] = x.shape;
  // What the inputs contribute does not wait for the recurrence: one product for all steps.
  const products = matmul(reshape(x, [steps * batch, width]), weights.ih, { transposeB: true });
  const perStep = unstack(reshape(products, [steps, batch, products.shape[1]]));
  let state = initial;
  const outputs: Tensor[] = [];
  for (const product of reverse ? perStep.reverse() : perStep) {
    state = step(product, weights, state);
    outputs.push(state.h);
  }
  return { output: stack(reverse ? outputs.reverse() : outputs), state: state! };
}

/**
 * The slices of x along its first axis. By halves: the derivative of a slice writes a tensor of the size of what was cut, so
 * T cuts out of the whole would cost T² where these cost T log T.
 */
function unstack(x: Tensor): Tensor[] {
  const count = x.shape[0];
  if (count === 1) return [reshape(x, x.shape.slice(1))];
  const half = count >> 1;
  return [...unstack(sliceAxis(x, 0, 0, half)), ...unstack(sliceAxis(x, 0, half, count))];
}

interface LstmWeights {
  readonly ih: Tensor;
  readonly hh: Tensor;
  readonly biases: readonly Tensor[];
  readonly hiddenSize: number;
}

function declareWeights(scope: Scope, suffix: string, width: number, hiddenSize: number, bias: boolean): LstmWeights {
  const bound = 1 / Math.sqrt(hiddenSize);
  const init = uniform({ lo: -bound, hi: bound });
  const declare = (name: string, shape: readonly number[], tag: string) =>
    scope.param(`${name}${suffix}`, shape, init, [tag]);
  return {
    ih: declare('weight_ih', [4 * hiddenSize, width], 'weight'),
    hh: declare('weight_hh', [4 * hiddenSize, hiddenSize], 'weight'),
    biases: bias ? ['bias_ih', 'bias_hh'].map((name) => declare(name, [4 * hiddenSize], 'bias')) : [],
    hiddenSize,
  };
}

/** One step, given what the input contributes to the four gates: [N, 4H]. */
function step(fromInput: Tensor, { hh, biases, hiddenSize }: LstmWeights, state: LstmState | undefined): LstmState {
  if (state) {
    for (const part of [state.h, state.c]) expectShape('lstm', 'a state', part, [fromInput.shape[0], hiddenSize]);
  }
  const products = state ? add(fromInput, matmul(state.h, hh, { transposeB: true })) : fromInput;
  const [i, f, g, o] = split(
    biases.length === 0
      ? products
      : add(
          products,
          biases.reduce((a, b) => add(a, b)),
        ),
    4,
    1,
  );
  const fresh = mul(sigmoid(i), tanh(g));
  const c = state ? add(mul(sigmoid(f), state.c), fresh) : fresh;
  return { h: mul(sigmoid(o), tanh(c)), c };
}
