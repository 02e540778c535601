/**
 * Builds the parts that hold access state in memory (keys, signing keys, revoked tokens, tag secrets) and the event
 * feed that updates them.
 */
import { IdTags } from '../api-keys/id-tags.ts';
import { KeyStorage } from '../api-keys/key-storage.ts';
import { NextSecrets } from '../api-keys/next-secrets.ts';
import { EventCodec } from '../events/event-codec.ts';
import { EventFeed } from '../events/event-feed.ts';
import { AcceptedTimeFollower } from '../events/stored-time.ts';
import { cacheBounds } from '../foundation/memory-size.ts';
import { TokenRevocations } from '../jwt/revocation.ts';
import { SigningKeyChanges } from '../jwt/signing-key-changes.ts';
import { SigningKeyring } from '../jwt/signing-keyring.ts';
import { Envelope } from '../kms/envelope.ts';
import { KnownTenants } from '../tenants/known-tenants.ts';
import { KeyLookup, parseStaleness, STALENESS_MAX_MS_DEFAULT } from '../verification/key-lookup.ts';
import { VerificationCache } from '../verification/verification-cache.ts';
import type { Foundations } from './foundations.ts';
import { expiryNoticesOf, type Logger } from './options.ts';

export interface AccessState {
  readonly sealer: Envelope;
  readonly events: EventCodec;
  readonly feed: EventFeed;
  readonly acceptedTime: AcceptedTimeFollower;
  readonly keyStorage: KeyStorage;
  readonly nextSecrets: NextSecrets;
  readonly cache: VerificationCache;
  readonly lookup: KeyLookup;
  readonly knownTenants: KnownTenants;
  readonly keyring: SigningKeyring;
  readonly signingKeyChanges: SigningKeyChanges;
  readonly revocations: TokenRevocations;
  readonly idTags: IdTags;
  /** Read from the database, so that every node uses the same value. */
  readonly stalenessMaxMs: number;
}

/** Nothing is loaded before `open-engine.ts` starts it. */
export async function makeAccessState(base: Foundations): Promise<AccessState> {
  const { database, clock, logger, options } = base;
  const { ledger, meta } = database;
  const sealer = new Envelope({ kms: base.kms, rows: database.dataKeys, clock });
  const events = new EventCodec(database.events, sealer);
  const stalenessMaxMs = parseStaleness(await meta.insertOnce('stalenessMaxMs', String(STALENESS_MAX_MS_DEFAULT)));

  const nextSecrets = new NextSecrets({ rows: database.nextSecrets, sealer });
  const expiryNotices = expiryNoticesOf(options);
  const keyStorage = new KeyStorage({ rows: database.keys, ledger, events, sealer, nextSecrets, expiryNotices });
  const cache = new VerificationCache({
    source: keyStorage,
    clock,
    coldReadsMax: database.coldReadsMax,
    onDamaged: (error) => logger.error({ err: error }, 'a key is damaged and cannot be opened; all others work'),
    knownKeysMax: options.knownKeysMax,
    knownKeysBytesMax: cacheBounds(options.cacheBytesMax).knownKeysBytesMax,
  });
  const knownTenants = new KnownTenants(() => lookup.freshen());
  const keyring = new SigningKeyring({
    rows: database.signingKeys,
    ledger,
    events,
    sealer,
    clock,
    onQuarantine: (error) =>
      logger.error({ err: error }, 'a signing key is damaged and cannot be opened; the others work'),
  });
  const signingKeyChanges = new SigningKeyChanges({ keyring, sealer, clock });
  const revocations = new TokenRevocations({ rows: database.tokenRevocations, ledger, events, clock });
  const idTags = new IdTags({
    rows: database.idTags,
    ledger,
    events,
    sealer,
    clock,
    stalenessMaxMs,
    onQuarantine: (error) =>
      logger.warn(
        { err: error },
        'a secret that tags ids cannot be opened; ids that it may have tagged are looked up in the database',
      ),
  });

  const feed = new EventFeed({ log: database.log, clock, watcher: feedLog(logger) });
  const acceptedTime = new AcceptedTimeFollower({ time: database.time, clock });
  // The accepted time first, because the others use the clock when they load.
  for (const follower of [acceptedTime, cache, knownTenants, keyring, revocations, idTags]) feed.follow(follower);
  const lookup = new KeyLookup({ cache, tags: idTags, feed, clock, stalenessMaxMs });
  return {
    sealer,
    events,
    feed,
    acceptedTime,
    keyStorage,
    nextSecrets,
    cache,
    lookup,
    knownTenants,
    keyring,
    signingKeyChanges,
    revocations,
    idTags,
    stalenessMaxMs,
  };
}

function feedLog(logger: Logger) {
  return {
    onStalled: (error: unknown): void =>
      logger.error({ err: error }, 'the log cannot be followed; cached keys are accepted for one more second'),
    onFollowing: (): void => logger.warn({}, 'the log is followed again'),
  };
}
