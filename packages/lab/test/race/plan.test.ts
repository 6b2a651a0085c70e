import { describe, expect, it } from 'vitest';
import { parseRaceArguments } from '../../src/commands/race.ts';
import { drawsOf, parsePlan } from '../../src/race/plan.ts';

const parse = (plan: unknown, flags: Record<string, string | boolean> = {}) => parsePlan({ plan, flags }, 'plan.json');

describe('a plan', () => {
  it('is completed', () => {
    const plan = parse({ optimizers: ['adamw', { name: 'adan', weightDecay: 0.02 }], budgets: [4, 1, 2, 1] });
    expect(plan.budgets).toEqual([1, 2, 4]);
    expect(plan.seeds).toEqual([0, 1, 2]);
    expect(plan.reference).toBe('adan');
    expect(plan.select).toBe('accuracy');
    expect(plan.entrants.map(({ tune }) => tune)).toEqual([['lr'], ['lr']]);
    expect(plan.entrants[1].config.optimizer.weightDecay).toBe(0.02);
    expect(plan.entrants[0].config.probes.sharpness.every).toBe(0);
  });

  it('gives optimizers their own defaults, not those of the recipe for training', () => {
    const [{ config }] = parse({ optimizers: ['adan'] }).entrants;
    expect(config.optimizer).toMatchObject({ lr: 1e-3, weightDecay: 0 });
  });

  it('takes settings of training from its own and from flags, which weigh more', () => {
    const plan = parse({ optimizers: ['sgd'], train: { batchSize: 64, seed: 5 } }, { 'batch-size': '32' });
    expect(plan.entrants[0].config.batchSize).toBe(32);
    expect(plan.seeds).toEqual([5, 6, 7]);
  });

  it('gives every optimizer as many draws', () => {
    const plan = parse({
      optimizers: ['sgd', { name: 'adan', tune: ['lr', 'betas.2'] }, { name: 'sgd', label: 'fixed', tune: [] }],
      trials: 5,
    });
    expect(plan.entrants.map((entrant) => drawsOf(plan, entrant).length)).toEqual([5, 5, 0]);
    expect(parse({ optimizers: ['sgd'], trials: 0 }).entrants[0].tune).toEqual([]);
  });

  it('tunes the learning rate where it is not given', () => {
    const optimizers = ['sgd', { name: 'adan', lr: 0.01 }, { name: 'adamw', lr: 0.1, tune: ['betas'] }];
    expect(parse({ optimizers }).entrants.map(({ tune }) => tune)).toEqual([['lr'], [], ['betas']]);
    expect(parse({ optimizers: ['sgd'] }, { lr: '0.3' }).entrants[0]).toMatchObject({
      tune: [],
      config: { optimizer: { lr: 0.3 } },
    });
  });

  it('is judged by loss on text', () => {
    const train = { model: { name: 'transformer', task: 'predict' }, data: 'moby-dick' };
    expect(parse({ optimizers: ['adan'], train }).select).toBe('loss');
  });

  it.each([
    [{ budgets: [1] }, /plan\.json: optimizers is wrong/],
    [{ optimizers: [] }, /optimizers is wrong/],
    [{ optimizers: ['adam', 'adam'] }, /two optimizers are called 'adam'/],
    [{ optimizers: ['adann'] }, /did you mean 'adan'/],
    [{ optimizers: [{ name: 'adan', lrr: 1 }] }, /optimizers\.0.*lrr.*did you mean/],
    [{ optimizers: [{ name: 'adan', tune: ['lrr'] }] }, /tune 'lrr' of adan/],
    [{ optimizers: [{ name: 'adan', lr: 1, tune: ['lr'] }] }, /'lr' of adan is both given and to be tuned/],
    [{ optimizers: ['adan'], budgets: [0] }, /budgets\.0/],
    [{ optimizers: ['adan'], budgets: [] }, /budgets/],
    [{ optimizers: ['adan'], trials: -1 }, /trials/],
    [{ optimizers: ['adan'], validation: 1 }, /validation/],
    [{ optimizers: ['adan'], seeds: [1, 1] }, /seeds has one twice/],
    [{ optimizers: ['adan'], reference: 'adamw' }, /reference is 'adamw', which is none of adan/],
    [{ optimizers: ['adan'], epochs: 3 }, /epochs/],
    [{ optimizers: ['adan'], train: { epochs: 3 } }, /train\.epochs is not for a race.*budgets/],
    [{ optimizers: ['adan'], train: { optimizer: 'sgd' } }, /train\.optimizer is not for a race/],
    [{ optimizers: ['adan'], train: { batchsize: 3 } }, /did you mean batchSize/],
    [[], /the whole is wrong/],
  ])('refuses %j', (plan, message) => {
    expect(() => parse(plan)).toThrow(message);
  });

  it('refuses flags that a race decides', () => {
    expect(() => parse({ optimizers: ['adan'] }, { epochs: '3' })).toThrow(/--epochs is not for a race/);
    expect(() => parse({ optimizers: ['adan'] }, { 'sharpness-every': '3' })).toThrow(/--sharpness-every is not/);
  });

  it('refuses draws that the optimizer refuses, before anything is run', () => {
    const plan = { optimizers: [{ name: 'sgd', nesterov: true, momentum: 0 }] };
    expect(() => parse(plan)).toThrow(/nesterov/i);
  });
});

describe('arguments', () => {
  it('are a plan file, flags of the race and flags of training', () => {
    const file = JSON.stringify({ optimizers: ['adan'], budgets: [1], trials: 9 });
    const request = parseRaceArguments(
      ['p.json', '--trials', '3', '--model', 'mlp', '--jobs=2', '--batch-size=64', '--budgets', '2,4', '--out', 'x'],
      () => file,
    );
    expect(request).toEqual({
      source: {
        plan: { optimizers: ['adan'], budgets: [2, 4], trials: 3 },
        flags: { model: 'mlp', 'batch-size': '64' },
      },
      origin: 'p.json',
      out: 'x',
      resume: null,
      overview: null,
      jobs: 2,
    });
  });

  it('need no plan file', () => {
    const { source } = parseRaceArguments(['--optimizers', 'adan, sgd', '--data', 'moons']);
    expect(source).toEqual({ plan: { optimizers: ['adan', 'sgd'] }, flags: { data: 'moons' } });
  });

  it.each([
    [['--trials', '3'], /A race needs optimizers/],
    [['--optimizers', 'adan', '--jobs', '0'], /--jobs is 0/],
    [['--optimizers', 'adan', '--trials', 'x'], /--trials is "x"; give a number/],
    [['--resume', 'x', '--trials', '3'], /--resume goes on with the race as it was planned/],
    [['--resume', 'x', '--model', 'mlp'], /leave out the plan/],
    [['--overview', 'x', '--trials', '3'], /--overview sums up races that were run/],
    [['--optimizers', 'adan', '--out', ''], /--out is empty/],
    [['--optimizers', 'adan', '--select', 'speed'], /speed/],
    [['--optimizers'], /--optimizers.*needs a value/],
    [['a.json', 'b.json'], /got 'b\.json'/],
    [['nowhere.json'], /nowhere\.json cannot be read: there is no such file/],
  ])('refuse %j', (argv, message) => {
    expect(() => parseRaceArguments(argv)).toThrow(message);
  });

  it('refuse a plan file that is not a plan', () => {
    expect(() => parseRaceArguments(['p.json'], () => '{')).toThrow(/p\.json is not JSON/);
    expect(() => parseRaceArguments(['p.json'], () => '[]')).toThrow(/must be an object/);
  });
});
