import { describe, expect, test } from 'vitest';
import { ConfigError, EdgewiseError, ShapeError } from '../../src/base/errors.ts';
import * as t from '../../src/tensor/index.ts';

const x = t.input('x', [2, 3]);
const image = t.input('image', [2, 4, 5, 5]);
const vector = t.input('vector', [4]);
const double = t.input('double', [2, 3], 'float64');
const whole = t.input('whole', [2], 'int64');
const flags = t.input('flags', [2, 3], 'bool');

/** What is written, and what the message must name: the op first, then the shapes or settings. */
const shapeErrors: readonly (readonly [string, () => unknown, ...string[]])[] = [
  ['shapes that do not broadcast', () => t.add(x, t.input('y', [2, 4])), 'add', '[2, 3]', '[2, 4]'],
  ['two dtypes', () => t.mul(x, double), 'mul', 'float32', 'float64', '[2, 3]'],
  ['two plain numbers', () => t.add(1, 2), 'add'],
  ['a fraction for integers', () => t.add(whole, 0.5), '0.5', 'int64'],
  ['exp of integers', () => t.exp(whole), 'exp', 'int64[2]'],
  ['arithmetic on booleans', () => t.add(flags, flags), 'add', 'bool', '[2, 3]'],
  ['logic on numbers', () => t.logicalAnd(x, x), 'logicalAnd', 'float32', '[2, 3]'],
  ['a condition of numbers', () => t.where(x, x, x), 'where', 'float32[2, 3]'],
  ['clip upside down', () => t.clip(x, 1, 0), 'clip', '1', '0'],
  ['an axis outside the rank', () => t.sum(x, { axes: 2 }), 'sum', 'axis 2', 'rank 2'],
  ['an axis named twice', () => t.sum(x, { axes: [0, -2] }), 'sum', '[0, 0]'],
  ['sum of booleans', () => t.sum(flags), 'sum', 'bool[2, 3]'],
  ['max of nothing', () => t.max(t.input('e', [0, 3]), { axes: 0 }), 'max', '[0, 3]'],
  ['argMax of nothing', () => t.argMax(t.input('e', [3, 0])), 'argMax', '[3, 0]'],
  ['an impossible reshape', () => t.reshape(x, [4, -1]), 'reshape', '[2, 3]', '[4, -1]'],
  ['squeeze of a wide axis', () => t.squeeze(x, 0), 'squeeze', '[2, 3]'],
  ['transpose by no permutation', () => t.transpose(x, [0, 0]), 'transpose', '[0, 0]', '[2, 3]'],
  ['expand to less', () => t.expand(x, [3]), 'expand', '[2, 3]', '[3]'],
  ['concat of unlike shapes', () => t.concat([x, t.input('y', [2, 4])], 0), 'concat', '[2, 3]', '[2, 4]'],
  ['concat of nothing', () => t.concat([]), 'concat'],
  ['slice outside', () => t.slice(x, [0, 2], [2, 2]), 'slice', '[2, 3]'],
  ['slice with too few entries', () => t.slice(x, [0], [1]), 'slice', '[2, 3]'],
  ['split in unequal parts', () => t.split(x, 2, 1), 'split', '[2, 3]'],
  ['pad with too few entries', () => t.pad(x, { low: [1], high: [1] }), 'pad', '[2, 3]', '[1]'],
  ['a crop of more than there is', () => t.pad(x, { low: [-2, 0], high: [-1, 0] }), 'pad', '[2, 3]'],
  ['matmul of a vector', () => t.matmul(vector, x), 'matmul', '[4]'],
  ['inner extents that differ', () => t.matmul(x, x), 'matmul', '[2, 3]', '3', '2'],
  ['gather by fractions', () => t.gather(x, vector), 'gather', 'float32[4]'],
  [
    'scatterAdd of updates unlike the indices',
    () => t.scatterAdd(x, t.input('i', [3], 'int64'), 5),
    'scatterAdd',
    '[2, 3]',
    '[3]',
  ],
  ['scatterAdd into a negative extent', () => t.scatterAdd(x, whole, -1), 'scatterAdd', '-1'],
  ['indexAdd to another shape', () => t.indexAdd(t.input('b', [7, 4]), x, whole), 'scatterAdd', '[7, 4]', '[7, 3]'],
  [
    'takeAlong with other extents',
    () => t.takeAlong(x, t.input('i', [3, 1], 'int64')),
    'takeAlong',
    '[3, 1]',
    '[2, 3]',
  ],
  [
    'scatterAlong of unlike shapes',
    () => t.scatterAlong(x, t.input('i', [2, 1], 'int64'), 4),
    'scatterAlong',
    '[2, 3]',
    '[2, 1]',
  ],
  ['oneHot of fractions', () => t.oneHot(x, 3), 'oneHot', 'float32[2, 3]'],
  ['oneHot without classes', () => t.oneHot(whole, 0), 'oneHot', 'depth 0'],
  ['topK of more than there are', () => t.topK(x, 4), 'topK', '[2, 3]', '4'],
  ['tril of a vector', () => t.tril(vector), 'trilu', '[4]'],
  ['an endless range', () => t.range(0, 10, 0), 'range', '0'],
  ['glu of an odd axis', () => t.glu(x), 'glu', '[2, 3]'],
  ['softmax of integers', () => t.softmax(whole), 'softmax', 'int64[2]'],
  ['softmax of nothing', () => t.softmax(t.input('e', [2, 0])), 'softmax', '[2, 0]'],
  ['batchNorm of a vector', () => t.batchNorm(vector, vector, vector), 'batchNorm', '[4]'],
  [
    'batchNorm with a scale for other channels',
    () => t.batchNorm(image, t.input('s', [3]), vector),
    'batchNorm',
    '[2, 4, 5, 5]',
    '[3]',
  ],
  ['batchNorm of nothing', () => t.batchNorm(t.input('e', [0, 4]), vector, vector), 'batchNorm', '[0, 4]'],
  [
    'batchNormInference with a wrong variance',
    () => t.batchNormInference(image, { mean: vector, variance: t.input('s', [3]), scale: vector, bias: vector }),
    'batchNormInference',
    '[3]',
  ],
  [
    'channelAffine of another length',
    () => t.channelAffine(image, vector, t.input('s', [3])),
    'channelAffine',
    '[2, 4, 5, 5]',
    '[3]',
  ],
  ['layerNorm with a scale of another shape', () => t.layerNorm(x, vector), 'layerNorm', '[2, 3]', '[4]'],
  ['layerNorm over too many axes', () => t.layerNorm(x, undefined, undefined, { axes: 3 }), 'layerNorm', '3', '[2, 3]'],
  ['rmsNorm with a scale of another shape', () => t.rmsNorm(x, vector), 'rmsNorm', '[2, 3]', '[4]'],
  ['groupNorm by groups that do not fit', () => t.groupNorm(image, 3), 'groupNorm', '[2, 4, 5, 5]', '3'],
  ['instanceNorm without positions', () => t.instanceNorm(x), 'instanceNorm', '[2, 3]'],
  [
    'crossEntropy with labels of another shape',
    () => t.crossEntropy(x, t.input('l', [3], 'int64')),
    'crossEntropy',
    '[2, 3]',
    '[3]',
  ],
  [
    'crossEntropy with target probabilities of another shape',
    () => t.crossEntropy(x, t.input('p', [2, 4])),
    'crossEntropy',
    '[2, 3]',
    '[2, 4]',
  ],
  [
    'crossEntropy with weights for other classes',
    () => t.crossEntropy(x, whole, { classWeights: vector }),
    'crossEntropy',
    '[4]',
    '3',
  ],
  ['squaredError of unlike shapes', () => t.squaredError(x, vector), 'squaredError', '[2, 3]', '[4]'],
  ['huber of two dtypes', () => t.huber(x, double), 'huber', 'float32', 'float64'],
  ['dropout with numbers of another shape', () => t.dropout(x, vector, 0.1), 'dropout', '[4]', '[2, 3]'],
  ['stochasticDepth with a number an element', () => t.stochasticDepth(x, x, 0.1), 'stochasticDepth', '[2, 3]'],
  ['a negative extent', () => t.input('bad', [2, -1]), "input 'bad'", '[2, -1]'],
  ['a constant that does not fill its shape', () => t.constant([1, 2], [3]), 'constant', '2', '[3]'],
  ['an integer constant with a fraction', () => t.constant([1, 2.5], [2], 'int32'), 'constant', '2.5', 'int32'],
];

