/** A process that creates, rotates and revokes until it is killed, and says so only of what was acknowledged to it. */
import { writeSync } from 'node:fs';
import { createPantheonAuth } from 'pantheon-auth';

const [, , dataDir = ''] = process.argv;
const STDOUT = 1;
const auth = await createPantheonAuth({ dataDir, issuer: 'http://localhost:8787' });
const say = (...words: readonly string[]): void => {
  writeSync(STDOUT, `${words.join(' ')}\n`);
};

for (let round = 0; ; round += 1) {
  const { key, apiKey } = await auth.keys.create({ userId: 'u', name: `round ${round}` });
  say('created', apiKey.id, key);
  if (round % 3 === 1) {
    const rotated = await auth.rotation.rotate(apiKey.id, { overlap: 0 });
    say('rotated', apiKey.id, rotated.key);
  }
  if (round % 3 === 2) {
    await auth.keys.revoke(apiKey.id);
    say('revoked', apiKey.id, key);
  }
}
