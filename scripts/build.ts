/**
 * Makes what is installed: dist/central-backup-host-agent-VERSION.tgz and dist/central-backup-central-server-VERSION.tgz,
 * JavaScript that carries the packages of this repository that it needs. `npm run build`.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

interface Manifest {
  name: string
  version: string
  dependencies: Record<string, string>
  [key: string]: unknown
}

const programs = ['host-agent', 'central-server']
const scope = '@central-backup/'

function readManifest(name: string): Manifest {
  return JSON.parse(readFileSync(`packages/${name}/package.json`, 'utf8')) as Manifest
}

function writeManifest(folder: string, manifest: object): void {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
}

/** JavaScript and types of a package, and what lies beside its sources. */
function copyCode(name: string, folder: string): void {
  mkdirSync(folder, { recursive: true })
  cpSync(`dist/js/${name}/src`, join(folder, 'dist'), { recursive: true })
  const isKept = (path: string) => !/\.ts$/.test(path)
  cpSync(`packages/${name}/src`, join(folder, 'dist'), { recursive: true, filter: isKept })
}

function ours(manifest: Manifest): string[] {
  return Object.keys(manifest.dependencies).filter((name) => name.startsWith(scope))
}

/**
 * A package of ours, put inside of a program. What it needs is returned, to be a dependency of the program: npm takes
 * the dependencies of a bundled package for bundled, too, and does not install them.
 */
function bundle(program: string, name: string): Record<string, string> {
  const short = name.slice(scope.length)
  const manifest = readManifest(short)
  const folder = join('dist', program, 'node_modules', name)
  copyCode(short, folder)
  const { dependencies, ...rest } = manifest
  writeManifest(folder, { ...rest, exports: './dist/index.js' })
  return dependencies
}

function assemble(program: string): string {
  const manifest = readManifest(program)
  const folder = join('dist', program)
  copyCode(program, folder)
  cpSync(`packages/${program}/bin`, join(folder, 'bin'), { recursive: true })
  cpSync('LICENSE', join(folder, 'LICENSE'))
  cpSync('README.md', join(folder, 'README.md'))
  const bundled = ours(manifest)
  const dependencies = Object.assign(
    {},
    ...bundled.map((name) => bundle(program, name)),
    manifest.dependencies,
  )
  const types = { types: './dist/index.d.ts', default: './dist/index.js' }
  writeManifest(folder, {
    ...manifest,
    exports: program === 'central-server' ? types : undefined,
    dependencies,
    bundleDependencies: bundled,
  })
  const [packed] = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--pack-destination', '..'], { cwd: folder, encoding: 'utf8' }),
  )
  return join('dist', packed.filename)
}

rmSync('dist', { recursive: true, force: true })
execFileSync('tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' })
execFileSync('tsc', ['-p', 'tsconfig.types.json'], { stdio: 'inherit' })
for (const program of programs) process.stdout.write(`${assemble(program)}\n`)
