import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PantheonError } from '../foundation/errors.ts';
import { DATA_KEY_AGE_MAX_MS, DATA_KEY_SEALS_MAX, SEALS_PER_BLOCK } from './data-keys.ts';
import type { EncryptionContext } from './encryption-context.ts';
import { Envelope, PLAINTEXT_BYTES_MAX, SEALED_OVERHEAD_BYTES } from './envelope.ts';
import type { DataKeyRows, KeyEncryption, StoredDataKey } from './key-encryption.ts';
import { LocalKms } from './local-kms.ts';

const START = Date.UTC(2026, 0, 1);
const PLACE: EncryptionContext = {
  table: 'api_key_versions',
  column: 'hash',
  tenantId: 'default',
  rowId: 'key1',
  version: 2,
};
const SECRET = Buffer.from('the plaintext that nobody may see');
const QUARANTINED = { code: 'key_quarantined' };
const OUTAGE = new PantheonError('store_unavailable');

/** The port as its doc comments promise it. */
class MemoryDataKeyRows implements DataKeyRows {
  readonly stored = new Map<string, StoredDataKey>();
  readonly calls: string[] = [];
  outage: PantheonError | null = null;

  async active(tenantId: string): Promise<StoredDataKey | null> {
    this.#called('active');
    return [...this.stored.values()].find((key) => key.tenantId === tenantId && key.retiredAt === null) ?? null;
  }

  async byId(id: string): Promise<StoredDataKey | null> {
    this.#called('byId');
    return this.stored.get(id) ?? null;
  }

  async add(key: StoredDataKey, replaces: string | null): Promise<StoredDataKey> {
    this.#called('add');
    for (const other of this.stored.values()) {
      if (other.tenantId !== key.tenantId || other.retiredAt !== null) continue;
      if (other.id !== replaces) return other;
      this.stored.set(other.id, { ...other, retiredAt: key.createdAt });
    }
    this.stored.set(key.id, key);
    return key;
  }

  async takeSeals(id: string, count: number): Promise<number> {
    this.#called('takeSeals');
    const seals = this.one(id).seals + count;
    this.change(id, { seals });
    return seals;
  }

  one(id: string): StoredDataKey {
    const key = this.stored.get(id);
    if (key === undefined) throw new Error(`no data key ${id}`);
    return key;
  }

  change(id: string, change: Partial<StoredDataKey>): void {
    this.stored.set(id, { ...this.one(id), ...change });
  }

  callsOf(name: string): number {
    return this.calls.filter((call) => call === name).length;
  }

  #called(name: string): void {
    this.calls.push(name);
    if (this.outage !== null) throw this.outage;
  }
}

class TestClock {
  at: number = START;
  now(): number {
    return this.at;
  }
  monotonicMs(): number {
    return this.at;
  }
}

function setUp(kms: KeyEncryption = new LocalKms(randomBytes(32))) {
  const rows = new MemoryDataKeyRows();
  const clock = new TestClock();
  const node = (): Envelope => new Envelope({ kms, rows, clock });
  return { kms, rows, clock, node, envelope: node() };
}

const dataKeyIdOf = (sealed: Uint8Array): string => Buffer.from(sealed).toString('latin1', 1, 17);

