import { chmod, copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getuid } from 'node:process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CompiledProgram } from '../../../edgewise/test/support/program.ts';
import { compileCli, edgewise, filesIn, idx, outcome, words, writeCifar10Folder, writeIdxFolder } from './support.ts';

let base = '';
let cli: CompiledProgram;
const at = (name: string): string => join(base, name);

/** A short run on two moons. */
const moons = words`--data moons --data-count 100 --model mlp --model-widths 8 --batch-size 20`;

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'edgewise-e2e-'));
  cli = await compileCli();
  await Promise.all([damagedImages(), damagedCifar(), configurations(), runs()]);
});
afterAll(async () => {
  await cli.remove();
  await rm(base, { recursive: true });
});

/** A folder with IDX files, one of them changed. */
async function idxWith(name: string, file: string, bytes: Uint8Array): Promise<void> {
  await writeIdxFolder(at(name));
  await writeFile(join(at(name), file), bytes);
}

async function damagedImages(): Promise<void> {
  await writeIdxFolder(at('idx'));
  const [images, labels] = ['train-images-idx3-ubyte', 'train-labels-idx1-ubyte'];
  const [whole, answers] = [await readFile(join(at('idx'), images)), await readFile(join(at('idx'), labels))];
  const changed = (bytes: Uint8Array, change: (copy: Uint8Array) => void): Uint8Array => {
    const copy = Uint8Array.from(bytes);
    change(copy);
    return copy;
  };
  await idxWith('idx-truncated', images, whole.subarray(0, whole.length - 1));
  await idxWith('idx-header', images, whole.subarray(0, 9));
  await idxWith('idx-empty', images, new Uint8Array(0));
  await idxWith(
    'idx-more',
    images,
    changed(whole, (b) => b.fill(255, 4, 8)),
  );
  await idxWith(
    'idx-magic',
    images,
    changed(whole, (b) => b.fill(7, 0, 2)),
  );
  await idxWith(
    'idx-type',
    images,
    changed(whole, (b) => b.fill(0x0d, 2, 3)),
  );
  await idxWith('idx-fewer-labels', labels, idx([159], answers.subarray(8, 8 + 159)));
  await idxWith(
    'idx-gzip',
    images,
    changed(whole, (b) => b.set([0x1f, 0x8b, 8, 0])),
  );
  await idxWith('idx-sizes', 't10k-images-idx3-ubyte', idx([48, 4, 4], new Uint8Array(48 * 16)));
  await idxWith('idx-labels', 't10k-labels-idx1-ubyte', idx([48], new Uint8Array(48).fill(9)));
  await writeIdxFolder(at('idx-missing'));
  await rm(join(at('idx-missing'), labels));
}

async function damagedCifar(): Promise<void> {
  await writeCifar10Folder(at('cifar'), 4);
  for (const name of ['cifar-truncated', 'cifar-label']) await cp(at('cifar'), at(name), { recursive: true });
  await truncate(join(at('cifar-truncated'), 'data_batch_3.bin'), 4 * 3073 - 1);
  const bytes = await readFile(join(at('cifar-label'), 'data_batch_2.bin'));
  bytes[3073] = 10;
  await writeFile(join(at('cifar-label'), 'data_batch_2.bin'), bytes);
}

async function configurations(): Promise<void> {
  await mkdir(at('json'));
  const files = {
    broken: '{"lr": 0.1,',
    binary: '\u0000\u0001',
    list: '[1, 2]',
    unknown: '{"optimizer": {"name": "adan", "learningRate": 0.1}}',
    typed: '{"batchSize": "128"}',
    nested: '{"model": {"name": "mlp", "widths": 8}}',
    variant: '{"optimizer": "adamm"}',
    deep: `${'['.repeat(100_000)}`,
    nulls: '{"seed": null}',
    fraction: '{"seed": 1.5}',
    proto: '{"__proto__": {"lr": 1}}',
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(at('json'), `${name}.json`), text);
}

