import { ConfigError } from 'edgewise';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseTrainArguments, parseTrainConfig, trainHelp } from '../../src/config/index.ts';
import { CATALOG } from './catalog.ts';

const files: Record<string, string> = {
  'my.json': JSON.stringify({ seed: 7, optimizer: { name: 'sgd', momentum: 0.9 } }),
  'bad.json': '{"seed": 7,}',
  'run/config.json': JSON.stringify(parseTrainConfig([{ flags: { seed: '7', epochs: '3' } }], CATALOG)),
  'steady/config.json': JSON.stringify(parseTrainConfig([{ flags: { schedule: 'constant', steps: '10' } }], CATALOG)),
};
const readFile = (path: string): string => {
  if (Object.hasOwn(files, path)) return files[path];
  throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' });
};
const run = (line: string) => parseTrainArguments(line === '' ? [] : line.split(' '), CATALOG, readFile);

describe('arguments', () => {
  it('are read into a request', async () => {
    expect(await run('')).toEqual({
      config: parseTrainConfig([], CATALOG),
      out: null,
      resume: null,
      resumeStep: null,
      dryRun: false,
    });
    const { config, out } = await run(
      '--model mlp --model-hidden 64,32 --optimizer adan --lr 1e-3 --betas .9,0.9,0.999 --no-proximal --batch-size=64 ' +
        '--decay-bias-and-norm --schedule constant --data folder --data-path some/where --data-labels coarse --steps 20 ' +
        '--micro-batch-size 16 --clip-norm 2.5 --seed 9 --device interpreter --sharpness-every 0 --augment-crop 4 ' +
        '--early-stopping-patience 3 --on-non-finite skip --eval-every auto --checkpoint-every 10 --out there',
    );
    expect(out).toBe('there');
    expect(config).toMatchObject({
      model: { name: 'mlp', hidden: [64, 32] },
      optimizer: { name: 'adan', lr: 1e-3, betas: [0.9, 0.9, 0.999], proximal: false },
      schedule: { name: 'constant' },
      data: { name: 'folder', path: 'some/where', labels: 'coarse' },
      epochs: null,
      steps: 20,
      batchSize: 64,
      microBatchSize: 16,
      decayBiasAndNorm: true,
      clipNorm: 2.5,
      seed: 9,
      device: 'interpreter',
      probes: { sharpness: { every: 0 } },
      augment: { crop: 4 },
      earlyStopping: { patience: 3 },
      onNonFinite: 'skip',
      evalEvery: null,
      checkpointEvery: 10,
    });
  });

  it('override a JSON file', async () => {
    const { config } = await run('--config my.json --lr 0.5');
    expect(config).toMatchObject({ seed: 7, optimizer: { name: 'sgd', momentum: 0.9, lr: 0.5 } });
    expect((await run('--config my.json --optimizer adan')).config.optimizer.lr).toBe(1e-3);
    expect((await run('--proximal false')).config.optimizer.proximal).toBe(false);
    expect((await run('--proximal')).config.optimizer.proximal).toBe(true);
    expect((await run('--lr 1 --lr 2')).config.optimizer.lr).toBe(2);
  });

  it.each([
    ['--lrr 0.1', 'There is no flag --lrr; did you mean --lr?'],
    ['--batchsize=3', 'There is no flag --batchsize; did you mean --batch-size?'],
    ['--frobnicate', 'There is no flag --frobnicate; see --help for those there are.'],
    ['--lr', '--lr needs a value: --lr <number>.'],
    ['--lr 0', '--lr is 0; give a number above 0.'],
    ['--lr NaN', '--lr is NaN; give a number above 0.'],
    ['--lr Infinity', '--lr is Infinity; give a number above 0.'],
    ['--lr 0x10', '--lr is 0x10; give a number above 0.'],
    ['--lr 1e999', '--lr is Infinity; give a number above 0.'],
    ['--lr -1', '--lr is -1; give a number above 0.'],
    ['--lr=', '--lr is empty; give a number above 0.'],
    ['--batch-size -3', '--batch-size is -3; give a whole number of at least 1.'],
    ['--batch-size 1.5', '--batch-size is 1.5; give a whole number of at least 1.'],
    ['--betas 0.9,,0.9', '--betas is 0.9,empty,0.9; give 3 numbers, each of at least 0 and below 1.'],
    ['--proximal maybe', '--proximal is maybe; give true or false.'],
    ['--optimizer sgd --betas 0.9', 'The optimizer sgd has no --betas; it has --lr, --momentum, --nesterov.'],
    ['--schedule constant --schedule-min 0', 'The schedule constant has no --schedule-min; it has no settings.'],
    ['--optimizer sdg', "--optimizer: there is no optimizer 'sdg'; did you mean 'sgd'?"],
    ['--data folder', 'The data set folder needs data.path (--data-path): Folder with the files.'],
    ['extra words', 'edgewise train takes flags only, such as --lr 0.01; got extra words.'],
    ['--steps 3 --epochs 1', '--steps and --epochs are both given; a run has one length, choose one.'],
    ['--config bad.json', /^bad\.json is not JSON: .*position/],
    ['--config none.json', 'The settings in none.json cannot be read: there is no such file.'],
    ['--config my.json --momentum 1', '--momentum is 1; give a number of at least 0 and below 1.'],
  ])('%s', async (line, sentence) => {
    await expect(run(line)).rejects.toThrow(ConfigError);
    await expect(run(line)).rejects.toThrow(typeof sentence === 'string' ? new ConfigError(sentence) : sentence);
  });

  it('never make anything but a ConfigError of nonsense', async () => {
    const word = fc.oneof(
      fc.constantFrom(
        '--lr',
        '--optimizer',
        'sgd',
        '--betas',
        '0.5',
        '--steps',
        '--no-proximal',
        '--config',
        'my.json',
        '--',
        '-x',
      ),
      fc.string(),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(word, { maxLength: 4 }), async (argv) => {
        fc.pre(!argv.some((arg) => arg.startsWith('-h') || arg.startsWith('--h')));
        try {
          await parseTrainArguments(argv, CATALOG, readFile);
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError);
        }
      }),
    );
  });
});

