/** @file `edgewise export`: the trained network of a run as an ONNX model for inference. */
import { rename, rm, writeFile } from 'node:fs/promises';
import { Command } from '@commander-js/extra-typings';
import { add, ConfigError, constant, mul, type Tensor, type TypedArray } from 'edgewise';
import { type Model, trace } from 'edgewise/nn';
import { openDevice, openRunStore, toStoreError } from 'edgewise/node';
import { ParamLayout, ParamVector } from 'edgewise/params';
import { exportOnnx, type LoadedCheckpoint, loadCheckpoint, loadWeights } from 'edgewise/train';
import { readableError } from '../config/command.ts';
import { type ModelCard, modelOf, readCard } from '../run/card.ts';
import { formatBytes, formatCount, formatNumber } from '../terminal/format.ts';

interface Request {
  readonly run: string;
  readonly file: string;
  readonly step: number | undefined;
  readonly batch: 'free' | number;
  readonly softmax: boolean;
  readonly normalizedInput: boolean;
}

const wholeNumber = (flag: string, least: number) => (text: string) => {
  if (!/^\d{1,15}$/.test(text) || Number(text) < least)
    throw new ConfigError(`${flag} is ${JSON.stringify(text)}; give a whole number of at least ${least}.`);
  return Number(text);
};

function exportCommand(action: (request: Request) => Promise<void>) {
  return new Command('export')
    .description('Write the trained network of a run as an ONNX model that needs the ONNX standard alone.')
    .argument('<run>', 'Folder of the run.')
    .argument('<model.onnx>', 'File to write.')
    .option('--step <n>', 'Checkpoint to take. (default: the newest) [steps]', wholeNumber('--step', 0))
    .option(
      '--batch <n>',
      'Examples a run of the model takes. (default: any number) [examples]',
      wholeNumber('--batch', 1),
    )
    .option('--softmax', 'Give probabilities instead of logits.', false)
    .option(
      '--normalized-input',
      'Take inputs already normalised, instead of numbers in [0, 1] as the data has them.',
      false,
    )
    .showSuggestionAfterError(false)
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .action(async (run, file, { step, batch, softmax, normalizedInput }) => {
      await action({ run, file, step, batch: batch ?? 'free', softmax, normalizedInput });
    });
}

/** The help of `edgewise export`. */
export const exportHelp = (width: number): string =>
  exportCommand(async () => {})
    .configureHelp({ helpWidth: width })
    .helpInformation();

/** Exports as asked, checks the file against our own evaluation, and says what was written. */
export async function exportRun(argv: readonly string[], stream: { write(text: string): unknown }): Promise<void> {
  let request: Request | undefined;
  const command = exportCommand(async (parsed) => {
    request = parsed;
  });
  try {
    await command.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    throw readableError(error, command);
  }
  if (!request) return;
  const { run, file, batch, softmax, normalizedInput } = request;
  const store = await openRunStore(run, { access: 'read' });
  const card = await readCard(store);
  const checkpoint = await loadCheckpoint(store, request.step === undefined ? {} : { step: request.step });
  if (!checkpoint) throw new ConfigError(`The run in ${run} has no checkpoint yet; train it first.`);
  const inner = modelOf(card);
  const model = normalizedInput ? inner : withNormalization(inner, card);
  const weights = weightsOf(model, checkpoint);
  const metadata = {
    run,
    step: String(checkpoint.step),
    input: normalizedInput ? 'normalised as in training' : 'as in the data, images in [0, 1]',
    output: softmax ? 'probabilities' : 'logits',
    ...(card.classNames ? { classes: card.classNames.join(', ') } : {}),
  };
  const bytes = exportOnnx(model, weights.params, weights.buffers, { batch, softmax, metadata });
  const difference = softmax ? undefined : await largestDifference(bytes, model, weights, batch);
  await replaceFile(file, bytes);
  const shape = (...extents: readonly (number | string)[]) => `[${extents.join(', ')}]`;
  const free = batch === 'free' ? 'batch' : batch;
  for (const warning of checkpoint.warnings) stream.write(`warning: ${warning}\n`);
  stream.write(
    `${file}: ${card.name}, ${formatCount(weights.params.layout.count)} parameters after ${formatCount(checkpoint.step)} steps, ${formatBytes(bytes.length)}\n`,
  );
  stream.write(`  input   ${shape(free, ...card.inputShape)} ${metadata.input}\n`);
  stream.write(`  output  ${shape(free, card.classes)} ${metadata.output}\n`);
  if (difference !== undefined)
    stream.write(
      `  checked with onnxruntime-node: largest difference from our own evaluation ${formatNumber(difference, 2)}\n`,
    );
}

/** The model with the normalisation of its inputs in front. */
function withNormalization(model: Model, { normalization, inputShape }: ModelCard): Model {
  if (!normalization) return model;
  const { mean, std } = normalization;
  const groups = mean.length;
  // One number for all, one a channel (the first axis), or one a feature.
  const shape =
    groups === 1 ? [] : groups === inputShape[0] ? [groups, ...inputShape.slice(1).map(() => 1)] : inputShape;
  return {
    ...model,
    forward: (scope, x) => {
      const scale = constant(
        std.map((s) => 1 / s),
        shape,
        x.dtype,
      );
      const shift = constant(
        mean.map((m, i) => -m / std[i]),
        shape,
        x.dtype,
      );
      return model.forward(scope, add(mul(x, scale), shift));
    },
  };
}

interface Weights {
  readonly params: ParamVector;
  readonly buffers: ParamVector;
}

/** The weights that were evaluated while training: those of an average, where there is one. */
function weightsOf(model: Model, checkpoint: LoadedCheckpoint): Weights {
  const traced = trace(model, { batch: 1, training: false });
  const params = new ParamVector(new ParamLayout(traced.params), 'float32');
  const buffers = new ParamVector(new ParamLayout(traced.buffers), 'float32');
  loadWeights(checkpoint, { params, buffers });
  return { params, buffers };
}

/** Runs the file and our own graph on the same examples; the largest difference, relative where outputs are above 1. */
async function largestDifference(
  bytes: Uint8Array,
  model: Model,
  { params, buffers }: Weights,
  batch: 'free' | number,
): Promise<number> {
  const examples = batch === 'free' ? 3 : batch;
  const traced = trace(model, { batch: examples, training: false });
  const x = Float32Array.from({ length: traced.input.size }, (_, i) => 0.5 + 0.5 * Math.sin(12.9898 * i));
  const device = await openDevice('cpu');
  try {
    const symbols = [traced.input, ...traced.params.map((p) => p.symbol), ...traced.buffers.map((b) => b.symbol)];
    const program = await device.compile(symbols, [traced.output]);
    const [ours] = await program.run(
      new Map<Tensor, TypedArray>([
        [traced.input, x],
        ...traced.params.map((p) => [p.symbol, params.view(p.name)] as const),
        ...traced.buffers.map((b) => [b.symbol, buffers.view(b.name)] as const),
      ]),
    );
    const ort = await import('onnxruntime-node');
    const session = await ort.InferenceSession.create(bytes);
    const { output } = await session.run({ input: new ort.Tensor('float32', x, traced.input.shape) });
    await session.release();
    const theirs = output.data as Float32Array;
    return theirs.reduce(
      (worst, value, i) => Math.max(worst, Math.abs(value - Number(ours[i])) / Math.max(1, Math.abs(value))),
      0,
    );
  } finally {
    await device.dispose();
  }
}

/** The whole new file or the old one, never half of it. */
async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, bytes);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw toStoreError(error, 'written', path);
  }
}