/** A run of 6 steps with checkpoints after every second one, and damaged copies of it. */
async function runs(): Promise<void> {
  const run = at('run');
  const every = words`--steps 6 --checkpoint-every 2 --sharpness-every 0`;
  const ended = await edgewise(cli, ['train', ...moons, ...every, '--schedule', 'constant', '--out', run]);
  if (ended.code !== 0) throw new Error(ended.stderr);
  const copies = ['newest-damaged', 'all-damaged', 'other-model', 'metrics-cut', 'no-checkpoint', 'not-ours'];
  for (const name of copies) await cp(run, at(name), { recursive: true });
  const checkpoints = await filesIn(join(run, 'checkpoints'));
  const checkpoint = (folder: string, i: number): string => join(at(folder), 'checkpoints', checkpoints[i]);
  await truncate(checkpoint('newest-damaged', 2), 1000);
  for (let i = 0; i < 3; i++) await truncate(checkpoint('all-damaged', i), 20 + i);
  const config = JSON.parse(await readFile(join(run, 'config.json'), 'utf8'));
  config.model.widths = [9];
  await writeFile(join(at('other-model'), 'config.json'), JSON.stringify(config));
  await truncate(join(at('metrics-cut'), 'metrics.jsonl'), 30);
  await rm(join(at('no-checkpoint'), 'checkpoints'), { recursive: true });
  await writeFile(checkpoint('not-ours', 2), 'hello');
  await copyFile(checkpoint('not-ours', 0), checkpoint('not-ours', 1));
}

