import {
  createHmac,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  type JsonWebKeyInput,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';
import { createRequire } from 'node:module';
import fc from 'fast-check';
import { createSigner, createVerifier } from 'fast-jwt';
import { CompactSign, compactVerify } from 'jose';
import { describe, expect, test } from 'vitest';
import type { SigningAlgorithm } from '../domain/claims.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { type ParsedJws, parseJws, signJws, type VerificationKey, verifyJws } from './jws.ts';

/** It has no types of its own. */
const jsonwebtoken = createRequire(import.meta.url)('jsonwebtoken') as {
  sign(payload: object, key: unknown, options: object): string;
  verify(token: string, key: unknown, options: object): unknown;
};

interface Pair {
  readonly alg: SigningAlgorithm;
  readonly signing: KeyObject | Buffer;
  readonly verification: VerificationKey;
}

const secret = randomBytes(32);
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = generateKeyPairSync('ed25519');
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const hs256: Pair = {
  alg: 'HS256',
  signing: secret,
  verification: { algorithm: 'HS256', key: createSecretKey(secret) },
};
const es256: Pair = { alg: 'ES256', signing: ec.privateKey, verification: { algorithm: 'ES256', key: ec.publicKey } };
const ed25519: Pair = {
  alg: 'Ed25519',
  signing: ed.privateKey,
  verification: { algorithm: 'Ed25519', key: ed.publicKey },
};
const rs256: Pair = { alg: 'RS256', signing: rsa.privateKey, verification: { algorithm: 'RS256', key: rsa.publicKey } };
const PAIRS = [hs256, es256, ed25519, rs256];

const KID = 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs';
const header = (alg: SigningAlgorithm) => ({ alg, kid: KID, typ: 'at+jwt' });
const PAYLOAD: JsonObject = {
  iss: 'https://auth.example',
  sub: 'ü😀',
  aud: ['a', 'b'],
  exp: 4_000_000_000,
  n: { deep: [1, null, true] },
};
const signed = (pair: Pair, payload: JsonObject = PAYLOAD) =>
  signJws({ header: header(pair.alg), payload, key: pair.signing });
const accepts = (token: string, key: VerificationKey): boolean => {
  const parsed = parseJws(token);
  return parsed !== null && verifyJws(parsed, key);
};
const base64url = (value: string | Uint8Array) => Buffer.from(value as string).toString('base64url');
describe('tokens that this service signs are verified by other libraries', () => {
  test.each(PAIRS)('$alg: a signed token is parsed to the same content', (pair) => {
    const parsed = parseJws(signed(pair));
    expect(parsed).toMatchObject({ header: header(pair.alg), payload: PAYLOAD });
    expect(parsed !== null && verifyJws(parsed, pair.verification)).toBe(true);
  });

  test.each(PAIRS)('$alg: jose verifies ours and we verify what jose signs', async (pair) => {
    const verified = await compactVerify(signed(pair), pair.verification.key);
    expect(JSON.parse(new TextDecoder().decode(verified.payload))).toEqual(PAYLOAD);
    expect(verified.protectedHeader).toEqual(header(pair.alg));
    const key = Buffer.isBuffer(pair.signing) ? createSecretKey(pair.signing) : pair.signing;
    const theirs = await new CompactSign(Buffer.from(JSON.stringify(PAYLOAD)))
      .setProtectedHeader(header(pair.alg))
      .sign(key);
    expect(parseJws(theirs)?.payload).toEqual(PAYLOAD);
    expect(accepts(theirs, pair.verification)).toBe(true);
  });

  test.each([hs256, es256, rs256])('$alg: jsonwebtoken verifies ours and we verify what it signs', (pair) => {
    expect(jsonwebtoken.verify(signed(pair), pair.verification.key, { algorithms: [pair.alg] })).toEqual(PAYLOAD);
    const theirs = jsonwebtoken.sign(PAYLOAD, pair.signing, {
      algorithm: pair.alg,
      header: header(pair.alg),
      noTimestamp: true,
    });
    expect(parseJws(theirs)?.payload).toEqual(PAYLOAD);
    expect(accepts(theirs, pair.verification)).toBe(true);
  });

  test.each([hs256, es256, rs256])('$alg: fast-jwt verifies ours and we verify what it signs', (pair) => {
    const pem = (key: KeyObject | Buffer, type: 'spki' | 'pkcs8') =>
      Buffer.isBuffer(key) ? key : key.type === 'secret' ? key.export() : key.export({ type, format: 'pem' });
    const alg = pair.alg as 'HS256';
    const verify = createVerifier({ key: pem(pair.verification.key, 'spki'), algorithms: [alg] });
    expect(verify(signed(pair))).toEqual(PAYLOAD);
    const key = pem(pair.signing, 'pkcs8');
    const theirs: unknown = createSigner({ key, algorithm: alg, header: header(alg), noTimestamp: true })({
      ...PAYLOAD,
    });
    expect(accepts(String(theirs), pair.verification)).toBe(true);
  });

  test('any JSON payload is signed and parsed unchanged', () => {
    const payload = fc.dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue({ maxDepth: 5 }), {
      noNullPrototype: true,
    });
    fc.assert(
      fc.property(payload, (value) => {
        const text = JSON.stringify(value);
        fc.pre(text.length < 5000 && text.isWellFormed() && !/\\ud|__proto__|constructor|prototype/.test(text));
        expect(parseJws(signed(hs256, value as JsonObject))?.payload).toEqual(JSON.parse(text));
      }),
    );
  });
});

