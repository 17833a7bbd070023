/**
 * The programs as `npm run build` makes them, for tests and measurements of what is installed, which also starts in a third
 * of the time. They are made when first asked for, once for each state of the sources, and shared by all processes.
 */
import { createHash } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs'
import { join } from 'node:path'
import { bundleProgram, type ProgramName } from './bundle.ts'

const checkout = join(import.meta.dirname, '..')

/** Below `node_modules`, where the packages that are not in the bundles are found. */
const cache = join(checkout, 'node_modules', '.cache', 'built-programs')

/** Of other states of the sources, which a run of tests may still use. */
const keptMs = 86_400_000

const programs = { 'central-server': 'backup-server.js', 'host-agent': 'backup-host.js' } as const

let built: string | undefined

/** Whether `CENTRAL_BACKUP_PROGRAMS=sources` is set: stack traces say where in the sources then. */
const wantsSources = process.env.CENTRAL_BACKUP_PROGRAMS === 'sources'

/** Path of the JavaScript file that starts a program. */
export function programFile(program: ProgramName, fromSources = wantsSources): string {
  const folder = fromSources ? join(checkout, 'packages') : builtPrograms()
  return join(folder, program, 'bin', programs[program])
}

/** For `NODE_COMPILE_CACHE`: where Node keeps what it made of the programs, which halves the time once more. */
export function compileCache(): string {
  return wantsSources ? join(cache, 'sources') : join(builtPrograms(), 'compiled')
}

function builtPrograms(): string {
  built ??= build()
  return built
}

function build(): string {
  mkdirSync(cache, { recursive: true })
  for (;;) {
    const state = stateOfSources()
    const folder = join(cache, state)
    if (existsSync(folder)) {
      utimesSync(folder, new Date(), new Date())
      return folder
    }
    const made = mkdtempSync(join(cache, 'new-'))
    try {
      chmodSync(made, 0o755)
      for (const program of ['central-server', 'host-agent'] as const) {
        bundleProgram(program, join(made, program))
        cpSync(join(checkout, 'packages', program, 'package.json'), join(made, program, 'package.json'))
      }
      // What was changed meanwhile may be in one of them and not in the other.
      if (stateOfSources() === state) publish(made, folder)
    } finally {
      rmSync(made, { recursive: true, force: true })
    }
    removeOld()
  }
}

/** Several processes may have made the same: the first wins. */
function publish(made: string, folder: string): void {
  try {
    renameSync(made, folder)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error
  }
}

/** A digest of all that goes into the programs. */
function stateOfSources(): string {
  const hash = createHash('sha256')
  const files = globSync(
    ['packages/*/{src,bin}/**', 'packages/*/package.json', 'package-lock.json', 'scripts/bundle.ts'],
    {
      cwd: checkout,
    },
  )
  for (const file of files.sort()) {
    const path = join(checkout, file)
    if (!statSync(path).isFile()) continue
    const content = readFileSync(path)
    hash.update(`${file}\0${content.length}\0`).update(content)
  }
  return hash.digest('hex').slice(0, 32)
}

function removeOld(): void {
  for (const name of readdirSync(cache)) {
    const path = join(cache, name)
    const madeAtMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()
    if (Date.now() - madeAtMs > keptMs) rmSync(path, { recursive: true, force: true })
  }
}
