import { ConfigError } from 'edgewise';
import { describe, expect, it } from 'vitest';
import {
  type ConfigLayer,
  checkResumable,
  parseTrainArguments,
  parseTrainConfig,
  trainHelp,
} from '../../src/config/index.ts';
import { CATALOG } from './catalog.ts';

const parse = (value: unknown, ...more: ConfigLayer[]) =>
  parseTrainConfig([{ source: 'my.json', value }, ...more], CATALOG);
const config = async (...argv: string[]) => (await parseTrainArguments(argv, CATALOG)).config;

describe('wrappers', () => {
  it('are named in order, with their settings in JSON and in flags', async () => {
    const wrap = [
      { name: 'sam', samRho: 0.05 },
      { name: 'average', averageKind: 'ema', averageDecay: 0.9 },
    ];
    expect((await config('--wrap', 'SAM, average', '--average-kind', 'ema', '--average-decay', '0.9')).wrap).toEqual(
      wrap,
    );
    const json = parse({ wrap: ['sam', { name: 'average', averageKind: 'ema', averageDecay: 0.9 }] });
    expect(json.wrap).toEqual(wrap);
    expect(parse(JSON.parse(JSON.stringify(json)))).toEqual(json);
    expect(parse({ wrap: ['average', 'sam'] }).wrap.map(({ name }) => name)).toEqual(['average', 'sam']);
  });

  it('in flags take the place of those in a file; settings of those that stay hold', () => {
    const file = {
      wrap: [
        { name: 'average', averageDecay: 0.9 },
        { name: 'sam', samRho: 1 },
      ],
    };
    expect(parse(file, { flags: { wrap: 'average' } }).wrap).toEqual([
      { name: 'average', averageKind: 'mean', averageDecay: 0.9 },
    ]);
    expect(parse(file, { flags: { 'average-decay': '0.5' } }).wrap[0]).toMatchObject({ averageDecay: 0.5 });
    expect(parse(file, { flags: { wrap: '' } }).wrap).toEqual([]);
    expect(parse(file, { flags: { wrap: '' } }, { flags: { wrap: 'sam' } }).wrap).toEqual([
      { name: 'sam', samRho: 0.05 },
    ]);
  });

  it('share settings with the run, and are shown in help where they are chosen', () => {
    expect(parse({ wrap: ['clipNorm'], clipNorm: 2 })).toMatchObject({ wrap: [{ name: 'clipNorm' }], clipNorm: 2 });
    expect(trainHelp(CATALOG, [], 100)).not.toContain('--average-decay');
    const help = trainHelp(CATALOG, ['--wrap', 'average'], 100);
    expect(help).toMatch(/--average-decay <number> +Decay rate\. \[default: 0\.999\]/);
    expect(help).not.toContain('--sam-rho');
  });

  it.each([
    [{ wrap: 'average' }, 'my.json: wrap is average; give a list of wrappers.'],
    [{ wrap: ['avrage'] }, "my.json: wrap: there is no wrapper 'avrage'; did you mean 'average'?"],
    [{ wrap: [3] }, 'my.json: wrap: there is no wrapper of that kind; there are average, sam, clipNorm.'],
    [{ wrap: ['sam', 'sam'] }, 'my.json: wrap has sam twice; wrap with it once.'],
    [{ wrap: [{ name: 'sam', samRho: 0 }] }, 'my.json: wrap.sam.samRho is 0; give a number above 0.'],
    [
      { wrap: [{ name: 'sam', samRo: 1 }] },
      'my.json: there is no setting wrap.sam.samRo; did you mean wrap.sam.samRho?',
    ],
  ])('%j', (value, sentence) => {
    expect(() => parse(value)).toThrow(ConfigError);
    expect(() => parse(value)).toThrow(sentence);
  });

  it('a flag of one that is not used says so', async () => {
    await expect(config('--sam-rho', '1')).rejects.toThrow(
      '--sam-rho is of the wrapper sam, which is not used; give --wrap sam.',
    );
    await expect(config('--wrap', 'average', '--average-decay', '1')).rejects.toThrow(
      '--average-decay is 1; give a number of at least 0 and below 1.',
    );
  });
});

