/** The public names of the library. Adapters for frameworks are in their own subpaths. */

export type { ActedOn, ActedOnKey } from './api-keys/acted-on-keys.ts';
export { type APIKey, type APIKeyRotation, type APIKeyVersion, keyHint } from './api-keys/api-key.ts';
export type { DurationInput } from './api-keys/duration-input.ts';
export type { IdTagChangeOptions, IdTagManager } from './api-keys/id-tag-manager.ts';
export type { IdTagSecret } from './api-keys/id-tags.ts';
export type { ActOnKey } from './api-keys/key-acts.ts';
export {
  APIKeyGenerator,
  type APIKeyMetadata,
  formatKey,
  type ParsedKey,
  parseKey,
} from './api-keys/key-generator.ts';
export type { CreateKeyInput } from './api-keys/key-input.ts';
export type { KeyFilter } from './api-keys/key-lists.ts';
export type { CreatedKey, CreateOptions, KeyManager, ReadOptions } from './api-keys/key-manager.ts';
export { KEY_INPUT_SCHEMAS, type UpdateKeyInput } from './api-keys/key-patch.ts';
export type { Cascade, Cascaded, RevokeOptions } from './api-keys/key-revocation.ts';
export type { RollBackOptions } from './api-keys/key-rollback.ts';
export type { KeyRotation, Rotation } from './api-keys/key-rotation.ts';
export type { QuarantinedKey } from './api-keys/key-storage.ts';
export type { Verification, VerifiedKey } from './api-keys/key-validator.ts';
export type { NextSecretForHolder } from './api-keys/next-secret-reader.ts';
export type { RootKeyStore } from './api-keys/root-key.ts';
export type { RotateKeyInput, RotationPolicyInput } from './api-keys/rotation-input.ts';
export type { VerifyRequest } from './api-keys/verify-request.ts';
export type { ConditionalOptions } from './commands/conditional-change.ts';
export { inputError } from './commands/input.ts';
export { PAGE_DEFAULT, PAGE_MAX, type Page } from './commands/pages.ts';
export type { Settled, SettleOptions } from './commands/propagation.ts';
export { clientBucket } from './domain/address.ts';
export type {
  AppTypes,
  GrantablePattern,
  ManagementPermission,
  Permission,
  PermissionPattern,
} from './domain/app-types.ts';
export type { ChangeOptions } from './domain/caller.ts';
export {
  type AsymmetricAlgorithm,
  AUDIENCE_LENGTH_MAX,
  AUDIENCES_MAX,
  type SigningAlgorithm,
} from './domain/claims.ts';
export { TrustedProxies } from './domain/client-address.ts';
export type { PresentedCredential, PresentedToken } from './domain/credential.ts';
export type { Actor, AuditContext, EventType } from './domain/event.ts';
export { EVENT_SUBJECTS, SUBJECT_TYPES } from './domain/event.ts';
export { ANY_ENVIRONMENT, type Environment } from './domain/key.ts';
export { ACTIONS, type Action, type Authority, type Caller } from './domain/key-policy.ts';
export type { MissedRotation } from './domain/key-settings.ts';
export type { LimitState, QuotaRule, RateLimitRule } from './domain/limits.ts';
export { covers, grants, isPermission, isPermissionPattern, PERMISSIONS_MAX } from './domain/permissions.ts';
export type { RotationHint, RotationState } from './domain/rotation-schedule.ts';
export { JWKS_MAX_AGE_SECONDS, type SigningKeyState } from './domain/signing-key-schedule.ts';
export { ANY_TENANT, DEFAULT_TENANT, SYSTEM_TENANT } from './domain/tenant.ts';
export type { Denial } from './domain/verification.ts';
export { type AcceptedDates, acceptClock, type ClockAcceptance } from './engine/accept-clock.ts';
export {
  type EmbeddedOptions,
  EXPIRY_NOTICES_MAX,
  type Logger,
  type PantheonAuthOptions,
  type ScaledOutOptions,
} from './engine/options.ts';
export type { AuditLog, EventFilter, TenantEvent } from './events/audit-log.ts';
export { type Clock, type Instant, systemClock } from './foundation/clock.ts';
export {
  CODES,
  type Code,
  type CodeEntry,
  DENIALS,
  type DenialCode,
  ERRORS,
  type ErrorCode,
  STARTUP,
} from './foundation/codes.ts';
export { holdsCredential, keyStringsIn, withoutCredentials } from './foundation/credential-text.ts';
export { SecretFile } from './foundation/durable-file.ts';
export { formatDuration, parseDuration } from './foundation/duration.ts';
export { hasCode, PantheonError } from './foundation/errors.ts';
export { headerValues } from './foundation/header-values.ts';
export { errorProblem, PROBLEM_MEDIA_TYPE, type Problem, toProblem } from './foundation/problem.ts';
export { Secret } from './foundation/secret.ts';
export { parseStrictJson } from './foundation/strict-json.ts';
export { pathFlaw, textFlaw } from './foundation/written-text.ts';
export type { JobStatus } from './jobs/job.ts';
export { type MintTokenOptions, mintKeyToken } from './jwt/holder-token.ts';
export type { RevokedToken } from './jwt/revocation.ts';
export type { QuarantinedSigningKey, RetireSigningKeyOptions, SigningKeyInfo } from './jwt/signing-key-manager.ts';
export { SIGNING_ALGORITHMS } from './jwt/signing-keyring.ts';
export type { IssuedToken, TokenOptions } from './jwt/token-issuer.ts';
export type { TokenVerification, VerifiedToken, VerifyTokenRequest } from './jwt/token-verifier.ts';
export type { Exchange, ExchangeRequest, JwtHandler } from './jwt-handler.ts';
export {
  type AuthenticateOptions,
  type Authentication,
  type AuthRequest,
  callerOf,
  errorRefusal,
  type NextSecretAnswer,
  type Principal,
  type Refusal,
  rateLimitHeaders,
} from './middleware.ts';
export { createPantheonAuth, type PantheonAuth, type TenantScope } from './pantheon-auth.ts';
export { COST_MAX, type LimiterStatus, type SharedLimits } from './rate-limit/rate-limiter.ts';
export { parseRedisUrls } from './rate-limit/redis/redis-url.ts';
export type { Database, DatabaseSource } from './storage/database.ts';
export { assertPostgresUrl, assertSchemaName, type PostgresNames } from './storage/postgres/postgres-url.ts';
export type { CreateTenantInput, UpdateTenantInput } from './tenants/tenant-input.ts';
export type { Tenant, TenantManager } from './tenants/tenant-manager.ts';
export type { QuarantinedTenant } from './tenants/tenant-storage.ts';
export type { UsageGranularity, UsageItem, UsageReport } from './usage/usage-query.ts';
