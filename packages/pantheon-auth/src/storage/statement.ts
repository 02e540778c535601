/**
 * A query that is compiled once and run with other values. Building one takes Kysely longer than SQLite needs to run
 * it, which matters where thousands run in one turn of the event loop, and on the one read of a cold key.
 */
import { type Compilable, type CompiledQuery, type Expression, sql } from 'kysely';
import type { Cell } from '../schema/access-tables.ts';

/** Stands for a value that comes later. */
class Placeholder {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** Compiles what `build` makes; the result binds values to it. */
export function statement<Values extends Readonly<Record<string, Cell>>, R>(
  build: (parameter: <Name extends keyof Values & string>(name: Name) => Expression<Values[Name]>) => Compilable<R>,
): (values: Values) => CompiledQuery<R> {
  const compiled = build((name) => sql`${new Placeholder(name)}`).compile();
  return (values) => ({
    ...compiled,
    parameters: compiled.parameters.map((value) => (value instanceof Placeholder ? values[value.name] : value)),
  });
}

/** Rows of one statement; the largest that fits comes first: few round trips, and few texts to keep. */
const ROWS_PER_STATEMENT = [64, 8, 1] as const;

/** Stands for a cell of a row that comes later. */
class RowPlaceholder {
  readonly row: number;
  readonly name: string;

  constructor(row: number, name: string) {
    this.row = row;
    this.name = name;
  }
}

/** The same for any number of rows: the result binds them in as few statements as it takes, in their order. */
export function prepareBatch<Row extends Readonly<Record<string, Cell>>>(
  columns: readonly (keyof Row & string)[],
  build: (rows: readonly { readonly [Name in keyof Row]: Expression<Row[Name]> }[]) => Compilable<unknown>,
): (rows: readonly Row[]) => readonly CompiledQuery<unknown>[] {
  const sizes = ROWS_PER_STATEMENT.map((size) => {
    const rows = Array.from({ length: size }, (_, row) => {
      const cells = columns.map((name) => [name, sql`${new RowPlaceholder(row, name)}`]);
      return Object.fromEntries(cells) as { readonly [Name in keyof Row]: Expression<Row[Name]> };
    });
    return { size, compiled: build(rows).compile() };
  });
  return (rows) => {
    const queries: CompiledQuery<unknown>[] = [];
    let at = 0;
    for (const { size, compiled } of sizes) {
      for (; rows.length - at >= size; at += size) {
        const cell = (value: unknown): unknown =>
          value instanceof RowPlaceholder ? rows[at + value.row]?.[value.name] : value;
        queries.push({ ...compiled, parameters: compiled.parameters.map(cell) });
      }
    }
    return queries;
  };
}
