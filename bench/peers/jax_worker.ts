/**
 * jax-js as a peer, on its WebAssembly device. In Node it runs single-threaded: its thread pool needs a `Worker` global of the
 * browser's kind, which Node has not. Everything is compiled by `jit`; Hessian-vector products are forward over reverse
 * (`jvp` of `grad`), JAX's usual and cheapest form.
 */
import type { numpy as NumPy } from '@jax-js/jax';
import { batchOf, directionValue, gradientValue, parameterValue } from '../data.ts';
import { type Session, serve, Unsupported } from '../protocol.ts';
import type { Workload } from '../workloads.ts';

// Node 20 has no `navigator`, and jax-js reads it while it is imported.
if (!('navigator' in globalThis))
  Object.assign(globalThis, { navigator: { userAgent: 'node', hardwareConcurrency: 1 } });
const { blockUntilReady, init, jit, jvp, grad, lax, nn, numpy: np, valueAndGrad } = await import('@jax-js/jax');

type Tensor = NumPy.Array;
type Named = (name: string) => Tensor;
type Loss = (parameters: Tensor[], input: Tensor, target: Tensor) => Tensor;

const upload = (data: Float32Array, shape: number[]) => np.array(data as Float32Array<ArrayBuffer>, { shape });

function crossEntropy(logits: Tensor, oneHot: Tensor): Tensor {
  const rows = logits.shape[0];
  return nn
    .logSoftmax(logits)
    .mul(oneHot)
    .sum()
    .mul(-1 / rows);
}

const linear = (p: Named, name: string, h: Tensor) =>
  np.matmul(h, p(`${name}.weight`).transpose()).add(p(`${name}.bias`));

/** Mean and biased variance over `axes`, then the affine map of `name`, whose vectors are reshaped to `affine`. */
function normalize(p: Named, name: string, h: Tensor, axes: number[], affine: number[]): Tensor {
  const centred = h.ref.sub(h.mean(axes, { keepdims: true }));
  const variance = np.square(centred.ref).mean(axes, { keepdims: true });
  const unit = centred.div(np.sqrt(variance.add(1e-5)));
  return unit.mul(p(`${name}.weight`).reshape(affine)).add(p(`${name}.bias`).reshape(affine));
}

function conv(h: Tensor, weight: Tensor, stride: number): Tensor {
  return lax.convGeneralDilated(
    h,
    weight,
    [stride, stride],
    [
      [1, 1],
      [1, 1],
    ],
  );
}

function resnet20(p: Named, input: Tensor, target: Tensor): Tensor {
  const norm = (name: string, h: Tensor) => normalize(p, name, h, [0, 2, 3], [1, h.shape[1], 1, 1]);
  let h = nn.relu(norm('stem.norm', conv(input, p('stem.weight'), 1)));
  for (let stage = 0; stage < 3; stage++) {
    for (let block = 0; block < 3; block++) {
      const name = `stage${stage}.block${block}`;
      const stride = stage > 0 && block === 0 ? 2 : 1;
      let skip = h.ref;
      if (stride === 2) {
        const [n, c, side] = skip.shape;
        const every = skip.reshape([n, c, side / 2, 2, side / 2, 2]).slice([], [], [], 0, [], 0);
        skip = np.pad(every, [
          [0, 0],
          [c / 2, c / 2],
          [0, 0],
          [0, 0],
        ]);
      }
      let r = nn.relu(norm(`${name}.norm0`, conv(h, p(`${name}.conv0.weight`), stride)));
      r = norm(`${name}.norm1`, conv(r, p(`${name}.conv1.weight`), 1));
      h = nn.relu(r.add(skip));
    }
  }
  return crossEntropy(linear(p, 'head', h.mean([2, 3])), target);
}

function convnet(p: Named, input: Tensor, target: Tensor): Tensor {
  const h = nn.relu(conv(nn.relu(conv(input, p('conv0.weight'), 2)), p('conv1.weight'), 2));
  return crossEntropy(linear(p, 'head', h.reshape([h.shape[0], -1])), target);
}

function mlp(p: Named, input: Tensor, target: Tensor): Tensor {
  const h = nn.relu(linear(p, 'layer1', nn.relu(linear(p, 'layer0', input))));
  return crossEntropy(linear(p, 'layer2', h), target);
}

function mlpSmall(p: Named, input: Tensor, target: Tensor): Tensor {
  const h = np.tanh(linear(p, 'layer1', np.tanh(linear(p, 'layer0', input))));
  return np.square(linear(p, 'layer2', h).sub(target)).mean();
}

