/** The jobs that delete expired rows. Each is implemented beside what it deletes. */
import { pruneAnswers } from '../commands/answer-retention.ts';
import type { IdempotencyRows } from '../commands/idempotency-rows.ts';
import { type Clock, MINUTE_MS } from '../foundation/clock.ts';
import { deleteExpiredRevocations, type RevocationRetentionDeps } from '../jwt/revocation-retention.ts';
import { pruneUsage } from '../usage/usage-retention.ts';
import type { UsageRows } from '../usage/usage-rows.ts';
import type { Job } from './job.ts';

/** Much longer than a run takes on a working disk. */
const RUN_MS_MAX: number = 10 * MINUTE_MS;

export interface RetentionDeps extends Omit<RevocationRetentionDeps, 'rows'> {
  readonly usage: Pick<UsageRows, 'prune'>;
  readonly idempotency: Pick<IdempotencyRows, 'prune'>;
  readonly tokenRevocations: RevocationRetentionDeps['rows'];
  readonly clock: Clock;
}

export function retentionJobs(deps: RetentionDeps): readonly Job[] {
  const { usage, idempotency, tokenRevocations, ledger, events, clock } = deps;
  return [
    {
      name: 'usage-retention',
      everyMs: MINUTE_MS,
      runMsMax: RUN_MS_MAX,
      run: async ({ isEnding }) => void (await pruneUsage(usage, clock, isEnding)),
    },
    {
      name: 'answer-retention',
      everyMs: 10 * MINUTE_MS,
      runMsMax: RUN_MS_MAX,
      run: ({ isEnding }) => pruneAnswers(idempotency, clock, isEnding),
    },
    {
      name: 'token-revocation-retention',
      everyMs: 10 * MINUTE_MS,
      runMsMax: RUN_MS_MAX,
      run: (run) => deleteExpiredRevocations({ rows: tokenRevocations, ledger, events, clock }, run),
    },
  ];
}
