/** What callers may say about a tenant, parsed. A mistake is named by its field; what was sent is never repeated. */
import { z } from 'zod';
import { audience, parse, parseName } from '../commands/input.ts';
import type { TenantRecord } from '../domain/tenant.ts';
import { TENANT_ID_PATTERN } from '../domain/tenant-id.ts';

/** One for each API that is reached with tokens of one tenant; with the longest names, 32 kB in a row. */
export const TENANT_AUDIENCES_MAX = 64;

/** What the operator decides about a tenant. */
export interface TenantSettingsInput {
  /** Default: the id. */
  readonly name?: string | null | undefined;
  /**
   * Audiences that its keys may be given (`jwt.audience`), beside those of the service itself. Keys keep the ones that they
   * have. Default: none.
   */
  readonly audiences?: readonly string[] | null | undefined;
}

/** What `create` takes: the body of `POST /v1/tenants`. */
export interface CreateTenantInput extends TenantSettingsInput {
  readonly id: string;
}

/** What `update` takes: only what changes. Null takes away. */
export type UpdateTenantInput = TenantSettingsInput;

export type TenantSettings = Pick<TenantRecord, 'name' | 'audiences'>;

const audiences = z
  .array(audience)
  .max(TENANT_AUDIENCES_MAX)
  .refine((list) => new Set(list).size === list.length, 'Name each once.')
  .nullish();
const settings = { name: z.unknown().optional(), audiences };
const createSchema = z.strictObject({
  id: z.string().regex(TENANT_ID_PATTERN, '1 to 64 of a-z 0-9 _ -, a letter or digit at both ends.'),
  ...settings,
});
const updateSchema = z.strictObject(settings);

/** @throws PantheonError `invalid_request`, naming the field. */
export function parseCreateTenant(input: unknown): TenantSettings & { readonly id: string } {
  const { id, name, audiences = null } = parse(createSchema, input);
  return { id, name: parseName(name ?? id), audiences };
}

/** The settings after the update. @throws PantheonError `invalid_request`, naming the field. */
export function parseUpdateTenant(input: unknown, current: TenantSettings & { readonly id: string }): TenantSettings {
  const { name, audiences } = parse(updateSchema, input);
  return {
    name: name === undefined ? current.name : parseName(name ?? current.id),
    audiences: audiences === undefined ? current.audiences : audiences,
  };
}
