import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError, FormatError, ShapeError } from '../../src/base/errors.ts';
import { Key } from '../../src/base/random.ts';
import { constant, normal, uniform, zeros } from '../../src/params/initializers.ts';
import { ALIGNMENT, ParamLayout, type ParamSpec } from '../../src/params/layout.ts';
import { parseSafetensors, writeSafetensors } from '../../src/params/safetensors.ts';
import { loadVector, vectorTensors } from '../../src/params/state.ts';
import { initialize, ParamVector } from '../../src/params/vector.ts';

const specs: ParamSpec[] = [
  { name: 'fc1.weight', shape: [3, 5], init: normal(), tags: ['weight'] },
  { name: 'fc1.bias', shape: [3], init: uniform(), tags: ['bias'] },
  { name: 'norm.scale', shape: [], init: constant(1), tags: ['norm'] },
  { name: 'fc2.weight', shape: [2, 4], init: normal({ std: 0.1 }), tags: ['weight', 'head'] },
];
const layout = new ParamLayout(specs);
const key = Key.fromSeed(3);

describe('ParamLayout', () => {
  it('aligns segments and counts without padding', () => {
    expect(layout.segments.map(({ offset, length }) => [offset, length])).toEqual([
      [0, 15],
      [16, 3],
      [20, 1],
      [24, 8],
    ]);
    expect([layout.size, layout.count]).toEqual([32, 27]);
  });

  it('segments of any shapes are aligned, disjoint, in order and as tight as alignment allows', () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.nat(4), { maxLength: 3 })), (shapes) => {
        const any = new ParamLayout(shapes.map((shape, i) => ({ name: `p${i}`, shape })));
        let end = 0;
        for (const { offset, length, shape } of any.segments) {
          expect(length).toBe(shape.reduce((a, b) => a * b, 1));
          expect(offset % ALIGNMENT).toBe(0);
          expect(offset - end).toBeGreaterThanOrEqual(0);
          expect(offset - end).toBeLessThan(ALIGNMENT);
          end = offset + length;
        }
        expect(any.size - end).toBeLessThan(ALIGNMENT);
        expect(any.size % ALIGNMENT).toBe(0);
      }),
    );
  });

  it('finds by name and by tag, and names the nearest for a slip', () => {
    expect(layout.segment('fc1.bias').offset).toBe(16);
    expect(layout.tagged('weight').map(({ name }) => name)).toEqual(['fc1.weight', 'fc2.weight']);
    expect(layout.has('fc3.weight')).toBe(false);
    expect(() => layout.segment('fc1.weigth')).toThrow("no parameter 'fc1.weigth'; did you mean 'fc1.weight'?");
    expect(() => layout.segment('embedding.table')).toThrow(/4 parameters: 'fc1\.weight'/);
  });

  it('refuses repeated and empty names and bad shapes', () => {
    expect(() => new ParamLayout([specs[0], specs[0]])).toThrow(ConfigError);
    expect(() => new ParamLayout([{ name: '', shape: [1] }])).toThrow(ConfigError);
    expect(() => new ParamLayout([{ name: 'a', shape: [-1] }])).toThrow(ShapeError);
    expect(() => new ParamLayout([{ name: 'a', shape: [1.5] }])).toThrow(ShapeError);
    expect(() => new ParamLayout([{ name: 'a', shape: [2 ** 30, 2 ** 30] }])).toThrow(/2\^53/);
  });

  it('has a fingerprint of names, shapes and order, not of tags', () => {
    const change = (edit: (list: { name: string; shape: readonly number[]; tags?: readonly string[] }[]) => void) => {
      const list = specs.map(({ name, shape, tags }) => ({ name, shape, tags }));
      edit(list);
      return new ParamLayout(list);
    };
    const same = change((list) => list.splice(0, 1, { ...list[0], tags: ['frozen'] }));
    expect(same.fingerprint).toBe(layout.fingerprint);
    expect(layout.difference(same)).toBeUndefined();
    expect(layout.fingerprint).toMatch(/^[0-9a-f]{16}$/);
    const others: [ParamLayout, RegExp][] = [
      [change((list) => list.splice(1, 1)), /has no parameter 'fc1\.bias' of shape \[3\]/],
      [
        change((list) => list.splice(0, 1, { ...list[0], shape: [5, 3] })),
        /has shape \[5, 3\] for parameter 'fc1\.weight' instead of \[3, 5\]/,
      ],
      [change((list) => list.push({ name: 'x', shape: [1] })), /has a further parameter 'x' of shape \[1\]/],
      [change((list) => list.reverse()), /has 'fc2\.weight' where 'fc1\.weight' is expected/],
    ];
    for (const [other, message] of others) {
      expect(other.fingerprint).not.toBe(layout.fingerprint);
      expect(layout.difference(other)).toMatch(message);
      expect(() => layout.assertSame(other, 'the checkpoint')).toThrow(
        /^The checkpoint belongs to another model: it has/,
      );
      expect(() => layout.assertSame(other, 'the checkpoint')).toThrow(ConfigError);
    }
  });

  it('goes through JSON, and refuses what is not a layout', () => {
    const again = ParamLayout.fromJSON(JSON.parse(JSON.stringify(layout)), 'config.json');
    expect(again.segments).toEqual(layout.segments);
    const bad = [null, {}, [1], [{ name: 'a' }], [{ name: 'a', shape: [-1] }], [{ name: 1, shape: [] }]];
    const worse = [
      [{ name: 'a', shape: [1], tags: [2] }],
      [{ name: '', shape: [] }],
      [{ name: 'a', shape: [2 ** 52, 2 ** 52] }],
    ];
    for (const value of [...bad, ...worse]) {
      expect(() => ParamLayout.fromJSON(value, 'config.json')).toThrow(FormatError);
      expect(() => ParamLayout.fromJSON(value, 'config.json')).toThrow(/^config\.json/);
    }
    fc.assert(
      fc.property(fc.anything(), (value) => {
        try {
          ParamLayout.fromJSON(value, 'x');
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
    );
  });
});

/** Elements of the vector that belong to no parameter. */
function padding(vector: ParamVector): number[] {
  const inside = new Set<number>();
  for (const { offset, length } of vector.layout.segments) for (let i = 0; i < length; i++) inside.add(offset + i);
  return Array.from(vector.data).filter((_, i) => !inside.has(i));
}

describe('ParamVector', () => {
  it('shows parameters as windows of one array', () => {
    const theta = new ParamVector(layout, 'float32');
    expect(theta.data).toBeInstanceOf(Float32Array);
    theta.set('fc1.bias', [1, 2, 3]);
    expect(Array.from(theta.data.subarray(16, 20))).toEqual([1, 2, 3, 0]);
    theta.view('fc2.weight')[7] = 5;
    expect(theta.data[31]).toBe(5);
    expect(() => theta.set('fc1.bias', [1, 2])).toThrow(/takes 3 values, got 2/);
    expect(() => theta.view('fc1.bais')).toThrow(/did you mean 'fc1\.bias'/);
    expect(Array.from(theta.entries(), ([{ name }, view]) => [name, view.length])).toEqual(
      layout.segments.map(({ name, length }) => [name, length]),
    );
  });

  it('padding stays zero through fill, copies and foreign memory', () => {
    const theta = new ParamVector(layout, 'float64');
    theta.fill(2);
    expect(theta.data.reduce((a, b) => a + b, 0)).toBe(2 * layout.count);
    expect(padding(theta)).toEqual([0, 0, 0, 0, 0]);
    const dirty = new Float64Array(layout.size + 4).fill(7);
    const window = new ParamVector(layout, 'float64', dirty, 32);
    expect(padding(window)).toEqual([0, 0, 0, 0, 0]);
    expect(Array.from(window.view('fc1.bias'))).toEqual([7, 7, 7]);
    expect(dirty[0]).toBe(7);
    window.data.fill(3);
    window.zeroPadding();
    expect(padding(window)).toEqual([0, 0, 0, 0, 0]);
  });

  it('copies with rounding, and clones into memory of its own', () => {
    const a = new ParamVector(layout, 'float64');
    a.fill(0.1);
    const b = new ParamVector(layout, 'float32');
    b.copyFrom(a);
    expect(b.view('norm.scale')[0]).toBe(Math.fround(0.1));
    const c = b.clone();
    c.fill(9);
    expect(b.view('norm.scale')[0]).toBe(Math.fround(0.1));
    const other = new ParamVector(new ParamLayout(specs.slice(1)), 'float32');
    expect(() => b.copyFrom(other)).toThrow(/The vector copied from belongs to another model/);
  });

  it('follows a WebAssembly memory that grows', () => {
    const memory = new WebAssembly.Memory({ initial: 1 });
    const theta = new ParamVector(layout, 'float32', memory, 1024);
    theta.set('fc1.bias', [1, 2, 3]);
    const stale = theta.data;
    memory.grow(3);
    expect(stale.length).toBe(0);
    expect(theta.data.length).toBe(layout.size);
    expect(Array.from(theta.view('fc1.bias'))).toEqual([1, 2, 3]);
    theta.set('fc1.bias', [4, 5, 6]);
    expect(Array.from(new Float32Array(memory.buffer, 1024 + 64, 3))).toEqual([4, 5, 6]);
  });

  it('says what is wrong with memory that is too small, misaligned or gone', () => {
    expect(() => new ParamVector(layout, 'float32', new Float32Array(31))).toThrow(
      /needs 128 bytes of memory; the buffer has 124/,
    );
    expect(() => new ParamVector(layout, 'float32', new Float32Array(64), 8)).toThrow(/multiple of 16 bytes, not at 8/);
    expect(() => new ParamVector(layout, 'float64', new Float32Array(128), 16)).toThrow(/multiple of 32/);
    const own = new Float32Array(layout.size);
    const theta = new ParamVector(layout, 'float32', own);
    structuredClone(own.buffer, { transfer: [own.buffer] });
    expect(() => theta.data).toThrow(/transferred/);
  });
});

describe('initialize', () => {
  it('draws every parameter from its own key: others may come, go and move', () => {
    const theta = new ParamVector(layout, 'float32');
    initialize(theta, specs, key);
    expect(padding(theta)).toEqual([0, 0, 0, 0, 0]);
    const changed = [{ name: 'new', shape: [7], init: normal() }, specs[3], specs[0]];
    const other = new ParamVector(new ParamLayout(changed), 'float32');
    initialize(other, changed, key);
    for (const name of ['fc1.weight', 'fc2.weight']) {
      expect(other.view(name)).toEqual(theta.view(name));
      expect(new Set(theta.view(name)).size).toBeGreaterThan(4);
    }
    const repeat = new ParamVector(layout, 'float32');
    initialize(repeat, specs, Key.fromSeed(4));
    expect(repeat.view('fc1.weight')).not.toEqual(theta.view('fc1.weight'));
  });

  it('parameters of the same shape differ', () => {
    const twins = ['a', 'b'].map((name) => ({ name, shape: [4], init: normal() }));
    const theta = new ParamVector(new ParamLayout(twins), 'float32');
    initialize(theta, twins, key);
    expect(theta.view('a')).not.toEqual(theta.view('b'));
  });

  it('float64 and float32 models start from the same numbers up to rounding', () => {
    const single = new ParamVector(layout, 'float32');
    const double = new ParamVector(layout, 'float64');
    initialize(single, specs, key);
    initialize(double, specs, key);
    for (let i = 0; i < layout.size; i++) expect(Math.abs(single.data[i] - double.data[i])).toBeLessThan(2e-7);
  });

  it('refuses a list of another model', () => {
    const theta = new ParamVector(layout, 'float32');
    expect(() => initialize(theta, [{ name: 'a', shape: [1], init: zeros() }], key)).toThrow(/another model/);
  });
});

describe('vectors in safetensors files', () => {
  const theta = new ParamVector(layout, 'float32');
  initialize(theta, specs, key);
  const slot = new ParamVector(layout, 'float64');
  slot.fill(1 / 3);
  const bytes = writeSafetensors([...vectorTensors(theta), ...vectorTensors(slot, 'adam.m.')]);
  const file = parseSafetensors(bytes, 'step-7.safetensors');

  it('come back to the bit, each under its prefix', () => {
    const back = new ParamVector(layout, 'float32');
    loadVector(back, file);
    expect(back.data).toEqual(theta.data);
    const slotBack = new ParamVector(layout, 'float64');
    loadVector(slotBack, file, 'adam.m.');
    expect(slotBack.data).toEqual(slot.data);
  });

  it('are refused by another model with nothing written', () => {
    const cases: [{ name: string; shape: number[] }[], string, RegExp][] = [
      [
        [
          { name: 'fc1.bias', shape: [3] },
          { name: 'fc1.weights', shape: [3, 5] },
        ],
        '',
        /^step-7\.safetensors has no tensor 'fc1\.weights'.*nearest is 'fc1\.weight'.*another model/,
      ],
      [
        [
          { name: 'fc1.bias', shape: [3] },
          { name: 'fc1.weight', shape: [5, 3] },
        ],
        '',
        /tensor 'fc1\.weight' has shape \[3, 5\], the model's parameter has \[5, 3\]/,
      ],
      [
        [{ name: 'fc1.bias', shape: [3] }],
        'adam.m.',
        /has a tensor 'adam\.m\.\S+' for which the model has no parameter/,
      ],
    ];
    for (const [params, prefix, message] of cases) {
      const other = new ParamVector(new ParamLayout(params), 'float32');
      expect(() => loadVector(other, file, prefix)).toThrow(message);
      expect(() => loadVector(other, file, prefix)).toThrow(FormatError);
      expect(other.data.every((v) => v === 0)).toBe(true);
    }
    const words = { name: 'a', dtype: 'I32' as const, shape: [1], data: new Uint8Array(4) };
    const integers = parseSafetensors(writeSafetensors([words]), 'i.safetensors');
    const one = new ParamVector(new ParamLayout([{ name: 'a', shape: [1] }]), 'float32');
    expect(() => loadVector(one, integers)).toThrow(/'a' is I32/);
  });
});
