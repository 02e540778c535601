/**
 * Completes package-lock.json: `node tools/lockfile.ts`, after every `npm install` that changes it.
 *
 * A native tool has one package per platform, each an optional dependency. npm leaves those out of the lock that it
 * could not fetch or did not install here, and then `npm ci` refuses the lock on every machine. What is added has no
 * integrity, because this machine has not seen the package; an entry that npm wrote is never touched.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { completeLock, type Lock } from './lockfile/platform-packages.ts';
import { ROOT } from './run-command.ts';

const path = join(ROOT, 'package-lock.json');
const { lock, added } = completeLock(JSON.parse(readFileSync(path, 'utf8')) as Lock);
if (added.length > 0) writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`${added.length} platform packages added`);
for (const name of added) console.log(`  ${name}`);
