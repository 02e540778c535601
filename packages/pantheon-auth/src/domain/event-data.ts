/**
 * The data of each event type: its subject, and its attributes before and after, in wire form. Add a new type here
 * first; the compiler then requires everything else about it. Building and splitting events is in `event.ts`.
 */
import type { Json, JsonObject } from '../foundation/encoding.ts';
import type { AsymmetricAlgorithm } from './claims.ts';
import { KEY_SETTING_NAMES, KEY_SETTINGS, type SettingName } from './key-setting-table.ts';
import type { SettingsWire } from './key-wire.ts';

export const SUBJECT_TYPES = ['key', 'tenant', 'signing_key', 'token', 'id_tag_secret', 'store'] as const;

export type SubjectType = (typeof SUBJECT_TYPES)[number];

interface Data<Subject extends SubjectType, Before, After> {
  readonly subject: Subject;
  readonly before: Before;
  readonly after: After;
}

// Attributes are type aliases and not interfaces: only those are assignable to a JSON object.
type KeyStateWire = { readonly state: 'active' | 'suspended' | 'revoked' };
type TenantStateWire = { readonly state: 'active' | 'suspended' | 'deleted' };
type TenantWire = { readonly name: string; readonly audiences: readonly string[] | null };
type DateWire<Name extends string> = { readonly [N in Name]: string };

/** `version`: the current one. `claimBefore`: the end of the window; null: the service rotates the key. */
type AnnouncementWire = { readonly version: number; readonly claimBefore: string | null };

/** Every event type and its data. Names are never reused. */
export interface EventData {
  /** `idTag` is missing in events from before ids had tags. */
  'key.created': Data<'key', null, SettingsWire & { readonly createdBy: string | null; readonly idTag: number }>;
  'key.updated': Data<'key', Partial<SettingsWire>, Partial<SettingsWire>>;
  'key.suspended': Data<'key', KeyStateWire, KeyStateWire>;
  'key.resumed': Data<'key', KeyStateWire, KeyStateWire>;
  'key.revoked': Data<'key', KeyStateWire, KeyStateWire>;
  /** `retireOnFirstUse` is missing in events of earlier versions of this program. */
  'key.rotated': Data<
    'key',
    { readonly version: number },
    { readonly version: number; readonly acceptedUntil: string; readonly retireOnFirstUse: boolean }
  >;
  'key.rolled_back': Data<'key', { readonly version: number }, { readonly version: number }>;
  'key.version_retired': Data<'key', null, { readonly version: number }>;
  'key.expiring': Data<'key', null, DateWire<'expiresAt'>>;
  'key.rotation_due': Data<'key', null, AnnouncementWire>;
  'key.rotation_reminded': Data<'key', null, AnnouncementWire>;
  /** Also written once when the service cannot rotate yet; the state of the key is then still `due`. */
  'key.rotation_overdue': Data<'key', null, AnnouncementWire>;
  /** The next secret, which the service had made, was used: its encrypted copy is deleted. */
  'key.rotation_completed': Data<'key', null, { readonly version: number }>;
  /** `createdAt` is missing in events of earlier versions of this program. */
  'key.secret_replaced': Data<'key', null, { readonly version: number; readonly createdAt: string }>;
  'key.tokens_revoked': Data<'key', null, DateWire<'tokensNotBefore'>>;
  'key.exposed_in_url': Data<'key', null, null>;
  'key.dates_corrected': Data<'key', DateWire<'createdAt'>, DateWire<'createdAt'>>;
  'key.exposed_in_text': Data<'key', null, null>;
  /** A token that another key had issued for this key. `tokenId` is its `jti`. */
  'key.token_issued': Data<
    'key',
    null,
    { readonly tokenId: string; readonly version: number; readonly expiresAt: string }
  >;
  'token.revoked': Data<'token', null, { readonly keyId: string; readonly expiresAt: string }>;
  'tenant.created': Data<'tenant', null, Pick<TenantWire, 'name'> & Partial<TenantWire>>;
  'tenant.updated': Data<'tenant', Partial<TenantWire>, Partial<TenantWire>>;
  'tenant.suspended': Data<'tenant', TenantStateWire, TenantStateWire>;
  'tenant.resumed': Data<'tenant', TenantStateWire, TenantStateWire>;
  'tenant.deleted': Data<'tenant', TenantStateWire, TenantStateWire>;
  /** `signsFrom` null: it waits. Missing in events of earlier versions: it signed at once. */
  'signing_key.created': Data<
    'signing_key',
    null,
    { readonly algorithm: AsymmetricAlgorithm; readonly publicJwk: JsonObject; readonly signsFrom: string | null }
  >;
  'signing_key.activated': Data<'signing_key', null, DateWire<'signsFrom'>>;
  'signing_key.retired': Data<'signing_key', null, null>;
  'id_tag_secret.added': Data<'id_tag_secret', null, null>;
  'id_tag_secret.retired': Data<'id_tag_secret', null, null>;
  'store.clock_accepted': Data<'store', DateWire<'latestTime'>, DateWire<'latestTime'>>;
  'store.expired_revocations_deleted': Data<'store', null, { readonly count: number; readonly lastExpiresAt: string }>;
}

