/**
 * The job that works through the schedule of keys: announces rotations and expiries, rotates keys that have a recipient, ends
 * versions and keys as their policies say. What is due is decided in `domain/rotation-schedule.ts` and
 * `domain/expiry-notices.ts`. Carries out the plan; each step and the next `look_at` are written in one commit.
 */
import { runAsProcess } from '../commands/run-command.ts';
import { losesAdminRights } from '../domain/administrator.ts';
import { type AuditContext, type AuditEventAbout, jobActor, newEvent } from '../domain/event.ts';
import { type ExpiryAnnouncement, type ExpiryPlan, planExpiryNotice } from '../domain/expiry-notices.ts';
import { type KeyRecord, retireVersion, rotateKey, updateKey } from '../domain/key.ts';
import {
  overlapEnd,
  planRotation,
  type RotationPlan,
  type RotationStep,
  retiresWhenNextIsUsed,
} from '../domain/rotation-schedule.ts';
import { instantToWire } from '../domain/setting-codecs.ts';
import type { EventCodec } from '../events/event-codec.ts';
import type { Commit, LeaseHeld, Ledger, Precondition } from '../events/ledger.ts';
import { type Clock, earlier, type Instant, isTimeCertain, MINUTE_MS } from '../foundation/clock.ts';
import { hasCode, invariant, PantheonError } from '../foundation/errors.ts';
import type { KeyScheduleWrite } from '../schema/key-schedule-row.ts';
import { tenantAsRead } from '../tenants/tenant-storage.ts';
import type { UsageRows } from '../usage/usage-rows.ts';
import type { StoredKey } from '../verification/stored-key.ts';
import type { VerificationCache } from '../verification/verification-cache.ts';
import type { Administrators } from './administrators.ts';
import { generateKey } from './key-generator.ts';
import type { KeyScheduleRows, ScheduledKey } from './key-schedule-rows.ts';
import { type KeyStorage, keyAsRead, type SealedChange } from './key-storage.ts';
import type { NextSecrets } from './next-secrets.ts';
import { encryptTo } from './recipient-key.ts';
import { versionSecret } from './version-secret.ts';

/** The next run continues with the rest. Each key takes a read or two, and a commit if something is due. */
const KEYS_PER_RUN_MAX = 1_000;
/** However many keys of one tenant are due, keys of other tenants are looked at in the same run. */
export const KEYS_OF_TENANT_PER_RUN_MAX = 100;
const KEYS_PER_READ = 100;
/** When to look again at a key that does not exist, or whose tenant is not active. */
const INACTIVE_TENANT_AGAIN_MS: number = 60 * MINUTE_MS;
/** When to look again at a key that is damaged, or for which a step failed. */
const FAILED_AGAIN_MS: number = 5 * MINUTE_MS;

export interface KeyScheduleJobDeps {
  readonly schedules: KeyScheduleRows;
  readonly storage: KeyStorage;
  readonly nextSecrets: NextSecrets;
  readonly administrators: Administrators;
  readonly cache: Pick<VerificationCache, 'invalidate'>;
  readonly usage: Pick<UsageRows, 'ofKey'>;
  readonly ledger: Ledger;
  readonly events: EventCodec;
  readonly clock: Clock;
  readonly keyPrefix: string;
  /** How long ahead the expiry of a key is announced, in seconds. */
  readonly expiryNotices: readonly number[];
  /** Called when something fails for one key. The run continues with the others. */
  readonly onError: (error: unknown, keyId: string) => void;
}

/** The run of the job. */
interface Run {
  isEnding(): boolean;
  readonly lease: LeaseHeld;
}

/** A key as it was read, and what is due for it. */
interface LoadedPlan {
  /** The time of the look, as it was read. */
  readonly lookAtRead: Instant | null;
  readonly stored: StoredKey;
  readonly plan: RotationPlan;
  readonly expiry: ExpiryPlan;
  readonly expiryAnnounced: ExpiryAnnouncement | null;
  /** The last announcement about the current version, and when the first was made; null: there was none. */
  readonly announced: { readonly number: number; readonly since: Instant } | null;
  readonly now: Instant;
  /** What else must still hold when the step is committed. */
  readonly preconditions: readonly Precondition[];
}

