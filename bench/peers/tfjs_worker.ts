/**
 * TensorFlow.js as a peer, on its WebAssembly backend. In Node it runs single-threaded: the library turns its threads off there.
 * Its WebAssembly backend lacks the filter gradient of a convolution, so convolutional models cannot be trained at all.
 */

import { createRequire } from 'node:module';
import { dirname, sep } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { getThreadsCount, setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { batchOf, directionValue, gradientValue, parameterValue } from '../data.ts';
import { type Session, serve, Unsupported } from '../protocol.ts';
import type { ParameterSpec, Workload } from '../workloads.ts';

type Named = (name: string) => tf.Tensor;
type Model = (p: Named, input: tf.Tensor, target: tf.Tensor) => tf.Tensor;
type ValueAndGrads = (parameters: tf.Tensor[]) => { value: tf.Tensor; grads: tf.Tensor[] };
type Loss = (...parameters: tf.Tensor[]) => tf.Scalar;

/**
 * A product whose gradients transpose explicitly: the library's own use the transposing form of its product, which has no fast
 * kernel in the WebAssembly backend (about twenty times slower on `mlp-grad`). `constant` leaves the gradient of the left factor out.
 */
function product(left: tf.Tensor2D, right: tf.Tensor2D, constant: boolean): tf.Tensor2D {
  type Save = (tensors: tf.Tensor[]) => void;
  const multiply = (...inputs: (tf.Tensor | Save)[]) => {
    const save = inputs[inputs.length - 1] as Save;
    save([left, right]);
    return {
      value: tf.matMul(left, right),
      gradFunc: (dy: tf.Tensor, [a, b]: tf.Tensor[]) => {
        const toRight = tf.matMul(a.transpose(), dy);
        return constant ? [toRight] : [tf.matMul(dy, b.transpose()), toRight];
      },
    };
  };
  return tf.customGrad(multiply)(...(constant ? [right] : [left, right])) as tf.Tensor2D;
}

/** Weights are `[in, out]` here, as in the library's layers. */
function linear(p: Named, name: string, h: tf.Tensor, constant = false): tf.Tensor {
  const rows = h.reshape([-1, h.shape[h.rank - 1]]) as tf.Tensor2D;
  const out = product(rows, p(`${name}.weight`) as tf.Tensor2D, constant).add(p(`${name}.bias`));
  return out.reshape([...h.shape.slice(0, -1), out.shape[1]!]);
}

const isLinearWeight = (spec: ParameterSpec) => spec.shape.length === 2 && spec.name.endsWith('.weight');

const crossEntropy = (logits: tf.Tensor, oneHot: tf.Tensor) =>
  tf
    .logSoftmax(logits)
    .mul(oneHot)
    .sum()
    .mul(-1 / logits.shape[0]);

function layerNorm(p: Named, name: string, h: tf.Tensor): tf.Tensor {
  const centred = h.sub(h.mean(-1, true));
  const variance = centred.square().mean(-1, true);
  return centred
    .div(variance.add(1e-5).sqrt())
    .mul(p(`${name}.weight`))
    .add(p(`${name}.bias`));
}

const mlp: Model = (p, x, y) =>
  crossEntropy(linear(p, 'layer2', linear(p, 'layer1', linear(p, 'layer0', x, true).relu()).relu()), y);

/** With the library's own product: at these sizes it is as fast, and it can be differentiated twice. */
const mlpSmall: Model = (p, x, y) => {
  const layer = (h: tf.Tensor, name: string) => tf.matMul(h, p(`${name}.weight`)).add(p(`${name}.bias`));
  return layer(layer(layer(x, 'layer0').tanh(), 'layer1').tanh(), 'layer2')
    .sub(y)
    .square()
    .mean();
};

const convnet: Model = (p, x, y) => {
  const conv = (h: tf.Tensor, name: string) =>
    tf.conv2d(h as tf.Tensor4D, p(`${name}.weight`).transpose([2, 3, 1, 0]) as tf.Tensor4D, 2, 1, 'NHWC', 1, 'floor');
  const h = conv(conv(x.transpose([0, 2, 3, 1]), 'conv0').relu(), 'conv1').relu();
  return crossEntropy(linear(p, 'head', h.transpose([0, 3, 1, 2]).reshape([x.shape[0], -1])), y);
};

/** `input` holds one-hot rows: the gradient of a gather needs a kernel that the WebAssembly backend lacks. */
const transformer =
  ({ batch, sequence, width, heads, layers }: Record<string, number>): Model =>
  (p, input, target) => {
    const head = width / heads;
    let h: tf.Tensor = product(input as tf.Tensor2D, p('token') as tf.Tensor2D, true);
    h = h.reshape([batch, sequence, width]).add(p('position'));
    for (let i = 0; i < layers; i++) {
      const name = `block${i}`;
      const qkv = linear(p, `${name}.qkv`, layerNorm(p, `${name}.norm0`, h));
      const [q, k, v] = tf
        .split(qkv, 3, -1)
        .map((part) => part.reshape([batch, sequence, heads, head]).transpose([0, 2, 1, 3]));
      const weights = tf.softmax(tf.matMul(q.mul(1 / Math.sqrt(head)), k, false, true));
      const mixed = tf.matMul(weights, v).transpose([0, 2, 1, 3]).reshape([batch, sequence, width]);
      h = h.add(linear(p, `${name}.proj`, mixed));
      const up = linear(p, `${name}.up`, layerNorm(p, `${name}.norm1`, h));
      const active = up.mul(0.5).mul(up.mul(Math.SQRT1_2).erf().add(1));
      h = h.add(linear(p, `${name}.down`, active));
    }
    return crossEntropy(linear(p, 'head', layerNorm(p, 'norm', h)).reshape([batch * sequence, -1]), target);
  };

function lossOf(workload: Workload): Loss {
  const { model, sizes: s } = workload;
  if (model === 'adan') throw new Unsupported('The update benchmark has no loss.');
  if (model === 'resnet20')
    throw new Unsupported('The WebAssembly backend lacks the kernel Conv2DBackpropFilter (see the row convnet-grad).');
  // Gradients that use an op's saved output (exp, tanh, softmax) drop the dependence of that output: the second derivative of
  // `mlp-small` comes out wrong, and that of the cross-entropy is refused.
  if (workload.kind === 'hvp' && model !== 'mlp-small')
    throw new Unsupported('logSoftmax and softmax cannot be differentiated twice.');
  const models = { mlp, 'mlp-small': mlpSmall, convnet, transformer: transformer(s) };
  const { input, target } = batchOf(workload);
  const hot = (ids: Float32Array | Int32Array) => tf.oneHot(tf.tensor1d(ids, 'int32'), s.classes).toFloat();
  let x: tf.Tensor;
  if (model === 'transformer') x = hot(input);
  else x = tf.tensor(input, s.side ? [s.batch, s.channels, s.side, s.side] : [s.batch, s.inputs]);
  const y = s.classes ? hot(target) : tf.tensor(target, [s.batch, s.outputs]);
  const index = new Map(workload.parameters.map((spec, i) => [spec.name, i]));
  return (...parameters) => models[model]((name) => parameters[index.get(name)!], x, y).asScalar();
}

const upload = (workload: Workload, value: typeof parameterValue) =>
  workload.parameters.map((spec, i) => {
    const tensor = tf.tensor(value(spec, i), spec.shape);
    return isLinearWeight(spec) ? tensor.transpose() : tensor;
  });

const dot = (a: tf.Tensor[], b: tf.Tensor[]) => {
  let sum = 0;
  for (const [i, t] of a.entries()) {
    const [x, y] = [t.dataSync(), b[i].dataSync()];
    for (let j = 0; j < x.length; j++) sum += x[j] * y[j];
  }
  return sum;
};

function derivative(workload: Workload): Session {
  const loss = lossOf(workload);
  const parameters = upload(workload, parameterValue);
  const valueAndGrads = tf.valueAndGrads(loss) as ValueAndGrads;

  if (workload.kind === 'grad') {
    const run = () => valueAndGrads(parameters);
    return {
      async check() {
        const { value, grads } = run();
        return { loss: value.dataSync()[0], grad_norm: Math.sqrt(dot(grads, grads)) };
      },
      async iterate() {
        const { value, grads } = run();
        tf.dispose([value, ...grads]);
      },
      async close() {},
    };
  }

  if (workload.kind === 'hvp') {
    const direction = upload(workload, directionValue);
    const first = tf.grads(loss);
    const product = tf.grads((...p: tf.Tensor[]) =>
      tf.addN(first(p).map((g, i) => g.mul(direction[i]).sum())).asScalar(),
    );
    return {
      async check() {
        const h = product(parameters);
        const [lengthOfV, length] = [direction, h].map((t) => Math.sqrt(dot(t, t)));
        return { hvp_norm: length, alignment: dot(direction, h) / (lengthOfV * length) };
      },
      async iterate() {
        tf.dispose(product(parameters));
      },
      async close() {},
    };
  }

  return adamwStep(workload, parameters, valueAndGrads);
}

/** AdamW written with tensor operations, because the library has none. */
function adamwStep({ hyper: h }: Workload, start: tf.Tensor[], valueAndGrads: ValueAndGrads): Session {
  let state = start.map((p) => ({ p, m: tf.zerosLike(p), v: tf.zerosLike(p) }));
  let t = 0;
  const run = () => {
    t++;
    const [c1, c2] = [1 - h.beta1 ** t, 1 - h.beta2 ** t];
    const { value, grads } = valueAndGrads(state.map((s) => s.p));
    const next = state.map((s, i) =>
      tf.tidy(() => {
        const m = s.m.mul(h.beta1).add(grads[i].mul(1 - h.beta1));
        const v = s.v.mul(h.beta2).add(grads[i].square().mul(1 - h.beta2));
        const unit = m
          .div(
            v
              .sqrt()
              .mul(1 / Math.sqrt(c2))
              .add(h.eps),
          )
          .mul(h.lr / c1);
        return { p: s.p.mul(1 - h.lr * h.weightDecay).sub(unit), m, v };
      }),
    );
    tf.dispose([grads, state]);
    state = next;
    const loss = value.dataSync()[0];
    value.dispose();
    return loss;
  };
  return {
    async check() {
      const losses = [run(), run(), run()];
      return { loss: losses[0], loss_2: losses[2] };
    },
    async iterate() {
      run();
    },
    async close() {},
  };
}

function adan(workload: Workload): Session {
  const { hyper: h } = workload;
  const start = upload(workload, parameterValue);
  const gradients = [0, 1].map((set) => upload(workload, (spec, i) => gradientValue(spec, i, set as 0 | 1)));
  let state = start.map((p, i) => ({
    p: p.clone(),
    m: tf.zerosLike(p),
    v: tf.zerosLike(p),
    n: tf.zerosLike(p),
    g: gradients[0][i].clone(),
  }));
  let t = 0;
  const iterate = async () => {
    const g = gradients[t % 2];
    t++;
    const [c1, c2, c3] = [1 - h.beta1 ** t, 1 - h.beta2 ** t, Math.sqrt(1 - h.beta3 ** t)];
    state = state.map((s, i) => {
      const next = tf.tidy(() => {
        const d = g[i].sub(s.g);
        const m = s.m.mul(h.beta1).add(g[i].mul(1 - h.beta1));
        const v = s.v.mul(h.beta2).add(d.mul(1 - h.beta2));
        const n = s.n.mul(h.beta3).add(
          g[i]
            .add(d.mul(h.beta2))
            .square()
            .mul(1 - h.beta3),
        );
        const up = m.mul(1 / c1).add(v.mul(h.beta2 / c2));
        const moved = s.p.sub(
          up
            .div(
              n
                .sqrt()
                .mul(1 / c3)
                .add(h.eps),
            )
            .mul(h.lr),
        );
        return { p: moved.mul(1 / (1 + h.lr * h.weightDecay)), m, v, n, g: g[i].clone() };
      });
      tf.dispose(s);
      return next;
    });
  };
  return {
    async check() {
      await iterate();
      await iterate();
      const moved = state.map((s, i) => s.p.sub(start[i]));
      return { moved: Math.sqrt(dot(moved, moved)) };
    },
    iterate,
    async close() {},
  };
}

serve((workload, threads) => ({
  name: workload.name,
  threads,
  async setup() {
    if (threads > 1) throw new Unsupported('TensorFlow.js turns the threads of its WebAssembly backend off in Node.');
    const entry = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm');
    setWasmPaths(dirname(entry) + sep);
    if (!(await tf.setBackend('wasm'))) throw new Error('The WebAssembly backend of TensorFlow.js did not start.');
    await tf.ready();
    if (getThreadsCount() > 1) throw new Error('TensorFlow.js started with more than one thread.');
    return workload.model === 'adan' ? adan(workload) : derivative(workload);
  },
}));