const configErrors: readonly (readonly [string, () => unknown, ...string[]])[] = [
  ['dropout of everything', () => t.dropout(x, x, 1), 'dropout', '1'],
  ['dropout with p NaN', () => t.dropout(x, x, Number.NaN), 'dropout', 'NaN'],
  ['stochasticDepth below 0', () => t.stochasticDepth(x, t.input('u', [2]), -0.1), 'stochasticDepth', '-0.1'],
  ['celu by 0', () => t.celu(x, 0), 'celu'],
  ['leakyRelu by infinity', () => t.leakyRelu(x, Number.POSITIVE_INFINITY), 'leakyRelu', 'Infinity'],
  ['a negative eps', () => t.layerNorm(x, undefined, undefined, { eps: -1 }), 'layerNorm', '-1'],
  ['all of the target smoothed away', () => t.crossEntropy(x, whole, { labelSmoothing: 1 }), 'crossEntropy', '1'],
  ['ignoreIndex for probabilities', () => t.crossEntropy(x, x, { ignoreIndex: 0 }), 'crossEntropy', 'ignoreIndex'],
  ['huber with delta 0', () => t.huber(x, x, { delta: 0 }), 'huber', '0'],
  ['smoothL1 with beta 0', () => t.smoothL1(x, x, { beta: 0 }), 'smoothL1', '0'],
];

