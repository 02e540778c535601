/** The documents say what the code says: generated parts are fresh, links and references lead somewhere, examples compile. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join, posix } from 'node:path';
import { SETTING_NAMES } from 'pantheon-auth-server';
import { beforeAll, describe, expect, test } from 'vitest';
import { examplesOfDocuments, examplesOfSource, examplesOfSources, typeCheck } from './docs/examples.ts';
import { fill, generatedParts, partsOf, readCalls, testsNaming, testsOf } from './docs/generated.ts';
import { anchorsOf, blocksOf, readDocuments, referencesOf, relativeLinksOf } from './docs/markdown.ts';
import { ROOT } from './run-command.ts';

const documents = readDocuments(ROOT);
const named = documents.map((document) => [document.path, document] as const);

describe('the generated parts are those of the current code (npm run docs)', () => {
  let parts: Readonly<Record<string, string>>;
  beforeAll(async () => {
    parts = generatedParts(await readCalls());
  });

  test.each(named)('%s', (_path, { text }) => {
    expect(fill(text, parts)).toBe(text);
  });

  test('every generated part has its marker in a document', () => {
    expect(documents.flatMap(({ text }) => partsOf(text)).sort()).toEqual(Object.keys(parts).sort());
  });
});

test('every setting is described in docs/operations.md', () => {
  const text = readFileSync(join(ROOT, 'docs/operations.md'), 'utf8');
  expect(SETTING_NAMES.filter((name) => !text.includes(`| \`${name}\` |`))).toEqual([]);
});

test('every production dependency has its reason in ADR 3, and none is named that is gone', () => {
  const adr = readFileSync(join(ROOT, 'docs/adr/0003-dependencies.md'), 'utf8');
  const named = Array.from(adr.matchAll(/^\| `([^`]+)` \|/gm), ([, name]) => name);
  const used = ['pantheon-auth', 'pantheon-auth-server'].flatMap((name) => {
    const manifest = readFileSync(join(ROOT, 'packages', name, 'package.json'), 'utf8');
    return Object.keys((JSON.parse(manifest) as { dependencies: Record<string, string> }).dependencies);
  });
  const ours = new Set(used.filter((name) => !name.startsWith('pantheon-auth')));
  expect(named.sort()).toEqual([...ours].sort());
});

test('every document of docs/ can be reached from its index', () => {
  const indexes = ['docs/README.md', 'docs/adr/README.md'];
  const reached = indexes.flatMap((path) => {
    const text = readFileSync(join(ROOT, path), 'utf8');
    return relativeLinksOf(text).map(({ target }) => posix.join(posix.dirname(path), target));
  });
  const inDocs = documents.map(({ path }) => path).filter((path) => path.startsWith('docs/'));
  expect(inDocs.filter((path) => path !== 'docs/README.md' && !reached.includes(path))).toEqual([]);
});

describe('every relative link leads to a file and a heading', () => {
  test.each(named)('%s', (path, { text }) => {
    const dead = relativeLinksOf(text).filter(({ target }) => !leadsSomewhere(path, target));
    expect(dead.map(({ target, line }) => `${path}:${line} ${target}`)).toEqual([]);
  });
});

describe('every file, name and test that the prose refers to exists', () => {
  test.each(named)('%s', (path, { text }) => {
    const wrong = referencesOf(text).flatMap((reference) => {
      const source = sourceOf(reference.path);
      const at = `${path}:${reference.line} ${reference.path}`;
      if (source === null) return [at];
      const isIn = (name: string): boolean => (reference.isTest ? source.includes(name) : hasName(source, name));
      return reference.names.filter((name) => !isIn(name)).map((name) => `${at}: ${name}`);
    });
    expect(wrong).toEqual([]);
  });
});

describe('no command puts a secret among the arguments of a program, where every process of the machine reads it', () => {
  const printed = ['packages/pantheon-auth-server/src/service/welcome.ts', 'examples/demo.ts'].map((path) => ({
    path,
    text: readFileSync(join(ROOT, path), 'utf8'),
  }));

  test.each([...documents, ...printed].map((document) => [document.path, document] as const))(
    '%s',
    (_path, { text }) => {
      expect(secretArgumentsOf(text)).toEqual([]);
    },
  );

  test('the check detects a secret among arguments', () => {
    expect(secretArgumentsOf('curl x -H "Authorization: Bearer $(cat data/root.key)"\n')).toHaveLength(1);
    expect(secretArgumentsOf('ROOT="Bearer $(cat root.key)"\n')).toHaveLength(1);
    expect(secretArgumentsOf('curl x -d "{ \\"key\\": \\"$KEY\\" }"\n')).toHaveLength(1);
    expect(secretArgumentsOf('curl x --header "Authorization: Bearer $TOKEN"\n')).toHaveLength(1);
    expect(secretArgumentsOf('curl x -H @root.header -d @- <<< "subject_token=$KEY"\n')).toEqual([]);
  });
});

/** Lines that hand the content of a key file, or a variable that holds a secret, to a program. A here-string is no argument. */
function secretArgumentsOf(text: string): readonly string[] {
  const argument =
    /\$\(cat [^)]*(?:key|jwt|\{file\})|(?:-d|-H|--data(?:-\w+)?|--header)[ =](?:"(?:[^"\\]|\\.)*|[^\s"]*)\$\{?(?:KEY|TOKEN|SECRET)\b/;
  return text.split('\n').filter((line) => argument.test(line));
}

