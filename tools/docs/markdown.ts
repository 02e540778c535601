/** What a Markdown document holds, as far as the checks look at it: links, headings, code blocks, references to code. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Document {
  /** From the root of the repository. */
  readonly path: string;
  readonly text: string;
}

/** The documents that readers are given. */
export function readDocuments(root: string): readonly Document[] {
  return globSync(['*.md', 'docs/**/*.md', 'packages/*/README.md'], { cwd: root })
    .map((path) => path.replaceAll('\\', '/'))
    .sort()
    .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));
}

export interface Block {
  readonly language: string;
  readonly code: string;
  /** Of its first line, from 1. */
  readonly line: number;
}

const FENCE = /^( *)```(\S*)[^\n]*\n(.*?)^\1```$/gms;

/** Fenced blocks, in order. */
export function blocksOf(text: string): readonly Block[] {
  return Array.from(text.matchAll(FENCE), ({ index, 1: indent = '', 2: language = '', 3: code = '' }) => ({
    language,
    code: indent === '' ? code : code.replaceAll(`\n${indent}`, '\n').slice(indent.length),
    line: lineAt(text, index) + 1,
  }));
}

/** The text with its blocks blanked out: what stands in them is neither a link nor a heading. */
export function proseOf(text: string): string {
  return text.replace(FENCE, (block) => block.replace(/[^\n]/g, ''));
}

export interface Link {
  readonly target: string;
  readonly line: number;
}

/** Links within the repository. */
export function relativeLinksOf(text: string): readonly Link[] {
  const prose = proseOf(text).replace(/`[^`\n]*`/g, (code) => ' '.repeat(code.length));
  return Array.from(prose.matchAll(/\]\(([^)\s]+)\)/g), ({ index, 1: target = '' }) => ({
    target,
    line: lineAt(prose, index),
  })).filter(({ target }) => !/^[a-z][a-z0-9+.-]*:/i.test(target));
}

/** The names under which headings can be linked to, as code hosts make them. */
export function anchorsOf(text: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of proseOf(text).matchAll(/^#{1,6} +(.+?) *$/gm)) {
    const name = heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
      .replaceAll(' ', '-');
    let anchor = name;
    for (let repeat = 1; anchors.has(anchor); repeat += 1) anchor = `${name}-${repeat}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** A file of ours that the prose names, with what is said to be in it. */
export interface Reference {
  readonly path: string;
  /** A name, as in `` `api-keys/key-validator.ts:use` ``; or the name of a test, in double quotes after its file. */
  readonly names: readonly string[];
  readonly isTest: boolean;
  readonly line: number;
}

const REFERENCE = /`((?:[\w.@-]+\/)*[\w.-]+\.tsx?)(?::([#\w]+))?`((?:,? "[^"\n]+")*)/g;

export function referencesOf(text: string): readonly Reference[] {
  const prose = proseOf(text);
  return Array.from(prose.matchAll(REFERENCE), ({ index, 1: path = '', 2: name, 3: quoted = '' }) => {
    const isTest = path.endsWith('.test.ts');
    const tests = isTest ? Array.from(quoted.matchAll(/"([^"]+)"/g), ([, test = '']) => test) : [];
    return { path, names: name === undefined ? tests : [name], isTest, line: lineAt(prose, index) };
  });
}

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split('\n').length;
}