describe('published vectors', () => {
  const PAYLOAD_A = 'eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ';
  const jwk = (key: JsonWebKeyInput['key']) => createPublicKey({ key, format: 'jwk' });
  const VECTORS: readonly { name: string; key: VerificationKey; input: string; signature: string }[] = [
    {
      name: 'RFC 7515 A.1 (HS256)',
      key: {
        algorithm: 'HS256',
        key: createSecretKey(
          'AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow',
          'base64url',
        ),
      },
      input: `eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.${PAYLOAD_A}`,
      signature: 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
    },
    {
      name: 'RFC 7515 A.2 (RS256)',
      key: {
        algorithm: 'RS256',
        key: jwk({
          kty: 'RSA',
          n: 'ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ',
          e: 'AQAB',
        }),
      },
      input: `eyJhbGciOiJSUzI1NiJ9.${PAYLOAD_A}`,
      signature:
        'cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw',
    },
    {
      name: 'RFC 7515 A.3 (ES256)',
      key: {
        algorithm: 'ES256',
        key: jwk({
          kty: 'EC',
          crv: 'P-256',
          x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
          y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
        }),
      },
      input: `eyJhbGciOiJFUzI1NiJ9.${PAYLOAD_A}`,
      signature: 'DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q',
    },
    {
      name: 'RFC 8037 A.4 (Ed25519)',
      key: {
        algorithm: 'Ed25519',
        key: jwk({ kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' }),
      },
      input: 'eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc',
      signature: 'hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg',
    },
  ];

  test.each(VECTORS)('the signature of $name verifies, and none with one bit less', ({ key, input, signature }) => {
    const vector = (signingInput: string, bytes: Buffer): ParsedJws => ({
      header: header(key.algorithm),
      payload: {},
      signingInput: Buffer.from(signingInput),
      signature: bytes,
    });
    const bytes = Buffer.from(signature, 'base64url');
    expect(verifyJws(vector(input, bytes), key)).toBe(true);
    expect(verifyJws(vector(`${input}A`, bytes), key)).toBe(false);
    const flipped = Buffer.from(bytes);
    flipped[7] = (flipped[7] ?? 0) ^ 1;
    expect(verifyJws(vector(input, flipped), key)).toBe(false);
  });

  test.each(VECTORS)('the token of $name itself is refused: it has no kid', ({ input, signature }) => {
    expect(parseJws(`${input}.${signature}`)).toBeNull();
  });
});

describe('a changed token is refused', () => {
  test.each(PAIRS)('$alg: any one flipped bit of the text', (pair) => {
    const bytes = Buffer.from(signed(pair), 'latin1');
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(7), (at, bit) => {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] ?? 0) ^ (1 << bit);
        expect(accepts(changed.toString('latin1'), pair.verification)).toBe(false);
        expect(accepts(changed.toString('utf8'), pair.verification)).toBe(false);
      }),
      { numRuns: 300 },
    );
  });

  test.each(PAIRS)('$alg: any one bit of the signature, its end and its length', (pair) => {
    const parsed = parseJws(signed(pair)) as ParsedJws;
    fc.assert(
      fc.property(fc.nat(parsed.signature.length * 8 - 1), (bit) => {
        const signature = Buffer.from(parsed.signature);
        signature[bit >> 3] = (signature[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(verifyJws({ ...parsed, signature }, pair.verification)).toBe(false);
      }),
    );
    const lengths = [
      parsed.signature.subarray(0, -1),
      Buffer.concat([parsed.signature, Buffer.of(0)]),
      Buffer.alloc(0),
    ];
    const others = [...lengths, Buffer.concat([Buffer.of(0), parsed.signature]), Buffer.alloc(parsed.signature.length)];
    for (const signature of others) {
      expect(verifyJws({ ...parsed, signature }, pair.verification)).toBe(false);
    }
    const input = signed(pair).split('.').slice(0, 2).join('.');
    for (const signature of pair.alg === 'RS256' ? [Buffer.alloc(255), Buffer.alloc(1025)] : lengths) {
      expect(parseJws(`${input}.${base64url(signature)}`)).toBeNull();
    }
  });

  test('parts of two valid tokens make no third', () => {
    const [first, second] = [signed(es256, { jti: '1' }), signed(es256, { jti: '2' })].map((token) => token.split('.'));
    expect(accepts(`${first?.[0]}.${second?.[1]}.${first?.[2]}`, es256.verification)).toBe(false);
  });

  test('another key of the same kind does not verify', () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
    expect(accepts(signed(es256), { algorithm: 'ES256', key: other })).toBe(false);
    expect(accepts(signed(hs256), { algorithm: 'HS256', key: createSecretKey(randomBytes(32)) })).toBe(false);
  });
});

