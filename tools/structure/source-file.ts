/**
 * What the rules need to know of one source file: what it imports, which dotted names it uses, whether it only
 * re-exports. Read from the syntax tree, so a comment or a string that mentions `Date.now` is no use of it.
 */
import { parseSync, type StaticExport, type StaticImport, Visitor } from 'oxc-parser';

/** A table may name a few things before its first row. */
const TABLE_STATEMENTS_MAX = 4;

export interface Import {
  /** As written; null when it is computed at run time. */
  readonly specifier: string | null;
  readonly line: number;
}

export interface Use {
  /** `Date.now`, `eval()`, `new Date()`, `new Date(…)`. */
  readonly name: string;
  readonly line: number;
}

export interface LongFunction {
  readonly line: number;
  readonly lines: number;
}

export interface SourceFile {
  /** From the root of the workspace, with `/`. */
  readonly path: string;
  readonly isTest: boolean;
  readonly lines: number;
  readonly imports: readonly Import[];
  readonly uses: readonly Use[];
  /** Functions by their length, apart from those that only answer a table. */
  readonly functions: readonly LongFunction[];
  readonly onlyReexports: boolean;
}

/** @throws when the text is not TypeScript. */
export function readSource(path: string, text: string): SourceFile {
  const { program, module, errors } = parseSync(path, text, { lang: 'ts', sourceType: 'module' });
  const [error] = errors;
  if (error !== undefined) throw new Error(`${path}: ${error.message}`);

  const lineOf = (offset: number): number => text.slice(0, offset).split('\n').length;
  const imports: Import[] = [...module.staticImports, ...module.staticExports].flatMap((statement) =>
    requestsOf(statement).map((specifier) => ({ specifier, line: lineOf(statement.start) })),
  );
  const uses: Use[] = module.staticImports.flatMap((statement) =>
    namesOf(statement).map((name) => ({ name, line: lineOf(statement.start) })),
  );

  const functions: LongFunction[] = [];
  const measure = (node: MeasuredFunction): void => {
    const [first, last] = [lineOf(node.start), lineOf(node.end)];
    if (!isTable(node)) functions.push({ line: first, lines: last - first + 1 });
  };
  new Visitor({
    FunctionDeclaration: measure,
    FunctionExpression: measure,
    ArrowFunctionExpression: measure,
    ImportExpression: (node) => {
      imports.push({ specifier: literal(node.source), line: lineOf(node.start) });
    },
    TSImportType: (node) => {
      imports.push({ specifier: literal(node.source), line: lineOf(node.start) });
    },
    TSExternalModuleReference: (node) => {
      imports.push({ specifier: literal(node.expression), line: lineOf(node.start) });
    },
    MemberExpression: (node) => {
      const name = dotted(node);
      if (name !== null) uses.push({ name, line: lineOf(node.start) });
    },
    CallExpression: (node) => {
      const name = dotted(node.callee);
      if (name !== null) uses.push({ name: `${name}()`, line: lineOf(node.start) });
    },
    NewExpression: (node) => {
      const name = dotted(node.callee);
      if (name === null) return;
      uses.push({ name: `new ${name}(${node.arguments.length === 0 ? '' : '…'})`, line: lineOf(node.start) });
      // A worker or a child process is loaded so; only its own neighbours can be ours.
      const target = name === 'URL' && dotted(node.arguments[1]) === 'import.meta.url' && literal(node.arguments[0]);
      if (typeof target === 'string' && target.endsWith('.ts')) {
        imports.push({ specifier: target, line: lineOf(node.start) });
      }
    },
    VariableDeclarator: (node) => {
      // `const { env } = process` is a use of `process.env`.
      const from = dotted(node.init);
      if (from === null || node.id.type !== 'ObjectPattern') return;
      for (const property of node.id.properties) {
        if (property.type !== 'Property' || property.key.type !== 'Identifier') continue;
        uses.push({ name: `${from}.${property.key.name}`, line: lineOf(node.start) });
      }
    },
  }).visit(program);

  return {
    path,
    isTest: path.endsWith('.test.ts') || /^packages\/[^/]+\/test\//.test(path),
    lines: text.replace(/\n$/, '').split('\n').length,
    imports,
    uses,
    functions,
    onlyReexports: program.body.every(
      ({ type, ...statement }) =>
        type === 'ExportAllDeclaration' ||
        (type === 'ExportNamedDeclaration' && 'source' in statement && statement.source !== null),
    ),
  };
}

interface MeasuredFunction {
  readonly start: number;
  readonly end: number;
  readonly body: unknown;
}

/** Whether a function does no more than build one list or record: what it answers is read row by row. */
function isTable({ body }: MeasuredFunction): boolean {
  if (!isNode(body)) return false;
  const statements = body['body'];
  const last: unknown = Array.isArray(statements) ? statements.at(-1) : body;
  const answer = isNode(last) && last.type === 'ReturnStatement' ? last['argument'] : last;
  const isLiteral = isNode(answer) && ['ArrayExpression', 'ObjectExpression'].includes(answer.type);
  return isLiteral && (!Array.isArray(statements) || statements.length <= TABLE_STATEMENTS_MAX);
}

function requestsOf(statement: StaticImport | StaticExport): readonly string[] {
  if ('moduleRequest' in statement) return [statement.moduleRequest.value];
  const requests = statement.entries.flatMap((entry) => entry.moduleRequest?.value ?? []);
  return [...new Set(requests)];
}

/** `import { env } from 'node:process'` is a use of `process.env`; so it is for `performance.now` and the rest. */
function namesOf(statement: StaticImport): readonly string[] {
  if (statement.moduleRequest.value !== 'node:process') return [];
  return statement.entries.flatMap(({ importName }) => (importName.name === null ? [] : `process.${importName.name}`));
}

/** `a.b.c` for such an expression, however it is written; null for any other. `globalThis.` is left out. */
function dotted(node: unknown): string | null {
  const name = path(node);
  return name === null ? null : name.replace(/^globalThis\./, '');
}

function path(node: unknown): string | null {
  if (!isNode(node)) return null;
  switch (node.type) {
    case 'Identifier':
      return String(node['name']);
    case 'MetaProperty':
      return 'import.meta';
    case 'ChainExpression':
    case 'ParenthesizedExpression':
    case 'TSNonNullExpression':
    case 'TSAsExpression':
      return path(node['expression']);
    case 'MemberExpression': {
      const object = path(node['object']);
      const property = node['computed'] === true ? literal(node['property']) : path(node['property']);
      return object === null || property === null ? null : `${object}.${property}`;
    }
    default:
      return null;
  }
}

function literal(node: unknown): string | null {
  if (!isNode(node)) return null;
  if (node.type === 'TSLiteralType') return literal(node['literal']);
  return node.type === 'Literal' && typeof node['value'] === 'string' ? node['value'] : null;
}

function isNode(node: unknown): node is { readonly type: string; readonly [field: string]: unknown } {
  return typeof node === 'object' && node !== null && 'type' in node && typeof node.type === 'string';
}
