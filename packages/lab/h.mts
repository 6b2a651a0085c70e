import { integer, numbers, optimizers, schedules } from 'edgewise/optim';
import * as C from '/work/main/packages/lab/src/config/index.ts';

const catalog: C.Catalog = {
  models: [
    {
      name: 'mlp',
      doc: 'Fully connected.',
      settings: {
        hidden: numbers({
          default: [256, 128],
          min: 1,
          anyLength: true,
          unit: 'neurons',
          doc: 'Widths of the hidden layers.',
        }),
      },
    },
    {
      name: 'convnet',
      doc: 'A small convolutional net.',
      settings: { width: integer({ default: 32, min: 1, unit: 'channels', doc: 'Channels.' }) },
    },
  ],
  data: [
    { name: 'mnist', doc: 'M.', settings: {} },
    { name: 'cifar10', aliases: ['cifar-10'], doc: 'C.', settings: { path: { kind: 'text', doc: 'Folder.' } } },
  ],
  optimizers: C.optimizerVariants(optimizers),
  schedules: C.scheduleVariants(schedules),
  devices: C.DEVICES,
  recipe: {
    model: 'convnet',
    data: 'mnist',
    optimizer: { name: 'adan', lr: 0.004 },
    schedule: { name: 'warmupCosine', warmup: 200 },
    epochs: 5,
  },
};
const argv = process.argv.slice(2);
if (argv.includes('--help')) console.log(C.trainHelp(catalog, argv, 100));
else
  try {
    console.log(JSON.stringify(await C.parseTrainArguments(argv, catalog), null, 1));
  } catch (e) {
    console.log(String((e as Error).message), (e as Error).name);
  }