/** How a step is committed: as a change of the record, or as an event that does not change the record. */
interface Change {
  readonly commit: (preconditions: readonly Precondition[]) => Promise<unknown>;
  readonly preconditions: readonly Precondition[];
}

type Planned = Extract<KeyScheduleWrite, { kind: 'planned' }>;

export class KeyScheduleJob {
  readonly #deps: KeyScheduleJobDeps;

  constructor(deps: KeyScheduleJobDeps) {
    this.#deps = deps;
  }

  isNeeded(): Promise<boolean> {
    return this.#deps.schedules.isAnyDue(this.#deps.clock.now());
  }

  /**
   * Does nothing while the clock is in doubt, may be ahead, or differs from that of the database: correcting the clock would
   * not take back a rotation.
   */
  async run(run: Run): Promise<void> {
    const { schedules, clock } = this.#deps;
    const keysByTenant = new Map<string, number>();
    for (let keysSeen = 0; keysSeen < KEYS_PER_RUN_MAX; ) {
      const exceptTenants = [...keysByTenant]
        .filter(([, keys]) => keys >= KEYS_OF_TENANT_PER_RUN_MAX)
        .map(([id]) => id);
      const due = await schedules.due(clock.now(), { exceptTenants, limit: KEYS_PER_READ });
      if (due.length === 0) return;
      for (const scheduled of due) {
        if (run.isEnding() || !isTimeCertain(clock)) return;
        const ofTenant = keysByTenant.get(scheduled.tenant_id) ?? 0;
        if (ofTenant >= KEYS_OF_TENANT_PER_RUN_MAX) continue;
        keysSeen += 1;
        keysByTenant.set(scheduled.tenant_id, ofTenant + 1);
        if (scheduled.wasDamaged === true) this.#deps.onError(scheduleWasDamaged(), scheduled.key_id);
        await this.#process(scheduled, run);
      }
    }
  }

  async #process(scheduled: ScheduledKey, run: Run): Promise<void> {
    const by: AuditContext = { actor: jobActor(run.lease.name), requestId: null, reason: null };
    const { cache, schedules, onError } = this.#deps;
    try {
      const { loaded, change } = await runAsProcess<LoadedPlan | null, Change>(by, {
        load: () => this.#load(scheduled),
        decide: (loaded) => (loaded === null ? null : this.#decide(loaded, by)),
        commit: ({ commit, preconditions }) => commit([...preconditions, run.lease]).then(() => {}),
        invalidate: () => cache.invalidate(scheduled.key_id),
        attemptsMax: 1,
      });
      if (change === null)
        await schedules.plan(loaded === null ? this.#planForInactiveTenant(scheduled) : plannedOf(loaded), scheduled);
    } catch (error) {
      // Somebody changed the key at the same moment. It is still due, so this run or the next one looks at it again.
      if (hasCode(error, 'conflict')) return;
      // An error of one key does not stop the run. If the database fails, storing this plan fails too and ends the run.
      await schedules.plan(this.#planAfter(scheduled, FAILED_AGAIN_MS), scheduled);
      if (!hasCode(error, 'key_quarantined')) onError(error, scheduled.key_id);
    }
  }

  /** Null: the key does not exist, or its tenant is not active. */
  async #load({ key_id: keyId, tenant_id: tenantId, ...row }: ScheduledKey): Promise<LoadedPlan | null> {
    const { storage, nextSecrets, usage, clock } = this.#deps;
    const stored = await storage.findIn(tenantId, keyId);
    if (stored?.tenant.state !== 'active') return null;
    const { record } = stored;
    const isForRecipient = record.rotation?.recipientJwk != null;
    const awaitsUse = isForRecipient || retiresWhenNextIsUsed(record) !== null;
    const next = isForRecipient ? await nextSecrets.find(tenantId, keyId) : null;
    const uses = awaitsUse ? await usage.ofKey(tenantId, keyId) : [];
    const announced = await this.#announced(row, record);
    const facts = {
      announced: announced?.number ?? null,
      announcedSince: announced?.since ?? null,
      isUsed: uses.some((use) => use.version === record.version && use.usageCount > 0),
      hasNextSecret: next?.version === record.version,
    };
    const now = clock.now();
    const expiryAnnounced =
      row.expiry_announced === null || row.expiry_announced_of === null
        ? null
        : { distanceSeconds: row.expiry_announced, expiresAt: row.expiry_announced_of };
    const expiry = planExpiryNotice(record, expiryAnnounced, this.#deps.expiryNotices, now);
    const base = { lookAtRead: row.look_at, stored, announced, expiry, expiryAnnounced, now };
    const plan = planRotation(record, facts, now);
    if (plan.step?.kind !== 'expire') return { ...base, plan, preconditions: [] };
    const preconditions = await this.#mayExpire(record, now);
    if (preconditions !== null) return { ...base, plan, preconditions };
    // The last administrator's key does not expire; its window is extended as with `extend`.
    const rotation = record.rotation && { ...record.rotation, onMissed: 'extend' as const };
    return { ...base, plan: planRotation({ ...record, rotation }, facts, now), preconditions: [] };
  }

  /**
   * What was announced about the current version; null: nothing. Where a missed window ends the key, its holder must have
   * been able to act for all of it, so what was announced before its tenant was resumed does not count.
   */
  async #announced(
    row: Omit<ScheduledKey, 'key_id' | 'tenant_id'>,
    record: KeyRecord,
  ): Promise<LoadedPlan['announced']> {
    const { announced: number, announced_since: since, announced_version: version } = row;
    if (number === null || since === null || version !== record.version) return null;
    if (record.rotation?.onMissed !== 'expire') return { number, since };
    // In the order of the log: times of events may come from clocks that were wrong.
    const resumed = await this.#deps.events.lastSeq(record.tenantId, 'tenant.resumed');
    if (resumed === null) return { number, since };
    const opened = await this.#deps.events.lastSeq(record.tenantId, 'key.rotation_due', record.id);
    return resumed > (opened ?? 0) ? null : { number, since };
  }

  /** The preconditions of letting the key expire. Null: it is the last administrator's key. */
  async #mayExpire(record: KeyRecord, now: Instant): Promise<readonly Precondition[] | null> {
    if (!losesAdminRights(record, { ...record, expiresAt: now }, now)) return [];
    try {
      return await this.#deps.administrators.requireAnotherAdmin(record);
    } catch (error) {
      if (hasCode(error, 'last_administrator')) return null;
      throw error;
    }
  }

