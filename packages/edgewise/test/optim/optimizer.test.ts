/** @file Settings, groups, state and errors of optimizers at work. */
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../src/base/errors.ts';
import { VectorSpace } from '../../src/kernels/index.ts';
import {
  adamw,
  adan,
  clipGlobalNorm,
  createOptimizer,
  defineOptimizer,
  findOptimizer,
  type Group,
  learningRate,
  type OptimizerSettings,
  optimizers,
  parameterVector,
  problemOf,
  sgd,
  stateBytes,
} from '../../src/optim/index.ts';
import { ParamLayout } from '../../src/params/layout.ts';
import { ParamVector } from '../../src/params/vector.ts';
import { greater, isNaN as isNaNumber, sub } from '../../src/tensor/ops/elementwise.ts';
import { sum } from '../../src/tensor/ops/reduce.ts';
import { lookahead, muon, prodigy, sam } from './pages.ts';
import { ENGINES, rig } from './support.ts';

const PARAMS = [
  { name: 'stem.weight', shape: [4, 3], tags: ['weight'] },
  { name: 'stem.bias', shape: [4], tags: ['bias'] },
  { name: 'head.weight', shape: [2, 4], tags: ['weight', 'head'] },
  { name: 'norm.scale', shape: [5], tags: ['norm'] },
];
const layout = new ParamLayout(PARAMS);

const make = (settings: OptimizerSettings = {}, definition = findOptimizer('adamw')) =>
  rig('float32 kernel', definition, settings, PARAMS);

