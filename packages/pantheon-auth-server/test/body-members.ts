/** What the body of an operation may hold, as its schema says, for tests that put something into every member. */
import { z } from 'zod';
import type { Operation } from '../src/http/operation.ts';

export interface BodyMember {
  /** Names and indexes. */
  readonly path: readonly (string | number)[];
  readonly isRequired: boolean;
  /** It takes text that is no word of a fixed list. */
  readonly isText: boolean;
}

interface JsonSchema {
  readonly $ref?: string;
  readonly $defs?: Readonly<Record<string, JsonSchema>>;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly required?: readonly string[];
  readonly items?: JsonSchema | boolean;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly allOf?: readonly JsonSchema[];
}

/** Every member at any depth; of a list its first item; of an object that takes any names one of them. */
export function bodyMembers({ body }: Pick<Operation, 'body'>): readonly BodyMember[] {
  if (body === undefined) return [];
  const root = z.toJSONSchema(body, { io: 'input', unrepresentable: 'any' }) as JsonSchema;
  const found = new Map<string, BodyMember>();
  const walk = (schema: JsonSchema, path: BodyMember['path'], isRequired: boolean): void => {
    const name = schema.$ref?.replace('#/$defs/', '');
    if (name !== undefined) {
      walk(name === '#' ? root : (root.$defs?.[name] ?? {}), path, isRequired);
      return;
    }
    for (const one of [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])])
      walk(one, path, isRequired);
    const isText = [schema.type].flat().includes('string') && schema.enum === undefined;
    const known = found.get(path.join('.'));
    if (path.length > 0) found.set(path.join('.'), { path, isRequired, isText: isText || (known?.isText ?? false) });
    for (const [member, inner] of Object.entries(schema.properties ?? {}))
      walk(inner, [...path, member], schema.required?.includes(member) === true);
    if (typeof schema.items === 'object') walk(schema.items, [...path, 0], true);
    if (typeof schema.additionalProperties === 'object' && schema.properties === undefined)
      walk({ type: 'string' }, [...path, 'some'], true);
  };
  walk(root, [], true);
  return [...found.values()];
}

/** A copy of `body` with `value` at `path`; what is missing on the way is made. */
export function withMember(body: object, path: BodyMember['path'], value: unknown): object {
  const copy = structuredClone(body) as Record<string | number, unknown>;
  let at = copy;
  for (const [depth, step] of path.slice(0, -1).entries()) {
    at[step] ??= typeof path[depth + 1] === 'number' ? [] : {};
    at = at[step] as Record<string | number, unknown>;
  }
  at[path.at(-1) ?? ''] = value;
  return copy;
}