export type EventType = keyof EventData;

/** The event types of a subject type. */
export type EventTypeOf<Subject extends SubjectType> = {
  [Type in EventType]: EventData[Type]['subject'] extends Subject ? Type : never;
}[EventType];

type NamesIn<Attributes> = Attributes extends null ? never : keyof Attributes & string;
type AttributeName<Type extends EventType> = NamesIn<EventData[Type]['before'] | EventData[Type]['after']>;

/** Attributes as they are read back: each may be missing (erased, or of an earlier version), and is any JSON until looked at. */
export type ReadAttributes<Attributes> = { readonly [Name in NamesIn<Attributes>]?: Json } | null;

/** `personal`: about a person, or confidential data of an owner. */
type Privacy = 'open' | 'personal';

/** Further properties of an event type. */
interface EventTypeFacts<Type extends EventType> {
  readonly subject: EventData[Type]['subject'];
  /**
   * Whether it raises the revision of its subject's row by one, which is used to detect outdated rows. A type that
   * deletes the row would need changes where this is used.
   */
  readonly revisesRow: boolean;
  readonly attributes: { readonly [Name in AttributeName<Type>]: Privacy };
}

const SETTINGS = Object.fromEntries(
  KEY_SETTING_NAMES.map((name) => [name, KEY_SETTINGS[name].isPersonal ? 'personal' : 'open']),
) as { readonly [Name in SettingName]: Privacy };
const TENANT = { name: 'personal', audiences: 'open' } as const;
const STATE = { state: 'open' } as const;
const NOTHING = {} as const;
const ANNOUNCEMENT = { version: 'open', claimBefore: 'open' } as const;

