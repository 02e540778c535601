/**
 * A query that is compiled once and run with other values. Building one takes Kysely longer than SQLite needs to run
 * it, which matters where thousands run in one turn of the event loop, and on the one read of a cold key.
 */
import { type Compilable, type CompiledQuery, type Expression, sql } from 'kysely';
import type { Cell } from '../events/ledger.ts';

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
