/**
 * Owns what must not outlive this process: one temporary folder, and the list of the server processes started from it. A
 * watchdog, a small shell of its own session, waits for the end of this process in whatever way it comes (also SIGKILL, where
 * no handler runs), then ends those processes and removes the folder. Nobody has to catch a signal for it.
 */
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * `cat` returns when the pipe's other end, which only this process holds, is closed. A paused server must continue before it
 * can end in an orderly way. 30 times 0.1 s is more than PostgreSQL takes for an immediate shutdown. A process that has ended
 * keeps its number until its parent notices, in state Z: it is not waited for.
 */
const WATCHDOG = `
runs() {
  kill -0 "$1" 2>/dev/null || return 1
  case "$(cat "/proc/$1/stat" 2>/dev/null)" in *") Z "*) return 1 ;; esac
}
cat >/dev/null
cd "$1/processes" || exit 0
for pid in [0-9]*; do
  [ -e "$pid" ] || continue
  read -r signal paused <"$pid"
  kill -CONT "$pid" $paused 2>/dev/null
  kill -"$signal" "$pid" 2>/dev/null
done
for pid in [0-9]*; do
  tries=0
  while [ -e "$pid" ] && runs "$pid" && [ "$tries" -lt 30 ]; do sleep 0.1; tries=$((tries + 1)); done
  [ -e "$pid" ] && kill -KILL "$pid" 2>/dev/null
done
rm -rf "$1"
`;

let folder: string | null = null;

/** The folder of this process for its servers. Other users may pass through it: PostgreSQL does not run as root. */
export function runFolder(): string {
  if (folder !== null) return folder;
  const created = mkdtempSync(join(tmpdir(), 'pantheon-servers-'));
  chmodSync(created, 0o755);
  mkdirSync(join(created, 'processes'));
  const watchdog = spawn('sh', ['-c', WATCHDOG, 'watchdog', created], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watchdog.unref();
  if (watchdog.stdin instanceof Socket) watchdog.stdin.unref();
  folder = created;
  return created;
}

/** A new empty folder for one server. */
export function newServerFolder(name: string): string {
  const created = mkdtempSync(join(runFolder(), `${name}-`));
  chmodSync(created, 0o755);
  return created;
}

export function removeServerFolder(path: string): void {
  rmSync(path, { recursive: true, force: true });
}

/** Puts a process on the watchdog's list, or renews its line. `paused` are the processes that need SIGCONT first. */
export function ownProcess(pid: number, endSignal: NodeJS.Signals, paused: readonly number[]): void {
  writeFileSync(
    join(runFolder(), 'processes', String(pid)),
    `${[endSignal.replace('SIG', ''), ...paused].join(' ')}\n`,
  );
}

/** Takes a process that has ended off the list: its number may soon belong to a stranger. */
export function disownProcess(pid: number): void {
  rmSync(join(runFolder(), 'processes', String(pid)), { force: true });
}
