/** A disk without room, as a real file system of 24 MB: what can still be done, and what comes back by itself. */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, test, vi } from 'vitest';
import type { CreatedKey } from '../src/api-keys/key-manager.ts';
import { createPantheonAuth, type PantheonAuth } from '../src/pantheon-auth.ts';
import { RESERVE_BYTES } from '../src/storage/sqlite/disk-reserve.ts';
import { refusalOf } from './refusal-of.ts';
import { ISSUER } from './test-engine.ts';

const INPUT = { userId: 'u', name: 'n', permissions: ['docs:read'], ipAllowlist: ['192.0.2.0/24'] };
const DISK_BYTES = 24 * 1_024 * 1_024;

/** A file system of its own, or null where this user may not make one. */
function mountDisk(bytes = DISK_BYTES): (Disposable & { readonly path: string }) | null {
  const path = mkdtempSync(join(tmpdir(), 'pantheon-auth-disk-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', path]);
  if (mounted.status !== 0) {
    rmSync(path, { recursive: true, force: true });
    return null;
  }
  return {
    path,
    [Symbol.dispose]() {
      spawnSync('umount', ['-l', path]);
      rmSync(path, { recursive: true, force: true });
    },
  };
}

const probe = mountDisk();
probe?.[Symbol.dispose]();
const isSkipped = probe === null;
const REASON = isSkipped ? ' (skipped: only root may mount a file system)' : '';

/** Takes every byte that is left, as a log that grows does. */
function fillUp(folder: string): void {
  const file = openSync(join(folder, 'filler'), 'a');
  try {
    for (let bytes = 1_024 * 1_024; bytes >= 1; bytes = Math.floor(bytes / 2)) {
      try {
        for (;;) if (writeSync(file, Buffer.alloc(bytes)) < bytes) break;
      } catch {
        // Smaller pieces may still fit.
      }
    }
  } finally {
    closeSync(file);
  }
}

const reserveOf = (folder: string): number => {
  const path = join(folder, 'pantheon-auth.db-reserve');
  return existsSync(path) ? statSync(path).size : 0;
};

async function open(dataDir: string): Promise<PantheonAuth> {
  return createPantheonAuth({ dataDir, issuer: ISSUER });
}

async function whole(dataDir: string): Promise<void> {
  await vi.waitFor(() => expect(reserveOf(dataDir)).toBe(RESERVE_BYTES), { timeout: 20_000, interval: 50 });
}

test.skipIf(isSkipped)(
  `on a full disk a leaked key can be revoked, and nothing else can be written${REASON}`,
  async () => {
    using disk = mountDisk() as Disposable & { readonly path: string };
    const auth = await open(disk.path);
    try {
      await auth.tenants.create({ id: 'acme' });
      const ip = '192.0.2.1';
      const make = (): Promise<CreatedKey> => auth.keys.create(INPUT);
      const [leaked, suspended, rotated, sound] = [await make(), await make(), await make(), await make()];
      const others = await Promise.all(Array.from({ length: 60 }, make));
      const ofTenant = await auth.tenant('acme').keys.create(INPUT);
      await auth.rotation.rotate(rotated.apiKey.id, { overlap: '1h' });
      const [signingKey] = auth.tokens.jwks().keys;
      const { kid } = await auth.tokens.rotateSigningKey('ES256');
      await whole(disk.path);
      fillUp(disk.path);

      // Until something protective needs the room it is kept: what is ordinary finds the disk full.
      let refused = null as unknown;
      for (let n = 0; n < 1_000 && refused === null; n += 1) {
        fillUp(disk.path);
        refused = await auth.keys.create(INPUT).then(
          () => null,
          (error: unknown) => error,
        );
      }
      expect(refused).toMatchObject({ code: 'store_full' });
      expect(reserveOf(disk.path)).toBe(RESERVE_BYTES);

      await auth.keys.revoke(leaked.apiKey.id, { reason: 'leaked' });
      expect(await auth.verify({ key: leaked.key, ip })).toMatchObject({ valid: false, denial: { code: 'revoked' } });
      await auth.keys.suspend(suspended.apiKey.id);
      await auth.rotation.retire(rotated.apiKey.id, 1);
      await auth.tenants.suspend('acme');
      await auth.tokens.retireSigningKey(String(signingKey?.['kid']));
      expect(await auth.verify({ key: suspended.key, ip })).toMatchObject({ denial: { code: 'suspended' } });
      expect(await auth.verify({ key: rotated.key, ip })).toMatchObject({ denial: { code: 'version_retired' } });
      expect(await auth.verify({ key: ofTenant.key, ip })).toMatchObject({ valid: false });
      expect(auth.tokens.jwks().keys.map((one) => one['kid'])).toContain(kid);
      expect(await auth.verify({ key: sound.key, ip })).toMatchObject({ valid: true });

      // Hundreds, not only the first; and between them what is less urgent gets none of the room.
      for (const { apiKey } of others) {
        await auth.keys.revoke(apiKey.id);
        expect((await refusalOf(auth.keys.create(INPUT))).code).toBe('store_full');
      }

      // Room again: by itself everything is as before.
      rmSync(join(disk.path, 'filler'));
      await whole(disk.path);
      expect(await auth.keys.create(INPUT)).toMatchObject({ apiKey: { state: 'active' } });
      expect(await auth.verify({ key: leaked.key, ip })).toMatchObject({ valid: false, denial: { code: 'revoked' } });
    } finally {
      await auth.close();
    }
  },
);

