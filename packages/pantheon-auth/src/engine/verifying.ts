/** Builds the parts that verify keys and tokens, issue tokens and count usage. */
import { KeyCallerGuard } from '../api-keys/caller-guard.ts';
import { KeyChanges } from '../api-keys/key-changes.ts';
import { KeyValidator } from '../api-keys/key-validator.ts';
import { CommandReads } from '../commands/command-reads.ts';
import { cacheBounds } from '../foundation/memory-size.ts';
import { SigningKeyManager } from '../jwt/signing-key-manager.ts';
import { ownAudiences, TokenIssuer } from '../jwt/token-issuer.ts';
import { TokenIssues } from '../jwt/token-issues.ts';
import { TokenValidity } from '../jwt/token-validity.ts';
import { TokenVerifier } from '../jwt/token-verifier.ts';
import { JwtHandler } from '../jwt-handler.ts';
import { Authenticator } from '../middleware.ts';
import { SenderBuckets } from '../rate-limit/sender-buckets.ts';
import { UsageRecorder } from '../usage/usage-recorder.ts';
import type { AccessState } from './access-state.ts';
import type { Foundations } from './foundations.ts';
import { expiryNoticesOf } from './options.ts';

export interface Verifying {
  readonly validator: KeyValidator;
  readonly authenticator: Authenticator;
  readonly tokens: JwtHandler;
  readonly signingKeys: SigningKeyManager;
  readonly guard: KeyCallerGuard;
  readonly changes: KeyChanges;
  readonly commandReads: CommandReads;
  readonly recorder: UsageRecorder;
  /** Counts senders of invalid credentials. No sender is blocked for it. */
  readonly failures: SenderBuckets;
}

export function makeVerifying(base: Foundations, state: AccessState): Verifying {
  const { database, limiter, clock, keyPrefix, issuer, audience, logger, options } = base;
  const { events, feed, keyStorage, cache, lookup, keyring, revocations } = state;
  const settings = { issuer, audience };
  const { seenTokensBytesMax } = cacheBounds(options.cacheBytesMax);

  const validity = new TokenValidity({ keyring, revocations, audience: ownAudiences(settings) });
  const guard = new KeyCallerGuard({ lookup, tokens: validity, clock });
  const commandReads = new CommandReads(database.readsAtOnce.commands, clock);
  const changes = new KeyChanges({ storage: keyStorage, cache, events, guard, reads: commandReads });
  const recorder = new UsageRecorder({
    rows: database.usage,
    clock,
    onError: (error) => logger.error({ err: error }, 'usage could not be stored; trying again'),
  });
  const failures = new SenderBuckets({ clock });
  const expiryNotices = expiryNoticesOf(options);
  const deps = { lookup, limiter, failures, usage: recorder, clock, keyPrefix, expiryNotices };
  const validator = new KeyValidator(deps);
  const verifier = new TokenVerifier({ validator, feed, keyring, validity, clock, settings, seenTokensBytesMax });
  const signingKeys = new SigningKeyManager({ keyring, changes: state.signingKeyChanges, guard, clock });
  const tokens = new JwtHandler({
    validator,
    issuer: new TokenIssuer({ keyring, clock, settings }),
    verifier,
    keyring,
    signingKeys,
    revocations,
    feed,
    guard,
    changes,
    issues: new TokenIssues({ ledger: database.ledger, events, clock }),
    cache,
    clock,
    keyPrefix,
  });
  const authenticator = new Authenticator({ validator, tokens: verifier, keyPrefix });
  return { validator, authenticator, tokens, signingKeys, guard, changes, commandReads, recorder, failures };
}
