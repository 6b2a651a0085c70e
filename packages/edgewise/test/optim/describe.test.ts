import { expect, test } from 'vitest';
import { adan, clipGlobalNorm, costOf, sgd } from '../../src/optim/index.ts';

test('costs follow the settings', () => {
  expect(costOf(sgd)).toEqual({
    vectors: 0,
    shaped: [],
    evaluations: 1,
    reductions: { model: 0, tensor: 0 },
    stages: 1,
    // Reads θ and g, writes θ.
    bytesPerParameter: 12,
  });
  expect(costOf(sgd, { values: { momentum: 0.9 } })).toMatchObject({ vectors: 1, bytesPerParameter: 20 });
  expect(costOf(adan)).toMatchObject({ vectors: 4, reductions: { model: 0, tensor: 0 }, stages: 1 });
  expect(costOf(adan, { values: { movementBudget: 1 } }).reductions).toEqual({ model: 1, tensor: 0 });
  expect(costOf(clipGlobalNorm(sgd), { values: { clipNorm: 1 } })).toMatchObject({
    reductions: { model: 1, tensor: 0 },
    stages: 2,
  });
});
