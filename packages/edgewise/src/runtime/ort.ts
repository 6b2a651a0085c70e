import type { InferenceSession, Tensor as OrtTensor, TensorConstructor } from 'onnxruntime-common';
import { DeviceError } from '../base/errors.ts';
import { expandComposites } from '../compile/expand.ts';
import { lowerToOnnx } from '../compile/lower.ts';
import { simplify } from '../compile/simplify.ts';
import { writeOnnx } from '../onnx/write.ts';
import type { DType, TypedArray } from '../tensor/dtype.ts';
import { inputName, type Tensor } from '../tensor/tensor.ts';
import { channelBlockOf } from './channel-block.ts';
import { type Call, type Device, type Feeds, feedFor, type Program, resultMemory } from './device.ts';

/** The part of `onnxruntime-node` and `onnxruntime-web` that is used; pass either module. */
export interface OrtModule {
  readonly InferenceSession: {
    create(model: Uint8Array, options?: InferenceSession.SessionOptions): Promise<InferenceSession>;
  };
  readonly Tensor: TensorConstructor;
}

export interface OrtOptions {
  /** Execution provider: `cpu` (Node), `wasm` (browser), `webgpu`, `cuda`. */
  readonly provider: string;
  /** Threads inside one op on the CPU; all cores by default. */
  readonly threads?: number;
  /** Passed to ONNX Runtime as they are, over what is set here. */
  readonly session?: InferenceSession.SessionOptions;
}

/** A device that executes through ONNX Runtime. */
export function ortDevice(ort: OrtModule, options: OrtOptions): Device {
  const { provider, threads } = options;
  const open = new Set<OrtProgram>();
  const sessionOptions: InferenceSession.SessionOptions = {
    executionProviders: [provider],
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
    ...options.session,
  };
  return {
    name: provider,
    floats: provider === 'cpu' ? ['float32', 'float64'] : ['float32'],
    compile: async (inputs, outputs) => {
      const graph = simplify(expandComposites(outputs, provider));
      const channelBlock = provider === 'cpu' ? await channelBlockOf(ort) : 1;
      const model = writeOnnx(lowerToOnnx(inputs, graph, { provider, channelBlock }));
      let session: InferenceSession;
      try {
        session = await ort.InferenceSession.create(model, sessionOptions);
      } catch (cause) {
        throw new DeviceError(`Device '${provider}' cannot run this graph: ${plainReason(cause)}`, { cause });
      }
      const program = new OrtProgram(ort, session, inputs, outputs, () => open.delete(program));
      open.add(program);
      return program;
    },
    dispose: async () => {
      await Promise.all([...open].map((program) => program.dispose()));
    },
  };
}

/** What ONNX Runtime says, without the source location and failed assertion it puts in front. */
function plainReason(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return message.replace(/^.* was false\.\s*/s, '').trim();
}

class OrtProgram implements Program {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly #ort: OrtModule;
  readonly #session: InferenceSession;
  readonly #forget: () => void;
  #disposed = false;

  constructor(
    ort: OrtModule,
    session: InferenceSession,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    forget: () => void,
  ) {
    this.inputs = inputs;
    this.outputs = outputs;
    this.#ort = ort;
    this.#session = session;
    this.#forget = forget;
  }

  bind(feeds: Feeds, given: readonly (TypedArray | undefined)[] = []): Call {
    const results = resultMemory(this.outputs, given);
    const tensor = (x: Tensor, data: TypedArray) => ortTensor(this.#ort, x.dtype, data, x.shape);
    const ins = Object.fromEntries(this.inputs.map((x) => [inputName(x)!, tensor(x, feedFor(x, feeds))]));
    const outs = Object.fromEntries(this.outputs.map((x, i) => [`output${i}`, tensor(x, results[i])]));
    const run = async () => {
      if (this.#disposed) throw new DeviceError('run: this program was disposed; compile it again.');
      const produced = await this.#session.run(ins, outs);
      // Providers that ignore preallocated outputs return their own memory.
      results.forEach((memory, i) => {
        const data = produced[`output${i}`].data;
        if (data !== outs[`output${i}`].data && data.constructor === memory.constructor) copy(data, memory);
      });
    };
    return { run, results };
  }

  async run(feeds: Feeds): Promise<readonly TypedArray[]> {
    const call = this.bind(feeds);
    await call.run();
    return call.results;
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#forget();
    await this.#session.release();
  }
}

function copy(from: OrtTensor.DataType, to: TypedArray): void {
  const source = from as TypedArray;
  new Uint8Array(to.buffer, to.byteOffset, to.byteLength).set(
    new Uint8Array(source.buffer, source.byteOffset, source.byteLength),
  );
}

function ortTensor(ort: OrtModule, dtype: DType, data: TypedArray, dims: readonly number[]): OrtTensor {
  // One of ORT's overloads per dtype; `data` was checked to be that dtype's memory.
  return new ort.Tensor(dtype as 'float32', data as Float32Array, dims);
}
