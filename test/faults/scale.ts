/** How long the fault tests run. Continuous integration runs each once; `npm run test:faults:long` many rounds of each. */

const ROUNDS_VARIABLE = 'PANTHEON_AUTH_FAULT_ROUNDS';
const ROUNDS_MAX = 1_000;

/** How many times as much is done as in continuous integration. */
export const ROUNDS: number = readRounds(process.env[ROUNDS_VARIABLE] ?? '1');

function readRounds(text: string): number {
  const rounds = Number(text);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > ROUNDS_MAX)
    throw new Error(`${ROUNDS_VARIABLE} is a whole number from 1 to ${ROUNDS_MAX}.`);
  return rounds;
}
