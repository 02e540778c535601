import { expect, test } from 'vitest';
import { openScratchService } from '../../test/scratch-service.ts';

test('an invalid address from a trusted proxy gives an unknown address, and never that of the proxy', async () => {
  const service = await openScratchService({ TRUSTED_PROXIES: '127.0.0.1' });
  try {
    const { key } = await service.create({ ipAllowlist: ['127.0.0.0/8', '198.51.100.7'] });
    const from = async (forwarded: string) =>
      (await service.call('GET', '/v1/self', { key, headers: { 'x-forwarded-for': forwarded } })).status;
    for (const odd of ['203.0.113.9', '203.0.113.9:4444', '[2001:db8::1]:5', 'unknown', '_hidden', 'x'.repeat(50)])
      expect([odd, await from(odd)]).toEqual([odd, 403]);
    for (const allowed of ['198.51.100.7', '198.51.100.7:4444']) expect(await from(allowed)).toBe(200);
  } finally {
    await service.close();
  }
});
