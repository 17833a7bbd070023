/** A backup from nothing to proof, on this machine and in a temporary folder: `npm run demo`. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import {
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { readOptions } from './options.ts'

const checkout = resolve(import.meta.dirname, '..')
const serverProgram = join(checkout, 'packages/central-server/bin/backup-server.js')
const agentProgram = join(checkout, 'packages/host-agent/bin/backup-host.js')

const usage = `
A backup from nothing to proof, on this machine and in a temporary folder: npm run demo [-- PATH...] [-- --keep]

It makes a CA, starts a real agent on loopback, backs up real paths (/etc and this checkout) over mutual TLS, and shows
that the system's own tar brings them back byte for byte. It leaves nothing running, and with --keep the folder.
`

const { values, positionals } = readOptions(usage, {
  allowPositionals: true,
  options: { keep: { type: 'boolean' } },
})
const paths = positionals.length > 0 ? positionals.map((path) => resolve(path)) : ['/etc', checkout]

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

function step(title: string): void {
  say(`\n== ${title}`)
}

/** Runs a command in the open, as a person would type it, and returns its exit code. */
function run(shown: string, program: string, args: string[]): number {
  say(`$ ${shown}`)
  const { status, error } = spawnSync(program, args, { stdio: 'inherit' })
  if (error !== undefined) throw error
  return status ?? 1
}

function runServer(home: string, ...args: string[]): number {
  return run(`backup-server --home ${home} ${args.join(' ')}`, process.execPath, [
    serverProgram,
    '--home',
    home,
    ...args,
  ])
}

function mustSucceed(code: number, what: string): void {
  if (code !== 0) throw new Error(`${what} ended with exit code ${code}`)
}

