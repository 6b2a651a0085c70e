import { expect, it } from 'vitest';
import { MemoryRunStore } from '../../src/train/store.ts';
import { bytes, runStoreSuite, text } from './store-suite.ts';

runStoreSuite('memory', async () => new MemoryRunStore());

it('a memory store keeps nothing of the buffers it is given or gives', async () => {
  const store = new MemoryRunStore();
  const content = bytes('abc');
  await store.writeAtomic('a', content);
  await store.append('b', 0, content);
  content.fill(0);
  (await store.read('a')).fill(0);
  expect(text(await store.read('a'))).toBe('abc');
  expect(text(await store.read('b'))).toBe('abc');
});
