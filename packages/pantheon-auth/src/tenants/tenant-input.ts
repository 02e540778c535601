/** Parses input about tenants. An error names the field and never repeats input. */
import { z } from 'zod';
import { audience, parse, parseName } from '../commands/input.ts';
import type { TenantRecord } from '../domain/tenant.ts';
import { TENANT_ID_PATTERN } from '../domain/tenant-id.ts';

/** One for each API that accepts tokens of the tenant. With the longest names they take 32 kB in a row. */
export const TENANT_AUDIENCES_MAX = 64;

/** The settings of a tenant. */
export interface TenantSettingsInput {
  /** Default: the id. */
  readonly name?: string | null | undefined;
  /**
   * Audiences that its keys may have in `jwt.audience`, in addition to those of the service. Existing keys keep theirs.
   * Default: none.
   */
  readonly audiences?: readonly string[] | null | undefined;
}

/** The input of `create`, and the body of `POST /v1/tenants`. */
export interface CreateTenantInput extends TenantSettingsInput {
  readonly id: string;
}

/** The input of `update`: only the settings to change. Null removes a setting. */
export type UpdateTenantInput = TenantSettingsInput;

export type TenantSettings = Pick<TenantRecord, 'name' | 'audiences'>;

const audiences = z
  .array(audience)
  .max(TENANT_AUDIENCES_MAX)
  .refine((list) => new Set(list).size === list.length, 'Do not repeat an item.')
  .nullish();
const settings = { name: z.unknown().optional(), audiences };
const createSchema = z.strictObject({
  id: z
    .string()
    .regex(
      TENANT_ID_PATTERN,
      '1 to 64 characters of a-z, 0-9, _ and -; the first and the last are a letter or a digit.',
    ),
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
