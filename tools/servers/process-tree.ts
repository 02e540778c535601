/** Reads which processes descend from another and whether they run: from /proc, or from `ps` where there is none. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

export interface ProcessEntry {
  readonly pid: number;
  readonly parentPid: number;
  /** The first letter of the kernel's state: R, S, D run; T is stopped; Z has ended. */
  readonly state: string;
}

/** @returns null when there is no such process. */
export function readProcess(pid: number): ProcessEntry | null {
  if (process.platform === 'linux') return readStat(pid);
  return readPs().find((entry) => entry.pid === pid) ?? null;
}

/** Every process below `pid`, without itself. Stop `pid` first, or it may start another while this reads. */
export function descendantsOf(pid: number): readonly number[] {
  const entries = readEntries();
  const below = (parent: number): readonly number[] =>
    entries.filter((entry) => entry.parentPid === parent).flatMap((entry) => [entry.pid, ...below(entry.pid)]);
  return below(pid);
}

/** Whether it still runs. One that has ended and waits for its parent to notice does not. */
export function isRunning(pid: number): boolean {
  const entry = readProcess(pid);
  return entry !== null && entry.state !== 'Z';
}

function readEntries(): readonly ProcessEntry[] {
  if (process.platform !== 'linux') return readPs();
  return readdirSync('/proc').flatMap((name) => {
    const entry = /^\d+$/.test(name) ? readStat(Number(name)) : null;
    return entry === null ? [] : [entry];
  });
}

function readStat(pid: number): ProcessEntry | null {
  try {
    // The name of the program stands in parentheses and may hold anything; after the last one the fields are plain.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state = '', parent = ''] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { pid, parentPid: Number(parent), state };
  } catch {
    return null; // It has ended.
  }
}

function readPs(): readonly ProcessEntry[] {
  const table = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,state='], { encoding: 'utf8' });
  return table.split('\n').flatMap((line) => {
    const [pid = '', parent = '', state = ''] = line.trim().split(/\s+/);
    return pid === '' ? [] : [{ pid: Number(pid), parentPid: Number(parent), state: state.slice(0, 1) }];
  });
}