/** Starts the agent on a port that is free, and resolves with that port once it listens. */
async function startAgent(config: string): Promise<{ agent: ChildProcess; port: number }> {
  say(`$ backup-host --config ${config} &`)
  const agent = spawn(process.execPath, [agentProgram, '--config', config], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const lines: string[] = []
  for await (const line of createInterface({ input: agent.stderr! })) {
    lines.push(line)
    const port = /listens on 127\.0\.0\.1:(\d+)/.exec(line)?.[1]
    if (port !== undefined) {
      // Its log goes on; nobody reads it here.
      agent.stderr!.resume()
      return { agent, port: Number(port) }
    }
  }
  throw new Error(`the agent did not start:\n${lines.join('\n')}`)
}

async function stopAgent(agent: ChildProcess): Promise<void> {
  if (agent.exitCode !== null || agent.signalCode !== null) return
  const ended = new Promise((done) => agent.once('exit', done))
  agent.kill('SIGTERM')
  await ended
}

interface Comparison {
  files: number
  bytes: number
  others: number
  differences: string[]
}

/** Compares what was extracted with where it came from: types, contents, targets of links. */
function compare(extracted: string, original: string, result: Comparison): void {
  for (const name of readdirSync(extracted)) {
    const copy = join(extracted, name)
    const source = join(original, name)
    const copyStatus = lstatSync(copy)
    const status = lstatSync(source, { throwIfNoEntry: false })
    const sameType = status !== undefined && (status.mode & 0o170000) === (copyStatus.mode & 0o170000)
    if (!sameType) result.differences.push(source)
    else if (copyStatus.isDirectory()) compare(copy, source, result)
    else if (copyStatus.isFile()) {
      result.files++
      result.bytes += copyStatus.size
      if (!equalFiles(copy, source)) result.differences.push(source)
    } else {
      result.others++
      if (copyStatus.isSymbolicLink() && readlinkSync(copy) !== readlinkSync(source))
        result.differences.push(source)
    }
  }
}

function equalFiles(a: string, b: string): boolean {
  const [x, y] = [openSync(a, 'r'), openSync(b, 'r')]
  const [left, right] = [Buffer.alloc(1 << 20), Buffer.alloc(1 << 20)]
  try {
    for (;;) {
      const length = readSync(x, left, 0, left.length, null)
      if (readSync(y, right, 0, right.length, null) !== length) return false
      if (length === 0) return true
      if (!left.subarray(0, length).equals(right.subarray(0, length))) return false
    }
  } finally {
    closeSync(x)
    closeSync(y)
  }
}

/** The port is known only once the agent listens; a person would have chosen one. */
function setPort(home: string, port: number): void {
  const module = join(home, 'hosts/this.ts')
  writeFileSync(module, readFileSync(module, 'utf8').replace(/port: \d+/, `port: ${port}`))
}

async function prepare(folder: string): Promise<{ home: string; repository: string; config: string }> {
  const home = join(folder, 'server')
  const repository = join(folder, 'repository')
  const config = join(folder, 'host/backup-host.toml')
  step('1. A server: settings, a certificate authority, a repository')
  mustSucceed(runServer(home, '-q', 'init', '--repository', repository), 'init')
  step('2. A host: certificate, password, and the bundle that it is set up with')
  const selection = [
    ...paths.flatMap((path) => ['--path', path]),
    ...['.git', 'node_modules', 'dist'].flatMap((name) => ['--exclude', name]),
  ]
  mustSucceed(runServer(home, 'host', 'add', 'this', '--address', '127.0.0.1:7911', ...selection), 'host add')
  const bundle = join(home, 'bundles/this.bundle.json')
  step('3. The agent on that host')
  const init = ['--config', config, 'init', '--bundle', bundle]
  mustSucceed(
    run(`backup-host ${init.join(' ')}`, process.execPath, [agentProgram, ...init]),
    'backup-host init',
  )
  writeFileSync(config, readFileSync(config, 'utf8').replace('0.0.0.0:7911', '127.0.0.1:0'))
  return { home, repository, config }
}

function prove(repository: string, folder: string): Comparison {
  const archives = join(repository, 'archives/this')
  const archive = join(archives, readdirSync(archives).find((name) => name.endsWith('.tar.zst'))!)
  step('5. The archive is an ordinary file')
  mustSucceed(run(`ls -l ${archive}`, 'ls', ['-l', archive]), 'ls')
  mustSucceed(run(`zstd -t ${archive}`, 'zstd', ['-t', '-q', archive]), 'zstd')
  mustSucceed(
    run(`tar --zstd -tvf ${archive} | head -n 5`, 'sh', [
      '-c',
      'tar --zstd -tvf "$1" 2>/dev/null | head -n 5',
      'sh',
      archive,
    ]),
    'tar -t',
  )
  step("6. The system's tar brings it back")
  const target = join(folder, 'restored')
  mkdirSync(target)
  mustSucceed(
    run(`tar --zstd -xpf ${archive} -C ${target}`, 'tar', ['--zstd', '-xpf', archive, '-C', target]),
    'tar -x',
  )
  const result: Comparison = { files: 0, bytes: 0, others: 0, differences: [] }
  compare(target, '/', result)
  return result
}

async function demo(folder: string): Promise<void> {
  const { home, repository, config } = await prepare(folder)
  const { agent, port } = await startAgent(config)
  let code: number
  try {
    setPort(home, port)
    step(`4. The backup of ${paths.join(' and ')}: over mutual TLS 1.3, checked by SHA-256 on arrival`)
    mustSucceed(runServer(home, 'check'), 'check')
    code = runServer(home, 'run')
    // 3: something could not be read, as for a user who is not root. What could be is compared.
    if (code !== 0 && code !== 3) throw new Error(`run ended with exit code ${code}`)
    mustSucceed(runServer(home, 'list'), 'list')
  } finally {
    await stopAgent(agent)
  }
  const { files, bytes, others, differences } = prove(repository, folder)
  for (const path of differences.slice(0, 10)) say(`different: ${path}`)
  if (differences.length > 0)
    throw new Error(`${differences.length} files differ (did they change in the meantime?)`)
  say(
    `${files} files with ${bytes} bytes are the same byte for byte, and so are ${others} links and other objects.`,
  )
  step('Done')
  if (code === 3)
    say('Some files could not be read by this user, as said above: run it as root to have them all.')
  say('A CA, a server and a host were made, a real agent was started and stopped, and a backup was proven.')
  say(
    values.keep
      ? `Everything is in ${folder}.`
      : 'Nothing is left of it; `npm run demo -- --keep` keeps the folder.',
  )
  say('Where to go next: README.md, "A first backup of a second machine in five minutes".')
}

const missing = ['tar', 'zstd'].filter(
  (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).error !== undefined,
)
if (missing.length > 0) {
  process.stderr.write(
    `central-backup: the demo needs ${missing.join(' and ')}; on Debian: apt-get install ${missing.join(' ')}\n`,
  )
  process.exitCode = 1
} else {
  const folder = mkdtempSync(join(tmpdir(), 'central-backup-demo-'))
  try {
    await demo(folder)
  } catch (error) {
    process.stderr.write(`central-backup: the demo failed: ${(error as Error).message}\n`)
    process.exitCode = 1
  } finally {
    if (!values.keep) rmSync(folder, { recursive: true, force: true })
  }
}