describe('a sealed value', () => {
  test('is decrypted for the row and column it was sealed for, on every node, whatever it contains', async () => {
    const { envelope, node } = setUp();
    const property = fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.string(), async (plaintext, rowId) => {
      const context = { ...PLACE, rowId };
      const sealed = await envelope.seal(context, plaintext);
      expect(sealed).toHaveLength(plaintext.length + SEALED_OVERHEAD_BYTES);
      expect(await envelope.open(context, sealed)).toEqual(Buffer.from(plaintext));
      expect(await node().open(context, sealed)).toEqual(Buffer.from(plaintext));
    });
    await fc.assert(property, { numRuns: 50 });
  });

  test('has the documented format: version, data key id, IV, ciphertext, tag', async () => {
    const { envelope, rows } = setUp();
    const sealed = await envelope.seal(PLACE, SECRET);
    expect(sealed[0]).toBe(1);
    expect([...rows.stored.keys()]).toEqual([dataKeyIdOf(sealed)]);
    expect(sealed.length).toBe(1 + 16 + 12 + SECRET.length + 16);
  });

  test('is decrypted from a view into a larger buffer, as a driver may return it', async () => {
    const { envelope } = setUp();
    const sealed = await envelope.seal(PLACE, SECRET);
    const larger = Buffer.concat([randomBytes(7), sealed, randomBytes(5)]);
    const view = new Uint8Array(larger.buffer, larger.byteOffset + 7, sealed.length);
    expect(await envelope.open(PLACE, view)).toEqual(SECRET);
  });

  test.each<[string, Partial<EncryptionContext>]>([
    ['table', { table: 'signing_keys' }],
    ['column', { column: 'metadata' }],
    ['tenant', { tenantId: 'other' }],
    ['row', { rowId: 'key2' }],
    ['version', { version: 1 }],
    ['split of the same characters', { table: 'api_key_versionsh', column: 'ash' }],
  ])('is not decrypted for another %s', async (_name, change) => {
    const { envelope } = setUp();
    await envelope.seal({ ...PLACE, ...change }, SECRET); // The other place has a data key of its own tenant.
    const sealed = await envelope.seal(PLACE, SECRET);
    await expect(envelope.open({ ...PLACE, ...change }, sealed)).rejects.toMatchObject(QUARANTINED);
  });

  test('is not decrypted after any byte was changed to any other value, or removed, or added', async () => {
    const { envelope } = setUp();
    const sealed = Buffer.from(await envelope.seal(PLACE, SECRET.subarray(0, 8)));
    const opened: string[] = [];
    for (let at = 0; at < sealed.length; at += 1) {
      for (let flip = 1; flip < 256; flip += 1) {
        const changed = Buffer.from(sealed);
        changed.writeUInt8(changed.readUInt8(at) ^ flip, at);
        const error = await envelope.open(PLACE, changed).catch((failure: unknown) => failure);
        if (!(error instanceof PantheonError && error.code === 'key_quarantined')) opened.push(`${at} ^ ${flip}`);
      }
      await expect(envelope.open(PLACE, sealed.subarray(0, at)), `cut to ${at}`).rejects.toMatchObject(QUARANTINED);
    }
    expect(opened).toEqual([]);
    await expect(envelope.open(PLACE, Buffer.concat([sealed, Buffer.of(0)]))).rejects.toMatchObject(QUARANTINED);
  });

  test('is not decrypted with another data key, even one of the same tenant', async () => {
    const { envelope, clock } = setUp();
    const older = Buffer.from(await envelope.seal(PLACE, SECRET));
    clock.at += DATA_KEY_AGE_MAX_MS;
    const newer = Buffer.from(await envelope.seal(PLACE, SECRET));
    expect(dataKeyIdOf(newer)).not.toBe(dataKeyIdOf(older));
    newer.copy(older, 1, 1, 17);
    await expect(envelope.open(PLACE, older)).rejects.toMatchObject(QUARANTINED);
  });

  test('is never decrypted with a data key of another tenant, whatever the rows say', async () => {
    const { envelope, rows, node } = setUp();
    const sealed = await envelope.seal(PLACE, SECRET);
    const open = (): Promise<Buffer> => node().open({ ...PLACE, tenantId: 'other' }, sealed);
    await expect(open()).rejects.toThrow('its data key is of another tenant');
    rows.change(dataKeyIdOf(sealed), { tenantId: 'other' });
    await expect(open()).rejects.toThrow('its data key cannot be opened');
  });

  test('costs no I/O if its format is wrong', async () => {
    const { envelope, rows } = setUp();
    await expect(envelope.open(PLACE, randomBytes(SEALED_OVERHEAD_BYTES - 1))).rejects.toMatchObject(QUARANTINED);
    await expect(envelope.open(PLACE, Buffer.alloc(100, 1))).rejects.toMatchObject(QUARANTINED);
    expect(rows.calls).toEqual([]);
  });

  test('differs each time, and no IV occurs twice in 100 000 seals', async () => {
    const { envelope } = setUp();
    const ivs = new Set<string>();
    for (let run = 0; run < 100_000; run += 1) {
      ivs.add(Buffer.from(await envelope.seal(PLACE, SECRET)).toString('latin1', 17, 29));
    }
    expect(ivs.size).toBe(100_000);
  });

  test('is bounded', async () => {
    const { envelope } = setUp();
    await expect(envelope.seal(PLACE, Buffer.alloc(PLAINTEXT_BYTES_MAX + 1))).rejects.toThrow('Invariant broken');
    await expect(envelope.seal(PLACE, Buffer.alloc(PLAINTEXT_BYTES_MAX))).resolves.toBeDefined();
  });
});

