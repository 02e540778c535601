/** The types of an application's own: what they keep from compiling, and that they change nothing of what happens. */
import { afterAll, beforeAll, expect, expectTypeOf, test } from 'vitest';
import { requirePermission as expressPermission, pantheonAuth as onExpress } from './middleware/express.ts';
import { requirePermission as fastifyPermission } from './middleware/fastify.ts';
import { authenticateFetch, requirePermission, withAuth } from './middleware/fetch.ts';
import { type AuthEnv, requirePermission as honoPermission } from './middleware/hono.ts';
import type { Principal } from './middleware.ts';
import type { PantheonAuth } from './pantheon-auth.ts';
import { type TestAuth, testAuth } from './testing/test-auth.ts';

type App = {
  permissions: 'docs:read' | 'docs:write' | 'docs:pages:list';
  metadata: { team: string; floor?: number };
  claims: { plan: 'free' | 'paid' };
};
type Pattern = App['permissions'] | 'docs:*' | 'docs:pages:*' | '*' | `pantheon:${string}`;

let engine: TestAuth<App>;
let auth: PantheonAuth<App>;
beforeAll(async () => {
  engine = await testAuth<App>();
  auth = engine.auth;
});
afterAll(() => engine.close());

const COMMON = { userId: 'user-1', name: 'deploy' };
const refused = expect.objectContaining({ code: 'invalid_request' });

test('a key is created, changed and read with the types of the application', async () => {
  const { key, apiKey } = await auth.keys.create({
    ...COMMON,
    permissions: ['docs:*', 'docs:pages:*', 'docs:read', 'pantheon:keys:read'],
    grantable: ['docs:write', '*'],
    metadata: { team: 'web' },
    jwt: { customClaims: { plan: 'free' } },
  });
  expectTypeOf(apiKey.permissions).toEqualTypeOf<readonly Pattern[]>();
  expectTypeOf(apiKey.metadata).toEqualTypeOf<App['metadata'] | undefined>();
  expectTypeOf(apiKey.jwt?.customClaims.plan).toEqualTypeOf<'free' | 'paid' | undefined>();
  expect((await auth.keys.get(apiKey.id)).metadata?.team).toBe('web');

  const changed = await auth.keys.update(apiKey.id, {
    permissions: ['docs:*'],
    metadata: { floor: 3 },
    jwt: { customClaims: { plan: 'paid' } },
  });
  expect(changed.metadata).toEqual({ team: 'web', floor: 3 });
  expect(changed.jwt?.customClaims).toEqual({ plan: 'paid' });
  expect((await auth.keys.update(apiKey.id, { metadata: { floor: null } })).metadata).toEqual({ team: 'web' });

  const { items } = await auth.keys.list({ q: 'deploy' });
  const teams = items.flatMap((one) => ('quarantined' in one ? [] : [one.metadata?.team]));
  expectTypeOf(teams).toEqualTypeOf<(string | undefined)[]>();
  expect(teams).toContain('web');

  const verification = await auth.verify({ key, permissions: ['docs:write'] });
  if (!verification.valid) throw new Error(verification.denial.code);
  expectTypeOf(verification.key.permissions).toEqualTypeOf<readonly Pattern[]>();
  expect(verification.key.permissions).toEqual(['docs:*']);
  const rotated = await auth.rotation.rotate(apiKey.id);
  expectTypeOf(rotated.apiKey.metadata).toEqualTypeOf<App['metadata'] | undefined>();
  // Where the types of no application matter, one that has types is as good as one that has none.
  const id = (anyAuth: PantheonAuth): string => anyAuth.issuer;
  expect(id(auth as PantheonAuth)).toBe(auth.issuer);
});