describe('settings that do not fit are refused', () => {
  const bad: readonly [string, OptimizerSettings['values'], RegExp][] = [
    [
      'a name that does not exist',
      { weigthDecay: 0.1 },
      /adamw has no hyper-parameter 'weigthDecay'; did you mean 'weightDecay'\?/,
    ],
    ['lr 0', { lr: 0 }, /adamw: lr is 0; give a number above 0\./],
    ['lr NaN', { lr: Number.NaN }, /lr is NaN; give a number above 0/],
    ['lr infinite', { lr: Number.POSITIVE_INFINITY }, /lr is Infinity/],
    ['lr text', { lr: '0.1' }, /lr is "0.1"; give a number above 0/],
    ['a beta of 1', { betas: [0.9, 1] }, /betas is \[0.9,1\]; give 2 numbers, each of at least 0 and below 1/],
    ['three betas', { betas: [0.9, 0.9, 0.9] }, /give 2 numbers/],
    ['a flag as a number', { amsgrad: 1 }, /amsgrad is 1; give true or false/],
    ['negative decay', { weightDecay: -0.1 }, /weightDecay is -0.1; give a number of at least 0/],
  ];
  test.each(bad)('%s', (_, values, message) => {
    expect(() => make({ values })).toThrow(message);
    expect(() => make({ values })).toThrow(ConfigError);
  });

  test('combinations', () => {
    expect(() => make({ values: { nesterov: true } }, findOptimizer('sgd'))).toThrow(
      /nesterov with momentum 0 and dampening 0; Nesterov's momentum needs momentum above 0/,
    );
    expect(() => make({ values: { nesterov: true, momentum: 0.9, dampening: 0.1 } }, findOptimizer('sgd'))).toThrow(
      /dampening 0\.1/,
    );
    expect(() => make({ values: { restartEvery: 5, movementBudget: 1 } }, findOptimizer('adan'))).toThrow(
      /choose one restart policy/,
    );
    expect(() => make({ values: { eps: 0 } }, findOptimizer('adan'))).toThrow(/eps is 0; give a number above 0/);
    expect(() => make({ values: { restartEvery: 1.5 } }, findOptimizer('adan'))).toThrow(
      /restartEvery is 1.5; give a whole number of at least 0/,
    );
  });

  test('a step at a rate that is no rate', () => {
    const { optimizer, theta } = make();
    for (const lr of [-1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => optimizer.step({ lr })).toThrow(/learning rate of a step is/);
    expect(() => optimizer.step({ absent: ['stem.wieght'] })).toThrow(/did you mean 'stem.weight'/);
    expect(theta.data.every((x) => x === 0)).toBe(true);
    expect(optimizer.scalarState()['#step']).toEqual([0]);
  });

  test('vectors elsewhere or of another dtype', () => {
    const space = new VectorSpace();
    const theta = parameterVector(space, layout, 'float32');
    expect(() => createOptimizer(sgd, {}, { theta, grad: new ParamVector(layout, 'float32'), space })).toThrow(
      /the gradient given lies outside the space given/,
    );
    expect(() => createOptimizer(sgd, {}, { theta, grad: parameterVector(space, layout, 'float64'), space })).toThrow(
      /gradient given is a vector of float64, but the parameters are float32/,
    );
    const other = new ParamLayout([{ name: 'x', shape: [3] }]);
    expect(() => createOptimizer(sgd, {}, { theta, grad: parameterVector(space, other, 'float32'), space })).toThrow(
      /belongs to another model/,
    );
  });
});

describe('groups', () => {
  test('choose by tag, name and rank; later ones win; the rest is as the optimizer says', () => {
    const groups: Group[] = [
      { match: { tag: ['bias', 'norm'] }, values: { weightDecay: 0 } },
      { match: { name: 'stem.*' }, lrScale: 0.5 },
      { match: { minRank: 2, where: ({ name }) => name.startsWith('head') }, lrScale: 2, values: { weightDecay: 0.5 } },
      { match: { name: 'norm.scale', maxRank: 1 }, values: { weightDecay: 0.25, betas: [0.5, 0.5] } },
    ];
    const { optimizer } = make({ values: { weightDecay: 0.1 }, groups, frozen: { tag: 'head' } });
    expect(
      optimizer.assignments.map(({ segment, frozen, lrScale, values }) => [
        segment.name,
        frozen,
        lrScale,
        values.weightDecay,
        values.betas,
      ]),
    ).toEqual([
      ['stem.weight', false, 0.5, 0.1, [0.9, 0.999]],
      ['stem.bias', false, 0.5, 0, [0.9, 0.999]],
      ['head.weight', true, 2, 0.5, [0.9, 0.999]],
      ['norm.scale', false, 1, 0.25, [0.5, 0.5]],
    ]);
  });

  const bad: readonly [string, Group, RegExp][] = [
    [
      'a tag nobody carries',
      { match: { tag: 'biases' } },
      /adamw, group 1: no parameter carries the tag 'biases'; did you mean 'bias'\?/,
    ],
    [
      'a name nobody has',
      { match: { name: 'stem.weights' } },
      /no parameter is named 'stem.weights'; did you mean 'stem.weight'\?/,
    ],
    ['a condition nobody meets', { match: { minRank: 5 } }, /no parameter of the model meets \{"minRank":5\}/],
    ['an lr', { match: { tag: 'bias' }, values: { lr: 0.1 } }, /give lrScale/],
    ['a flag', { match: { tag: 'bias' }, values: { amsgrad: true } }, /amsgrad holds for the whole optimizer/],
    ['a mistyped name', { match: { tag: 'bias' }, values: { weightdecay: 0 } }, /did you mean 'weightDecay'/],
    ['a bad value', { match: { tag: 'bias' }, values: { weightDecay: -1 } }, /adamw, group 1: weightDecay is -1/],
    ['a negative scale', { match: { tag: 'bias' }, lrScale: -1 }, /lrScale is -1/],
  ];
  test.each(bad)('refuse %s', (_, group, message) => {
    expect(() => make({ groups: [group] })).toThrow(message);
  });

  test('frozen must choose something', () => {
    expect(() => make({ frozen: { tag: 'embedding' } })).toThrow(/frozen: no parameter carries the tag 'embedding'/);
  });

  test('a momentum of 0 in one group only: no buffer is missing', () => {
    const { optimizer, grad, theta } = make(
      { values: { lr: 1, momentum: 0 }, groups: [{ match: { tag: 'bias' }, values: { momentum: 0.5 } }] },
      findOptimizer('sgd'),
    );
    for (let k = 0; k < 2; k++) {
      grad.fill(1);
      optimizer.step();
    }
    expect([theta.view('stem.weight')[0], theta.view('stem.bias')[0]]).toEqual([-2, -2.5]);
  });
});

describe('state', () => {
  test('has what the rule needs under the settings', () => {
    const slots = (name: string, values: OptimizerSettings['values']) =>
      Object.keys(make({ values }, findOptimizer(name)).optimizer.slots);
    expect(slots('sgd', {})).toEqual([]);
    expect(slots('sgd', { momentum: 0.9 })).toEqual(['b']);
    expect(slots('adam', {})).toEqual(['m', 'v']);
    expect(slots('adam', { amsgrad: true })).toEqual(['m', 'v', 'w']);
    expect(slots('adan', {})).toEqual(['m', 'v', 'n', 'previous']);
  });

  test('of another optimizer or model is refused, and nothing changes', () => {
    const { optimizer } = make();
    const own = optimizer.scalarState();
    const adanState = make({}, findOptimizer('adan')).optimizer.scalarState();
    expect(() => optimizer.restoreScalars(adanState)).toThrow(
      /adamw: the saved state has a number 'seen' that this optimizer does not/,
    );
    expect(() => optimizer.restoreScalars({ ...own, '#updates': [1, 2] })).toThrow(
      /has 2 values for '#updates', 4 numbers are wanted/,
    );
    const { '#step': _, ...partial } = own;
    expect(() => optimizer.restoreScalars(partial)).toThrow(/nothing for '#step'/);
    expect(optimizer.scalarState()).toEqual(own);
  });

  test.each([prodigy, lookahead(sgd)])(
    'a copy of the parameters taken at the first step is kept over a resume: $name',
    (definition) => {
      const values = definition === prodigy ? { lr: 1, d0: 0.01 } : { lr: 0.1, k: 2 };
      const [whole, half] = [make({ values }, definition), make({ values }, definition)];
      whole.theta.fill(0.5);
      const step = ({ optimizer, grad }: typeof whole, k: number) => {
        grad.fill(1 + k);
        optimizer.step();
      };
      for (let k = 0; k < 3; k++) step(whole, k);
      half.theta.copyFrom(whole.theta);
      for (const [name, slot] of Object.entries(whole.optimizer.slots)) half.optimizer.slots[name].copyFrom(slot);
      half.optimizer.restoreScalars(whole.optimizer.scalarState());
      for (const each of [whole, half]) for (let k = 3; k < 8; k++) step(each, k);
      expect(half.theta.data).toEqual(whole.theta.data);
    },
  );

  test('restart clears moments and counters, and no more', () => {
    const { optimizer, grad } = make({ values: { lr: 0.1 } }, findOptimizer('adan'));
    grad.fill(1);
    optimizer.step();
    optimizer.restart();
    expect(['m', 'v', 'n'].map((name) => optimizer.slots[name].data[0])).toEqual([0, 0, 0]);
    expect(optimizer.slots.previous.data[0]).toBe(1);
    expect(optimizer.scalarState()).toMatchObject({ '#step': [0], seen: [1, 1, 1, 1] });
  });

  test('restart policies say when they fire', () => {
    const { optimizer, grad } = make({ values: { restartEvery: 3 } }, findOptimizer('adan'));
    grad.fill(1);
    expect(Array.from({ length: 7 }, () => optimizer.step().restarted)).toEqual([
      false,
      false,
      true,
      false,
      false,
      true,
      false,
    ]);
  });

  test('setting what needs other state is refused and leaves everything', () => {
    const { optimizer } = make({ values: { lr: 0.1 } }, findOptimizer('sgd'));
    expect(() => optimizer.set({ momentum: 0.9 })).toThrow(
      /"momentum":0.9.* cannot be set while running: the state would be b instead of empty/,
    );
    expect(() => optimizer.set({ momentun: 0.9 })).toThrow(/did you mean 'momentum'/);
    expect(() => optimizer.set({ lr: -1 })).toThrow(/lr is -1/);
    expect(optimizer.values).toMatchObject({ lr: 0.1, momentum: 0 });
    optimizer.set({ lr: 0.5, weightDecay: 0.1 });
    expect(optimizer.lr).toBe(0.5);
  });
});

test('the gradient norm is reported, before clipping', () => {
  const { optimizer, grad } = make({ values: { clipNorm: 0.1 } }, clipGlobalNorm(sgd));
  grad.fill(2);
  optimizer.step();
  expect(optimizer.report.gradNorm).toBeCloseTo(2 * Math.sqrt(layout.count), 12);
  expect(() => clipGlobalNorm(clipGlobalNorm(sgd))).toThrow(/has a hyper-parameter 'clipNorm' already/);
});

describe('several gradients a step', () => {
  test.each(ENGINES)('a refused second phase puts the parameters back: %s', async (engine) => {
    const { optimizer, theta, grad } = rig(
      engine,
      sam(clipGlobalNorm(sgd), false),
      { values: { lr: 0.1, clipNorm: 1 } },
      PARAMS,
    );
    expect(optimizer.furtherEvaluations).toBe(1);
    theta.fill(0.5);
    grad.fill(1);
    const before = [...theta.data];
    let seen: number[] = [];
    const report = await optimizer.stepWith((what) => {
      expect(what).toBe('loss');
      seen = [...theta.data];
      grad.data[0] = Number.NaN;
      return 1;
    });
    expect(seen).not.toEqual(before);
    expect(report).toEqual({ applied: false, refusal: 'the gradient norm is not finite', restarted: false });
    expect([...theta.data]).toEqual(before);
  });

  test('step says to call stepWith', () => {
    const { optimizer } = make({}, sam(sgd, false));
    expect(optimizer.needsStepWith).toBe(true);
    expect(() => optimizer.step()).toThrow(
      /sam\+sgd: a step evaluates further gradients or works on whole tensors; call stepWith/,
    );
    expect(make({}, muon).optimizer.needsStepWith).toBe(true);
  });

  test('stepWith takes the steps of rules with one gradient too', async () => {
    const [one, other] = [make(), make()];
    for (const { grad } of [one, other]) grad.fill(1);
    one.optimizer.step();
    await other.optimizer.stepWith(() => {
      throw new Error('no further gradient is wanted');
    });
    expect(one.theta.data).toEqual(other.theta.data);
  });
});

test('a rule may use the loss, and refuse without it', () => {
  const page = defineOptimizer({
    name: 'polyak',
    title: 'test',
    source: { title: 'test', authors: 'test', year: 2000 },
    formula: 'test',
    use: 'test',
    family: 'gradient descent',
    hyperparameters: { lr: learningRate(1) },
    slots: {},
    update: ({ theta, loss }) => ({
      theta: sub(theta, loss),
      refuse: [{ when: isNaNumber(loss), because: 'no loss was given' }],
    }),
  });
  const { optimizer, theta } = make({}, page);
  expect(optimizer.step()).toMatchObject({ applied: false, refusal: 'no loss was given' });
  expect(optimizer.step({ loss: 3 }).applied).toBe(true);
  expect(theta.view('head.weight')[0]).toBe(-3);
});

describe('mistakes in rules are named', () => {
  const page = (
    update: Parameters<typeof defineOptimizer>[0] extends infer P ? (P extends { update: infer U } ? U : never) : never,
  ) =>
    defineOptimizer({
      name: 'mine',
      title: 'test',
      source: { title: 'test', authors: 'test', year: 2000 },
      formula: 'test',
      use: 'test',
      family: 'gradient descent',
      hyperparameters: { lr: learningRate(1) },
      slots: {},
      update,
    });
  test('slots and scalars that do not exist', () => {
    expect(() =>
      make(
        {},
        page(({ theta, slots }) => ({ theta: sub(theta, slots.momentum) })),
      ),
    ).toThrow(/mine: its rule reads the slot 'momentum', which it does not have/);
    expect(() =>
      make(
        {},
        page(({ theta }) => ({ slots: { b: theta } })),
      ),
    ).toThrow(/mine: its rule writes 'b', which is no slot/);
    expect(() =>
      make(
        {},
        page(({ t }) => ({ scalars: { d: t } })),
      ),
    ).toThrow(/mine: its rule writes 'state.d', which is none of its scalars/);
  });
  test('conditions that are not one for all', () => {
    expect(() =>
      make(
        {},
        page(({ theta }) => ({
          refuse: [{ when: greater(sum(theta, { axes: [1, 2], keepDims: true }), 0), because: 'no' }],
        })),
      ),
    ).toThrow(/guard.*one boolean for all/);
  });
});

describe('the registry', () => {
  test('finds by name and alias in any case, and suggests', () => {
    expect(findOptimizer('Adan')).toBe(adan);
    expect(findOptimizer('heavyball')).toBe(sgd);
    expect(findOptimizer('ADAMW')).toBe(adamw);
    expect(() => findOptimizer('neterov')).toThrow(/There is no optimizer 'neterov'; did you mean 'nesterov'\?/);
    expect(() => findOptimizer('zzzzzzzz')).toThrow(/there are adan, /);
  });

  test('names are unique, and defaults fit their own limits', () => {
    const names = optimizers.flatMap(({ name, aliases = [] }) => [name, ...aliases]).map((name) => name.toLowerCase());
    expect(new Set(names).size).toBe(names.length);
    for (const { name, hyperparameters, slots, scalars = {} } of optimizers) {
      expect(hyperparameters.lr?.kind).toBe('number');
      for (const [key, parameter] of Object.entries(hyperparameters)) {
        expect(problemOf(parameter, parameter.default), `${name}.${key}`).toBeUndefined();
        expect(parameter.doc.length, `${name}.${key}`).toBeGreaterThan(20);
      }
      for (const { doc } of [...Object.values(slots), ...Object.values(scalars)]) expect(doc.length).toBeGreaterThan(5);
    }
  });
});

test('what is needed can be reserved: nothing moves afterwards', () => {
  const reserve =
    VectorSpace.bytesFor(layout.size, 'float32', 2) + stateBytes(findOptimizer('adan'), {}, layout, 'float32');
  const space = new VectorSpace({ reserve });
  const { buffer } = space.memory;
  const [theta, grad] = [parameterVector(space, layout, 'float32'), parameterVector(space, layout, 'float32')];
  const optimizer = createOptimizer(adan, { values: { maxGradNorm: 1 } }, { theta, grad, space });
  for (let k = 0; k < 3; k++) optimizer.step();
  expect(space.memory.buffer).toBe(buffer);
});

test('many tensors, groups and conditions stay within what was reserved', () => {
  const many = new ParamLayout(
    Array.from({ length: 120 }, (_, i) => ({ name: `p${i}`, shape: [3, 5], tags: [i % 2 === 0 ? 'even' : 'odd'] })),
  );
  const values = { maxGradNorm: 1, weightDecay: 0.1, movementBudget: 1e6 };
  const groups: Group[] = [
    { match: { tag: 'odd' }, lrScale: 0.5, values: { weightDecay: 0, betas: [0.9, 0.9, 0.9], eps: 1e-4 } },
  ];
  const definition = findOptimizer('adan');
  const space = new VectorSpace({
    reserve:
      VectorSpace.bytesFor(many.size, 'float64', 2) + stateBytes(definition, { values, groups }, many, 'float64'),
  });
  const { buffer } = space.memory;
  const [theta, grad] = [parameterVector(space, many, 'float64'), parameterVector(space, many, 'float64')];
  const optimizer = createOptimizer(definition, { values, groups }, { theta, grad, space });
  grad.fill(0.1);
  for (let k = 0; k < 6; k++) optimizer.step({ absent: k === 2 ? ['p3', 'p4'] : k === 4 ? ['p7'] : undefined });
  expect(space.memory.buffer).toBe(buffer);
});
