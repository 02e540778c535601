/** Prints answers about keys: a record, a new key with its key string, the result of a verification. */
import { CODES, type Code, PantheonError, type SecretFile } from 'pantheon-auth';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { keyFacts, objectOf, show } from './key-view.ts';
import { claimSecretFile } from './secret-output.ts';
import type { Session } from './session.ts';
import type { JsonBody } from './transport.ts';

export function printKey({ output }: Session, body: JsonBody): ExitCode {
  if (output.json) output.answer(body);
  else output.facts(keyFacts('apiKey' in body ? objectOf(body, 'apiKey') : body));
  return EXIT.ok;
}

/** Writes the key string to its file, or alone to standard output. It is stored nowhere else. */
export async function sayNewKey(
  { output }: Session,
  out: string | undefined,
  ask: () => Promise<JsonBody>,
): Promise<ExitCode> {
  const file = out === undefined ? null : await claimSecretFile(out);
  const answer = await askOrDiscard(ask, file);
  const { key, ...rest } = answer;
  const apiKey = objectOf(answer, 'apiKey');
  if (file !== null) {
    await keep(file, String(key), show(apiKey['id']));
    if (output.json) output.answer(rest);
    else output.facts(keyFacts(apiKey));
    output.note(`The key string is in ${file.path}. It is stored nowhere else.`);
    return EXIT.ok;
  }
  if (output.json) output.answer(answer);
  else {
    output.facts(keyFacts(apiKey), 'stderr');
    output.note('This is the only time that the key string is shown:');
    output.line(String(key));
  }
  return EXIT.ok;
}

async function askOrDiscard(ask: () => Promise<JsonBody>, file: SecretFile | null): Promise<JsonBody> {
  try {
    return await ask();
  } catch (error) {
    await file?.discard();
    throw error;
  }
}

async function keep(file: SecretFile, key: string, id: string): Promise<void> {
  try {
    await file.write(`${key}\n`);
  } catch (cause) {
    const detail = `The key ${id} was created, but its string could not be written to ${file.path}: rotate or revoke it`;
    throw new PantheonError('store_full', { detail, cause });
  }
}

/** Prints the result of a verification. */
export function sayVerdict({ output }: Session, verdict: JsonBody): ExitCode {
  const isValid = verdict['valid'] === true;
  if (output.json) output.answer(verdict);
  else {
    const code = show(verdict['code']);
    const advice = Object.hasOwn(CODES, code) ? ` ${CODES[code as Code].title}` : '';
    output.verdict(isValid, isValid ? 'valid' : `not valid: ${code}.${advice}`);
    output.facts(keyFacts(verdict).filter(([name]) => name !== 'valid' && name !== 'code'));
  }
  return isValid ? EXIT.ok : EXIT.refused;
}
