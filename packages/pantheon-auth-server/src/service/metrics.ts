/** Metrics for Prometheus on a separate port, so that they are not public by accident. */
import type { RequestListener, Server } from 'node:http';
import type { JobStatus, PantheonAuth } from 'pantheon-auth';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { createBoundedServer } from '../http/bounded-server.ts';
import type { Answered } from '../http/request-log.ts';
import { METRICS_CONNECTIONS_MAX } from '../settings/server-bounds.ts';

/** The buckets of the OpenTelemetry conventions, and two smaller ones for verifications of cached keys. */
const BUCKETS_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
const MILLISECONDS = 1_000;

type MeasuredEngine = Pick<PantheonAuth, 'outcomes' | 'droppedUses' | 'failingSenders' | 'limiterStatus' | 'jobs'>;

export class Metrics {
  readonly #registry = new Registry();
  readonly #durations: Histogram;

  constructor(auth: MeasuredEngine) {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    this.#durations = new Histogram({
      name: 'http_server_request_duration_seconds',
      help: 'Duration of HTTP requests.',
      labelNames: ['http_request_method', 'http_route', 'http_response_status_code'],
      buckets: BUCKETS_SECONDS,
      registers,
    });
    new Counter({
      name: 'pantheon_auth_verifications_total',
      help: 'Verifications of keys and tokens, by outcome.',
      labelNames: ['outcome'],
      registers,
      // Read from the engine's counters, so that verifications do no extra work for metrics.
      collect() {
        this.reset();
        for (const [outcome, count] of auth.outcomes()) this.inc({ outcome }, count);
      },
    });
    new Counter({
      name: 'pantheon_auth_usage_dropped_total',
      help: 'Uses of keys that no stored count holds, because the database was away for too long.',
      registers,
      collect() {
        this.reset();
        this.inc(auth.droppedUses());
      },
    });
    new Gauge({
      name: 'pantheon_auth_failing_senders',
      help: 'Senders (IPv4 addresses, IPv6 /64 networks) that repeatedly present invalid credentials. They are not blocked.',
      registers,
      collect() {
        this.set(auth.failingSenders());
      },
    });
    new Gauge({
      name: 'pantheon_auth_limiter_degraded',
      help: '1 while this node admits only its share of each rate limit, or nothing, because Redis does not answer or, without Redis, another node may run beside it. Otherwise 0.',
      registers,
      collect() {
        this.set(auth.limiterStatus().isDegraded ? 1 : 0);
      },
    });
    new Counter({
      name: 'pantheon_auth_limiter_degraded_decisions_total',
      help: 'Limit decisions made or refused while degraded.',
      registers,
      collect() {
        this.reset();
        this.inc(auth.limiterStatus().degradedDecisions);
      },
    });
    measureJobs(auth, registers);
  }

  readonly answered = ({ method, route, status, durationMs }: Answered): void => {
    this.#durations.observe(
      { http_request_method: method, http_route: route, http_response_status_code: status },
      durationMs / MILLISECONDS,
    );
  };

  /** The metrics server, not listening yet. */
  server(onError: (error: unknown) => void): Server {
    const registry = this.#registry;
    const answer: RequestListener = (request, response) => {
      if (request.method !== 'GET' || request.url !== '/metrics') {
        response.writeHead(404).end();
        return;
      }
      registry.metrics().then(
        (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
        (error: unknown) => {
          onError(error);
          response.writeHead(500).end();
        },
      );
    };
    return createBoundedServer(answer, { connectionsMax: METRICS_CONNECTIONS_MAX });
  }
}

/** Background jobs as this node knows them. Over all nodes, sum the runs and take the latest success. */
function measureJobs(auth: Pick<PantheonAuth, 'jobs'>, registers: Registry[]): void {
  new Counter({
    name: 'pantheon_auth_job_runs_total',
    help: 'Runs of background jobs on this node, by outcome.',
    labelNames: ['job', 'outcome'],
    registers,
    collect() {
      this.reset();
      for (const { name, successes, failures } of auth.jobs()) {
        this.inc({ job: name, outcome: 'success' }, successes);
        this.inc({ job: name, outcome: 'failure' }, failures);
      }
    },
  });
  const gauge = (name: string, help: string, read: (job: JobStatus) => number | null): void => {
    new Gauge({
      name,
      help,
      labelNames: ['job'],
      registers,
      collect() {
        this.reset();
        for (const job of auth.jobs()) {
          const value = read(job);
          if (value !== null) this.set({ job: job.name }, value);
        }
      },
    });
  };
  gauge(
    'pantheon_auth_job_last_duration_seconds',
    'Duration of the last run of a job on this node, successful or not.',
    ({ lastDurationMs }) => (lastDurationMs === null ? null : lastDurationMs / MILLISECONDS),
  );
  gauge(
    'pantheon_auth_job_last_success_timestamp_seconds',
    'Time of the last successful run of a job on this node, in seconds since 1970.',
    ({ lastSuccessAt }) => (lastSuccessAt === null ? null : lastSuccessAt.getTime() / MILLISECONDS),
  );
  gauge(
    'pantheon_auth_job_lease_held',
    '1 while this node holds the lease of a job, so that no other node runs it. Otherwise 0.',
    ({ holdsLease }) => (holdsLease ? 1 : 0),
  );
}
