/**
 * What errors say beside their sentence: where they came from, and what JavaScript does with a tensor elsewhere.
 */
import test from 'ava';

import { TensorError, indexSelect, synchronize, tensor } from '../../src/index.js';

/** An op whose error depends on the data. */
const beyond = (): ReturnType<typeof tensor> =>
  indexSelect(tensor([1, 2]), 0, tensor([5], { dtype: 'int64' }));

test.serial('an error of a value that is awaited has the stack of whoever awaits it', async (t) => {
  const reads: Readonly<Record<string, () => Promise<unknown>>> = {
    async waitsForItem() {
      return await beyond().item();
    },
    async waitsForData() {
      return await beyond().to('bfloat16').data();
    },
    async waitsForArray() {
      return await beyond().toArray();
    },
    async waitsForDevice() {
      beyond();
      await synchronize();
    },
  };
  for (const [name, read] of Object.entries(reads)) {
    const error = await t.throwsAsync(read, { instanceOf: TensorError });
    t.regex(error.stack ?? '', new RegExp(`^TensorError: indexSelect: .*\\n[^]* at async .*${name} `));
  }
});
