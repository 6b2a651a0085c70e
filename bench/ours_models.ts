/** The benchmark's models written on symbols: each a function from parameter symbols, input and target to the scalar loss. */

import type { Tensor } from 'edgewise';
import * as ew from 'edgewise';
import type { ModelName, Workload } from './workloads.ts';

type Params = (name: string) => Tensor;
type Loss = (p: Params, x: Tensor, y: Tensor, sizes: Workload['sizes']) => Tensor;

const linear = (p: Params, name: string, h: Tensor) =>
  ew.add(ew.matmul(h, p(`${name}.weight`), { transposeB: true }), p(`${name}.bias`));

const resnet20: Loss = (p, x, y) => {
  const normed = (name: string, h: Tensor) => ew.batchNorm(h, p(`${name}.weight`), p(`${name}.bias`)).y;
  let h = ew.relu(normed('stem.norm', ew.conv(x, p('stem.weight'), { padding: 1 })));
  for (let stage = 0; stage < 3; stage++) {
    for (let block = 0; block < 3; block++) {
      const name = `stage${stage}.block${block}`;
      const stride = stage > 0 && block === 0 ? 2 : 1;
      let skip = h;
      if (stride === 2) {
        const [n, c, height, width] = h.shape;
        const half = c / 2;
        const every = ew.slice(h, [0, 0, 0, 0], [n, c, height / 2, width / 2], [1, 1, 2, 2]);
        skip = ew.pad(every, { low: [0, half, 0, 0], high: [0, half, 0, 0] });
      }
      let r = ew.relu(normed(`${name}.norm0`, ew.conv(h, p(`${name}.conv0.weight`), { stride, padding: 1 })));
      r = normed(`${name}.norm1`, ew.conv(r, p(`${name}.conv1.weight`), { padding: 1 }));
      h = ew.relu(ew.add(r, skip));
    }
  }
  return ew.crossEntropy(linear(p, 'head', ew.globalAveragePool(h)), y);
};

const convnet: Loss = (p, x, y) => {
  let h = ew.relu(ew.conv(x, p('conv0.weight'), { stride: 2, padding: 1 }));
  h = ew.relu(ew.conv(h, p('conv1.weight'), { stride: 2, padding: 1 }));
  return ew.crossEntropy(linear(p, 'head', ew.flatten(h)), y);
};

const mlp: Loss = (p, x, y) => {
  const h = ew.relu(linear(p, 'layer1', ew.relu(linear(p, 'layer0', x))));
  return ew.crossEntropy(linear(p, 'layer2', h), y);
};

const mlpSmall: Loss = (p, x, y) => {
  const h = ew.tanh(linear(p, 'layer1', ew.tanh(linear(p, 'layer0', x))));
  return ew.meanSquaredError(linear(p, 'layer2', h), y);
};

const transformer: Loss = (p, x, y, { batch, sequence, width, heads, layers }) => {
  const depth = width / heads;
  const normed = (name: string, h: Tensor) => ew.layerNorm(h, p(`${name}.weight`), p(`${name}.bias`));
  const attend = (name: string, h: Tensor) => {
    const split = ew.transpose(
      ew.reshape(linear(p, `${name}.qkv`, h), [batch, sequence, 3, heads, depth]),
      [2, 0, 3, 1, 4],
    );
    const [q, k, v] = [0, 1, 2].map((i) => ew.select(split, 0, i));
    const weights = ew.softmax(ew.matmul(ew.mul(q, 1 / Math.sqrt(depth)), k, { transposeB: true }), -1);
    const mixed = ew.reshape(ew.transpose(ew.matmul(weights, v), [0, 2, 1, 3]), [batch * sequence, width]);
    return linear(p, `${name}.proj`, mixed);
  };
  // Rows of all sequences as one matrix: a product with a weight is then one product.
  let h = ew.reshape(ew.add(ew.gather(p('token'), x, 0), p('position')), [batch * sequence, width]);
  for (let i = 0; i < layers; i++) {
    const name = `block${i}`;
    h = ew.add(h, attend(name, normed(`${name}.norm0`, h)));
    h = ew.add(h, linear(p, `${name}.down`, ew.gelu(linear(p, `${name}.up`, normed(`${name}.norm1`, h)))));
  }
  return ew.crossEntropy(linear(p, 'head', normed('norm', h)), ew.reshape(y, [batch * sequence]));
};

export const losses: Record<Exclude<ModelName, 'adan'>, Loss> = {
  resnet20,
  convnet,
  mlp,
  'mlp-small': mlpSmall,
  transformer,
};
