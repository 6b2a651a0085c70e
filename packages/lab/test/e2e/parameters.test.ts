import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CompiledProgram } from '../../../edgewise/test/support/program.ts';
import { compileCli, edgewise, newestCheckpoint, outcome, words } from './support.ts';

let base = '';
let cli: CompiledProgram;
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'edgewise-parameters-'));
  cli = await compileCli();
});
afterAll(async () => {
  await cli.remove();
  await rm(base, { recursive: true });
});

/** Float64, so that what is computed beside the run is the same to a few bits. */
const moons = words`train --data moons --data-count 100 --model mlp --model-widths 8,4 --batch-size 50 --sharpness-every 0
  --precision float64 --schedule constant --optimizer sgd --lr 0.1`;

let runs = 0;
async function run(args: readonly (string | number)[]): Promise<string> {
  const folder = join(base, `run-${runs++}`);
  const { code, stderr } = await edgewise(cli, [...moons, ...args, '--out', folder]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return folder;
}

async function params(folder: string): Promise<Map<string, Float64Array>> {
  const tensors = (await newestCheckpoint(folder))?.file.tensors ?? new Map();
  return new Map(
    [...tensors].flatMap(([name, { data }]) =>
      name.startsWith('params.') ? [[name.slice(7), new Float64Array(data.slice().buffer)] as const] : [],
    ),
  );
}

/** How far each parameter moved in one step, from what one step without a learning rate leaves. */
async function moves(args: readonly (string | number)[]): Promise<Map<string, Float64Array>> {
  const still = await params(await run(words`--steps 1 --lr 1e-300`));
  const moved = await params(await run([...words`--steps 1`, ...args]));
  return new Map(
    [...moved].map(([name, after]) => [name, after.map((x, i) => x - (still.get(name)?.[i] ?? Number.NaN))]),
  );
}

const expectScaled = (a: Float64Array | undefined, b: Float64Array | undefined, factor: number): void => {
  expect(a?.some((x) => x !== 0)).toBe(true);
  a?.forEach((x, i) => {
    expect(Math.abs(x - factor * (b?.[i] ?? Number.NaN))).toBeLessThan(1e-14);
  });
};

describe('groups of parameters', () => {
  it('have rates of their own, other optimizers, and stay as they are when frozen', async () => {
    const plain = await moves([]);
    const grouped = await moves([
      ...['--group', 'name=fc1.* lrScale=0.5', '--freeze', 'name=fc2.bias'],
      ...['--group', 'name=fc3.weight optimizer=adamw adamwLr=0.02 adamwWeightDecay=0 adamwEps=1e-30'],
    ]);
    expectScaled(grouped.get('fc1.weight'), plain.get('fc1.weight'), 0.5);
    expectScaled(grouped.get('fc2.weight'), plain.get('fc2.weight'), 1);
    expect(grouped.get('fc2.bias')?.every((x) => x === 0)).toBe(true);
    // The first step of Adam is the rate, with the sign of the gradient, of which that of SGD is a multiple.
    expectScaled(grouped.get('fc3.weight'), plain.get('fc3.weight')?.map(Math.sign), 0.02);
  });

  it('of a run are those of its continuation, to the bit', async () => {
    const args = ['--group', 'tag=bias optimizer=adam adamLr=0.01', '--freeze', 'name=fc2.*', '--wrap', 'average'];
    const whole = await run([...words`--steps 12`, ...args]);
    const halves = await run([...words`--steps 6`, ...args]);
    const { code, stderr } = await edgewise(cli, ['train', '--resume', halves, '--steps', 12]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect((await outcome(halves)).tensors).toEqual((await outcome(whole)).tensors);
    const config = JSON.parse(await readFile(join(halves, 'config.json'), 'utf8'));
    expect(config.groups).toEqual([
      { match: { tag: ['bias'] }, lrScale: 1, values: { adamLr: 0.01 }, optimizer: 'adam' },
    ]);
  });

  it.each([
    [['--group', 'tag=bais lrScale=2'], "groups, group 1: no parameter carries the tag 'bais'; did you mean 'bias'?"],
    [['--group', 'tag=bias lr=2'], 'a group cannot have an lr of its own'],
    [
      ['--group', 'tag=bias momentun=0.5'],
      "groups, group 1 has no hyper-parameter 'momentun'; did you mean 'momentum'?",
    ],
    [['--group', 'tag=bias momentum=2'], 'groups, group 1: momentum is 2; give a number'],
    [
      ['--group', 'tag=bias optimizer=adam momentum=0.5'],
      "groups, group 1: momentum is of sgd, which none of the group's parameters is updated with; those of adam begin with its name, such as adamLr.",
    ],
    [
      ['--group', 'maxRank=9 optimizer=adam'],
      'groups: no parameter is left for sgd; choose the optimizer of the groups by --optimizer instead.',
    ],
    [
      ['--group', 'tag=bias optimizer=scheduleFreeSgd'],
      'combine: scheduleFreeSgd evaluates the model at another point than the one trained',
    ],
    [['--freeze', 'name=*'], 'freeze chooses every parameter, so nothing would be trained; freeze fewer.'],
    [['--freeze', 'name=fc9.*'], "freeze, condition 1: no parameter is named 'fc9.*'"],
  ])('%j is refused, and leaves no folder', async (args, sentence) => {
    const folder = join(base, 'refused');
    const { code, stderr } = await edgewise(cli, [...moons, ...args, '--out', folder]);
    expect(stderr).toContain(sentence);
    expect(code).toBe(2);
    await expect(stat(folder)).rejects.toThrow('ENOENT');
  });
});

it('matrix products of an optimizer are computed on the device, as the interpreter computes them', async () => {
  const args = ['--steps', 3, '--optimizer', 'muon', '--group', 'maxRank=1 optimizer=adamw adamwLr=0.01', '--device'];
  const [cpu, interpreted] = [
    await params(await run([...args, 'cpu'])),
    await params(await run([...args, 'interpreter'])),
  ];
  expect([...cpu.keys()]).toEqual([...interpreted.keys()]);
  for (const [name, values] of cpu) {
    values.forEach((x, i) => {
      expect(Math.abs(x - (interpreted.get(name)?.[i] ?? Number.NaN)), name).toBeLessThan(1e-10);
    });
  }
});

describe('wrappers', () => {
  it('wrap in order: an average is evaluated, and what is trained stays the same', async () => {
    const plain = await outcome(await run(words`--steps 6`));
    const averaged = await outcome(await run(words`--steps 6 --wrap average`));
    for (const [name, data] of plain.tensors) expect(averaged.tensors.get(name)).toEqual(data);
    expect([...averaged.tensors.keys()].filter((name) => name.startsWith('optimizer.average.'))).not.toEqual([]);
  });

  it('clip components first and the norm of what is left then, with both limits at once', async () => {
    const plain = await moves([]);
    const gradient = [...plain].flatMap(([, move]) => [...move].map((x) => x / -0.1));
    const limit = 0.6 * Math.max(...gradient.map(Math.abs));
    const cut = gradient.map((x) => Math.min(Math.max(x, -limit), limit));
    const norm = Math.hypot(...cut);
    const both = await moves(words`--clip-value ${limit} --clip-norm ${norm / 2}`);
    const factor = norm / 2 / (norm + 1e-6);
    [...both]
      .flatMap(([, move]) => [...move])
      .forEach((x, i) => {
        expect(Math.abs(x + 0.1 * factor * cut[i])).toBeLessThan(1e-13);
      });
  });

  it.each([
    [
      ['--wrap', 'average', '--optimizer', 'scheduleFreeSgd'],
      /is evaluated at another point than the one it trains already/,
    ],
    [['--wrap', 'averag'], /--wrap: there is no wrapper 'averag'; did you mean 'average'\?/],
    [['--average-kind', 'ema'], /--average-kind is of the wrapper average, which is not used/],
  ])('%j is refused', async (args, sentence) => {
    const { code, stderr } = await edgewise(cli, [...moons, ...args, '--out', join(base, 'refused')]);
    expect(stderr).toMatch(sentence);
    expect(code).toBe(2);
  });
});

it('a dry run says what every parameter would get, and trains nothing', async () => {
  const folder = join(base, 'dry');
  const { code, stdout } = await edgewise(cli, [
    ...words`train --data moons --model mlp --model-widths 8 --optimizer adamw --weight-decay 0.1 --dry-run --out ${folder}`,
    ...[
      '--group',
      'name=fc2.weight optimizer=sgd sgdLr=0.5',
      '--group',
      'name=fc1.weight lrScale=0.5',
      '--freeze',
      'name=fc2.bias',
    ],
  ]);
  expect(code).toBe(0);
  const rows = stdout.split('\n').map((line) => line.split(/ {2,}/));
  expect(rows.slice(0, 5)).toEqual([
    ['parameter', 'shape', 'tags', 'optimizer', 'lr factor', 'differs'],
    ['fc1.weight', '8 x 2', 'weight', 'adamw', '0.5'],
    ['fc1.bias', '8', 'bias', 'adamw', '1', 'weightDecay 0'],
    ['fc2.weight', '2 x 8', 'weight, head', 'sgd', '1'],
    ['fc2.bias', '2', 'bias, head', 'frozen'],
  ]);
  expect(stdout).toContain('42 parameters in 4 tensors, 2 of them in 1 frozen; nothing was trained.');
  await expect(stat(folder)).rejects.toThrow('ENOENT');
});
