/** Text for users never refers to the numbers of our invariants or to our design papers: nobody outside can look them up. */
import { globSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { parseSync } from 'oxc-parser';
import { describe, expect, test } from 'vitest';
import { readDocuments } from './docs/markdown.ts';
import { ROOT } from './run-command.ts';

const INTERNAL = /\bI\d{1,2}\b|\bDESIGN\b|\bATTACKS\b/;

describe('documents for users', () => {
  const INTERNAL_DOCUMENTS = /^docs\/(adr\/.*|invariants\.md)$|^(ARCHITECTURE|CONTRIBUTING)\.md$/;
  const documents = readDocuments(ROOT).filter(({ path }) => !INTERNAL_DOCUMENTS.test(path));

  test.each(documents.map(({ path, text }) => [path, text] as const))('%s', (_path, text) => {
    expect(text.split('\n').filter((line) => INTERNAL.test(line))).toEqual([]);
  });
});

test('no string of a program has internal numbers: error texts, OpenAPI texts, command line, log', () => {
  const found = globSync('packages/*/src/**/*.ts', { cwd: ROOT, exclude: ['**/*.test.ts'] }).flatMap((path) =>
    linesOutsideComments(readFileSync(join(ROOT, path), 'utf8'))
      .filter((line) => INTERNAL.test(line))
      .map((line) => `${path}: ${line.trim()}`),
  );
  expect(found).toEqual([]);
});

test('no comment on a public name or on a member of one has them', () => {
  const names = ['pantheon-auth', 'pantheon-auth-server'].flatMap((name) => publicNames(`packages/${name}`));
  expect(names.length).toBeGreaterThan(120);
  const undeclared = names.filter(({ path, name }) => declarationOf(name, read(path)) === null);
  expect(undeclared).toEqual([]);
  const found = names.flatMap(({ path, name }) =>
    docCommentsOf(declarationOf(name, read(path)) ?? '')
      .filter((comment) => INTERNAL.test(comment))
      .map((comment) => `${path}:${name} ${comment}`),
  );
  expect(found).toEqual([]);
});

describe('the checks detect', () => {
  test('a number in a string, and none in a comment', () => {
    expect(linesOutsideComments("const a = 'see I12'; // I4").filter((line) => INTERNAL.test(line))).toHaveLength(1);
    expect(linesOutsideComments('const a = 1; // I4').filter((line) => INTERNAL.test(line))).toEqual([]);
  });

  test('a comment on a name, on a member, and not the one on its neighbour', () => {
    const text =
      '/** A (I1). */\nexport interface A {\n  /** B (I2). */\n  b: 1;\n\n  c: 2;\n}\n\n/** (I3) */\nconst d = 1;\n';
    expect(docCommentsOf(declarationOf('A', text) ?? '')).toEqual(['/** A (I1). */', '/** B (I2). */']);
    expect(declarationOf('B', text)).toBeNull();
  });
});

interface PublicName {
  readonly path: string;
  readonly name: string;
}

/** What the entries of a package export, with the file that declares it. */
function publicNames(folder: string): readonly PublicName[] {
  const { exports } = JSON.parse(read(`${folder}/package.json`)) as {
    exports: Readonly<Record<string, string | { readonly source: string }>>;
  };
  return Object.values(exports).flatMap((entry) =>
    typeof entry === 'string' ? [] : namesOf(posix.join(folder, entry.source)),
  );
}

function namesOf(path: string): readonly PublicName[] {
  const text = read(path);
  const passedOn = Array.from(text.matchAll(PASSED_ON)).flatMap(([, list = '', from = '']) =>
    list
      .split(',')
      .map((item) => item.trim().replace(/^type /, ''))
      .filter((name) => name !== '')
      .map((name) => declaredBy(posix.join(posix.dirname(path), from), name)),
  );
  const own = Array.from(text.matchAll(DECLARATION), ([, name = '']) => ({ path, name }));
  return [...passedOn, ...own];
}

const PASSED_ON = /^export (?:type )?\{([^}]*)\} from '([^']+)';/gm;

/** The file that declares a name: a module may also export what it imports. */
function declaredBy(path: string, name: string): PublicName {
  const text = read(path);
  if (declarationOf(name, text) !== null) return { path, name };
  const source = Array.from(text.matchAll(IMPORTED)).find(([, list = '']) => new RegExp(`\\b${name}\\b`).test(list));
  return source === undefined ? { path, name } : declaredBy(posix.join(posix.dirname(path), source[2] ?? ''), name);
}

const IMPORTED = /^(?:export|import) (?:type )?\{([^}]*)\} from '(\.[^']+)';/gm;

const DECLARATION =
  /^export (?:declare )?(?:abstract )?(?:async )?(?:class|const|function|interface|type) ([A-Za-z_$][\w$]*)/gm;

/** The declaration with its doc comment and its members; null: the file declares no such name. */
function declarationOf(name: string, text: string): string | null {
  const declared = new RegExp(DECLARATION.source.replace('([A-Za-z_$][\\w$]*)', `${name}\\b`), 'm');
  // Blank lines inside a declaration are followed by an indented line.
  return text.split(/\n\n(?=\S)/).find((part) => declared.test(part)) ?? null;
}

function docCommentsOf(text: string): readonly string[] {
  return Array.from(text.matchAll(/\/\*\*.*?\*\//gs), ([comment]) => comment);
}

function linesOutsideComments(text: string): readonly string[] {
  const { comments } = parseSync('text.ts', text);
  const blanked = comments.reduceRight((rest, { start, end }) => `${rest.slice(0, start)}${rest.slice(end)}`, text);
  return blanked.split('\n');
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}