describe('the key decides the algorithm, never the token', () => {
  test('a token of each algorithm verifies under its own key only', () => {
    for (const token of PAIRS) {
      const verdicts = PAIRS.map((pair) => accepts(signed(token), pair.verification));
      expect(verdicts).toEqual(PAIRS.map((pair) => pair === token));
    }
  });

  test('a key bound to another algorithm than its own verifies nothing', () => {
    for (const pair of PAIRS) {
      for (const other of PAIRS.filter((one) => one !== pair)) {
        expect(accepts(signed(pair), { algorithm: pair.alg, key: other.verification.key })).toBe(false);
      }
    }
  });

  test('the public key as an HMAC secret makes no token, in any of its spellings', () => {
    for (const { verification } of [es256, ed25519, rs256]) {
      const { key } = verification;
      const pem = key.export({ type: 'spki', format: 'pem' }).toString();
      const der = key.export({ type: 'spki', format: 'der' });
      const jwk = key.export({ format: 'jwk' });
      const spellings = [
        pem,
        pem.trim(),
        ` ${pem}`,
        `\n${pem}`,
        pem.replaceAll('\n', '\r\n'),
        der,
        der.toString('base64'),
        JSON.stringify(jwk),
        jwk.x ?? jwk.n ?? '',
      ];
      for (const spelling of spellings) {
        const input = `${base64url(JSON.stringify(header('HS256')))}.${base64url('{"sub":"attacker"}')}`;
        const token = `${input}.${createHmac('sha256', spelling).update(input).digest('base64url')}`;
        expect(parseJws(token)).not.toBeNull();
        expect(accepts(token, verification)).toBe(false);
        expect(accepts(token, { algorithm: 'HS256', key })).toBe(false);
        expect(accepts(token, hs256.verification)).toBe(false);
      }
    }
  });

  test('a weak or foreign key verifies nothing, whatever it is called', () => {
    const weakRsa = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const smallExponent = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 });
    const pss = generateKeyPairSync('rsa-pss', { modulusLength: 2048 });
    const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
    const k256 = generateKeyPairSync('ec', { namedCurve: 'secp256k1' });
    const ed448 = generateKeyPairSync('ed448');
    const keys = [weakRsa, smallExponent, pss, p384, k256, ed448].map((pair) => pair.publicKey);
    for (const key of [...keys, createSecretKey(randomBytes(31)), ec.privateKey, ed.privateKey, rsa.privateKey]) {
      for (const { alg } of PAIRS) {
        const token = parseJws(signed(PAIRS.find((pair) => pair.alg === alg) ?? es256)) as ParsedJws;
        expect(verifyJws(token, { algorithm: alg, key })).toBe(false);
      }
    }
    const input = `${base64url(JSON.stringify(header('RS256')))}.e30`;
    const short = sign('sha256', Buffer.from(input), weakRsa.privateKey);
    expect(parseJws(`${input}.${base64url(short)}`)).toBeNull();
    const forgeable = sign('sha256', Buffer.from(input), smallExponent.privateKey);
    expect(accepts(`${input}.${base64url(forgeable)}`, { algorithm: 'RS256', key: smallExponent.publicKey })).toBe(
      false,
    );
  });

  test('RS256 is PKCS#1 v1.5 only, and its signature as long as the modulus', () => {
    const larger = generateKeyPairSync('rsa', { modulusLength: 3072 });
    const token = parseJws(signed(rs256)) as ParsedJws;
    expect(verifyJws(token, { algorithm: 'RS256', key: larger.publicKey })).toBe(false);
    const padded = Buffer.concat([Buffer.alloc(128), token.signature]);
    expect(verifyJws({ ...token, signature: padded }, rs256.verification)).toBe(false);
    const pss = sign('sha256', token.signingInput, { key: rsa.privateKey, padding: 6, saltLength: 32 });
    expect(verifyJws({ ...token, signature: pss }, rs256.verification)).toBe(false);
  });

  test('ES256 takes r and s in [1, n-1] as 64 bytes, and no DER', () => {
    const token = parseJws(signed(es256)) as ParsedJws;
    const order = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex');
    const [zero, max] = [Buffer.alloc(32), Buffer.alloc(32, 0xff)];
    const [r, s] = [token.signature.subarray(0, 32), token.signature.subarray(32)];
    const junk = [
      [zero, zero],
      [zero, s],
      [r, zero],
      [order, s],
      [r, order],
      [order, order],
      [max, max],
      [s, r],
    ];
    for (const parts of junk) {
      expect(verifyJws({ ...token, signature: Buffer.concat(parts) }, es256.verification)).toBe(false);
    }
    const der = sign('sha256', token.signingInput, ec.privateKey);
    expect(verifyJws({ ...token, signature: der }, es256.verification)).toBe(false);
  });

  test('Ed25519 takes no signature whose S was raised by the order', () => {
    const token = parseJws(signed(ed25519)) as ParsedJws;
    const order = 2n ** 252n + 27742317777372353535851937790883648493n;
    const s = BigInt(`0x${Buffer.from(token.signature.subarray(32)).reverse().toString('hex')}`) + order;
    const raised = Buffer.from(s.toString(16).padStart(64, '0'), 'hex').reverse();
    const signature = Buffer.concat([token.signature.subarray(0, 32), raised]);
    expect(verifyJws({ ...token, signature }, ed25519.verification)).toBe(false);
  });
});