/** `input` holds one-hot rows: the embedding is a product, because jax-js 0.1.25 cannot differentiate a gather. */
function transformer(sizes: Record<string, number>, p: Named, input: Tensor, target: Tensor): Tensor {
  const { batch, sequence, width, heads, layers } = sizes;
  const head = width / heads;
  const norm = (name: string, h: Tensor) => normalize(p, name, h, [2], [1, 1, width]);
  let h = np.matmul(input, p('token')).reshape([batch, sequence, width]).add(p('position'));
  for (let i = 0; i < layers; i++) {
    const name = `block${i}`;
    const qkv = linear(p, `${name}.qkv`, norm(`${name}.norm0`, h.ref)).reshape([batch, sequence, 3, heads, head]);
    const [q, k, v] = [0, 1, 2].map((part) => qkv.ref.slice([], [], part, [], []).transpose([0, 2, 1, 3]));
    const weights = nn.softmax(np.matmul(q.mul(1 / Math.sqrt(head)), k.transpose([0, 1, 3, 2])), -1);
    const mixed = np.matmul(weights, v).transpose([0, 2, 1, 3]).reshape([batch, sequence, width]);
    h = h.add(linear(p, `${name}.proj`, mixed));
    const up = nn.gelu(linear(p, `${name}.up`, norm(`${name}.norm1`, h.ref)), { approximate: false });
    h = h.add(linear(p, `${name}.down`, up));
  }
  return crossEntropy(linear(p, 'head', norm('norm', h)).reshape([batch * sequence, -1]), target);
}

function lossOf(workload: Workload): Loss {
  const index = new Map(workload.parameters.map((spec, i) => [spec.name, i]));
  const models = {
    resnet20,
    convnet,
    mlp,
    'mlp-small': mlpSmall,
    transformer: (p: Named, x: Tensor, y: Tensor) => transformer(workload.sizes, p, x, y),
  };
  const { model } = workload;
  if (model === 'adan') throw new Unsupported('The update benchmark has no loss.');
  return (parameters, x, y) => models[model]((name) => parameters[index.get(name)!].ref, x, y);
}

function batch(workload: Workload): { x: Tensor; y: Tensor } {
  const { sizes: s, model } = workload;
  const { input, target } = batchOf(workload);
  const hot = (ids: Float32Array | Int32Array) => {
    const out = new Float32Array(ids.length * s.classes);
    for (let i = 0; i < ids.length; i++) out[i * s.classes + ids[i]] = 1;
    return upload(out, [ids.length, s.classes]);
  };
  if (model === 'transformer') return { x: hot(input), y: hot(target) };
  const shape = s.side ? [s.batch, s.channels, s.side, s.side] : [s.batch, s.inputs];
  return {
    x: upload(Float32Array.from(input), shape),
    y: s.classes ? hot(target) : upload(Float32Array.from(target), [s.batch, s.outputs]),
  };
}

async function norm(tensors: Tensor[]): Promise<number> {
  let sum = 0;
  for (const t of tensors) for (const v of await t.data()) sum += v * v;
  return Math.sqrt(sum);
}

const refs = (tensors: Tensor[]) => tensors.map((t) => t.ref);
const free = (tensors: Tensor[]) => {
  for (const t of tensors) t.dispose();
};

async function derivative(workload: Workload): Promise<Session> {
  const loss = lossOf(workload);
  const { x, y } = batch(workload);
  const parameters = workload.parameters.map((spec, i) => upload(parameterValue(spec, i), spec.shape));

  if (workload.kind === 'grad') {
    const compiled = jit((p: Tensor[], input: Tensor, target: Tensor) => valueAndGrad(loss)(p, input, target));
    const run = () => blockUntilReady(compiled(refs(parameters), x.ref, y.ref));
    return {
      async check() {
        const [value, gradient] = await run();
        return { loss: (await value.data())[0], grad_norm: await norm(gradient) };
      },
      async iterate() {
        const [value, gradient] = await run();
        free([value, ...gradient]);
      },
      async close() {},
    };
  }

  if (workload.kind === 'hvp') {
    const direction = workload.parameters.map((spec, i) => upload(directionValue(spec, i), spec.shape));
    const compiled = jit((p: Tensor[], v: Tensor[], input: Tensor, target: Tensor) => {
      const [gradient, product] = jvp((q: Tensor[]) => grad(loss)(q, input.ref, target.ref), [p], [v]);
      free(gradient);
      return product;
    });
    const run = () => blockUntilReady(compiled(refs(parameters), refs(direction), x.ref, y.ref));
    return {
      async check() {
        const product = await run();
        let curvature = 0;
        let square = 0;
        for (const [i, spec] of workload.parameters.entries()) {
          const [v, h] = [directionValue(spec, i), await product[i].ref.data()];
          for (let j = 0; j < v.length; j++) {
            curvature += v[j] * h[j];
            square += v[j] * v[j];
          }
        }
        const length = await norm(product);
        return { hvp_norm: length, alignment: curvature / (Math.sqrt(square) * length) };
      },
      async iterate() {
        free(await run());
      },
      async close() {},
    };
  }

  return step(workload, loss, parameters, x, y);
}