function thrown(write: () => unknown): Error {
  try {
    write();
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('nothing was thrown');
}

describe('errors come where the op is written and name the op and what it was given', () => {
  const check = (
    kind: typeof EdgewiseError,
    [name, write, ...words]: readonly [string, () => unknown, ...string[]],
  ) => {
    test(name, () => {
      const error = thrown(write);
      expect(error).toBeInstanceOf(kind);
      for (const word of words) expect(error.message).toContain(word);
    });
  };
  for (const entry of shapeErrors) check(ShapeError, entry);
  for (const entry of configErrors) check(ConfigError, entry);
});

describe('an index outside the axis stops the run and names the op, the index and the bound', () => {
  const i = t.input('i', [1], 'int64');
  const table = t.input('table', [3, 2]);
  const row = t.input('row', [1, 2]);
  const each = t.input('each', [1, 2], 'int64');
  const cases: readonly (readonly [string, t.Tensor])[] = [
    ['gather', t.gather(table, i)],
    ['scatterAdd', t.scatterAdd(row, i, 3)],
    ['takeAlong', t.takeAlong(table, each, 0)],
    ['scatterAlong', t.scatterAlong(row, each, 3, 0)],
  ];
  test.each(cases)('%s', (name, y) => {
    for (const bad of [3, -4]) {
      const given = new Map<t.Tensor, number[]>([
        [i, [bad]],
        [each, [0, bad]],
        [table, [1, 2, 3, 4, 5, 6]],
        [row, [7, 8]],
      ]);
      const error = thrown(() => t.evaluate([y], given));
      expect(error).toBeInstanceOf(EdgewiseError);
      expect(error.message).toContain(`${name}: index ${bad} is outside an axis of extent 3`);
    }
  });
});

test('an input without a value, and one of the wrong size, are named when a graph is evaluated', () => {
  expect(thrown(() => t.evaluate([t.neg(x)], new Map())).message).toContain("input 'x' [2, 3]");
  expect(thrown(() => t.evaluate([t.neg(x)], new Map([[x, [1, 2]]]))).message).toMatch(/\[2, 3\].*2 elements.*6/);
});