/** Cases: what is wrong, the arguments, what the sentence says. `@name` stands for a file or folder of this test. */
const wrong: readonly (readonly [what: string, args: string, says: RegExp])[] = [
  // Shapes and sizes.
  [
    'images for a model of images',
    '--data moons --model convnet',
    /convnet takes images \[channels, height, width\].* but an example is \[2\]/,
  ],
  ['numbers for a model of tokens', '--data moons --model transformer', /takes whole numbers, such as tokens/],
  ['augmentation of what is no image', '--data moons --model mlp --augment-flip 0.5', /Augmentation needs images/],
  [
    'images too small for the model',
    '--data idx --data-path @idx --model convnet --model-channels 2,2,2,2',
    /4 convolutions halve images of 8 by 8 pixels to nothing/,
  ],
  [
    'a batch larger than the data',
    '--data moons --data-count 50 --model mlp --batch-size 51',
    /batch size 51 is larger than data set .* with its 50 examples; choose at most 50/,
  ],
  [
    'a micro-batch that divides nothing',
    '--data moons --model mlp --micro-batch-size 7',
    /--micro-batch-size is 7, which does not divide the batch size 128/,
  ],
  [
    'a model larger than memory',
    '--data moons --model mlp --model-widths 100000000',
    /500000002 parameters, which take 23\.1 GiB/,
  ],
  // Files.
  [
    'an IDX file cut short',
    '--data idx --data-path @idx-truncated',
    /@idx-truncated\/train-images-idx3-ubyte.*(10239|10255)/,
  ],
  ['an IDX file cut in its header', '--data idx --data-path @idx-header', /@idx-header\/train-images-idx3-ubyte/],
  ['an empty IDX file', '--data idx --data-path @idx-empty', /@idx-empty\/train-images-idx3-ubyte/],
  [
    'an IDX file that claims more than it has',
    '--data idx --data-path @idx-more',
    /@idx-more\/train-images-idx3-ubyte/,
  ],
  ['an IDX file that is none', '--data idx --data-path @idx-magic', /@idx-magic\/train-images-idx3-ubyte/],
  ['an IDX file of floats', '--data idx --data-path @idx-type', /@idx-type\/train-images-idx3-ubyte/],
  ['a damaged gzip file', '--data idx --data-path @idx-gzip', /@idx-gzip\/train-images-idx3-ubyte/],
  ['fewer labels than images', '--data idx --data-path @idx-fewer-labels', /16[0 ].*159|159.*160/],
  ['test images of another size', '--data idx --data-path @idx-sizes', /\[1, 4, 4\], but those of .* are \[1, 8, 8\]/],
  ['test labels out of range', '--data idx --data-path @idx-labels', /label 9.*4/],
  ['a missing IDX file', '--data idx --data-path @idx-missing', /lacks train-labels-idx1-ubyte/],
  ['a data folder that is not there', '--data idx --data-path @nothing', /@nothing does not exist/],
  [
    'a CIFAR file cut short',
    '--data cifar10 --data-path @cifar-truncated --batch-size 2',
    /@cifar-truncated\/data_batch_3\.bin.*12291/,
  ],
  [
    'a CIFAR label out of range',
    '--data cifar10 --data-path @cifar-label --batch-size 2',
    /@cifar-label\/data_batch_2\.bin.*10/,
  ],
  // Settings.
  ['JSON that is cut short', '--config @json/broken.json', /@json\/broken\.json is not JSON/],
  ['what is no JSON', '--config @json/binary.json', /@json\/binary\.json is not JSON/],
  ['JSON without end', '--config @json/deep.json', /@json\/deep\.json is not JSON/],
  ['a list for settings', '--config @json/list.json', /settings must be an object/],
  [
    'an unknown setting',
    '--config @json/unknown.json',
    /no setting optimizer\.learningRate for the optimizer adan; there are|no setting optimizer\.learningRate.* did you mean/,
  ],
  ['a setting of another type', '--config @json/typed.json', /batchSize is 128; give a whole number/],
  ['a number for a list', '--config @json/nested.json', /model\.widths is 8; give a list/],
  ['an unknown optimizer in JSON', '--config @json/variant.json', /no optimizer 'adamm'; did you mean 'adam'/],
  ['null for a number', '--config @json/nulls.json', /seed is null; give a whole number/],
  ['a seed that is not whole in JSON', '--config @json/fraction.json', /seed is 1\.5; give a whole number/],
  ['a prototype for a setting', '--config @json/proto.json', /no setting __proto__/],
  ['a JSON file that is not there', '--config @json/none.json', /there is no such file/],
  ['an unknown flag', '--batchsize 5', /no flag --batchsize; did you mean --batch-size\?/],
  ['a flag of another optimizer', '--optimizer sgd --max-grad-norm 1', /optimizer sgd has no --max-grad-norm/],
  ['an unknown model', '--model resnet21', /no model 'resnet21'; did you mean 'resnet20'/],
  ['lr 0', '--lr 0', /--lr is 0; give a number above 0/],
  ['lr NaN', '--lr NaN', /--lr is NaN; give a number above 0/],
  ['lr below 0', '--lr -1', /--lr is -1; give a number above 0/],
  ['lr without a number', '--lr', /--lr needs a value/],
  ['an infinite lr', '--lr 1e999', /--lr is Infinity; give a number above 0/],
  ['a seed that is not whole', '--seed 1.5', /--seed is 1\.5; give a whole number/],
  ['a seed that is no number', '--seed x', /--seed is x; give a whole number/],
  ['a batch of nothing', '--batch-size 0', /--batch-size is 0; give a whole number of at least 1/],
  ['two lengths', '--epochs 1 --steps 2', /--steps and --epochs are both given/],
  ['a word that is no flag', 'fast', /takes flags only.*got fast/],
  ['momentum of 1', '--optimizer sgd --momentum 1', /--momentum is 1; give a number of at least 0 and below 1/],
  [
    'a warm-up longer than the run',
    '--schedule-warmup 100 --steps 50',
    /--schedule-warmup is 100, longer than the whole run of 50 steps/,
  ],
  // Devices.
  ['an unknown device', '--device webgpuu', /--device is webgpuu; choose one of cpu, webgpu, cuda, interpreter/],
  [
    'a precision the device lacks',
    '--device webgpu --precision float64',
    /--precision is float64, which the device webgpu does not have/,
  ],
  // Folders.
  ['a resume folder that is not there', '--resume @nothing', /@nothing/],
  ['a resume folder without a run', '--resume @json', /@json/],
  ['a resume folder of another model', '--resume @other-model', /fc1\.weight.*\[8, 2\].*\[9, 2\]|\[9, 2\].*\[8, 2\]/],
  [
    'another model for a resumed run',
    '--resume @run --model-widths 9',
    /--model-widths cannot change when a run is resumed/,
  ],
  [
    'another optimizer for a resumed run',
    '--resume @run --optimizer sgd',
    /--optimizer cannot change when a run is resumed/,
  ],
  [
    'a checkpoint that is not there',
    '--resume @run --resume-step 5',
    /no checkpoint of step 5 in @run; it has those of steps 2, 4, 6/,
  ],
  ['checkpoints that are all damaged', '--resume @all-damaged', /No checkpoint in @all-damaged can be used/],
  ['metrics that were cut', '--resume @metrics-cut', /metrics\.jsonl.*30 bytes/],
  [
    'a folder that has a run',
    '--data moons --model mlp --out @run',
    /There is a run in @run already; go on with it by --resume @run/,
  ],
  [
    'a folder that is a file',
    '--data moons --model mlp --out @json/list.json',
    /@json\/list\.json could not be created/,
  ],
  [
    'a folder below a file',
    '--data moons --model mlp --out @json/list.json/x',
    /@json\/list\.json\/x could not be created/,
  ],
  ['a folder with a name too long', `--data moons --model mlp --out @${'x'.repeat(300)}`, /the path is too long/],
  ['a resume folder and a new one', '--resume @run --out @new', /leave out --out/],
];

