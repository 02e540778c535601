/** What `parseJws` must refuse although its signature is true: the structural part of the attacks on a JWS. */
import { createHmac, createSecretKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { JWS_LENGTH_MAX, parseJws, signJws, type VerificationKey, verifyJws } from './jws.ts';

const secret = randomBytes(32);
const KEY = { algorithm: 'HS256', key: createSecretKey(secret) } as const;
const KID = 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs';
const HEADER = { alg: 'HS256', kid: KID, typ: 'at+jwt' };
const accepts = (token: string): boolean => {
  const parsed = parseJws(token);
  return parsed !== null && verifyJws(parsed, KEY);
};
const base64url = (value: string | Uint8Array) => Buffer.from(value as string).toString('base64url');
/** A token with a true signature over any header and payload text, as only the holder of the key could make it. */
const forged = (headerText: string | Uint8Array, payloadText: string | Uint8Array = '{}'): string => {
  const input = `${base64url(headerText)}.${base64url(payloadText)}`;
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
};
const forgedHeader = (members: object) => forged(JSON.stringify({ ...HEADER, ...members }));

describe('a header in another form than ours is refused, also with a valid signature', () => {
  test('the same header in our form is accepted', () => {
    expect(accepts(forgedHeader({}))).toBe(true);
    expect(accepts(forgedHeader({ iss: 'ignored', X5t: 1 }))).toBe(true);
  });

  test.each([
    'none',
    'None',
    'NONE',
    'nOnE',
    'none ',
    '',
    'hs256',
    'Hs256',
    'HS256 ',
    'HS384',
    'HS512',
    'ES384',
    'ES256K',
    'EdDSA',
    'ed25519',
    'PS256',
    'RS1',
    'dir',
    '__proto__',
    null,
    1,
    true,
    ['HS256'],
    { alg: 'HS256' },
  ])('alg %j', (alg) => {
    expect(parseJws(forgedHeader({ alg }))).toBeNull();
  });

  test('alg none with an empty signature', () => {
    const input = `${base64url(JSON.stringify({ ...HEADER, alg: 'none' }))}.${base64url('{}')}`;
    expect(parseJws(`${input}.`)).toBeNull();
    expect(parseJws(`${forgedHeader({}).split('.').slice(0, 2).join('.')}.`)).toBeNull();
  });

  test.each([
    ...[
      { crit: ['x'] },
      { crit: [] },
      { crit: 'exp' },
      { crit: null },
      { crit: ['b64'], b64: false },
      { b64: false },
      { b64: true },
    ],
    ...[
      { zip: 'DEF' },
      { cty: 'JWT' },
      { enc: 'A256GCM' },
      { jku: 'https://evil.example/jwks' },
      { jwk: { kty: 'oct', k: 'AAAA' } },
    ],
    ...[{ x5u: 'https://evil.example' }, { x5c: ['MIIB'] }, { x5t: 'a' }, { 'x5t#S256': 'a' }, { x5t9: 1 }],
  ])('%j', (members) => {
    expect(parseJws(forgedHeader(members))).toBeNull();
  });

  test.each([
    "' OR 1=1--",
    '"; DROP',
    `\${7*7}`,
    '\0',
    '',
    'a'.repeat(65),
    'k'.repeat(5000),
    'a b',
    'a\n',
    'é',
    '../../etc/passwd',
    ['a'],
    1,
    null,
    {},
    undefined,
  ])('kid %j', (kid) => {
    expect(parseJws(forgedHeader({ kid }))).toBeNull();
  });

  test('a kid with the name of an object member is only a text', () => {
    for (const kid of ['__proto__', 'constructor', 'toString', 'a'.repeat(64)]) {
      expect(parseJws(forgedHeader({ kid }))?.header.kid).toBe(kid);
    }
  });

  test.each([undefined, null, 1, ['at+jwt'], {}])('typ %j', (typ) => {
    expect(parseJws(forgedHeader({ typ }))).toBeNull();
  });

  const members = `"alg":"HS256","kid":"${KID}","typ":"at+jwt"`;
  test.each([
    ...['[]', '"x"', '1', 'null', 'true', '', ' ', '{', `[{${members}}]`, `{${members}} x`, `\ufeff{${members}}`],
    ...[
      `{${members},"alg":"HS256"}`,
      `{"alg":"none",${members}}`,
      `{${members},"\\u0061lg":"HS256"}`,
      `{${members},"kid":"x"}`,
    ],
    ...[
      `{${members},"__proto__":{}}`,
      `{${members},"x":${'['.repeat(9)}${']'.repeat(9)}}`,
      `{${members},"x":"\\ud800"}`,
    ],
  ])('header %s', (text) => {
    expect(parseJws(forged(text))).toBeNull();
  });

  test('a refused header is refused again and an accepted one accepted, in any order', () => {
    const good = forgedHeader({});
    const bad = forgedHeader({ crit: [] });
    for (let round = 0; round < 3; round += 1) {
      expect(accepts(good)).toBe(true);
      expect(parseJws(bad)).toBeNull();
    }
    for (let at = 0; at < 600; at += 1) expect(parseJws(forgedHeader({ kid: `k${at}` }))?.header.kid).toBe(`k${at}`);
    expect(accepts(good)).toBe(true);
    expect(parseJws(forgedHeader({ pad: 'x'.repeat(600) }))?.header.kid).toBe(KID);
  });
});

describe('a payload that is not exactly one object is refused', () => {
  const good = JSON.stringify(HEADER);
  test.each([
    ...['[]', '"x"', 'null', '1', 'true', '', '{', '{}{}', "{'a':1}", '\ufeff{}', '{"exp":1e400}', '{"exp":NaN}'],
    ...['{"sub":"a","sub":"b"}', '{"a":{"b":1,"b":2}}', '{"sub":"a","\\u0073ub":"b"}', '{"__proto__":{"admin":true}}'],
    ...['{"a":{"constructor":{"prototype":1}}}', `{"a":${'['.repeat(8)}${']'.repeat(8)}}`, '{"a":"\\udc00"}'],
  ])('payload %s', (text) => {
    expect(parseJws(forged(good, text))).toBeNull();
  });

  test('bytes that are not UTF-8', () => {
    const bytes = (...inside: number[]) =>
      Buffer.concat([Buffer.from('{"a":"'), Buffer.from(inside), Buffer.from('"}')]);
    for (const junk of [
      bytes(0xff),
      bytes(0xc0, 0xaf),
      bytes(0xed, 0xa0, 0x80),
      bytes(0xf5, 0x80, 0x80, 0x80),
      bytes(0xe2, 0x82),
    ]) {
      expect(parseJws(forged(good, junk))).toBeNull();
      expect(
        parseJws(
          forged(Buffer.concat([Buffer.from(good.slice(0, -1)), Buffer.from(',"x":"'), junk, Buffer.from('"}')])),
        ),
      ).toBeNull();
    }
  });

  test('eight levels are accepted, for custom claims', () => {
    expect(parseJws(forged(good, `{"a":${'['.repeat(7)}${']'.repeat(7)}}`))).not.toBeNull();
  });
});

describe('there is one spelling of a token', () => {
  const token = forgedHeader({});
  const [head = '', body = '', signature = ''] = token.split('.');

  test.each([
    ...[
      `${token}=`,
      `${token}\n`,
      `${token} `,
      `${token}\t`,
      `${token}\0`,
      ` ${token}`,
      `\ufeff${token}`,
      `${token}.`,
      `.${token}`,
    ],
    ...[
      `${token}.${signature}`,
      `${head}.${body}.`,
      `${head}..${signature}`,
      `.${body}.${signature}`,
      `${head}.${body}`,
      head,
      '',
      '.',
      '..',
      '....',
    ],
    ...[
      `${head}=.${body}.${signature}`,
      `${head}.${body}=.${signature}`,
      `${head} .${body}.${signature}`,
      `${head}\n.${body}.${signature}`,
    ],
    ...[
      `${head}.${body.slice(0, 9)} ${body.slice(9)}.${signature}`,
      `${head}%2E${body}%2E${signature}`,
      token.replaceAll('.', '\uff0e'),
      `${head}.${body}.${signature}é`,
    ],
    ...[
      `Bearer ${token}`,
      JSON.stringify(token),
      `'${token}'`,
      `${head}.${body}.${signature}\ud800`,
      `${head}.${body}.${signature.slice(0, -1)}`,
    ],
  ])('%j is refused', (text) => {
    expect(parseJws(text)).toBeNull();
  });

  test('ES256 is signed in one of its two forms, and the other form is accepted as the same token', () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');
    const key: VerificationKey = { algorithm: 'ES256', key: publicKey };
    for (let at = 0; at < 64; at += 1) {
      const jws = signJws({
        header: { alg: 'ES256', kid: KID, typ: 'at+jwt' },
        payload: { jti: `${at}` },
        key: privateKey,
      });
      const [h = '', p = '', encoded = ''] = jws.split('.');
      const bytes = Buffer.from(encoded, 'base64url');
      const s = BigInt(`0x${bytes.toString('hex', 32)}`);
      expect(s <= order / 2n && s > 0n).toBe(true);
      const other = Buffer.from((order - s).toString(16).padStart(64, '0'), 'hex');
      const twin = parseJws(`${h}.${p}.${Buffer.concat([bytes.subarray(0, 32), other]).toString('base64url')}`);
      const parsed = parseJws(jws);
      if (parsed === null || twin === null) throw new Error('both are well formed');
      expect([verifyJws(parsed, key), verifyJws(twin, key)]).toEqual([true, true]);
      expect(twin.payload).toEqual(parsed.payload);
    }
  });

  test('neither base64 characters nor unused bits give a second spelling', () => {
    let seen = 0;
    for (let at = 0; at < 40; at += 1) {
      const [h = '', p = '', s = ''] = forged(
        JSON.stringify(HEADER),
        JSON.stringify({ jti: String(at), x: '>>>???ÿÿÿ' }),
      ).split('.');
      for (const other of [p.replaceAll('-', '+'), p.replaceAll('_', '/')]) {
        if (other !== p) expect(parseJws(`${h}.${other}.${s}`)).toBeNull();
        if (other !== p) seen += 1;
      }
      // 32 bytes leave two bits of the last character: the other three values of them decode to the same bytes.
      const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
      const last = alphabet.indexOf(s.slice(-1));
      for (const bits of [1, 2, 3]) {
        const twin = `${s.slice(0, -1)}${alphabet[last | bits]}`;
        expect(Buffer.from(twin, 'base64url')).toEqual(Buffer.from(s, 'base64url'));
        expect(parseJws(`${h}.${p}.${twin}`)).toBeNull();
      }
    }
    expect(seen).toBeGreaterThan(0);
  });

  test('the JSON serializations and a JWE are refused', () => {
    const flattened = { payload: body, protected: head, signature };
    expect(parseJws(JSON.stringify(flattened))).toBeNull();
    expect(parseJws(JSON.stringify({ payload: body, signatures: [{ protected: head, signature }] }))).toBeNull();
    for (const jweHeader of [
      { alg: 'dir', enc: 'A256GCM' },
      { alg: 'PBES2-HS256+A128KW', p2c: 1e9, enc: 'A256GCM' },
      { alg: 'HS256', kid: KID, typ: 'at+jwt' },
    ]) {
      expect(parseJws(`${base64url(JSON.stringify(jweHeader))}.${body}.AAAA.${body}.AAAA`)).toBeNull();
      expect(parseJws(`${base64url(JSON.stringify(jweHeader))}..AAAA.${body}.AAAA`)).toBeNull();
    }
  });

  test('8 KiB are accepted and one character more is not', () => {
    const sized = (length: number) => forged(JSON.stringify(HEADER), JSON.stringify({ pad: 'x'.repeat(length) }));
    let pad = 5900;
    while (sized(pad + 1).length <= JWS_LENGTH_MAX) pad += 1;
    expect(sized(pad).length).toBeGreaterThan(JWS_LENGTH_MAX - 3);
    expect(accepts(sized(pad))).toBe(true);
    expect(parseJws(sized(pad + 1))).toBeNull();
    for (const size of [JWS_LENGTH_MAX + 1, 1_000_000, 16_000_000]) {
      expect(parseJws(`${head}.${'A'.repeat(size)}.${signature}`)).toBeNull();
    }
  });
});
