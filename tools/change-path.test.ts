/** There is one way to change access state, `commands/run-command.ts`, and nobody writes a part of it out again. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const LIBRARY = 'packages/pantheon-auth/src/';
const SERVER = 'packages/pantheon-auth-server/src/';

interface OnePlace {
  readonly what: string;
  readonly pattern: RegExp;
  readonly within: readonly string[];
  /** Files, or the beginning of their paths. */
  readonly allowedIn: readonly string[];
  /** A line that breaks the rule. */
  readonly breach: string;
}

const ONE_PLACE: readonly OnePlace[] = [
  {
    what: 'a caller is confirmed by runCommand, or by confirmCaller where nothing is changed',
    pattern: /\bguard\.confirm\(/i,
    within: [LIBRARY],
    allowedIn: [`${LIBRARY}commands/`],
    breach: 'const { caller } = await this.#guard.confirm(by);',
  },
  {
    what: 'a conflict is tried again by runCommand',
    pattern: /(code === |codes?\.includes\(|\[)'conflict'|\battempt \+= 1/,
    within: [
      `${LIBRARY}api-keys/`,
      `${LIBRARY}jwt`,
      `${LIBRARY}tenants/`,
      `${LIBRARY}commands/`,
      `${LIBRARY}pantheon-auth.ts`,
    ],
    allowedIn: [
      `${LIBRARY}commands/run-command.ts`,
      // It is not tried again: the other one made the first administrator.
      `${LIBRARY}api-keys/root-key.ts`,
    ],
    breach: "if (error instanceof PantheonError && error.code === 'conflict') continue;",
  },
  {
    what: 'what a caller sends never names who acts: by comes last',
    pattern: /\{ by\b[^{}]*, \.\.\./,
    within: [LIBRARY, SERVER],
    allowedIn: [],
    breach: 'const options = { by: by.caller, ...body };',
  },
];

const FILES = [LIBRARY, SERVER].flatMap((folder) =>
  readdirSync(ROOT + folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
    .map((name) => ({ path: folder + name, text: readFileSync(ROOT + folder + name, 'utf8') })),
);

describe.each(ONE_PLACE)('$what', ({ pattern, within, allowedIn, breach }) => {
  test('in every source', () => {
    const looked = FILES.filter(({ path }) => within.some((start) => path.startsWith(start)));
    const found = looked.filter(({ text }) => text.split('\n').some((line) => pattern.test(line)));
    const elsewhere = found.filter(({ path }) => !allowedIn.some((start) => path.startsWith(start)));
    expect(elsewhere.map(({ path }) => path)).toEqual([]);
    // The rule still speaks of what the allowed files do.
    for (const start of allowedIn)
      expect(
        found.some(({ path }) => path.startsWith(start)),
        start,
      ).toBe(true);
  });

  test('the check detects a violation', () => expect(breach).toMatch(pattern));
});
