/**
 * The data of an instance that was started once, from which instances for tests start: creating its signing keys takes
 * longer than most tests run. All of them have the same signing keys and the same master key.
 */
import { accessSync, constants, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPantheonAuth } from '../pantheon-auth.ts';
import { TestClock } from './test-clock.ts';

export const TEMPLATE_ISSUER = 'https://auth.example.com';

/** The recorded time of the data: earlier than any clock of a test, because a database does not open with one behind it. */
export const TEMPLATE_TIME: number = Date.UTC(2001, 0, 1);

/** Writes the data to this folder. The first call of a process creates it, which takes some hundred milliseconds. */
export async function writeTemplateData(dataDir: string): Promise<void> {
  made ??= makeTemplate();
  for (const { name, bytes } of await made) writeFileSync(join(dataDir, name), bytes, { mode: 0o600, flag: 'wx' });
}

let made: Promise<readonly TemplateFile[]> | null = null;

interface TemplateFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Kept in memory: test runners kill their workers, and a folder that is deleted at the exit of the process would stay. */
async function makeTemplate(): Promise<readonly TemplateFile[]> {
  const dataDir = memoryFolder();
  try {
    const clock = new TestClock(TEMPLATE_TIME);
    await (await createPantheonAuth({ dataDir, issuer: TEMPLATE_ISSUER, clock })).close();
    return readdirSync(dataDir).map((name) => ({ name, bytes: readFileSync(join(dataDir, name)) }));
  } finally {
    removeFolder(dataDir);
  }
}

/** The in-memory file system of Linux. */
const IN_MEMORY = '/dev/shm';

/** A new folder in memory if the system has `/dev/shm`, otherwise a temporary one. */
export function memoryFolder(): string {
  return mkdtempSync(join(isWritable(IN_MEMORY) ? IN_MEMORY : tmpdir(), `pantheon-auth-test-${process.pid}-`));
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export function removeFolder(path: string): void {
  rmSync(path, { recursive: true, force: true });
}