describe('a value that cannot be decrypted', () => {
  test('is quarantined with its public names, and neither plaintext nor key is in the error', async () => {
    const { envelope, rows } = setUp();
    const sealed = Buffer.from(await envelope.seal(PLACE, SECRET));
    sealed.writeUInt8(sealed.readUInt8(40) ^ 1, 40);
    const error = await envelope.open(PLACE, sealed).catch((failure: unknown) => failure);
    expect(error).toMatchObject({
      ...QUARANTINED,
      detail: expect.stringContaining('api_key_versions.hash of row key1'),
    });
    expect(error).toHaveProperty('cause');
    const shown = inspect([error, envelope], { depth: 9, showHidden: true });
    for (const hidden of [SECRET, sealed, rows.one(dataKeyIdOf(sealed)).wrapped]) {
      for (const encoding of ['latin1', 'hex', 'base64'] as const) {
        expect(shown).not.toContain(Buffer.from(hidden).toString(encoding));
      }
    }
  });

  test('is not confused with an outage of the store, whose error is passed on', async () => {
    const { rows, node, envelope } = setUp();
    const sealed = await envelope.seal(PLACE, SECRET);
    rows.outage = OUTAGE;
    await expect(node().open(PLACE, sealed)).rejects.toBe(OUTAGE);
    await expect(node().seal(PLACE, SECRET)).rejects.toBe(OUTAGE);
    rows.outage = null;
    expect(await node().open(PLACE, sealed)).toEqual(SECRET);
  });

  test('an outage of the KMS is passed on, and the next attempt asks again', async () => {
    const local = new LocalKms(randomBytes(32));
    let isAway = true;
    const unreachable = (): Promise<never> => Promise.reject(OUTAGE);
    const kms: KeyEncryption = {
      wrap: (key, context) => (isAway ? unreachable() : local.wrap(key, context)),
      unwrap: (wrapped, context) => (isAway ? unreachable() : local.unwrap(wrapped, context)),
    };
    const { envelope, node } = setUp(kms);
    await expect(envelope.seal(PLACE, SECRET)).rejects.toBe(OUTAGE);
    isAway = false;
    const sealed = await envelope.seal(PLACE, SECRET);
    isAway = true;
    const cold = node();
    await expect(cold.open(PLACE, sealed)).rejects.toBe(OUTAGE);
    expect(await envelope.open(PLACE, sealed)).toEqual(SECRET); // Its data key is open already.
    isAway = false;
    expect(await cold.open(PLACE, sealed)).toEqual(SECRET);
  });

  test('a damaged data key quarantines what it sealed, with the cause kept, and other tenants are not affected', async () => {
    const { rows, node, envelope } = setUp();
    const sealed = await envelope.seal(PLACE, SECRET);
    const context = { ...PLACE, tenantId: 'other' };
    const elsewhere = await envelope.seal(context, SECRET);
    rows.change(dataKeyIdOf(sealed), { wrapped: randomBytes(61) });
    const expected = { ...QUARANTINED, cause: { code: 'master_key_mismatch' } };
    const cold = node();
    await expect(cold.open(PLACE, sealed)).rejects.toMatchObject(expected);
    await expect(cold.seal(PLACE, SECRET)).rejects.toMatchObject(expected);
    expect(await cold.open(context, elsewhere)).toEqual(SECRET);
  });

  test('a missing data key quarantines what it sealed', async () => {
    const { rows, node, envelope } = setUp();
    const sealed = await envelope.seal(PLACE, SECRET);
    rows.stored.clear();
    await expect(node().open(PLACE, sealed)).rejects.toThrow('its data key does not exist');
  });

  test('a KMS that unwraps to a wrong length is not used', async () => {
    const kms: KeyEncryption = { wrap: async (key) => Buffer.from(key), unwrap: async () => randomBytes(16) };
    const { envelope, node } = setUp(kms);
    const sealed = await envelope.seal(PLACE, SECRET);
    await expect(node().open(PLACE, sealed)).rejects.toMatchObject(QUARANTINED);
  });
});

