/** Parses rotation policies and the input of one rotation. */
import { z } from 'zod';
import { parse } from '../commands/input.ts';
import { type MissedRotation, ROTATION_WINDOW_SECONDS_DEFAULT, type RotationSettings } from '../domain/key-settings.ts';
import { OVERLAP_SECONDS_DEFAULT } from '../domain/rotation-schedule.ts';
import type { JsonObject } from '../foundation/encoding.ts';
import { type DurationInput, duration } from './duration-input.ts';
import { described, INNER_DESCRIPTIONS } from './key-descriptions.ts';
import { parseRecipientJwk } from './recipient-key.ts';

/** The rotation policy of a key, as input. */
export interface RotationPolicyInput {
  /** The age of a version at which a rotation is due. Default: never. */
  readonly every?: DurationInput | null | undefined;
  /** How long the previous version is accepted after a rotation. Default: a day. */
  readonly overlap?: DurationInput | null | undefined;
  /** How long the holder has to claim the next version once the rotation is due. Default: a week. */
  readonly window?: DurationInput | null | undefined;
  /** Whether the window is then opened again, twice as long, or the key expires. Default: `extend`. */
  readonly onMissed?: MissedRotation | null | undefined;
  /**
   * A public key of the holder (JWK, RFC 7517): RSA of 2048 to 4096 bits, EC on P-256, or OKP on X25519. With it the
   * service rotates the key by itself and encrypts the next key string to it.
   */
  readonly recipientJwk?: object | null | undefined;
}

/** An overlap is for replacing the old key string everywhere. A leaked old version must not be accepted for longer. */
export const OVERLAP_SECONDS_MAX: number = 30 * 86_400;
/** How long the holder may have to claim the next version. */
export const ROTATION_WINDOW_SECONDS_MIN = 60;
export const ROTATION_WINDOW_SECONDS_MAX: number = 90 * 86_400;

const recipientJwk: z.ZodType<JsonObject, object> = z.record(z.string(), z.unknown()).transform((value, context) => {
  const parsed = parseRecipientJwk(value);
  if (parsed.ok) return parsed.jwk;
  context.addIssue({ code: 'custom', message: parsed.why });
  return z.NEVER;
});

/** The rotation policy of a key. */
export const rotationPolicy: z.ZodType<RotationSettings, RotationPolicyInput> = z
  .strictObject(
    described(
      {
        every: duration.refine((seconds) => seconds >= 1, 'At least 1s.').nullish(),
        overlap: duration.refine((seconds) => seconds <= OVERLAP_SECONDS_MAX, 'At most 30d.').nullish(),
        window: duration.refine(isWindow, 'A window is 1m to 90d.').nullish(),
        onMissed: z.enum(['extend', 'expire']).nullish(),
        recipientJwk: recipientJwk.nullish(),
      },
      INNER_DESCRIPTIONS.rotation,
    ),
  )
  .superRefine(({ every, overlap, onMissed, recipientJwk: recipient }, context) => {
    // `recipientJwk` and `onMissed: expire` have an effect only with `every`.
    const unused = recipient ? 'recipientJwk' : onMissed === 'expire' ? 'onMissed' : null;
    if (unused !== null && !every) context.addIssue({ code: 'custom', path: [unused], message: 'Give every too.' });
    // The service does not rotate while an older version is accepted.
    if (recipient && every && (overlap ?? 0) >= every)
      context.addIssue({ code: 'custom', path: ['overlap'], message: 'With a recipientJwk, shorter than every.' });
  })
  .transform(({ every, overlap, window, onMissed, recipientJwk: recipient }) => ({
    everySeconds: every ?? null,
    overlapSeconds: overlap ?? defaultOverlap(recipient ? every : null),
    windowSeconds: window ?? ROTATION_WINDOW_SECONDS_DEFAULT,
    onMissed: onMissed ?? ('extend' as const),
    recipientJwk: recipient ?? null,
  }));

/** If the service rotates the key: half of `every`, at most a day, so that the overlap ends before the next rotation. */
function defaultOverlap(everySeconds: number | null | undefined): number {
  const half = Math.floor((everySeconds ?? Number.POSITIVE_INFINITY) / 2);
  return Math.min(OVERLAP_SECONDS_DEFAULT, half);
}

function isWindow(seconds: number): boolean {
  return seconds >= ROTATION_WINDOW_SECONDS_MIN && seconds <= ROTATION_WINDOW_SECONDS_MAX;
}

const rotateSchema = z.strictObject({
  overlap: duration.refine((seconds) => seconds <= OVERLAP_SECONDS_MAX, 'At most 30d.').nullish(),
  expectedVersion: z.int().min(1).nullish(),
  retireOnFirstUse: z.boolean().nullish(),
});

export interface RotateKeyInput {
  /** How long the previous version is still accepted. Default: the overlap of the key's policy, or a day. */
  readonly overlap?: DurationInput | null | undefined;
  /** The number of the current version. Required to rotate during an overlap, which ends the older version at once. */
  readonly expectedVersion?: number | null | undefined;
  /** Whether the previous version ends within seconds of the first use of the new one. Default: false. */
  readonly retireOnFirstUse?: boolean | null | undefined;
}

export function parseRotateInput(input: unknown): {
  readonly overlapSeconds: number | null;
  readonly expectedVersion: number | null;
  readonly retireOnFirstUse: boolean;
} {
  const { overlap, expectedVersion, retireOnFirstUse } = parse(rotateSchema, input);
  return {
    overlapSeconds: overlap ?? null,
    expectedVersion: expectedVersion ?? null,
    retireOnFirstUse: retireOnFirstUse ?? false,
  };
}
