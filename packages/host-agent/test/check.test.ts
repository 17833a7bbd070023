import assert from 'node:assert/strict'
import { appendFileSync, chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { before, test } from 'node:test'
import { createAuthority, type TestAuthority } from '../../protocol/test/certificates.ts'
import { checkHost } from '../src/check.ts'
import { describeProblem } from '../src/errors.ts'
import { backupHostInProcess } from './run-backup-host.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const dayMs = 86_400_000
const uid = process.geteuid!()
const hash =
  '$argon2id$v=19$m=65536,p=4,t=3$fV2BNrWCY/fMJygZCg46Bg$KhP6nbXY9imaB+TzFT6yDZ+LOkzTI1aqD927LKarJ08'

let authority: TestAuthority
let foreign: TestAuthority

before(async () => {
  authority = await createAuthority()
  foreign = await createAuthority('another CA')
})

/** A host that is set up with these certificates. */
class HostFolder extends TemporaryFolder {
  readonly settings = this.write('backup-host.toml', `name = "web1"\npassword_hash = "${hash}"\n`)

  constructor({ ca, cert, key }: { ca: string; cert: string; key: string }) {
    super()
    this.write('ca.crt', ca)
    this.write('host.crt', cert)
    this.write('host.key', key)
  }

  check(nowMs = Date.now()) {
    const { problems, warnings } = checkHost(this.settings, uid, nowMs)
    return { problems: problems.map(describeProblem), warnings }
  }
}

test('a host that is set up right has nothing to tell', async () => {
  using folder = new HostFolder(await authority.host('web1', { notAfterDays: 365 }))
  assert.deepEqual(folder.check().problems, [])
  assert.ok(!folder.check().warnings.some((warning) => warning.includes('host.crt')))
  const { status, stdout } = await backupHostInProcess(['--config', folder.settings, 'check'])
  assert.equal(status, 0)
  assert.match(stdout, /host web1, whose certificate is valid until 20/)
})

test('a certificate that will expire soon is a warning, one that has is a problem', async () => {
  using folder = new HostFolder(await authority.host('web1', { notAfterDays: 10 }))
  const { problems, warnings } = folder.check()
  assert.deepEqual(problems, [])
  assert.ok(warnings.some((warning) => /host\.crt expires in (9|10) days/.test(warning)))
  assert.match(
    folder.check(Date.now() + 11 * dayMs).problems.join(),
    /host\.crt: found one that is valid from .* to/,
  )
})

test('all that is wrong with certificates is told at once', async () => {
  const mixed = {
    ca: foreign.cert,
    cert: (await authority.host('web2')).cert,
    key: (await authority.host('web1')).key,
  }
  using folder = new HostFolder(mixed)
  const { problems } = folder.check()
  assert.deepEqual(
    problems.map((line) => line.replace(/^.*: found /, '').replace(folder.path, '')),
    [
      'a certificate of another authority (CN=central-backup test CA); expected one that /ca.crt issued (CN=another CA)',
      'a certificate of host web2; expected one of host web1',
      'a certificate of another key; expected one for the key /host.key',
    ],
  )
})

test('the certificate of a server is none of a host', async () => {
  using folder = new HostFolder(await authority.server('web1'))
  assert.match(
    folder.check().problems.join(),
    /found a certificate of server web1; expected one of host web1/,
  )
})

test('what is no certificate is told with the file', async () => {
  using folder = new HostFolder({ ca: 'x', cert: 'y', key: 'z' })
  assert.deepEqual(
    folder.check().problems.map((line) => line.replace(folder.path, '')),
    [
      '/ca.crt: found something else; expected a certificate, PEM',
      '/host.crt: found something else; expected a certificate, PEM',
    ],
  )
})

test('problems are 2 and, with --json, data', async () => {
  using folder = new HostFolder(await authority.host('web2'))
  const { status, stdout } = await backupHostInProcess(['check', '--json', '--config', folder.settings])
  assert.equal(status, 2)
  const { ok, problems } = JSON.parse(stdout)
  assert.equal(ok, false)
  assert.equal(problems.length, 1)
  assert.equal(problems[0].file, folder.at('host.crt'))
  assert.ok(!stdout.includes(readFileSync(folder.at('host.key'), 'utf8').split('\n')[1]!))
})

test('folders that may be restored to are warned of where they are missing, links, or open to others', async () => {
  using folder = new HostFolder(await authority.host('web1', { notAfterDays: 365 }))
  mkdirSync(folder.at('closed'), { mode: 0o700 })
  mkdirSync(folder.at('open'), { mode: 0o755 })
  symlinkSync('closed', folder.at('link'))
  const folders = ['closed', 'open', 'link', 'missing'].map((name) => folder.at(name))
  const text = readFileSync(folder.settings, 'utf8')
  writeFileSync(folder.settings, `${text}[allow]\nrestore = ${JSON.stringify([...folders, '/'])}\n`)
  const { problems, warnings } = folder.check()
  assert.deepEqual(problems, [])
  const restoring = warnings.filter((warning) => warning.includes('allow.restore'))
  assert.deepEqual(
    restoring.map((warning) => warning.split(/[,:]/)[0]),
    [...folders.slice(1), '/'],
  )
  assert.match(restoring[3]!, /holds the settings or keys of this agent: .* is root here/)
  assert.match(restoring[0]!, /open to others/)
  assert.match(restoring[1]!, /a link to one/)
  assert.match(restoring[2]!, /not there/)
})

test('a folder that may be restored to is warned of where it holds what binds the server', async () => {
  using folder = new HostFolder(await authority.host('web1', { notAfterDays: 365 }))
  for (const name of ['copies', 'beside']) mkdirSync(folder.at(name), { mode: 0o700 })
  const own = folder.at('.')
  appendFileSync(
    folder.settings,
    `[allow]\nrestore = ${JSON.stringify([own, folder.at('copies'), folder.at('beside')])}\n[local_copy]\ndirectory = "${folder.at('copies')}"\nkeep = 2\n`,
  )
  const told = folder.check().warnings.filter((warning) => warning.includes('whoever has the server'))
  assert.deepEqual(
    told.map((warning) => warning.replace(/:.*/, '')),
    [
      `${own}, which allow.restore names, holds the settings or keys of this agent`,
      `${folder.at('copies')}, which allow.restore names, holds the local copies`,
    ],
  )
})

test('folders on the way to what is restored, or to the log, that others may write to are warned of', async () => {
  using folder = new HostFolder(await authority.host('web1', { notAfterDays: 365 }))
  mkdirSync(folder.at('theirs/restore'), { recursive: true })
  mkdirSync(folder.at('ours/restore'), { recursive: true })
  for (const closed of ['theirs/restore', 'ours/restore']) chmodSync(folder.at(closed), 0o700)
  chmodSync(folder.at('theirs'), 0o777)
  // A link of theirs leads on.
  symlinkSync('../ours', folder.at('theirs/link'))
  const lines = (log: string) =>
    `[allow]\nrestore = ${JSON.stringify(['theirs/restore', 'theirs/link/restore', 'ours/restore'].map((name) => folder.at(name)))}\n[log]\nfile = "${folder.at(log)}"\n`
  const text = readFileSync(folder.settings, 'utf8')
  const warningsOf = (log: string) => {
    writeFileSync(folder.settings, `${text}${lines(log)}`)
    const { problems, warnings } = folder.check()
    assert.deepEqual(problems, [])
    return warnings.filter((warning) => warning.includes('others can put'))
  }
  const has = `has mode 0777`
  const told = (path: string, key: string, effect: string) =>
    `${folder.at(path)}, which ${key} names: others can put something else in its place, and ${effect}: ${folder.at('theirs')} ${has}`
  const restored = ['theirs/restore', 'theirs/link/restore'].map((path) =>
    told(path, 'allow.restore', 'what is restored goes there'),
  )
  assert.deepEqual(warningsOf('ours/log'), restored)
  assert.deepEqual(warningsOf('theirs/log'), [
    ...restored,
    told('theirs/log', 'log.file', 'the agent writes to that'),
  ])
  assert.deepEqual(warningsOf('missing/log'), restored)
})

test('hooks that others could change are problems, and those that are dangerous are warned of', async () => {
  using folder = new HostFolder(await authority.host('web1', { notAfterDays: 365 }))
  const program = folder.write('bin/hook', '#!/bin/sh\n', 0o700)
  const theirs = folder.write('open/script', '', 0o700)
  chmodSync(folder.at('open'), 0o777)
  const restore = folder.at('restore')
  mkdirSync(restore, { mode: 0o700 })
  const restored = folder.write('restore/hook', '#!/bin/sh\n', 0o700)
  const command = (...words: string[]) => `command = ${JSON.stringify(words)}`
  appendFileSync(
    folder.settings,
    `[allow]\nrestore = ["${restore}"]
[hooks.good]\n${command(program)}\nwhen = "before"\nrun = "always"
[hooks.lax]\n${command(program, theirs)}\nwhen = "before"\non_failure = "warn"\nruns_per_hour = 100
[hooks.given]\n${command(restored)}\nwhen = "after"
`,
  )
  const { problems, warnings } = folder.check()
  assert.deepEqual(problems, [])
  const told = warnings.filter((warning) => warning.startsWith('hooks.')).join('\n')
  assert.equal(
    told.replaceAll(folder.path, ''),
    `hooks.lax is given /open/script, which others may write to or put something else in the place of: if it is run, so is that
hooks.lax can be run 100 times an hour by whoever has the server
hooks.lax may fail, and the backup goes on without it: only a warning tells
hooks.given has /restore/hook, and allow.restore lets a server write below /restore: it can run what it likes`,
  )
  chmodSync(program, 0o722)
  assert.deepEqual(
    folder.check().problems.map((line) => line.replaceAll(folder.path, '')),
    ['/bin/hook: found mode 0722; expected a file that only its owner may write to (chmod go-w /bin/hook)'],
  )
  chmodSync(program, 0o700)
  symlinkSync(program, folder.at('open/link'))
  appendFileSync(folder.settings, `[hooks.link]\n${command(folder.at('open/link'))}\nwhen = "before"\n`)
  assert.match(
    folder.check().problems.join('\n'),
    /open: found mode 0777; expected a folder that only its owner/,
  )
})

test('serving with a log that cannot be opened says why, and what to do', async () => {
  using folder = new HostFolder(await authority.host('web1'))
  appendFileSync(folder.settings, `[log]\nfile = "${folder.at('missing/log')}"\n`)
  const { status, stderr } = await backupHostInProcess(['--config', folder.settings])
  assert.equal(status, 1, stderr)
  assert.match(stderr, /^backup-host: Cannot open the log .*\/missing\/log: ENOENT.*\nHint: .*log\.file/)
})
