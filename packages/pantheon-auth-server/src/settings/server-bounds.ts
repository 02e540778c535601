/** What the HTTP server takes at most, and how long it waits. Each bound with its reason. */

/** The largest thing anybody sends is a key with its metadata and claims: a tenth of this. */
export const BODY_BYTES_MAX: number = 64 * 1_024;
/** Two credentials of 8 KiB would fit; more is no request of ours. */
export const HEADER_BYTES_MAX: number = 16 * 1_024;
/** A body of ours nests 4 levels deep, and metadata 8 more. */
export const JSON_DEPTH_MAX = 16;
/** A token request is read before anybody is authenticated. A key, a token and some audiences are a third of this. */
export const FORM_BYTES_MAX: number = 16 * 1_024;
/** A token request has at most a dozen parameters and a few audiences. */
export const FORM_PARAMETERS_MAX = 32;
/** Longer than any id, so that what is not an id is told as one that does not exist. */
export const PATH_PARAMETER_LENGTH_MAX = 512;
/** Headers of 16 KiB take milliseconds; who needs longer holds a socket on purpose. */
export const HEADERS_TIMEOUT_MS = 10_000;
/** A body of 64 KiB over a bad mobile line. */
export const REQUEST_TIMEOUT_MS = 30_000;
/** Longer than the 60 s after which load balancers reuse a connection, so that they close it and not we. */
export const KEEP_ALIVE_TIMEOUT_MS = 65_000;
/** How old a verified caller may be when the body is there. The engine says no yes that is older either. */
export const CALLER_AGE_MAX_MS = 1_000;
/** How often the timeouts above are looked at. */
export const TIMEOUTS_CHECK_MS = 2_000;
/**
 * From the headers on: as long as a body may take to arrive, so that a late one is told as such, and then longer than the
 * store keeps a write waiting, so that nothing that can still succeed is cut off.
 */
export const HANDLER_TIMEOUT_MS: number = REQUEST_TIMEOUT_MS + TIMEOUTS_CHECK_MS + 30_000;
/** About 200 MB of sockets, and as much of forms that are half sent. A load balancer needs a few hundred. */
export const CONNECTIONS_MAX = 10_000;
/** What is under way is finished within this when the process is told to stop: containers are killed after 10 s. */
export const SHUTDOWN_MS = 8_000;
/** What is kept of a user agent in the audit trail. */
export const USER_AGENT_LENGTH_MAX = 256;