test('every example compiles', { timeout: 120_000 }, () => {
  const examples = [...examplesOfDocuments(documents), ...examplesOfSources(ROOT)];
  expect(examples.length).toBeGreaterThan(5);
  expect(typeCheck(ROOT, examples)).toEqual([]);
});

describe('the checks detect', () => {
  test('an example that does not compile, with its position', { timeout: 120_000 }, () => {
    const text = '/**\n * ```ts\n * const one: string = 1;\n * ```\n */\nexport const x = 1;\n';
    const [example] = examplesOfSource('a.ts', text);
    expect(example).toEqual({ at: 'a.ts:3', code: 'const one: string = 1;\n' });
    expect(typeCheck(ROOT, [{ at: 'a.ts:3', code: 'const one: string = 1;\n' }])).toEqual([
      expect.stringMatching(/^a\.ts:3, line 1: error TS2322/),
    ]);
  });

  test('a code block inside of a list like any other', () => {
    expect(blocksOf('1. a\n\n   ```ts\n   const x = 1;\n   ```\n')).toEqual([
      { language: 'ts', code: 'const x = 1;\n', line: 4 },
    ]);
  });

  test('an outdated part, and a part without a generator', () => {
    const text = 'a\n<!-- generated: x -->\nold\n<!-- generated: end -->\n';
    expect(fill(text, { x: 'new\n' })).toBe('a\n<!-- generated: x -->\nnew\n<!-- generated: end -->\n');
    expect(() => fill(text, {})).toThrow('no part is called x');
  });

  test('which tests name an invariant, and which only seem to', () => {
    const text =
      "test('I1: one', …);\n  test.each(X)('two (I1, I10)', …);\ndescribe('I10: three', …);\ntest(\n  'four', …);";
    const tests = testsOf('a.test.ts', text);
    expect(tests.map(({ name }) => name)).toEqual(['I1: one', 'two (I1, I10)', 'I10: three', 'four']);
    expect(testsNaming('I1', tests).map(({ name }) => name)).toEqual(['I1: one', 'two (I1, I10)']);
  });

  test('a dead link, a dead anchor, and no link in a block or in code', () => {
    expect(leadsSomewhere('docs/README.md', 'no-such-file.md')).toBe(false);
    expect(leadsSomewhere('docs/README.md', '../ARCHITECTURE.md#no-such-heading')).toBe(false);
    expect(leadsSomewhere('docs/README.md', '../ARCHITECTURE.md')).toBe(true);
    expect(relativeLinksOf('[a](b.md) `[c](d.md)` [e](https://example.com)\n```\n[f](g.md)\n```\n')).toEqual([
      { target: 'b.md', line: 1 },
    ]);
    expect(anchorsOf('# A `b`: c?\n## A `b`: c?\n')).toEqual(new Set(['a-b-c', 'a-b-c-1']));
  });

  test('a file, a name and a test that do not exist', () => {
    expect(sourceOf('api-keys/no-such-file.ts')).toBeNull();
    expect(hasName('class A { #one() {} }', '#one')).toBe(true);
    expect(hasName('class A { #one() {} }', 'on')).toBe(false);
    expect(referencesOf('see `a/b.ts:c` and `a/b.test.ts` "one", "two"')).toEqual([
      { path: 'a/b.ts', names: ['c'], isTest: false, line: 1 },
      { path: 'a/b.test.ts', names: ['one', 'two'], isTest: true, line: 1 },
    ]);
  });
});

/** Where the prose may count from: the root, and the sources of the two packages. */
const BASES = ['', 'packages/pantheon-auth/src', 'packages/pantheon-auth-server/src'];

function sourceOf(path: string): string | null {
  const found = BASES.map((base) => join(ROOT, base, path)).find((candidate) => existsSync(candidate));
  return found === undefined ? null : readFileSync(found, 'utf8');
}

function hasName(source: string, name: string): boolean {
  return new RegExp(`(?<![\\w#])${name}\\b`).test(source);
}

function leadsSomewhere(from: string, target: string): boolean {
  const [path = '', anchor] = target.split('#', 2);
  const file = path === '' ? from : posix.join(posix.dirname(from), path);
  if (!existsSync(join(ROOT, file))) return false;
  if (anchor === undefined) return true;
  return statSync(join(ROOT, file)).isFile() && anchorsOf(readFileSync(join(ROOT, file), 'utf8')).has(anchor);
}
