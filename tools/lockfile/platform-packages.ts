/** Which platform packages a lock leaves out, and the entries that it needs for them. */

export interface LockEntry {
  readonly version?: string;
  readonly dev?: boolean;
  readonly license?: string;
  readonly engines?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

export interface Lock {
  readonly packages: Readonly<Record<string, LockEntry>>;
}

export function completeLock(lock: Lock): { readonly lock: Lock; readonly added: readonly string[] } {
  const paths = Object.keys(lock.packages);
  const missing = new Map<string, LockEntry>();
  for (const parent of Object.values(lock.packages)) {
    for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
      if (paths.some((path) => path === `node_modules/${name}` || path.endsWith(`/node_modules/${name}`))) continue;
      missing.set(`node_modules/${name}`, {
        version,
        ...platformOf(name),
        ...(parent.dev === undefined ? {} : { dev: parent.dev }),
        ...(parent.license === undefined ? {} : { license: parent.license }),
        ...(parent.engines === undefined ? {} : { engines: parent.engines }),
        ...{ optional: true },
      });
    }
  }
  const packages = [...Object.entries(lock.packages), ...missing].sort(([a], [b]) => (a < b ? -1 : 1));
  return { lock: { ...lock, packages: Object.fromEntries(packages) }, added: [...missing.keys()] };
}

const PLATFORM =
  /(?<os>android|darwin|freebsd|linux|openharmony|win32)-(?<cpu>arm64|arm|ia32|ppc64|riscv64|s390x|x64)(?:-(?<libc>gnu|musl))?/;

/** From the name, as every native tool gives them. @throws for another name: without its platform npm would install it everywhere. */
function platformOf(name: string): object {
  const { os, cpu, libc } = PLATFORM.exec(name)?.groups ?? {};
  if (os === undefined || cpu === undefined) throw new Error(`${name}: add it to package-lock.json by hand`);
  const abi =
    libc === undefined || os !== 'linux' || cpu === 'arm' ? {} : { libc: [libc === 'musl' ? 'musl' : 'glibc'] };
  return { cpu: [cpu], os: [os], ...abi };
}
