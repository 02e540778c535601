/**
 * What an application may say of its own keys, so that the compiler holds its code to it: permissions, metadata and custom
 * claims. These are types alone and change nothing of what happens when the program runs.
 */
import type { JsonObject } from '../foundation/encoding.ts';

/**
 * The types of one application, for `createPantheonAuth<App>()`. What is left out stays as wide as it is without them. They
 * are the application's word and are not checked when the program runs: a key that was made elsewhere, over HTTP for
 * instance, may hold other permissions, metadata or claims. Write them with `type`: an `interface` is not accepted as JSON.
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
  /** The concrete permissions that the application asks for. */
  readonly permissions?: string;
  readonly metadata?: JsonObject;
  /** The custom claims of tokens. Any of them may be missing: a key need not have claims. */
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

/** What may be asked for: concrete permissions, never a pattern. */
export type Permission<App extends AppTypes = AppTypes> = ApplicationPermission<App> | ManagementPermission;

/** What a key may hand out: permissions of the application, and patterns that cover some of them. */
export type GrantablePattern<App extends AppTypes = AppTypes> =
  | ApplicationPermission<App>
  | WildcardOver<ApplicationPermission<App>>
  | '*';

/** What a key may hold. */
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

/** A change of metadata that are there; of a key without metadata, name all that the application needs. */
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

/** RFC 7396: what is not named stays, and null takes away what may be missing. A list is replaced as a whole. */
type MergePatch<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { readonly [Name in keyof T]?: MergePatch<T[Name]> | (Record<never, never> extends Pick<T, Name> ? null : never) }
    : T;