test('a permission, a pattern, metadata or a claim that the application does not know does not compile', async () => {
  const made = await Promise.all([
    // @ts-expect-error Misspelt.
    auth.keys.create({ ...COMMON, permissions: ['docs:raed'] }),
    // @ts-expect-error A pattern over nothing that the application knows.
    auth.keys.create({ ...COMMON, permissions: ['dosc:*'] }),
    // @ts-expect-error What manages the service is not handed out by the application.
    auth.keys.create({ ...COMMON, grantable: ['pantheon:keys:read'] }).catch((error: unknown) => error),
    // @ts-expect-error Misspelt.
    auth.keys.create({ ...COMMON, metadata: { taem: 'web' } }),
    // @ts-expect-error There is no such plan.
    auth.keys.create({ ...COMMON, jwt: { customClaims: { plan: 'golden' } } }),
  ]);
  expect(made[2]).toEqual(refused);
  // It is for the compiler alone: the program takes what it is given.
  expect(made[3]).toMatchObject({ apiKey: { metadata: { taem: 'web' } } });

  const { key, apiKey } = await auth.keys.create({ ...COMMON, permissions: ['docs:*'], metadata: { team: 'web' } });
  // @ts-expect-error A team is needed.
  await auth.keys.update(apiKey.id, { metadata: { team: null } });
  // @ts-expect-error Misspelt.
  await auth.keys.update(apiKey.id, { permissions: ['docs:wriet'] });
  // @ts-expect-error Misspelt.
  expect(await auth.verify({ key, permissions: ['docs:raed'] })).toMatchObject({ valid: false });
  // @ts-expect-error A pattern is granted, never asked for.
  await expect(auth.verify({ key, permissions: ['docs:*'] })).rejects.toEqual(refused);
  // @ts-expect-error There is no such member.
  expect(apiKey.metadata?.taem).toBeUndefined();
});

test('the principal and the middleware have the types of the application', async () => {
  const { key } = await auth.keys.create({
    ...COMMON,
    permissions: ['docs:read'],
    jwt: { customClaims: { plan: 'free' } },
  });
  const exchanged = await auth.tokens.exchange({ key });
  if (!exchanged.issued) throw new Error(exchanged.verification.denial.code);
  const request = new Request('https://docs.example', {
    headers: { authorization: `Bearer ${exchanged.token.token}` },
  });

  const authentication = await authenticateFetch(auth, request, { permissions: ['docs:read'] });
  if (!authentication.authenticated) throw new Error(authentication.refusal.code);
  const { principal } = authentication;
  expectTypeOf(principal).toEqualTypeOf<Principal<App>>();
  expectTypeOf(principal.token?.customClaims.plan).toEqualTypeOf<'free' | 'paid' | undefined>();
  expect(principal.token?.customClaims.plan).toBe('free');
  expect(principal.can('docs:read')).toBe(true);
  // @ts-expect-error Misspelt.
  expect(principal.can('docs:raed')).toBe(false);

  const reading = withAuth(auth, { permissions: ['docs:read'] }, (_, { permissions }) => Response.json(permissions));
  expect(await (await reading(request)).json()).toEqual(['docs:read']);
  const writing = withAuth(
    auth,
    {},
    requirePermission('docs:write', () => new Response()),
  );
  expect((await writing(request)).status).toBe(403);
  const misspelt = withAuth(
    auth,
    {},
    // @ts-expect-error Misspelt.
    requirePermission('docs:raed', () => new Response()),
  );
  expect((await misspelt(request)).status).toBe(403);

  // @ts-expect-error Misspelt.
  onExpress(auth, { permissions: ['docs:raed'] });
  // Nothing beside a permission tells these whose it is.
  for (const requires of [expressPermission<App>, fastifyPermission<App>, honoPermission<App>]) {
    expect(requires('docs:write')).toBeTypeOf('function');
    // @ts-expect-error Misspelt.
    expect(requires('docs:raed')).toBeTypeOf('function');
  }
  expectTypeOf<AuthEnv<App>['Variables']['principal']>().toEqualTypeOf<Principal<App>>();
});

test('without types of its own, an application may write any permission, metadata and claims', async () => {
  const plain = await testAuth();
  const { key, apiKey } = await plain.auth.keys.create({
    ...COMMON,
    permissions: ['anything:at:all'],
    metadata: { any: ['thing'] },
  });
  expectTypeOf(apiKey.permissions).toEqualTypeOf<readonly string[]>();
  expect(await plain.auth.verify({ key, permissions: ['anything:at:all'] })).toMatchObject({ valid: true });
  await plain.close();
});