describe('a data key', () => {
  test('is created on first use, one per tenant, and decrypted once', async () => {
    const { envelope, rows, node } = setUp();
    const sealed = await Promise.all(Array.from({ length: 50 }, () => envelope.seal(PLACE, SECRET)));
    await envelope.seal({ ...PLACE, tenantId: 'other' }, SECRET);
    expect(new Set(sealed.map(dataKeyIdOf)).size).toBe(1);
    expect(rows.stored.size).toBe(2);
    const cold = node();
    rows.calls.length = 0;
    await Promise.all(sealed.map((value) => cold.open(PLACE, value)));
    expect(rows.calls).toEqual(['byId']);
  });

  test('is created once by two nodes: both seal with the one that was stored first', async () => {
    const { node, rows } = setUp();
    const [one, other] = [node(), node()];
    const [mine, theirs] = await Promise.all([one.seal(PLACE, SECRET), other.seal(PLACE, SECRET)]);
    expect(rows.callsOf('add')).toBe(2);
    expect(rows.stored.size).toBe(1);
    expect(dataKeyIdOf(mine)).toBe(dataKeyIdOf(theirs));
    expect(await other.open(PLACE, mine)).toEqual(SECRET);
    expect(await one.open(PLACE, theirs)).toEqual(SECRET);
  });

  test('is replaced after 90 days and not before, and still decrypts what it sealed', async () => {
    const { envelope, clock, rows, node } = setUp();
    const first = await envelope.seal(PLACE, SECRET);
    clock.at += DATA_KEY_AGE_MAX_MS - 1;
    expect(dataKeyIdOf(await envelope.seal(PLACE, SECRET))).toBe(dataKeyIdOf(first));
    expect(dataKeyIdOf(await node().seal(PLACE, SECRET))).toBe(dataKeyIdOf(first));
    clock.at += 1;
    const second = await envelope.seal(PLACE, SECRET);
    expect(dataKeyIdOf(second)).not.toBe(dataKeyIdOf(first));
    expect(rows.one(dataKeyIdOf(first)).retiredAt).toBe(clock.at);
    expect(await node().open(PLACE, first)).toEqual(SECRET);
  });

  test('counts each of its 2²⁸ seals once: a block beyond the limit comes from a new data key', async () => {
    const { envelope, rows, node } = setUp();
    const first = dataKeyIdOf(await envelope.seal(PLACE, SECRET));
    rows.change(first, { seals: DATA_KEY_SEALS_MAX - SEALS_PER_BLOCK });
    expect(dataKeyIdOf(await node().seal(PLACE, SECRET))).toBe(first);
    expect(rows.one(first).seals).toBe(DATA_KEY_SEALS_MAX);
    expect(dataKeyIdOf(await node().seal(PLACE, SECRET))).not.toBe(first);
    expect(rows.one(first).seals).toBe(DATA_KEY_SEALS_MAX);
  });

  test('is replaced when another node took its last block in between', async () => {
    const { envelope, rows, node } = setUp();
    const first = dataKeyIdOf(await envelope.seal(PLACE, SECRET));
    rows.change(first, { seals: DATA_KEY_SEALS_MAX - SEALS_PER_BLOCK });
    const [one, other] = await Promise.all([node().seal(PLACE, SECRET), node().seal(PLACE, SECRET)]);
    expect([one, other].filter((sealed) => dataKeyIdOf(sealed) === first)).toHaveLength(1);
    expect(rows.stored.size).toBe(2);
  });

  test('never seals more often than was stored beforehand', async () => {
    const { envelope, rows } = setUp();
    let used = 0;
    for (let run = 0; run < 3; run += 1) {
      const sealed = await Promise.all(Array.from({ length: 3_000 }, () => envelope.seal(PLACE, SECRET)));
      used += sealed.length;
      expect(rows.one(dataKeyIdOf(sealed[0] ?? Buffer.of())).seals).toBe(
        Math.ceil(used / SEALS_PER_BLOCK) * SEALS_PER_BLOCK,
      );
    }
    expect(rows.callsOf('takeSeals')).toBe(3);
  });

  test('is not used if its seals cannot be reserved', async () => {
    const { envelope, rows, node } = setUp();
    await envelope.seal(PLACE, SECRET);
    const cold = node();
    rows.takeSeals = () => Promise.reject(OUTAGE);
    await expect(cold.seal(PLACE, SECRET)).rejects.toBe(OUTAGE);
  });

  test('of another tenant never seals, whether it is in memory or not', async () => {
    const { rows, node } = setUp();
    const warm = node();
    const sealed = await warm.seal(PLACE, SECRET);
    rows.active = async () => rows.one(dataKeyIdOf(sealed));
    const context = { ...PLACE, tenantId: 'other' };
    await expect(warm.seal(context, SECRET)).rejects.toMatchObject(QUARANTINED);
    await expect(node().seal(context, SECRET)).rejects.toMatchObject(QUARANTINED);
  });

  test('whose rows never allow a seal is reported and not retried for ever', async () => {
    const { envelope, rows } = setUp();
    rows.takeSeals = async () => DATA_KEY_SEALS_MAX + 1;
    await expect(envelope.seal(PLACE, SECRET)).rejects.toMatchObject({ code: 'store_unavailable' });
    expect(rows.callsOf('add')).toBeLessThan(10);
  });
});