export const EVENT_TYPES: { readonly [Type in EventType]: EventTypeFacts<Type> } = {
  'key.created': { subject: 'key', revisesRow: true, attributes: { ...SETTINGS, createdBy: 'open', idTag: 'open' } },
  'key.updated': { subject: 'key', revisesRow: true, attributes: SETTINGS },
  'key.suspended': { subject: 'key', revisesRow: true, attributes: STATE },
  'key.resumed': { subject: 'key', revisesRow: true, attributes: STATE },
  'key.revoked': { subject: 'key', revisesRow: true, attributes: STATE },
  'key.rotated': {
    subject: 'key',
    revisesRow: true,
    attributes: { version: 'open', acceptedUntil: 'open', retireOnFirstUse: 'open' },
  },
  'key.rolled_back': { subject: 'key', revisesRow: true, attributes: { version: 'open' } },
  'key.version_retired': { subject: 'key', revisesRow: true, attributes: { version: 'open' } },
  'key.expiring': { subject: 'key', revisesRow: false, attributes: { expiresAt: 'open' } },
  'key.rotation_due': { subject: 'key', revisesRow: false, attributes: ANNOUNCEMENT },
  'key.rotation_reminded': { subject: 'key', revisesRow: false, attributes: ANNOUNCEMENT },
  'key.rotation_overdue': { subject: 'key', revisesRow: false, attributes: ANNOUNCEMENT },
  'key.rotation_completed': { subject: 'key', revisesRow: false, attributes: { version: 'open' } },
  'key.secret_replaced': { subject: 'key', revisesRow: true, attributes: { version: 'open', createdAt: 'open' } },
  'key.tokens_revoked': { subject: 'key', revisesRow: true, attributes: { tokensNotBefore: 'open' } },
  'key.exposed_in_url': { subject: 'key', revisesRow: false, attributes: NOTHING },
  'key.dates_corrected': { subject: 'key', revisesRow: true, attributes: { createdAt: 'open' } },
  'key.exposed_in_text': { subject: 'key', revisesRow: false, attributes: NOTHING },
  'key.token_issued': {
    subject: 'key',
    revisesRow: false,
    attributes: { tokenId: 'open', version: 'open', expiresAt: 'open' },
  },
  'token.revoked': { subject: 'token', revisesRow: false, attributes: { keyId: 'open', expiresAt: 'open' } },
  'tenant.created': { subject: 'tenant', revisesRow: true, attributes: TENANT },
  'tenant.updated': { subject: 'tenant', revisesRow: true, attributes: TENANT },
  'tenant.suspended': { subject: 'tenant', revisesRow: true, attributes: STATE },
  'tenant.resumed': { subject: 'tenant', revisesRow: true, attributes: STATE },
  'tenant.deleted': { subject: 'tenant', revisesRow: true, attributes: STATE },
  'signing_key.created': {
    subject: 'signing_key',
    revisesRow: true,
    attributes: { algorithm: 'open', publicJwk: 'open', signsFrom: 'open' },
  },
  'signing_key.activated': { subject: 'signing_key', revisesRow: true, attributes: { signsFrom: 'open' } },
  'signing_key.retired': { subject: 'signing_key', revisesRow: true, attributes: NOTHING },
  'id_tag_secret.added': { subject: 'id_tag_secret', revisesRow: true, attributes: NOTHING },
  'id_tag_secret.retired': { subject: 'id_tag_secret', revisesRow: true, attributes: NOTHING },
  'store.clock_accepted': { subject: 'store', revisesRow: false, attributes: { latestTime: 'open' } },
  'store.expired_revocations_deleted': {
    subject: 'store',
    revisesRow: false,
    attributes: { count: 'open', lastExpiresAt: 'open' },
  },
};

/** Events about a key that change nothing of its record. */
export type KeyNote =
  | 'key.exposed_in_url'
  | 'key.exposed_in_text'
  | 'key.token_issued'
  | 'key.expiring'
  | 'key.rotation_due'
  | 'key.rotation_reminded'
  | 'key.rotation_overdue'
  | 'key.rotation_completed';

/** Whether an event about a key is one of them. */
export function isKeyNote(type: string): type is KeyNote {
  return isEventTypeOf('key', type) && !EVENT_TYPES[type].revisesRow;
}

/** Whether this version knows the type. A log written by a later version may contain others. */
export function isEventType(type: string): type is EventType {
  return Object.hasOwn(EVENT_TYPES, type);
}

/** Whether it is an event type of this subject type. */
export function isEventTypeOf<Subject extends SubjectType>(
  subject: Subject,
  type: string,
): type is EventTypeOf<Subject> {
  return isEventType(type) && EVENT_TYPES[type].subject === subject;
}

/** The subject type of each event type. */
export const EVENT_SUBJECTS: Readonly<Record<EventType, SubjectType>> = Object.fromEntries(
  Object.entries(EVENT_TYPES).map(([type, { subject }]) => [type, subject]),
) as Record<EventType, SubjectType>;

/**
 * Names of personal attributes, of all types. They are sealed beside the event, which contains only a salted hash of
 * them, so they can be erased while the hash tree stays valid. By name and not by type, so that personal data are
 * sealed also in an event with unexpected attributes.
 */
export const PERSONAL_ATTRIBUTES: ReadonlySet<string> = new Set(
  Object.values(EVENT_TYPES).flatMap(({ attributes }) =>
    Object.entries(attributes).flatMap(([name, privacy]) => (privacy === 'personal' ? [name] : [])),
  ),
);
