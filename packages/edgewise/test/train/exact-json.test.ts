import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/base/errors.ts';
import { encodeJson, type JsonValue } from '../../src/train/exact-json.ts';

const number = fc.double({ noNaN: true, noDefaultInfinity: true });
const { value } = fc.letrec<{ value: JsonValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constant(null),
    fc.boolean(),
    number,
    fc.string({ unit: 'binary' }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.string(), tie('value'), { maxKeys: 4, noNullPrototype: true }),
  ),
}));

describe('encodeJson', () => {
  it('gives back every value exactly, minus zero too', () => {
    fc.assert(
      fc.property(value, (v) => {
        expect(JSON.parse(encodeJson(v))).toStrictEqual(v);
      }),
    );
    expect(JSON.parse(encodeJson([-0, 5e-324, 2 ** 53 + 2, 1e21, 0.1 + 0.2]))).toStrictEqual([
      -0,
      5e-324,
      2 ** 53 + 2,
      1e21,
      0.30000000000000004,
    ]);
  });

  it('is what JSON.stringify writes, except for minus zero', () => {
    fc.assert(
      fc.property(value, (v) => {
        fc.pre(!JSON.stringify(v, (_, x) => (Object.is(x, -0) ? 'minus zero' : x)).includes('minus zero'));
        expect(encodeJson(v)).toBe(JSON.stringify(v));
      }),
    );
  });

  it('leaves out undefined properties', () => {
    expect(encodeJson({ a: undefined, b: 1 })).toBe('{"b":1}');
  });

  it.each([
    [{ a: [1, Number.NaN] }, /NaN \(at \$\.a\[1\]\)/],
    [{ best: Number.POSITIVE_INFINITY }, /Infinity \(at \$\.best\)/],
    [[undefined], /undefined \(at \$\[0\]\)/],
    [{ a: new Float32Array(2) }, /Float32Array \(at \$\.a\)/],
    [{ a: 1n }, /bigint \(at \$\.a\)/],
    [{ when: new Date(0) }, /Date \(at \$\.when\)/],
  ])('refuses %o', (bad, message) => {
    expect(() => encodeJson(bad as unknown as JsonValue)).toThrow(ConfigError);
    expect(() => encodeJson(bad as unknown as JsonValue)).toThrow(message);
  });
});
