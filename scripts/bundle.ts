/** The programs as they are installed: JavaScript in few files, which start in a third of the time. */
import { cpSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { buildSync, type Metafile } from 'esbuild'

export type ProgramName = 'host-agent' | 'central-server'

/** What Node starts in a program: the program itself, its threads, and what others import of it. */
const entryPoints: Record<ProgramName, readonly string[]> = {
  'host-agent': [
    'host-agent/src/main.ts',
    'host-agent/src/select/select-worker.ts',
    'host-agent/src/restore/restore-worker.ts',
    'archive/src/pack/packer-worker.ts',
    'archive/src/pack/compressor-worker.ts',
  ],
  'central-server': [
    'central-server/src/main.ts',
    'central-server/src/index.ts',
    'central-server/src/cli/target-watch-worker.ts',
  ],
}

/** Packages with a native part, which npm builds or chooses where it installs them, and one that starts threads by itself. */
export const installedPackages: readonly string[] = [
  'argon2',
  'better-sqlite3',
  'koffi',
  'msgpackr',
  'pino',
  'zstd-napi',
]

const checkout = join(import.meta.dirname, '..')

/**
 * Writes `bin` and `dist` of a program into `folder`: everything that it imports, but for what is installed with it. It
 * starts once a package.json is beside them. Paths in what is returned are relative to the checkout.
 */
export function bundleProgram(program: ProgramName, folder: string): Metafile {
  mkdirSync(folder, { recursive: true })
  const source = join(checkout, 'packages', program)
  const { metafile } = buildSync({
    absWorkingDir: checkout,
    entryPoints: entryPoints[program].map((path) => join('packages', path)),
    // All side by side: threads and SQL are found beside the module that asks for them.
    outdir: join(folder, 'dist'),
    entryNames: '[name]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    external: [...installedPackages],
    // For packages that are CommonJS and require modules of Node.
    banner: {
      js: "import { createRequire } from 'node:module'\nconst require = createRequire(import.meta.url)",
    },
    metafile: true,
    logLevel: 'warning',
  })
  cpSync(join(source, 'bin'), join(folder, 'bin'), { recursive: true })
  const migrations = join(source, 'src', 'catalog', 'migrations')
  if (existsSync(migrations)) cpSync(migrations, join(folder, 'dist', 'migrations'), { recursive: true })
  return metafile
}
