import { expect, test } from 'vitest';
import { openScratchService } from '../../../test/scratch-service.ts';

test('a holder that rotates its key too often gets 429 with the time to wait, and its key stays valid', async () => {
  const service = await openScratchService({ SELF_ROTATIONS_PER_HOUR: '1' });
  try {
    let { key } = await service.create({ rotation: { overlap: 0 } });
    const first = await service.call('POST', '/v1/self/rotate', { key, body: {} });
    expect(first.status).toBe(201);
    key = String(first.body['key']);
    const refused = await service.call('POST', '/v1/self/rotate', { key, body: {} });
    expect(refused).toMatchObject({ status: 429, body: { code: 'rate_limited' } });
    expect(Number(refused.headers['retry-after'])).toBeGreaterThanOrEqual(3_590);
    expect(await service.call('GET', '/v1/self', { key })).toMatchObject({ status: 200 });
  } finally {
    await service.close();
  }
});
