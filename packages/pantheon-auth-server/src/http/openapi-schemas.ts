/**
 * JSON Schemas for the OpenAPI file, made from the zod schemas of requests and answers. A schema with an `id` becomes a
 * component and is referenced.
 */
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';

export type JsonSchema = Readonly<Record<string, unknown>>;

export class SchemaCollector {
  readonly #components = new Map<string, JsonSchema>();

  /** The schema of a request. Unknown members are refused. */
  request(schema: z.ZodType): JsonSchema {
    return this.#convert(schema, 'input');
  }

  /**
   * The schema of an answer. It allows unknown members: a generated client that refused them would break when a release
   * adds one.
   */
  answer(schema: z.ZodType): JsonSchema {
    return this.#convert(schema, 'output');
  }

  /** By name. */
  components(): Readonly<Record<string, JsonSchema>> {
    return Object.fromEntries([...this.#components].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  #convert(schema: z.ZodType, io: 'input' | 'output'): JsonSchema {
    const { $schema: _, $defs = {}, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any' });
    for (const [name, definition] of Object.entries($defs)) this.#add(name, tidy(definition, io));
    return tidy(rest, io);
  }

  #add(name: string, schema: JsonSchema): void {
    const known = this.#components.get(name);
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(schema))
      throw new Error(`Two schemas are called ${name}: one for requests and one for answers need two names.`);
    this.#components.set(name, schema);
  }
}

const DEFINITION = '#/$defs/';
const COMPONENT = '#/components/schemas/';

/** Removes keywords that add nothing, or that client generators misread. */
function tidy(schema: unknown, io: 'input' | 'output'): JsonSchema {
  const told = Object.entries(schema as JsonSchema).filter(([name, value]) => !saysNothing(name, value, io));
  const named = Object.fromEntries(told.map(([name, value]) => [name, tidied(name, value, io)]));
  // The pattern of a time repeats the format in 300 characters.
  if (named['format'] === 'date-time') delete named['pattern'];
  return withoutLoneChoice(named);
}

function saysNothing(name: string, value: unknown, io: 'input' | 'output'): boolean {
  if (name === 'additionalProperties') return io === 'output' && value === false;
  if (name === 'minimum') return value === Number.MIN_SAFE_INTEGER;
  if (name === 'maximum') return value === Number.MAX_SAFE_INTEGER;
  // `propertyNames` only says that names are strings, which is always true in JSON.
  return name === 'propertyNames' || name === 'id';
}

function tidied(name: string, value: unknown, io: 'input' | 'output'): unknown {
  if (name === '$ref') return String(value).replace(DEFINITION, COMPONENT);
  if (name === 'properties')
    return Object.fromEntries(Object.entries(value as JsonSchema).map(([key, one]) => [key, tidy(one, io)]));
  if (name === 'anyOf' || name === 'oneOf' || name === 'allOf')
    return (
      (value as readonly unknown[])
        .map((one) => tidy(one, io))
        // An empty schema stands for a `Date`, which only in-process callers can pass.
        .filter((one) => !isEmpty(one))
        .flatMap((one) => (name === 'anyOf' && isAlternatives(one) ? one.anyOf : [one]))
        .filter((one, at, all) => all.findIndex((other) => isDeepStrictEqual(other, one)) === at)
    );
  if (name === 'items') return tidy(value, io);
  // Client generators take an empty schema here for "no value".
  if (name === 'additionalProperties') return value === false ? false : isEmpty(value) || tidy(value, io);
  return value;
}

function withoutLoneChoice(schema: JsonSchema): JsonSchema {
  const { anyOf, ...rest } = schema;
  return Array.isArray(anyOf) && anyOf.length === 1 ? { ...(anyOf[0] as JsonSchema), ...rest } : schema;
}

function isAlternatives(schema: JsonSchema): schema is { readonly anyOf: readonly JsonSchema[] } {
  return Object.keys(schema).length === 1 && Array.isArray(schema['anyOf']);
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}
