/**
 * Types of an application for permissions, metadata and custom claims of its keys. They are checked by the compiler
 * only and have no effect at run time.
 */
import type { JsonObject } from '../foundation/encoding.ts';

/**
 * The types of one application, for `createPantheonAuth<App>()`. Omitted members keep their general types. They are not
 * checked at run time: a key created elsewhere, for example over HTTP, may have other permissions, metadata or claims.
 * Use `type`: an `interface` is not accepted as JSON.
 *
 * @example
 * ```ts
 * import { createPantheonAuth } from 'pantheon-auth';
 *
 * type App = {
 *   permissions: 'docs:read' | 'docs:write';
 *   metadata: { team: string };
 *   claims: { plan: 'free' | 'paid' };
 * };
 * const auth = await createPantheonAuth<App>({ dataDir: './data', issuer: 'https://auth.example.com' });
 * const { key, apiKey } = await auth.keys.create({
 *   userId: 'user-1',
 *   name: 'deploy',
 *   permissions: ['docs:*'], // 'docs:raed' would not compile
 *   metadata: { team: 'web' },
 * });
 * const verification = await auth.verify({ key, permissions: ['docs:read'] });
 * console.log(apiKey.metadata?.team, verification.valid);
 * ```
 */
export interface AppTypes {
  /** The permissions that the application asks for. */
  readonly permissions?: string;
  readonly metadata?: JsonObject;
  /** The custom claims of tokens. Any of them may be missing, because a key need not have claims. */
  readonly claims?: JsonObject;
}

/** A permission, or a pattern of permissions, that manages the service itself. */
export type ManagementPermission = `pantheon:${string}`;

type ApplicationPermission<App extends AppTypes> = App extends { readonly permissions: infer P extends string }
  ? P
  : string;

/** Every pattern with a `*` over a permission: over `docs:read:all` these are `docs:*` and `docs:read:*`. */
type WildcardOver<P extends string> = P extends `${infer Head}:${infer Rest}`
  ? `${Head}:*` | `${Head}:${WildcardOver<Rest>}`
  : never;

/** Permissions that a request may ask for: no patterns. */
export type Permission<App extends AppTypes = AppTypes> = ApplicationPermission<App> | ManagementPermission;

/** Permissions that a key may grant: those of the application, and patterns that cover some of them. */
export type GrantablePattern<App extends AppTypes = AppTypes> =
  | ApplicationPermission<App>
  | WildcardOver<ApplicationPermission<App>>
  | '*';

/** Permissions that a key may have. */
export type PermissionPattern<App extends AppTypes = AppTypes> = GrantablePattern<App> | ManagementPermission;

/** The metadata of a key that has some. */
export type Metadata<App extends AppTypes = AppTypes> = App extends { readonly metadata: infer M extends JsonObject }
  ? M
  : JsonObject;

export type MetadataInput<App extends AppTypes = AppTypes> = App extends {
  readonly metadata: infer M extends JsonObject;
}
  ? M
  : Readonly<Record<string, unknown>>;

/** A change of existing metadata. For a key without metadata give all members that the application needs. */
export type MetadataPatch<App extends AppTypes = AppTypes> = App extends {
  readonly metadata: infer M extends JsonObject;
}
  ? MergePatch<M>
  : Readonly<Record<string, unknown>>;

export type CustomClaims<App extends AppTypes = AppTypes> = App extends { readonly claims: infer C extends JsonObject }
  ? Readonly<Partial<C>>
  : JsonObject;

export type CustomClaimsInput<App extends AppTypes = AppTypes> = App extends {
  readonly claims: infer C extends JsonObject;
}
  ? Readonly<Partial<C>>
  : Readonly<Record<string, unknown>>;

export type CustomClaimsPatch<App extends AppTypes = AppTypes> = App extends {
  readonly claims: infer C extends JsonObject;
}
  ? MergePatch<Partial<C>>
  : Readonly<Record<string, unknown>>;

/** RFC 7396: members that are not given stay, null removes an optional member, and a list is replaced as a whole. */
type MergePatch<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { readonly [Name in keyof T]?: MergePatch<T[Name]> | (Record<never, never> extends Pick<T, Name> ? null : never) }
    : T;
