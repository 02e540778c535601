/**
 * Queries that are compiled once and run with different values. Building a query in Kysely takes longer than running it
 * in SQLite, which matters for thousands of statements in one turn of the event loop, and for the read of a key.
 */
import { type Compilable, type CompiledQuery, type Expression, sql } from 'kysely';
import type { Cell } from '../schema/access-tables.ts';

/** A placeholder for a value. */
class Placeholder {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** Compiles the query of `build`; the result binds values to it. */
export function statement<Values extends Readonly<Record<string, Cell>>, R>(
  build: (parameter: <Name extends keyof Values & string>(name: Name) => Expression<Values[Name]>) => Compilable<R>,
): (values: Values) => CompiledQuery<R> {
  const compiled = build((name) => sql`${new Placeholder(name)}`).compile();
  return (values) => ({
    ...compiled,
    parameters: compiled.parameters.map((value) => (value instanceof Placeholder ? values[value.name] : value)),
  });
}

/** Rows per statement. The largest that fits is used first, so that there are few round trips and few SQL texts. */
const ROWS_PER_STATEMENT = [64, 8, 1] as const;

/** A placeholder for a cell of a row. */
class RowPlaceholder {
  readonly row: number;
  readonly name: string;

  constructor(row: number, name: string) {
    this.row = row;
    this.name = name;
  }
}

/** The same for any number of rows: the result binds them, in order, with as few statements as possible. */
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
