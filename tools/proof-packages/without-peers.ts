/**
 * The program of someone who installed none of the optional packages: no driver, no framework, no test library. The root
 * and the subpath for tests work, and nothing is said on the standard error (`proof-packages.ts` looks).
 */
import assert from 'node:assert/strict';
import { createPantheonAuth } from 'pantheon-auth';
import { testAuth } from 'pantheon-auth/testing';

assert.equal(typeof createPantheonAuth, 'function');
const { auth, clock, close } = await testAuth();
const { key } = await auth.keys.create({ userId: 'user-1', name: 'deploy', expiresIn: '1h' });
assert.equal((await auth.verify({ key })).valid, true);
assert.equal((await auth.keys.list({ q: 'deploy' })).items.length, 1);
clock.advance(3_600_000);
assert.equal((await auth.verify({ key })).valid, false);
await close();
