/** Every setting of a training run that does not belong to a model, data set, optimizer or schedule: the one place that says so. */
import { choice, flag, integer, number } from 'edgewise/optim';
import type { Catalog, Variant } from './catalog.ts';
import type { GroupConfig, MatchConfig } from './groups.ts';
import type { Setting, Settings, SettingValue, ValuesOf } from './setting.ts';

/** The length of a run about which nothing is said. */
export const DEFAULT_EPOCHS = 10;

/** Settings that stand in the configuration by themselves. */
export const RUN = {
  batchSize: integer({ default: 128, min: 1, unit: 'examples', doc: 'Training examples that one update sees.' }),
  tunedBatchSize: {
    kind: 'integer',
    default: null,
    auto: 'the batch size',
    min: 1,
    unit: 'examples',
    doc: 'Batch size that learning rate, weight decay and average were chosen for; they are rescaled for the batch size in use by the rule of the optimizer. Counts of steps are not.',
  },
  microBatchSize: {
    kind: 'integer',
    default: null,
    auto: 'the batch size',
    min: 1,
    unit: 'examples',
    doc: 'Examples computed at once; gradients are averaged over the batch. Must divide the batch size. Smaller takes less memory.',
  },
  epochs: {
    kind: 'number',
    default: null,
    auto: `${DEFAULT_EPOCHS}, unless steps are given`,
    above: 0,
    unit: 'epochs',
    doc: 'Passes over the training data.',
  },
  steps: {
    kind: 'integer',
    default: null,
    auto: 'those of the epochs',
    min: 1,
    unit: 'steps',
    doc: 'Updates in all; takes the place of epochs.',
  },
  clipNorm: number({
    default: 0,
    min: 0,
    doc: 'Largest Euclidean norm of the whole gradient; larger ones are scaled down to it. 0: no clipping.',
  }),
  clipValue: number({
    default: 0,
    min: 0,
    doc: 'Largest absolute value of a gradient component; larger ones are cut to it. 0: no clipping.',
  }),
  labelSmoothing: number({
    default: 0,
    min: 0,
    below: 1,
    doc: 'Share of the target that is spread evenly over all classes.',
  }),
  labelNoise: number({
    default: 0,
    min: 0,
    doc: 'Probability with which the class of a training example is replaced by another one, drawn anew whenever it is used. Where numbers are predicted: what is added to or subtracted from each.',
  }),
  decayBiasAndNorm: flag({
    default: false,
    doc: 'Apply weight decay to biases and to parameters of normalisation layers too.',
  }),
  seed: integer({
    default: 0,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    doc: 'Draws initial weights, data order, augmentation, label noise and dropout. The same seed on the same device gives the same run to the bit.',
  }),
  precision: choice({
    choices: ['float32', 'float64'],
    default: 'float32',
    doc: 'Type of weights, gradients and optimizer state.',
  }),
  threads: {
    ...integer({
      default: 0,
      min: 0,
      max: 1024,
      unit: 'threads',
      doc: 'Threads of the CPU device. 0: one for each core.',
    }),
    changeable: true,
  },
  evalEvery: {
    kind: 'integer',
    default: null,
    auto: 'once an epoch',
    min: 0,
    unit: 'steps',
    doc: 'Steps between evaluations on the test set. 0: only after the last step.',
  },
  checkpointEvery: {
    kind: 'integer',
    default: null,
    auto: 'once an epoch',
    min: 0,
    unit: 'steps',
    doc: 'Steps between checkpoints. 0: only after the last step.',
    changeable: true,
  },
  keepCheckpoints: {
    ...integer({ default: 3, min: 1, unit: 'files', doc: 'Checkpoints kept; older ones are removed.' }),
    changeable: true,
  },
  onNonFinite: {
    ...choice({
      choices: ['stop', 'skip'],
      default: 'stop',
      doc: 'At a loss or gradient that is not finite: stop with the state saved, or skip that update and go on.',
    }),
    changeable: true,
  },
} as const satisfies Settings;

/** Random changes to training images. */
export const AUGMENT = {
  crop: integer({
    default: 0,
    min: 0,
    unit: 'pixels',
    doc: 'Padding from which a window of the image size is cut at random. 0: none.',
  }),
  flip: number({ default: 0, min: 0, max: 1, doc: 'Probability of mirroring left and right.' }),
  cutout: integer({
    default: 0,
    min: 0,
    unit: 'pixels',
    doc: 'Side of a square that is blanked out at random. 0: none.',
  }),
} as const satisfies Settings;

/** When to end before the last step. */
export const EARLY_STOPPING = {
  patience: integer({
    default: 0,
    min: 0,
    unit: 'evaluations',
    doc: 'Evaluations without improvement on the test set after which the run ends. 0: never.',
  }),
  minDelta: number({ default: 0, min: 0, doc: 'Smallest change that counts as an improvement.' }),
} as const satisfies Settings;

/** The sharpness probe. Probes never change training. */
export const SHARPNESS = {
  every: {
    ...integer({
      default: 200,
      min: 0,
      unit: 'steps',
      doc: 'Steps between measurements of the sharpness, the largest Hessian eigenvalue. 0: never.',
    }),
    changeable: true,
  },
  examples: integer({
    default: 1000,
    min: 1,
    unit: 'examples',
    doc: 'Size of the fixed subset of training examples it is measured on.',
  }),
  products: integer({
    default: 12,
    min: 2,
    unit: 'Hessian-vector products',
    doc: 'Most Lanczos iterations of one measurement.',
  }),
  tolerance: number({
    default: 0.01,
    above: 0,
    below: 1,
    doc: 'Residual, as a share of the eigenvalue, at which Lanczos stops.',
  }),
} as const satisfies Settings;