  async #decide(loaded: LoadedPlan, by: AuditContext): Promise<Change | null> {
    const { stored, plan, now, preconditions } = loaded;
    switch (plan.step?.kind) {
      case undefined:
        return loaded.expiry.announce === null ? null : this.#eventOnlyChange(loaded, await this.#expiring(loaded, by));
      case 'rotate':
        return this.#recordChange(await this.#rotation(stored, by, now), [tenantAsRead(stored.tenant)]);
      case 'expire': {
        const reason = 'The next version was not claimed in time.';
        const change = updateKey(stored.record, { ...stored.record, expiresAt: now }, { ...by, reason }, now);
        const alsoAsRead = [...preconditions, tenantAsRead(stored.tenant)];
        return change && this.#recordChange({ change, secrets: stored.secrets }, alsoAsRead);
      }
      case 'retire': {
        const reason = 'The next version was used.';
        const change = retireVersion(stored.record, plan.step.version, { ...by, reason }, now);
        return change && this.#recordChange({ change, secrets: stored.secrets }, preconditions);
      }
      case 'announce':
      case 'complete':
        return this.#eventOnlyChange(
          loaded,
          await this.#deps.events.toRows([eventOf(plan.step, stored.record, by, now)]),
        );
    }
  }

  async #rotation({ record, secrets }: StoredKey, by: AuditContext, now: Instant): Promise<SealedChange> {
    const recipient = record.rotation?.recipientJwk ?? null;
    invariant(recipient !== null, 'the service rotates a key for its recipient only');
    const acceptedUntil = overlapEnd(record, null, now);
    const change = rotateKey(record, { acceptedUntil, expectedVersion: null }, by, now);
    const generated = generateKey({ keyPrefix: this.#deps.keyPrefix, environment: record.environment, id: record.id });
    const nextJwe = await encryptTo(recipient, generated.key);
    return { change, secrets: [versionSecret(change.record.version, generated), ...secrets], nextJwe };
  }

  /** If a step of the rotation is due as well, that step is made first, and the expiry is announced at the next look. */
  #expiring({ stored: { record }, now: at }: LoadedPlan, by: AuditContext): Promise<Commit['events']> {
    const { id: subjectId, tenantId } = record;
    const after = { expiresAt: new Date(record.expiresAt ?? at).toISOString() };
    return this.#deps.events.toRows([newEvent('key.expiring', { at, tenantId, subjectId, before: null, after }, by)]);
  }

  #recordChange(sealed: SealedChange, preconditions: readonly Precondition[]): Change {
    return { commit: (all) => this.#deps.storage.commit([{ ...sealed, preconditions: all }]), preconditions };
  }

  /** An event that does not change the record. A used next secret is deleted with it. */
  #eventOnlyChange(loaded: LoadedPlan, events: Commit['events']): Change {
    const { record } = loaded.stored;
    const where = { key_id: record.id, tenant_id: record.tenantId };
    const isUsed = loaded.plan.step?.kind === 'complete';
    const changes = isUsed ? [{ kind: 'delete', table: 'next_secrets', where } as const] : [];
    const commit = { changes, events, keySchedules: [plannedOf(loaded)] };
    return {
      commit: (preconditions) => this.#deps.ledger.commit({ ...commit, preconditions }),
      preconditions: [keyAsRead(record)],
    };
  }

  /** While its tenant is suspended, a holder cannot act on an announcement: it is made again afterwards. */
  #planForInactiveTenant(scheduled: ScheduledKey): Planned {
    return { ...this.#planAfter(scheduled, INACTIVE_TENANT_AGAIN_MS), announced: null };
  }

  #planAfter(
    { key_id: keyId, tenant_id: tenantId, revision, awaits_use_of, ...row }: ScheduledKey,
    ms: number,
  ): Planned {
    const { look_at: lookAtRead, announced: number, announced_version: version, announced_since: since } = row;
    const announced = number === null || version === null || since === null ? null : { number, version, since };
    const { expiry_announced: distanceSeconds, expiry_announced_of: expiresAt } = row;
    const expiryAnnounced = distanceSeconds === null || expiresAt === null ? null : { distanceSeconds, expiresAt };
    const lookAt = this.#deps.clock.now() + ms;
    return {
      kind: 'planned',
      keyId,
      tenantId,
      revision,
      lookAtRead,
      lookAt,
      awaitsUseOf: awaits_use_of,
      announced,
      expiryAnnounced,
    };
  }
}