describe('only tokens that this service would accept are signed', () => {
  test('a token that is too long to be accepted is refused with a reason', () => {
    expect(() => signed(hs256, { pad: 'x'.repeat(6100) })).toThrow(
      expect.objectContaining({ code: 'invalid_request' }),
    );
  });

  test.each(['', 'a b', 'a'.repeat(65)])('kid %j', (kid) => {
    expect(() => signJws({ header: { alg: 'HS256', kid, typ: 'x' }, payload: {}, key: secret })).toThrow('Invariant');
  });

  test('HS256 never signs with a secret shorter than its hash', () => {
    for (const length of [0, 1, 16, 31]) {
      const short = Buffer.alloc(length, 7);
      expect(() => signJws({ header: header('HS256'), payload: {}, key: short })).toThrow('32 bytes');
      expect(() => signJws({ header: header('HS256'), payload: {}, key: createSecretKey(short) })).toThrow('32 bytes');
    }
    expect(() => signJws({ header: header('HS256'), payload: {}, key: ec.privateKey })).toThrow('32 bytes');
    expect(
      accepts(signJws({ header: header('HS256'), payload: {}, key: createSecretKey(secret) }), hs256.verification),
    ).toBe(true);
  });

  test('no key signs under the name of another algorithm', () => {
    for (const pair of PAIRS) {
      for (const other of PAIRS.filter((one) => one !== pair)) {
        expect(() => signJws({ header: header(pair.alg), payload: {}, key: other.signing })).toThrow('Invariant');
      }
    }
    expect(() => signJws({ header: header('ES256'), payload: {}, key: ec.publicKey })).toThrow('Invariant');
  });
});
