/** Size limits and timeouts of the HTTP server, each with its reason. */

/** For the bodies that hold lists. The largest valid one, a key with 256 permissions and 16 audiences, has 56 KiB. */
export const BODY_BYTES_MAX: number = 64 * 1_024;
/**
 * For all other bodies: a reason of 256 characters has 1.5 KiB if every one is escaped. Bodies up to this size are not
 * counted; they are bounded by the number of connections.
 */
export const SMALL_BODY_BYTES_MAX: number = 4 * 1_024;
/** The bodies above that size that are arriving, of all connections together: a thousand of the largest. */
export const BODIES_BYTES_MAX: number = 1_024 * BODY_BYTES_MAX;
/**
 * The part of the room for bodies, and of that for answers, that all callers without a valid key may take together. They can
 * have any number of addresses. The longest token requests need little of it.
 */
export const UNAUTHENTICATED_PART = 0.5;
/** Fits two credentials of 8 KiB; no valid request needs more. */
export const HEADER_BYTES_MAX: number = 16 * 1_024;
/** Valid bodies nest 4 levels deep, and metadata 8 more. */
export const JSON_DEPTH_MAX = 16;
/** A token request is read before anybody is authenticated. A key, a token and some audiences are a third of this. */
export const FORM_BYTES_MAX: number = 16 * 1_024;
/** A token request has at most a dozen parameters and a few audiences. */
export const FORM_PARAMETERS_MAX = 32;
/** Longer than any id, so that a malformed id gets 404 from its route. */
export const PATH_PARAMETER_LENGTH_MAX = 512;
/** Headers of 16 KiB arrive in milliseconds; a client that needs longer is likely to hold the socket on purpose. */
export const HEADERS_TIMEOUT_MS = 10_000;
/** Enough for a body of 64 KiB over a bad mobile connection. */
export const REQUEST_TIMEOUT_MS = 30_000;
/** Longer than the 60 s idle timeout of load balancers, so that the load balancer closes idle connections first. */
export const KEEP_ALIVE_TIMEOUT_MS = 65_000;
/**
 * How old the authentication of the caller may be when the request is handled, and when a key has been verified for it:
 * as old as the facts behind an acceptance may be.
 */
export const CALLER_AGE_MAX_MS = 1_000;
/** How often Node checks the timeouts above. */
export const TIMEOUTS_CHECK_MS = 2_000;
/**
 * Counted from the headers: as long as a body may take to arrive, so that a body that arrives too late is answered with
 * `request_timeout`, and then longer than the store keeps a write waiting, so that nothing that can still succeed is cut
 * off.
 */
export const HANDLER_TIMEOUT_MS: number = REQUEST_TIMEOUT_MS + TIMEOUTS_CHECK_MS + 30_000;
/**
 * A load balancer needs a few hundred. Each may hold a socket and a request (20 KB, and headers of 16 KiB), a small body
 * that is half sent (4 KiB, and 7 KB for 16 chunks) and a small answer that is not read (12 KiB in memory): 600 MB at the
 * most. What is larger is counted for all connections together. At the bound `connection-places.ts` closes one for a new
 * one.
 */
export const CONNECTIONS_MAX = 10_000;
/** One scraper, and room for tests. */
export const METRICS_CONNECTIONS_MAX = 16;
/**
 * Requests of one connection that were read and not answered; a connection with more is closed. Clients in use send one
 * at a time, and 16 is the depth of common benchmarks with pipelining.
 */
export const UNANSWERED_MAX = 16;
/** What Node reads of a socket at once. */
export const READ_BYTES_MAX: number = 64 * 1_024;
/** Requests that wait for the answer to an earlier one on their connection: at least two thousand without a body. */
export const WAITING_BYTES_MAX: number = 32 * 1_048_576;
/**
 * What a chunk of a body takes in memory besides its bytes; a client can send one byte in each chunk. Measured: 414 bytes
 * with Node 20.
 */
export const CHUNK_BYTES = 512;
/** Chunks of one body that are not counted. Nearly all bodies arrive in one to three. */
export const UNCOUNTED_CHUNKS_MAX = 16;
/** All other chunks of requests that are not answered, of all connections: 65 536. */
export const CHUNKS_BYTES_MAX: number = 65_536 * CHUNK_BYTES;
/** A few lines of JSON. Answers up to this size are not counted; they are bounded by the number of connections. */
export const SMALL_ANSWER_BYTES_MAX: number = 4 * 1_024;
/** Larger answers that the clients have not read yet, of all connections: sixty of the largest pages. */
export const ANSWERS_BYTES_MAX: number = 64 * 1_048_576;
/**
 * How long a connection may take none of the bytes that are ready for it. Node closes the connection at the second of two
 * checks that find no byte sent: after this time at the earliest, and after twice this time and two seconds at the latest.
 * A mobile connection is rarely interrupted for longer.
 */
export const UNREAD_TIMEOUT_MS = 15_000;
/** The time for requests in progress when the process is stopped. Containers are killed after 10 s. */
export const SHUTDOWN_MS = 8_000;
/** A longer user agent is cut in the audit trail. */
export const USER_AGENT_LENGTH_MAX = 256;
