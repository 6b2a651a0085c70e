import type { InferenceSession, Tensor as OrtTensor, TensorConstructor } from 'onnxruntime-common';
import { DeviceError } from '../base/errors.ts';
import { expandComposites } from '../compile/expand.ts';
import { fuse } from '../compile/fuse.ts';
import { lowerToOnnx } from '../compile/lower.ts';
import { simplify } from '../compile/simplify.ts';
import { writeOnnx } from '../onnx/write.ts';
import type { DType, TypedArray } from '../tensor/dtype.ts';
import { inputName, type Tensor, topological } from '../tensor/tensor.ts';
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
    // Graphs come simplified and fused. On the CPU ONNX Runtime's own passes then gain nothing, and their time grows with the square of
    // the nodes: a second for the Hessian-vector product of ResNet-20.
    graphOptimizationLevel: provider === 'cpu' || provider === 'wasm' ? 'disabled' : 'all',
    executionMode: 'sequential',
    interOpNumThreads: 1,
    // Errors are thrown; ONNX Runtime need not write them to stderr too.
    logSeverityLevel: 4,
    ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
    ...options.session,
  };
  return {
    name: provider,
    floats: provider === 'cpu' ? ['float32', 'float64'] : ['float32'],
    compile: async (inputs, outputs) => {
      const channelBlock = provider === 'cpu' ? await channelBlockOf(ort) : 1;
      const graph = fuse(simplify(expandComposites(outputs, provider)), { provider, channelBlock });
      const model = writeOnnx(lowerToOnnx(inputs, graph, { provider, channelBlock }));
      let session: InferenceSession;
      try {
        session = await ort.InferenceSession.create(model, sessionOptions);
      } catch (cause) {
        throw new DeviceError(`Device '${provider}' cannot run this graph: ${reasonOf(cause, graph)}`, { cause });
      }
      const program = new OrtProgram(ort, provider, session, inputs, outputs, () => open.delete(program));
      open.add(program);
      return program;
    },
    dispose: async () => {
      await Promise.all([...open].map((program) => program.dispose()));
    },
  };
}

/** Why ONNX Runtime refuses a graph, and what to do about it where that is known. */
function reasonOf(cause: unknown, outputs: readonly Tensor[]): string {
  const reason = plainReason(cause);
  const op = /^Could not find an implementation for (\w+)\(/.exec(reason)?.[1];
  if (op === undefined) return reason;
  const float64 = topological(outputs).some((node) => node.dtype === 'float64');
  return float64
    ? `it has no kernel for ONNX op ${op} in float64; use float32, or device 'interpreter' for tiny problems.`
    : `it has no kernel for ONNX op ${op} on these element types; use another device.`;
}

/** What ONNX Runtime says, without the source location and failed assertion it puts in front. */
function plainReason(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return message
    .replace(/^.* was false\.\s*/s, '')
    .replace(/\s+/g, ' ')
    .trim();
}

class OrtProgram implements Program {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly #ort: OrtModule;
  readonly #device: string;
  readonly #session: InferenceSession;
  readonly #forget: () => void;
  #disposed = false;

  constructor(
    ort: OrtModule,
    device: string,
    session: InferenceSession,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    forget: () => void,
  ) {
    this.inputs = inputs;
    this.outputs = outputs;
    this.#ort = ort;
    this.#device = device;
    this.#session = session;
    this.#forget = forget;
  }

  bind(feeds: Feeds, given: readonly (TypedArray | undefined)[] = []): Call {
    const results = resultMemory(this.outputs, given);
    const tensor = (x: Tensor, data: TypedArray) => ortTensor(this.#ort, x.dtype, data, x.shape);
    const sources = this.inputs.map((x) => feedFor(x, feeds));
    const ins = Object.fromEntries(this.inputs.map((x, i) => [inputName(x)!, tensor(x, sources[i])]));
    const outs = Object.fromEntries(this.outputs.map((x, i) => [`output${i}`, tensor(x, results[i])]));
    const memories = [...sources, ...results];
    const lengths = memories.map(({ length }) => length);
    const run = async () => {
      if (this.#disposed) throw new DeviceError('run: this program was disposed; compile it again.');
      // ONNX Runtime would read and write memory that is no longer there.
      if (memories.some(({ length }, i) => length !== lengths[i])) {
        throw new DeviceError('run: memory bound to this call is gone because its WebAssembly memory grew; bind anew.');
      }
      const produced = await this.#session.run(ins, outs).catch((cause: unknown) => {
        throw new DeviceError(`Device '${this.#device}' failed to run a program: ${plainReason(cause)}`, { cause });
      });
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
