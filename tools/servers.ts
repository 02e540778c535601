/**
 * A private PostgreSQL and a private Redis for trying things out, on free ports of this machine. Prints what a shell has
 * to export to use them, and ends and removes both when it is told to stop.
 */
import { once } from 'node:events';
import { startPostgres } from './servers/postgres.ts';
import { startRedis } from './servers/redis.ts';

await using postgres = await startPostgres();
await using redis = await startRedis();
console.log(`export PANTHEON_AUTH_DATABASE_URL=${await postgres.createDatabase('pantheon_auth')}`);
console.log(`export PANTHEON_AUTH_REDIS_URL=${redis.url}`);
const keepAlive = setInterval(() => {}, 60_000);
await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT'), once(process, 'SIGHUP')]);
clearInterval(keepAlive);
