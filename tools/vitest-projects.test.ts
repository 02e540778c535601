/** A test file that is moved must not silently leave the projects that it ran in. */
import { globSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { STORED, UNIT } from '../vitest.config.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** `{a,b}.test.ts` as its alternatives. Braces are not nested. */
function alternatives(pattern: string): readonly string[] {
  const [, before, list, after] = /^([^{]*)\{([^}]*)\}(.*)$/.exec(pattern) ?? [];
  return list === undefined ? [pattern] : list.split(',').map((one) => `${before}${one}${after}`);
}

test.each([...STORED, ...UNIT].flatMap(alternatives))('%s, which a project names, exists', (pattern) => {
  expect(globSync(pattern, { cwd: ROOT }).length).toBeGreaterThan(0);
});