function scheduleWasDamaged(): PantheonError {
  const detail = 'The schedule of this key was damaged. What was announced to its holder is announced again.';
  return new PantheonError('key_quarantined', { detail });
}

function eventOf(
  step: Extract<RotationStep, { kind: 'announce' | 'complete' }>,
  { id: subjectId, tenantId, version }: KeyRecord,
  by: AuditContext,
  at: Instant,
): AuditEventAbout<'key'> {
  const about = { at, tenantId, subjectId, before: null };
  if (step.kind === 'complete') return newEvent('key.rotation_completed', { ...about, after: { version } }, by);
  const { type, claimBefore } = step.announcement;
  return newEvent(type, { ...about, after: { version, claimBefore: instantToWire(claimBefore) } }, by);
}

/** The schedule after the step. */
function plannedOf(loaded: LoadedPlan): Planned {
  const { lookAtRead, plan, announced: before, expiry, expiryAnnounced, now } = loaded;
  const { record } = loaded.stored;
  const { id: keyId, tenantId, revision, version, expiresAt } = record;
  const { step, lookAt, awaitsUse } = plan;
  const announced =
    step?.kind === 'announce' ? { number: step.announcement.number, since: before?.since ?? now } : before;
  const isExpiryAnnounced = step === null && expiry.announce !== null && expiresAt !== null;
  return {
    kind: 'planned',
    keyId,
    tenantId,
    revision,
    lookAtRead,
    // Each commit has one step. Another one that is due as well is made at the next look.
    lookAt: step !== null && expiry.announce !== null ? now : earlier(lookAt, expiry.lookAt),
    awaitsUseOf: awaitsUse ? version : null,
    announced: announced && { ...announced, version },
    expiryAnnounced: isExpiryAnnounced ? { distanceSeconds: expiry.announce, expiresAt } : expiryAnnounced,
  };
}