describe('resuming', () => {
  it('takes the settings of the run, and those that may change from flags', async () => {
    const { config, resume, resumeStep } = await run(
      '--resume run/ --resume-step 200 --checkpoint-every 5 --sharpness-every 0 --threads 1',
    );
    expect([resume, resumeStep]).toEqual(['run/', 200]);
    expect(config).toEqual({
      ...JSON.parse(files['run/config.json']),
      checkpointEvery: 5,
      threads: 1,
      probes: { sharpness: { every: 0, examples: 1000, products: 12, tolerance: 0.01 } },
    });
    expect((await run('--resume run --lr 0.004 --optimizer adan')).resumeStep).toBeNull();
    expect((await run('--resume steady --steps 20')).config.steps).toBe(20);
    expect((await run('--resume steady --epochs 2')).config).toMatchObject({ epochs: 2, steps: null });
  });

  it.each([
    [
      '--resume run --lr 0.1',
      '--lr cannot change when a run is resumed: optimizer.lr was 0.004 and is now 0.1; leave it out, or start a new run.',
    ],
    [
      '--resume run --optimizer sgd',
      '--optimizer cannot change when a run is resumed: optimizer was adan and is now sgd; leave it out, or start a new run.',
    ],
    [
      '--resume run --seed 8',
      '--seed cannot change when a run is resumed: seed was 7 and is now 8; leave it out, or start a new run.',
    ],
    [
      '--resume run --epochs 4',
      '--epochs cannot change when a run with the schedule cosine is resumed: its learning rates depend on the length; start a new run.',
    ],
    ['--resume run --out x', '--resume goes on in the folder of the run, with its settings; leave out --out.'],
    [
      '--resume run --config my.json',
      '--resume goes on in the folder of the run, with its settings; leave out --config.',
    ],
    ['--resume run --resume-step -1', '--resume-step is -1; give a whole number of at least 0.'],
    ['--resume-step 3', '--resume-step says where to go on, but not with which run; give --resume too.'],
    ['--resume none', 'The settings in none/config.json cannot be read: there is no such file.'],
  ])('%s', async (line, sentence) => {
    await expect(run(line)).rejects.toThrow(new ConfigError(sentence));
  });
});

describe('help', () => {
  it('explains each setting of what is chosen with its unit and default', () => {
    const help = trainHelp(CATALOG, [], 100);
    expect(help).toContain('Usage: edgewise train');
    expect(help).toMatch(/--lr <number> +Learning rate\. \[default: 0\.004\]/);
    expect(help).toMatch(/--betas <n,n,\.\.\.> +Decay rates\. \[default: 0\.98,0\.92,0\.99\]/);
    expect(help).toMatch(/--model-width <n> +Channels of the first layer\. \[channels; default: 32\]/);
    expect(help).toMatch(/--schedule-warmup <n> +Rise\. \[steps; default: a twentieth\]/);
    expect(help).toMatch(/--epochs <number> +Passes over the training data\. \[epochs; default: 5\]/);
    expect(help).toMatch(/--optimizer <name> +One of adan, sgd\. Adan\. \(default: adan\)/);
    expect(help).not.toMatch(/--momentum|--model-hidden|--no-proximal|undefined/);
    for (const line of help.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });

  it('follows the choices on the command line', () => {
    const help = trainHelp(CATALOG, ['--optimizer', 'sgd', '--model=mlp', '--data', 'folder', '--help'], 100);
    expect(help).toMatch(/--lr <number> +Learning rate\. \[default: 0\.1\]/);
    expect(help).toMatch(/--momentum <number> +Momentum\. \[default: 0\]/);
    expect(help).toMatch(/--nesterov \[true\|false\] +Look ahead\. \[default: false\]/);
    expect(help).toMatch(/--model-hidden <n,n,\.\.\.> +Widths of the hidden layers\. \[neurons; default: 256,128\]/);
    expect(help).toMatch(/--data-path <text> +Folder with the files\. \[must be given\]/);
    expect(help).not.toContain('--betas');
    expect(trainHelp(CATALOG, ['--optimizer', 'nonsense'], 100)).toContain('--betas');
  });

  it('lists every setting that JSON has', () => {
    const help = trainHelp(CATALOG, [], 100);
    const count = (value: unknown): number =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? Object.values(value).reduce((sum: number, entry) => sum + count(entry), 0)
        : 1;
    // Besides: --config, --out, --resume, --resume-step, --dry-run, --help.
    expect(help.match(/^ {2}(-h, )?--\S+/gm)).toHaveLength(count(parseTrainConfig([], CATALOG)) + 6);
  });

  it('refuses a catalog in which one flag means two things', () => {
    const setting = CATALOG.models[1].settings.width;
    const clash = { ...CATALOG.optimizers[0], settings: { ...CATALOG.optimizers[0].settings, modelWidth: setting } };
    expect(() => trainHelp({ ...CATALOG, optimizers: [clash] }, [], 80)).toThrow(
      /--model-width stands for two settings/,
    );
  });
});