test.skipIf(isSkipped)(
  `an engine that starts on a full disk can revoke, with the reserved space${REASON}`,
  async () => {
    using disk = mountDisk() as Disposable & { readonly path: string };
    const first = await open(disk.path);
    const { apiKey, key } = await first.keys.create(INPUT);
    await whole(disk.path);
    await first.close();
    fillUp(disk.path);
    const auth = await open(disk.path);
    try {
      await auth.keys.revoke(apiKey.id);
      expect(await auth.verify({ key, ip: '192.0.2.1' })).toMatchObject({ denial: { code: 'revoked' } });
    } finally {
      await auth.close();
    }
    // What was revoked is durable: it lies in the file, or in the WAL beside it.
    const again = await open(disk.path);
    expect(await again.verify({ key, ip: '192.0.2.1' })).toMatchObject({ denial: { code: 'revoked' } });
    await again.close();
  },
);

test.skipIf(isSkipped)(`the WAL does not use up the space that is reserved for revocations${REASON}`, async () => {
  using disk = mountDisk() as Disposable & { readonly path: string };
  const auth = await open(disk.path);
  const file = join(disk.path, 'pantheon-auth.db');
  try {
    const made: CreatedKey[] = [];
    for (let n = 0; n < 250; n += 1) made.push(await auth.keys.create(INPUT));
    await whole(disk.path);
    using other = new DatabaseSync(file);
    other.exec('pragma busy_timeout = 5000');
    expect(other.prepare('pragma wal_checkpoint(truncate)').get()).toMatchObject({ busy: 0 });
    fillUp(disk.path);
    for (const { apiKey } of made) await auth.keys.revoke(apiKey.id);
    expect(statSync(`${file}-wal`).size).toBeLessThan(RESERVE_BYTES / 2);
    expect((await refusalOf(auth.keys.create(INPUT))).code).toBe('store_full');
  } finally {
    await auth.close();
  }
});

test.skipIf(isSkipped)(`space that another process has released can be used by this one too${REASON}`, async () => {
  using disk = mountDisk() as Disposable & { readonly path: string };
  const [one, other] = [await open(disk.path), await open(disk.path)];
  try {
    const { apiKey } = await one.keys.create(INPUT);
    await whole(disk.path);
    fillUp(disk.path);
    for (let n = 0; n < 1_000; n += 1) {
      fillUp(disk.path);
      if ((await other.keys.create(INPUT).catch(() => null)) === null) break;
    }
    await one.keys.revoke(apiKey.id);
    expect(reserveOf(disk.path)).toBeLessThan(RESERVE_BYTES);
    await vi.waitFor(async () =>
      expect((await refusalOf(other.keys.create(INPUT))).message).toMatch(/kept for revocations/),
    );
  } finally {
    await one.close();
    await other.close();
  }
});

test.skipIf(isSkipped)(
  `one tenant does not use up the space that is reserved for the revocations of all${REASON}`,
  async () => {
    using disk = mountDisk(2 * DISK_BYTES) as Disposable & { readonly path: string };
    const auth = await open(disk.path);
    try {
      await auth.tenants.create({ id: 'acme' });
      const leaked = await auth.tenant('acme').keys.create(INPUT);
      const made: CreatedKey[] = [];
      while (made.length < 1_200)
        made.push(...(await Promise.all(Array.from({ length: 100 }, () => auth.keys.create(INPUT)))));
      await whole(disk.path);
      fillUp(disk.path);
      const reason = 'x'.repeat(256);
      const until = async (change: (id: string) => Promise<unknown>): Promise<number> => {
        for (const [at, { apiKey }] of made.entries()) {
          if ((await change(apiKey.id).catch((error: unknown) => error)) instanceof Error) return at;
        }
        return made.length;
      };
      const suspended = await until((id) => auth.keys.suspend(id, { reason }));
      expect(suspended).toBeGreaterThan(100);
      expect(suspended).toBeLessThan(made.length);
      const refused = await refusalOf(auth.keys.suspend(String(made.at(-1)?.apiKey.id)));
      expect(refused).toMatchObject({ code: 'store_full', detail: expect.stringContaining('other tenants') });
      // Ending keys goes on, in its bounds; and the other tenant, and the operator, find room after all of it.
      const revoked = await until((id) => auth.keys.revoke(id, { reason }));
      expect(revoked).toBeGreaterThan(100);
      await auth.tenant('acme').keys.revoke(leaked.apiKey.id);
      expect(await auth.verify({ key: leaked.key, tenant: 'acme' })).toMatchObject({ denial: { code: 'revoked' } });
      await auth.tenants.suspend('default');
      expect(await auth.verify({ key: String(made.at(-1)?.key), ip: '192.0.2.1' })).toMatchObject({ valid: false });
    } finally {
      await auth.close();
    }
  },
);
