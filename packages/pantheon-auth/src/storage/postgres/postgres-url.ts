/**
 * Validates PostgreSQL URLs. The driver ignores unknown parameters, so a parameter of another program would silently
 * have no effect. Such parameters are refused with advice.
 */
import { PantheonError } from '../../foundation/errors.ts';
import { isPercentDecodable } from '../../foundation/written-text.ts';

/** The names of the parts for error messages: options of the library, or settings of the service. */
export interface PostgresNames {
  readonly url: string;
  readonly schema: string;
  readonly poolMax: string;
}

const OPTION_NAMES: PostgresNames = { url: 'url', schema: 'schema', poolMax: 'poolMax' };

/** Parameters that are passed to the driver. */
const PASSED: ReadonlySet<string> = new Set([
  ...['host', 'port', 'user', 'password', 'application_name'],
  ...['sslrootcert', 'sslcert', 'sslkey', 'sslmode', 'sslnegotiation', 'uselibpqcompat', 'ssl'],
]);
const VALUES: Readonly<Record<string, readonly string[]>> = {
  sslmode: ['disable', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify'],
  sslnegotiation: ['postgres', 'direct'],
  uselibpqcompat: ['true', 'false'],
  ssl: ['true', 'false', '1', '0'],
};
/**
 * Parameters of other programs, which errors may name. Any other name could be part of a password and is not repeated.
 */
const KNOWN_ELSEWHERE: ReadonlySet<string> = new Set([
  ...['schema', 'currentSchema', 'search_path', 'options', 'connection_limit', 'max', 'pool_timeout', 'pgbouncer'],
  ...['connect_timeout', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'socket_timeout'],
  ...[
    'target_session_attrs',
    'load_balance_hosts',
    'hostaddr',
    'channel_binding',
    'gssencmode',
    'sslcrl',
    'sslpassword',
  ],
  ...['keepalives', 'keepalives_idle', 'client_encoding', 'encoding', 'fallback_application_name', 'dbname', 'db'],
  ...['replication', 'service', 'passfile', 'requiressl', 'sslaccept', 'sslidentity', 'sslinline', 'timezone'],
]);

const FORM = 'Write postgres://user@host:port/database, user and password percent-encoded.';

/**
 * Validates a PostgreSQL URL before connecting. Errors do not repeat it, except for names of known parameters.
 *
 * @throws PantheonError `invalid_setting`.
 *
 * @example
 * ```ts
 * import { assertPostgresUrl } from 'pantheon-auth';
 * assertPostgresUrl('postgres://pantheon@db.internal/pantheon?sslmode=verify-full');
 * ```
 */
export function assertPostgresUrl(text: string, names: PostgresNames = OPTION_NAMES): void {
  const invalid = (detail: string): PantheonError => new PantheonError('invalid_setting', { field: names.url, detail });
  const url = parse(text);
  if (url === 'several hosts')
    throw invalid('It names several hosts. Name one that always leads to the primary: a DNS name or a proxy.');
  // A password that is not percent-encoded could be parsed as the database name and be logged.
  if (
    url === null ||
    url.hash !== '' ||
    /@/.test(url.pathname + url.search) ||
    /\s/.test(text) ||
    !isPercentDecodable(text)
  )
    throw invalid(FORM);
  const parameters = [...url.searchParams];
  for (const [name, value] of parameters) {
    if (!PASSED.has(name)) throw invalid(refusalOf(name, names));
    if (parameters.filter(([other]) => other === name).length > 1) throw invalid(`It says ${name} twice.`);
    if (VALUES[name]?.includes(value) === false) throw invalid(`${name} is one of: ${VALUES[name].join(', ')}.`);
  }
  const host = url.searchParams.get('host');
  if (host?.includes(',')) throw invalid('host names several. Name one that always leads to the primary.');
  if (host !== null && url.hostname !== '') throw invalid('It names a host in two places. Leave one of them out.');
  if (/[^\w.$%-]/.test(url.pathname.slice(1)))
    throw invalid('The name of the database is not valid. Percent-encode it.');
}

/** The URL for messages, without user and password. The URL must be valid. */
export function nameOfPostgresUrl(text: string): string {
  const url = parse(text);
  if (url === null || url === 'several hosts') return 'postgres://';
  return `postgres://${url.host || (url.searchParams.get('host') ?? '')}${url.pathname}`;
}

/** Validates a schema name: one that needs no quotes in SQL. */
export function assertSchemaName(name: string, field: string = OPTION_NAMES.schema): void {
  if (/^[a-z_][a-z0-9_]{0,62}$/.test(name) && !/^pg_|^information_schema$/.test(name)) return;
  const detail = 'Write 1 to 63 of a-z, 0-9 and _, beginning with a letter, and not pg_ or information_schema.';
  throw new PantheonError('invalid_setting', { field, detail });
}

/**
 * `URL` refuses a user without a host, as in `postgres://user@/database?host=/run/postgresql`, which is handled here.
 */
function parse(text: string): URL | 'several hosts' | null {
  const [, authority = ''] = /^postgres(?:ql)?:\/\/([^/?#]*)/.exec(text) ?? [];
  if (!/^postgres(?:ql)?:\/\//.test(text)) return null;
  if (authority.slice(authority.lastIndexOf('@') + 1).includes(',')) return 'several hosts';
  const isWithoutHost = authority.endsWith('@');
  const whole = isWithoutHost ? text.replace('@/', '/').replace(/^(postgres(?:ql)?:\/\/)[^/]*/, '$1') : text;
  return URL.canParse(whole) ? new URL(whole) : null;
}

function refusalOf(name: string, names: PostgresNames): string {
  if (!KNOWN_ELSEWHERE.has(name)) return 'It has a parameter that means nothing here. Leave it out.';
  if (/^(?:schema|currentSchema|search_path)$/.test(name))
    return `${name} means nothing in it. Name the schema as ${names.schema}.`;
  if (/^(?:connection_limit|max)$/.test(name))
    return `${name} means nothing in it. Name the number of connections as ${names.poolMax}.`;
  if (/timeout$/.test(name)) return `${name} means nothing in it: every wait is bounded already. Leave it out.`;
  if (name === 'pgbouncer') return 'pgbouncer means nothing in it: use pool_mode = session there, and leave it out.';
  if (name === 'channel_binding') return 'channel_binding means nothing in it. Leave it out, with sslmode=verify-full.';
  return `${name} means nothing in it. Leave it out.`;
}
