#!/usr/bin/env node
/** `pantheon-auth`: hands the process to the program and ends it with its exit code. */
import process from 'node:process';
import { loadClientVariables } from '../settings/config.ts';
import { EXIT } from './exit-codes.ts';
import { run } from './program.ts';

const { argv, stdin, stdout, stderr } = process;

let isOutputLost = false;
for (const stream of [stdout, stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // The reader of a pipe went away, as `head` does: there is nobody to tell, and a service goes on.
    if (error.code === 'EPIPE') return;
    isOutputLost = true;
    process.exitCode = EXIT.internal;
  });
}

const exitCode = await run(argv.slice(2), { stdin, stdout, stderr, variables: loadClientVariables() });
// The code only: what is still to be written is written before the process ends.
process.exitCode = isOutputLost ? EXIT.internal : exitCode;
