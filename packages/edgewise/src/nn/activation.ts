import { ConfigError, nearest } from '../base/errors.ts';
import {
  elu,
  gelu,
  hardSigmoid,
  hardSwish,
  leakyRelu,
  mish,
  quickGelu,
  relu6,
  selu,
  silu,
  softsign,
} from '../tensor/ops/activations.ts';
import { relu, sigmoid, softplus, tanh } from '../tensor/ops/elementwise.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Activation functions by name, with their default parameters. */
const activations = {
  identity: (x: Tensor) => x,
  relu,
  tanh,
  sigmoid,
  gelu: (x: Tensor) => gelu(x),
  geluTanh: (x: Tensor) => gelu(x, { approximate: 'tanh' }),
  silu,
  elu: (x: Tensor) => elu(x),
  selu,
  leakyRelu: (x: Tensor) => leakyRelu(x),
  relu6,
  softplus,
  softsign,
  mish,
  hardSwish,
  hardSigmoid: (x: Tensor) => hardSigmoid(x),
  quickGelu,
} as const satisfies Record<string, (x: Tensor) => Tensor>;

export type ActivationName = keyof typeof activations;

/** Names {@link activate} knows. */
export const activationNames = Object.keys(activations) as readonly ActivationName[];

/** An activation function, or the name of one. */
export type Activation = ActivationName | ((x: Tensor) => Tensor);

/** Applies an activation function. ConfigError naming the nearest one for a name that is not in the list. */
export function activate(x: Tensor, activation: Activation): Tensor {
  if (typeof activation === 'function') return activation(x);
  if (Object.hasOwn(activations, activation)) return activations[activation](x);
  const near = nearest(activation, activationNames);
  throw new ConfigError(
    `There is no activation '${activation}'; ${near ? `did you mean '${near}'?` : `take one of ${activationNames.join(', ')}.`}`,
  );
}
