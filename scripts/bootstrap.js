// Runs a script of this repository under the Node.js that it brings along, after installing what is missing.
// Plain JavaScript without dependencies, because it runs before either is there, on any Node.js from 18 on.
// Usage: node scripts/bootstrap.js SCRIPT [ARG]...
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const stamp = join(root, 'node_modules', '.installed-for')
const node = join(root, 'node_modules', '.bin', 'node')

function fail(line) {
  process.stderr.write(`central-backup: ${line}\n`)
  process.exit(1)
}

function isThere(program) {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined
}

function lockDigest() {
  return createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex')
}

function install() {
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lockDigest() && existsSync(node)) return
  const missing = ['npm', 'python3', 'make', 'g++'].filter((program) => !isThere(program))
  if (missing.length > 0) {
    fail(`this machine lacks ${missing.join(', ')}; on Debian: apt-get install ${missing.join(' ')}`)
  }
  process.stderr.write('central-backup: installing dependencies (about a minute) ...\n')
  // Not `npm ci`: it insists on packages for other platforms, which not every mirror of the registry has.
  const args = ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error']
  const result = spawnSync('npm', args, { cwd: root, encoding: 'utf8' })
  if (result.status !== 0) {
    process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}\n`)
    fail('npm install failed; see above. It needs the npm registry and a C++ compiler.')
  }
  writeFileSync(stamp, lockDigest())
}

if (process.platform !== 'linux') fail(`central-backup runs on Linux, not on ${process.platform}`)
install()

const path = join(root, 'node_modules', '.bin') + delimiter + (process.env.PATH ?? '')
const child = spawn(node, process.argv.slice(2), {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, PATH: path },
})
// Ctrl-C reaches the child by itself; it decides when to end.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
child.on('exit', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]))
