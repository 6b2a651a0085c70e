import { type ActivationName, activate, activationNames } from '../nn/activation.ts';
import { dropout } from '../nn/dropout.ts';
import { linear } from '../nn/linear.ts';
import { choice, number, numbers } from '../optim/hyperparameters.ts';
import {
  type Initializer,
  kaimingNormal,
  kaimingUniform,
  lecunNormal,
  orthogonal,
  torchDefault,
  xavierNormal,
  xavierUniform,
  zeros,
} from '../params/initializers.ts';
import { flatten } from '../tensor/ops/layout.ts';
import { defineModel, wholeNumbers } from './definition.ts';

/** First weights by name; He's with the gain of ReLU. */
export const initializers = {
  torchDefault: torchDefault(),
  kaimingNormal: kaimingNormal({ nonlinearity: 'relu' }),
  kaimingUniform: kaimingUniform({ nonlinearity: 'relu' }),
  xavierNormal: xavierNormal(),
  xavierUniform: xavierUniform(),
  lecunNormal: lecunNormal(),
  orthogonal: orthogonal(),
} as const satisfies Record<string, Initializer>;

/** A multi-layer perceptron: fully connected layers `fc1`, `fc2`, ... with an activation between them. */
export const mlp = defineModel({
  name: 'mlp',
  aliases: ['fc', 'fully-connected'],
  doc: 'Fully connected layers with an activation between them.',
  paper: 'Rumelhart, Hinton and Williams 1986, Learning representations by back-propagating errors.',
  options: {
    widths: numbers({
      default: [200, 200],
      anyLength: true,
      min: 1,
      doc: 'Units of each hidden layer; an empty list is a linear model.',
      unit: 'units',
    }),
    activation: choice<ActivationName>({
      default: 'relu',
      choices: activationNames,
      doc: 'Function after each hidden layer.',
    }),
    init: choice({
      default: 'torchDefault',
      choices: Object.keys(initializers) as (keyof typeof initializers)[],
      doc: 'How first weights are drawn. Biases start from zero, except with torchDefault, which draws them as PyTorch does.',
    }),
    dropout: number({ default: 0, min: 0, below: 1, doc: 'Probability of dropping a hidden unit.' }),
  },
  build: ({ widths, activation, init, dropout: p }, { classes }) => {
    const layer = { init: initializers[init], biasInit: init === 'torchDefault' ? undefined : zeros() };
    wholeNumbers('mlp', 'widths', widths);
    return {
      forward: (scope, x) => {
        const hidden = widths.reduce((h, outFeatures, i) => {
          const y = activate(linear(scope.at(`fc${i + 1}`), h, { outFeatures, ...layer }), activation);
          return dropout(scope.at(`dropout${i + 1}`), y, { p });
        }, flatten(x));
        return linear(scope.at(`fc${widths.length + 1}`), hidden, { outFeatures: classes, tags: ['head'], ...layer });
      },
    };
  },
});