describe('wrong input ends with exit code 2, one sentence on stderr and no folder:', () => {
  it.concurrent.each(wrong)('%s', async (what, args, says) => {
    const fill = (text: string): string => text.replaceAll('@', `${base}/`);
    const out = at(`out of ${what.replaceAll(/\W/g, '-')}/run`);
    const words = args.split(' ').map(fill);
    const place = words.includes('--out') || words.includes('--resume') ? [] : ['--out', out];
    const before = await filesIn(at('run'));
    const { code, stdout, stderr } = await edgewise(cli, ['train', ...place, ...words], { cwd: base });
    expect(stderr).toMatch(/^edgewise: [^\n]+[.?]\n$/);
    expect(stderr).toMatch(new RegExp(fill(says.source).replaceAll('\\/', '/'), says.flags));
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(await readdir(join(out, '..')).catch(() => 'nothing')).toBe('nothing');
    expect(await readdir(at('runs')).catch(() => 'nothing')).toBe('nothing');
    expect(await filesIn(at('run'))).toEqual(before);
  });

  it.each([
    [[], /^Usage: edgewise/],
    [['trian'], /^edgewise: there is no command 'trian'/],
  ])('no command that there is: %j', async (args, says) => {
    const { code, stdout, stderr } = await edgewise(cli, args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(says);
  });

  it('an unavailable device', async () => {
    const env = { VK_ICD_FILENAMES: '/nowhere', LD_LIBRARY_PATH: '' };
    for (const device of ['cuda', 'webgpu']) {
      const out = at(`device ${device}`);
      const { code, stderr } = await edgewise(
        cli,
        ['train', ...moons, '--steps', 2, '--device', device, '--out', out],
        { env },
      );
      // A machine that has one is welcome.
      if (code === 0) continue;
      expect(code).toBe(2);
      expect(stderr).toMatch(
        new RegExp(
          `edgewise: Device '${device}' is not available on this machine \\([^\\n]+\\); [^\\n]+, or use device 'cpu'\\.\\n$`,
        ),
      );
      expect(await readdir(out).catch(() => 'nothing')).toBe('nothing');
    }
  });

  it.skipIf(getuid?.() === 0)(
    `${getuid?.() === 0 ? 'skipped as root, who may write everywhere: ' : ''}a folder that may not be written`,
    async () => {
      await mkdir(at('locked'));
      await chmod(at('locked'), 0o500);
      const { code, stderr } = await edgewise(cli, ['train', ...moons, '--out', join(at('locked'), 'run')]);
      expect(code).toBe(2);
      expect(stderr).toMatch(/could not be created: permission is denied/);
    },
  );

  it('a folder on a file system that takes nothing', async () => {
    const { code, stdout, stderr } = await edgewise(cli, ['train', ...moons, '--out', '/proc/edgewise/run']);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^edgewise: \/proc\/edgewise\/run could not be created: [^\n]+\.\n$/);
  });
});

describe('a resumed run', () => {
  it('passes over a damaged checkpoint with a warning, and ends as it would have', async () => {
    const folder = at('newest-damaged');
    const { code, stdout, stderr } = await edgewise(cli, ['train', '--resume', folder]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/resumed +from step 4/);
    expect(stdout).toMatch(/warning .*step-00000006\.safetensors is damaged/);
    expect(await outcome(folder)).toEqual(await outcome(at('run')));
  });

  it('passes over files that are no checkpoints, or of another step', async () => {
    const folder = at('not-ours');
    const { code, stdout, stderr } = await edgewise(cli, ['train', '--resume', folder]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/resumed +from step 2/);
    expect(stdout.match(/warning/g)).toHaveLength(2);
    expect(await outcome(folder)).toEqual(await outcome(at('run')));
  });

  it('without a checkpoint begins at its beginning', async () => {
    const folder = at('no-checkpoint');
    expect(await edgewise(cli, ['train', '--resume', folder])).toMatchObject({ code: 0, stderr: '' });
    expect(await outcome(folder)).toEqual(await outcome(at('run')));
  });
});
