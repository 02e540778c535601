#!/usr/bin/env node
/** `pantheon-auth`: runs the command line and sets the exit code of the process. */
import process from 'node:process';
import { loadClientVariables } from '../settings/config.ts';
import { EXIT } from './exit-codes.ts';
import { run } from './program.ts';

const { argv, stdin, stdout, stderr } = process;

let isOutputLost = false;
for (const stream of [stdout, stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // The reader of a pipe closed it, as `head` does. Not an error; a running service continues.
    if (error.code === 'EPIPE') return;
    isOutputLost = true;
    process.exitCode = EXIT.internal;
  });
}

const exitCode = await run(argv.slice(2), { stdin, stdout, stderr, variables: loadClientVariables() });
// Sets the exit code without calling `process.exit`, so that pending output is written first.
process.exitCode = isOutputLost ? EXIT.internal : exitCode;
