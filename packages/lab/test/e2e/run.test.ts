import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readEvents } from '../../../edgewise/src/train/events-reader.ts';
import { metricSeries, readMetrics } from '../../../edgewise/src/train/metrics.ts';
import type { CompiledProgram } from '../../../edgewise/test/support/program.ts';
import {
  compileCli,
  edgewise,
  filesIn,
  newestCheckpoint,
  outcome,
  words,
  writeCifar10Folder,
  writeIdxFolder,
} from './support.ts';

let base = '';
let cli: CompiledProgram;
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'edgewise-e2e-'));
  cli = await compileCli();
  await Promise.all([writeCifar10Folder(join(base, 'cifar'), 40), writeIdxFolder(join(base, 'idx'))]);
});
afterAll(async () => {
  await cli.remove();
  await rm(base, { recursive: true });
});

const succeed = async (args: readonly (string | number)[]): Promise<string> => {
  const { code, stdout, stderr } = await edgewise(cli, ['train', ...args]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout;
};

const moons = words`--data moons --model mlp --model-widths 8 --batch-size 50 --sharpness-every 0`;

const series = async (folder: string, name: string) =>
  metricSeries(readMetrics(await readFile(join(folder, 'metrics.jsonl'))).records, name).values;

it('ResNet-20 on CIFAR files: learns, and leaves a folder that other tools can read', async () => {
  const folder = join(base, 'resnet');
  const stdout =
    await succeed(words`--data cifar10 --data-path ${join(base, 'cifar')} --augment-crop 4 --augment-flip 0.5 --model resnet20
    --optimizer sgd --momentum 0.9 --lr 0.05 --schedule constant --batch-size 20 --steps 8
    --sharpness-examples 10 --sharpness-every 8 --checkpoint-every 5 --out ${folder}`);
  expect(stdout).toContain('269,722 parameters');
  expect(stdout).toContain('200 training and 40 test examples');
  const files = await filesIn(folder);
  const events = files.find((name) => name.startsWith('events.out.tfevents.')) ?? '';
  expect(files).toEqual(
    [
      'checkpoints/step-00000005.safetensors',
      'checkpoints/step-00000008.safetensors',
      'config.json',
      'environment.json',
      events,
      'metrics.jsonl',
      'metrics.schema.json',
      'model.json',
      'timing.jsonl',
    ].sort(),
  );
  const { damage, records } = readMetrics(await readFile(join(folder, 'metrics.jsonl')));
  expect(damage).toBeUndefined();
  expect(records.map(({ step }) => step)).toEqual(Array.from({ length: 8 }, (_, i) => i + 1));
  for (const record of records) {
    expect(record['train/loss']).toBeGreaterThan(0.5);
    expect(record['train/loss']).toBeLessThan(20);
  }
  expect((await series(folder, 'sharpness')).every((value) => value > 0)).toBe(true);
  expect(await series(folder, 'sharpness/threshold')).toEqual([(2 + 2 * 0.9) / 0.05]);
  expect(readEvents(await readFile(join(folder, events))).damage).toBeUndefined();
  const checkpoint = await newestCheckpoint(folder);
  const running = checkpoint?.file.tensors.get('buffers.bn1.running_var');
  expect(running?.shape).toEqual([16]);
  expect(checkpoint?.file.tensors.get('params.layer3.2.conv2.weight')?.shape).toEqual([64, 64, 3, 3]);
});

it('a run is repeated to the bit from its own config.json', async () => {
  const [first, second] = [join(base, 'first'), join(base, 'second')];
  await succeed(words`--data idx --data-path ${join(base, 'idx')} --model convnet --model-channels 4 --model-widths 8
    --model-batch-norm --model-dropout 0.1 --augment-crop 1 --batch-size 16 --micro-batch-size 4
    --seed 77 --label-smoothing 0.1 --clip-value 0.5 --epochs 2.5 --sharpness-every 5
    --sharpness-examples 16 --out ${first}`);
  await succeed(words`--config ${join(first, 'config.json')} --out ${second}`);
  expect(await readFile(join(second, 'config.json'), 'utf8')).toBe(await readFile(join(first, 'config.json'), 'utf8'));
  expect(await outcome(second)).toEqual(await outcome(first));
  const third = join(base, 'third');
  await succeed(words`--config ${join(first, 'config.json')} --seed 78 --out ${third}`);
  expect((await outcome(third)).metrics).not.toBe((await outcome(first)).metrics);
});

it('learns two moons, in float32 and in float64, with every optimizer', async () => {
  for (const [optimizer, lr] of [
    ['adan', 0.05],
    ['adam', 0.02],
    ['adamw', 0.02],
    ['sgd', 0.5],
  ] as const) {
    const precision = optimizer === 'adam' ? 'float64' : 'float32';
    const folder = join(base, `moons-${optimizer}`);
    const choice = words`--optimizer ${optimizer} --lr ${lr} --precision ${precision}`;
    await succeed([...moons, ...choice, ...words`--model-widths 32 --steps 600 --out ${folder}`]);
    expect((await series(folder, 'test/accuracy')).at(-1), optimizer).toBeGreaterThan(0.97);
    const weights = (await newestCheckpoint(folder))?.file.tensors.get('params.fc1.weight');
    expect(weights?.dtype).toBe(precision === 'float64' ? 'F64' : 'F32');
  }
});

it('the interpreter trains as the CPU does', async () => {
  const tiny = [...moons, ...words`--data-count 60 --batch-size 20 --precision float64 --steps 4`];
  const [cpu, interpreted] = [join(base, 'cpu'), join(base, 'interpreter')];
  await succeed([...tiny, '--out', cpu]);
  await succeed([...tiny, '--device', 'interpreter', '--out', interpreted]);
  const [a, b] = [await series(cpu, 'train/loss'), await series(interpreted, 'train/loss')];
  expect(a).toHaveLength(4);
  a.forEach((loss, i) => {
    expect(Math.abs(loss - b[i])).toBeLessThan(1e-12);
  });
});

it('a run that diverges stops with exit code 1, the diagnosis and its state; it can go on, leaving such updates out', async () => {
  const folder = join(base, 'diverging');
  const wild = words`--model-widths 8,8 --optimizer sgd --lr 1e20 --schedule constant --out ${folder}`;
  const { code, stderr } = await edgewise(cli, ['train', ...moons, ...wild]);
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /^edgewise: At step \d+ the loss is \S+ and the gradient norm \S+; the gradient is not finite in every parameter \(lr 100000000000000000000, [^\n]+ Lower the learning rate, warm it up, or clip the gradient\.\n$/,
  );
  const saved = await newestCheckpoint(folder);
  expect(stderr).toContain(`is kept in ${saved?.name}`);
  const stdout = await succeed(words`--resume ${folder} --on-non-finite skip`);
  expect(stdout).toMatch(/finished; updates left out because something was not finite: \d+/);
});

it('early stopping ends a run and says so', async () => {
  const folder = join(base, 'early');
  const still = words`--lr 1e-12 --eval-every 2 --early-stopping-patience 3 --out ${folder}`;
  const stdout = await succeed([...moons, ...still]);
  expect(stdout).toContain('ended early: the test set shows no improvement');
  expect((await newestCheckpoint(folder))?.step).toBe(8);
});

it('a run with a schedule that does not depend on its length can be made longer', async () => {
  const [short, long] = [join(base, 'short'), join(base, 'long')];
  const steady = [...moons, ...words`--schedule constant --eval-every 5`];
  await succeed([...steady, ...words`--steps 10 --out ${short}`]);
  await succeed(words`--resume ${short} --steps 20`);
  await succeed([...steady, ...words`--steps 20 --out ${long}`]);
  expect(await outcome(short)).toEqual(await outcome(long));
});

it('two processes do not write one run', async () => {
  const folder = join(base, 'shared');
  let second: ReturnType<typeof edgewise> | undefined;
  const first = await edgewise(cli, ['train', ...moons, ...words`--steps 1500 --eval-every 100 --out ${folder}`], {
    watch: (stdout) => {
      if (/\n +\d/.test(stdout)) second ??= edgewise(cli, ['train', '--resume', folder]);
    },
  });
  expect(first).toMatchObject({ code: 0, stderr: '' });
  const { code, stdout, stderr } = (await second) ?? {};
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(/^edgewise: The run in \S+ is already being written by process \d+; [^\n]+\.\n$/);
});

it('--help explains every flag with its default', async () => {
  const { code, stdout } = await edgewise(cli, words`train --help --optimizer sgd`);
  expect(code).toBe(0);
  expect(stdout).toMatch(/--momentum <number>[^-]+\[default: 0\]/);
  for (const [flag] of stdout.matchAll(/^ {2}--[\w-]+.*$/gm)) expect(flag.trim()).toMatch(/^--([\w-]+ [<[]|dry-run )/);
});

const built = join(import.meta.dirname, '../../dist/cli.js');
it.skipIf(!existsSync(built))(
  `${existsSync(built) ? '' : 'skipped, not built: '}the built command starts`,
  async () => {
    const bin = { path: join(import.meta.dirname, '../../bin/edgewise.js'), remove: async () => {} };
    const { code, stdout } = await edgewise(bin, ['--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('edgewise <command>');
  },
);