/** Training step: gradient and update in one compiled function. Scalars that change from step to step are arguments. */
async function step(workload: Workload, loss: Loss, start: Tensor[], x: Tensor, y: Tensor): Promise<Session> {
  const h = workload.hyper;
  const slots = 'momentum' in h ? 1 : 2;
  let state = start.map((p, i) => [p, ...Array.from({ length: slots }, () => np.zeros(workload.parameters[i].shape))]);
  let t = 0;
  const compiled = jit((s: Tensor[][], c1: Tensor, c2: Tensor, input: Tensor, target: Tensor) => {
    const [value, gradient] = valueAndGrad(loss)(
      s.map((slot) => slot[0].ref),
      input,
      target,
    );
    const next = s.map((slot, i) => {
      if (slots === 1) {
        const momentum = slot[1].mul(h.momentum).add(gradient[i]);
        return [slot[0].sub(momentum.ref.mul(h.lr)), momentum];
      }
      const m = slot[1].mul(h.beta1).add(gradient[i].ref.mul(1 - h.beta1));
      const v = slot[2].mul(h.beta2).add(np.square(gradient[i]).mul(1 - h.beta2));
      const unit = m.ref.div(c1.ref).div(np.sqrt(v.ref.div(c2.ref)).add(h.eps));
      return [slot[0].mul(1 - h.lr * h.weightDecay).sub(unit.mul(h.lr)), m, v];
    });
    return [value, next] as [Tensor, Tensor[][]];
  });
  const run = async () => {
    t++;
    const corrections = slots === 2 ? [1 - h.beta1 ** t, 1 - h.beta2 ** t] : [1, 1];
    const [value, next] = compiled(state, np.array(corrections[0]), np.array(corrections[1]), x.ref, y.ref);
    await blockUntilReady([value, next]);
    state = next;
    return value;
  };
  return {
    async check() {
      const losses: number[] = [];
      for (let i = 0; i < 3; i++) losses.push((await (await run()).data())[0]);
      return { loss: losses[0], loss_2: losses[2] };
    },
    async iterate() {
      (await run()).dispose();
    },
    async close() {},
  };
}

/** Adan over one flat vector, one compiled function: the layout that suits jax-js best. */
async function adan(workload: Workload): Promise<Session> {
  const { parameters: specs, hyper: h } = workload;
  const flat = (value: (spec: (typeof specs)[number], index: number) => Float32Array) => {
    const parts = specs.map(value);
    const out = new Float32Array(parts.reduce((total, part) => total + part.length, 0));
    let offset = 0;
    for (const part of parts) {
      out.set(part, offset);
      offset += part.length;
    }
    return out;
  };
  const start = flat(parameterValue);
  const size = [start.length];
  const gradients = [0, 1].map((set) =>
    upload(
      flat((spec, i) => gradientValue(spec, i, set as 0 | 1)),
      size,
    ),
  );
  let state = [upload(start, size), np.zeros(size), np.zeros(size), np.zeros(size), gradients[0].ref];
  let t = 0;
  const compiled = jit((s: Tensor[], g: Tensor, c1: Tensor, c2: Tensor, c3: Tensor) => {
    const [theta, m0, v0, n0, previous] = s;
    const d = g.ref.sub(previous);
    const m = m0.mul(h.beta1).add(g.ref.mul(1 - h.beta1));
    const v = v0.mul(h.beta2).add(d.ref.mul(1 - h.beta2));
    const n = n0.mul(h.beta3).add(np.square(g.ref.add(d.mul(h.beta2))).mul(1 - h.beta3));
    const up = m.ref.mul(c1).add(v.ref.mul(c2));
    const moved = theta.sub(up.div(np.sqrt(n.ref).mul(c3).add(h.eps)).mul(h.lr));
    return [moved.mul(1 / (1 + h.lr * h.weightDecay)), m, v, n, g];
  });
  const iterate = async () => {
    const g = gradients[t % 2];
    t++;
    const scalars = [1 / (1 - h.beta1 ** t), h.beta2 / (1 - h.beta2 ** t), 1 / Math.sqrt(1 - h.beta3 ** t)];
    const [c1, c2, c3] = scalars.map((s) => np.array(s));
    state = await blockUntilReady(compiled(state, g.ref, c1, c2, c3));
  };
  return {
    async check() {
      await iterate();
      await iterate();
      const now = await state[0].ref.data();
      let sum = 0;
      for (let i = 0; i < start.length; i++) sum += (now[i] - start[i]) ** 2;
      return { moved: Math.sqrt(sum) };
    },
    iterate,
    async close() {},
  };
}

serve((workload, threads) => ({
  name: workload.name,
  threads,
  async setup() {
    if (threads > 1) throw new Unsupported('jax-js is single-threaded in Node (its pool needs the browser `Worker`).');
    await init('wasm');
    return workload.model === 'adan' ? adan(workload) : derivative(workload);
  },
}));