/** Settings that every data set has. */
export const DATA = {
  examples: {
    kind: 'integer',
    default: null,
    auto: 'all',
    min: 1,
    unit: 'examples',
    doc: 'Training examples used: the first so many.',
  },
  testExamples: {
    kind: 'integer',
    default: null,
    auto: 'all',
    min: 1,
    unit: 'examples',
    doc: 'Test examples used: the first so many.',
  },
  normalize: choice({
    choices: ['channel', 'dataset', 'feature', 'none'],
    default: 'channel',
    doc: 'What mean and standard deviation of the training inputs are brought to 0 and 1 over.',
  }),
} as const satisfies Settings;

/** A choice and the values of its settings. */
export type Chosen = { readonly name: string } & { readonly [setting: string]: SettingValue };

/** Everything needed to repeat a run; as JSON it is the run's `config.json` and can be given to `--config`. */
export type TrainConfig = {
  readonly model: Chosen;
  readonly data: Chosen & ValuesOf<typeof DATA>;
  readonly optimizer: Chosen;
  readonly schedule: Chosen;
  /** What is put around the optimizer, innermost first. */
  readonly wrap: readonly Chosen[];
  /** Parameters for which something differs. */
  readonly groups: readonly GroupConfig[];
  /** Parameters that are not trained: those that meet one of these. */
  readonly freeze: readonly MatchConfig[];
  readonly device: string;
  readonly augment: ValuesOf<typeof AUGMENT>;
  readonly earlyStopping: ValuesOf<typeof EARLY_STOPPING>;
  readonly probes: { readonly sharpness: ValuesOf<typeof SHARPNESS> };
} & Omit<ValuesOf<typeof RUN>, 'epochs' | 'steps'> &
  ({ readonly epochs: number; readonly steps: null } | { readonly epochs: null; readonly steps: number });

/** A part of the configuration that is chosen by name and brings its own settings. */
export type Choosable = 'model' | 'data' | 'optimizer' | 'schedule';

/** The parts chosen by name, what they are called, and where their choices are listed. */
export const CHOOSABLE: Readonly<Record<Choosable, { what: string; list: (catalog: Catalog) => readonly Variant[] }>> =
  {
    model: { what: 'model', list: (catalog) => catalog.models },
    data: {
      what: 'data set',
      list: (catalog) => catalog.data.map((variant) => ({ ...variant, settings: { ...variant.settings, ...DATA } })),
    },
    optimizer: { what: 'optimizer', list: (catalog) => catalog.optimizers },
    schedule: { what: 'schedule', list: (catalog) => catalog.schedules },
  };

/** One setting, and where it stands in JSON, on the command line and in help. */
export interface Leaf {
  /** Keys from the top of the configuration. */
  readonly path: readonly string[];
  /** With its dashes. */
  readonly flag: string;
  readonly setting: Setting;
  readonly heading: string;
}

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Flags are the JSON names in kebab case; what is nested has its part's name before it, hyper-parameters excepted. */
function leavesOf(path: readonly string[], prefix: string, heading: string, settings: Settings): Leaf[] {
  return Object.entries(settings).map(([name, setting]) => ({
    path: [...path, name],
    flag: `--${prefix}${kebab(name)}`,
    setting,
    heading,
  }));
}

/**
 * The settings of `part` when `variant` is chosen. A hyper-parameter called as a setting of the run has the name of its optimizer before its
 * flag: `--muon-steps`.
 */
export function variantLeaves(part: Choosable, variant: Variant): Leaf[] {
  const { what } = CHOOSABLE[part];
  const heading = `${what[0].toUpperCase()}${what.slice(1)} ${variant.name}`;
  if (part !== 'optimizer') return leavesOf([part], `${part}-`, heading, variant.settings);
  return Object.entries(variant.settings).flatMap(([name, setting]) =>
    leavesOf([part], Object.hasOwn(RUN, name) ? `${kebab(variant.name)}-` : '', heading, { [name]: setting }),
  );
}

/** Hyper-parameters of wrappers that every run has, with or without the wrapper. */
const SHARED = ['clipNorm', 'clipValue'];

/** The settings of a wrapper, but for those that every run has. */
export function wrapperLeaves(wrapper: Variant): Leaf[] {
  const own = Object.fromEntries(Object.entries(wrapper.settings).filter(([name]) => !SHARED.includes(name)));
  return leavesOf(['wrap', wrapper.name], '', `Wrapper ${wrapper.name}`, own);
}

/** The settings that are there whatever is chosen. */
export function fixedLeaves(catalog: Catalog): Leaf[] {
  const device = choice({
    choices: catalog.devices.map(({ name }) => name),
    default: catalog.devices[0].name,
    doc: `Where the network runs. ${catalog.devices.map(({ name, doc }) => `${name}: ${doc}`).join(' ')}`,
  });
  return [
    ...leavesOf([], '', 'Run', { ...RUN, device }),
    ...leavesOf(['augment'], 'augment-', 'Augmentation', AUGMENT),
    ...leavesOf(['earlyStopping'], 'early-stopping-', 'Early stopping', EARLY_STOPPING),
    ...leavesOf(['probes', 'sharpness'], 'sharpness-', 'Sharpness', SHARPNESS),
  ];
}