describe('groups of parameters', () => {
  const groups = [
    {
      match: { tag: ['bias', 'norm'] },
      lrScale: 1,
      values: { weightDecay: 0, betas: [0.9, 0.8, 0.7], proximal: true },
    },
    { match: { name: ['head.*'], minRank: 2 }, lrScale: 0.5, values: { sgdLr: 0.1 }, optimizer: 'sgd' },
  ];
  const freeze = [{ name: ['conv1.*'] }, { maxRank: 1 }];
  const flags = [
    ...['--group', 'tag=bias,norm  weightDecay=0 betas=0.9,0.8,0.7 proximal=true'],
    ...['--group', 'name=head.* minRank=2 lrScale=0.5 optimizer=SGD sgdLr=0.1'],
    ...['--freeze', 'name=conv1.*', '--freeze', 'maxRank=1'],
  ];

  it('are the same from flags and from JSON, and come back', async () => {
    const read = await config(...flags);
    expect(read).toMatchObject({ groups, freeze });
    expect(parse({ groups, freeze })).toEqual(read);
    expect(parse({ groups: [{ match: { tag: 'bias' }, lrScale: 2 }] }).groups).toEqual([
      { match: { tag: ['bias'] }, lrScale: 2, values: {} },
    ]);
  });

  it('in flags take the place of those in a file', () => {
    const file = { groups, freeze };
    expect(parse(file, { flags: { seed: '1' } })).toMatchObject(file);
    expect(parse(file, { flags: { group: [''], freeze: 'tag=x' } })).toMatchObject({
      groups: [],
      freeze: [{ tag: ['x'] }],
    });
  });

  it.each([
    [['--group', 'tag bias'], "--group: 'tag' is not of the form key=value, such as tag=bias,norm."],
    [['--group', 'weightDecay=0'], '--group: match is wrong (give tag, name, minRank or maxRank).'],
    [
      ['--group', 'tag=bias'],
      '--group changes nothing; give lrScale, optimizer, or hyper-parameters such as weightDecay.',
    ],
    [
      ['--group', 'tag=bias tag=norm lrScale=1'],
      '--group: tag is given twice; several values take commas between them.',
    ],
    [['--group', 'tag=bias optimizer=sdg'], "--group: there is no optimizer 'sdg'; did you mean 'sgd'?"],
    [
      ['--group', 'minRank=x lrScale=2'],
      '--group: match.minRank is wrong (invalid input: expected number, received string).',
    ],
    [['--freeze', 'nam=x'], "--freeze: there is no condition 'nam'; did you mean 'name'?"],
  ])('%j', async (argv, sentence) => {
    await expect(config(...argv)).rejects.toThrow(ConfigError);
    await expect(config(...argv)).rejects.toThrow(sentence);
  });

  it.each([
    [{ groups: {} }, 'my.json: groups is an object; give a list.'],
    [{ groups: [{ match: { tag: 'x' }, lrScale: -1 }] }, 'my.json: groups, group 1: lrScale is wrong'],
    [{ groups: [{ match: { tga: 'x' } }] }, "my.json: groups, group 1: match has no 'tga'"],
    [{ freeze: [{}] }, 'my.json: freeze, condition 1: it is wrong (give tag, name, minRank or maxRank).'],
  ])('%j', (value, sentence) => {
    expect(() => parse(value)).toThrow(ConfigError);
    expect(() => parse(value)).toThrow(sentence);
  });
});

it('a run goes on with the wrappers, groups and frozen parameters it had', () => {
  const before = parse({ wrap: ['average'], groups: [{ match: { tag: 'bias' }, lrScale: 2 }] });
  const check = (value: object) => () => checkResumable(before, parse({ ...before, ...value }), CATALOG);
  expect(check({})).not.toThrow();
  expect(check({ wrap: [{ name: 'average', averageDecay: 0.5 }] })).toThrow(
    '--average-decay cannot change when a run is resumed: wrap.average.averageDecay was 0.999 and is now 0.5;',
  );
  expect(check({ wrap: [] })).toThrow(
    '--wrap cannot change when a run is resumed: wrap was ["average"] and is now [];',
  );
  expect(check({ groups: [] })).toThrow('--group cannot change when a run is resumed');
  expect(check({ freeze: [{ tag: 'bias' }] })).toThrow(
    '--freeze cannot change when a run is resumed: freeze was [] and is now',
  );
});

it('a hyper-parameter called as a setting of the run has the name of its optimizer before its flag', async () => {
  const steps = { kind: 'count', default: 5, min: 1, doc: 'Iterations.' } as const;
  const [adan, sgd] = CATALOG.optimizers;
  const catalog = { ...CATALOG, optimizers: [{ ...adan, settings: { ...adan.settings, steps } }, sgd] };
  const { config } = await parseTrainArguments(['--steps', '20', '--adan-steps', '3'], catalog);
  expect([config.steps, config.optimizer.steps]).toEqual([20, 3]);
});
