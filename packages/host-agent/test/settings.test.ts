import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { test } from 'node:test'
import { describeProblem, SettingsError } from '../src/errors.ts'
import { parseSettings, readSettings } from '../src/settings.ts'
import { isPasswordHash, parseListenAddress } from '../src/settings-schema.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const uid = process.geteuid!()
const notRoot = uid !== 0 && 'only root can give files away'
const hash =
  '$argon2id$v=19$m=65536,p=4,t=3$fV2BNrWCY/fMJygZCg46Bg$KhP6nbXY9imaB+TzFT6yDZ+LOkzTI1aqD927LKarJ08'
const minimal = `name = "web1"\npassword_hash = "${hash}"\n`

/** A folder with settings and the files that they name. */
class SettingsFolder extends TemporaryFolder {
  constructor(text = minimal) {
    super()
    this.write('etc/backup-host.toml', text)
    for (const file of ['host.key', 'host.crt', 'ca.crt']) this.write(`etc/${file}`, '')
  }

  read() {
    return readSettings(this.at('etc/backup-host.toml'))
  }

  /** What reading throws, as lines for people. */
  problems(): string[] {
    try {
      this.read()
    } catch (error) {
      if (error instanceof SettingsError) return error.problems.map(describeProblem)
      throw error
    }
    return []
  }
}

function problemsOf(text: string): string[] {
  return parseSettings('/f.toml', text).problems.map(describeProblem)
}

test('settings have defaults, and paths are those beside them', () => {
  using folder = new SettingsFolder()
  const settings = folder.read()
  assert.equal(settings.name, 'web1')
  assert.deepEqual(settings.listen, [{ address: '0.0.0.0', port: 7911 }])
  assert.deepEqual(settings.tls, {
    ca: folder.at('etc/ca.crt'),
    certificate: folder.at('etc/host.crt'),
    key: folder.at('etc/host.key'),
    revoked: folder.at('etc/revoked.crl'),
  })
  assert.deepEqual(settings.allow, { read: ['/'], restore: [] })
  assert.equal(settings.localCopy, null)
  assert.equal(settings.limits.sessions, 4)
  assert.equal(settings.limits.cpuNice, 10)
  assert.deepEqual(settings.log, { file: null, level: 'info' })
})

test('settings can say all of it', () => {
  const text = `${minimal}
listen = ["127.0.0.1:1", "[::1]:2"]
[tls]
key = "/etc/ssl/host.key"
[allow]
read = ["/etc", "/home"]
restore = ["/srv/restore"]
[local_copy]
directory = "/var/backups"
keep = 2
[limits]
sessions = 1
compress_threads = 1
cpu_nice = 19
[log]
file = "log"
level = "debug"
`
  const { settings, problems } = parseSettings('/etc/x/f.toml', text)
  assert.deepEqual(problems, [])
  assert.deepEqual(settings!.listen, [
    { address: '127.0.0.1', port: 1 },
    { address: '::1', port: 2 },
  ])
  assert.equal(settings!.tls.key, '/etc/ssl/host.key')
  assert.deepEqual(settings!.allow, { read: ['/etc', '/home'], restore: ['/srv/restore'] })
  assert.deepEqual(settings!.localCopy, {
    directory: '/var/backups',
    keep: 2,
    keepDays: 3,
    minFreePercent: 5,
  })
  assert.equal(settings!.limits.cpuNice, 19)
  assert.deepEqual(settings!.log, { file: '/etc/x/log', level: 'debug' })
})

test('local copies of which none are kept are none, and how many are is to be said', () => {
  const withCopies = `${minimal}[local_copy]\ndirectory = "/d"\n`
  assert.equal(parseSettings('/f.toml', `${withCopies}keep = 0\n`).settings!.localCopy, null)
  assert.match(problemsOf(withCopies).join(), /local_copy\.keep: found nothing; expected /)
})

test('all problems are told at once, with key, found and expected', () => {
  const lines = problemsOf(`
name = "-web1"
listn = "x"
listen = "localhost:7911"
password_hash = "secret in clear"
[allow]
read = ["etc", "/a/../b"]
restore = ["srv"]
[limits]
sessions = 0
sesions = 4
[log]
level = "loud"
[frob]
`)
  const expected = [
    /^\/f\.toml: name: found "-web1"; expected 1 to 63 letters/,
    /^\/f\.toml: listen: found "localhost:7911"; expected IP:PORT/,
    /^\/f\.toml: listn: found an unknown key; expected one of name, listen,/,
    /^\/f\.toml: password_hash: found something else; expected an argon2id hash/,
    /^\/f\.toml: allow\.read\[0\]: found "etc"; expected an absolute path/,
    /^\/f\.toml: allow\.read\[1\]: found "\/a\/\.\.\/b"; expected a path without '\.\.'/,
    /^\/f\.toml: allow\.restore\[0\]: found "srv"; expected an absolute path/,
    /^\/f\.toml: limits\.sessions: found 0; expected an integer from 1 to 64/,
    /^\/f\.toml: limits\.sesions: found an unknown key; expected one of sessions,/,
    /^\/f\.toml: log\.level: found "loud"; expected one of error, warn, info, debug/,
    /^\/f\.toml: frob: found an unknown key/,
  ]
  for (const line of expected)
    assert.ok(
      lines.some((found) => line.test(found)),
      `${line} is not among\n${lines.join('\n')}`,
    )
  assert.equal(lines.length, expected.length)
  assert.ok(!lines.some((line) => line.includes('secret in clear')))
})

test('what is no TOML is told with its line', () => {
  assert.match(problemsOf('name = "web1"\nlisten = \n').join(), /^\/f\.toml:2: found .*; expected TOML/)
})

test('settings without the files that they name are told about each of them', () => {
  using folder = new SettingsFolder()
  for (const file of ['host.key', 'host.crt', 'ca.crt']) rmSync(folder.at('etc', file))
  assert.deepEqual(
    folder.problems().map((line) => line.split(' ')[1]),
    ['tls.key:', 'tls.certificate:', 'tls.ca:'],
  )
  rmSync(folder.at('etc'), { recursive: true })
  assert.match(folder.problems().join(), /found no file .*; expected the settings of backup-host$/)
})

for (const [file, mode] of [
  ['backup-host.toml', 0o640],
  ['backup-host.toml', 0o602],
  ['host.key', 0o644],
  ['host.crt', 0o666],
  ['ca.crt', 0o620],
] as const) {
  test(`${file} of mode ${mode.toString(8)} is refused`, () => {
    using folder = new SettingsFolder()
    chmodSync(folder.at('etc', file), mode)
    const problems = folder.problems()
    assert.equal(problems.length, 1)
    assert.match(problems[0]!, new RegExp(`${file}: found mode 0${mode.toString(8)}; expected .*chmod`))
  })
}

test('certificates may be read by all', () => {
  using folder = new SettingsFolder()
  for (const file of ['host.crt', 'ca.crt']) chmodSync(folder.at('etc', file), 0o644)
  assert.deepEqual(folder.problems(), [])
})

test('a folder that others may write to is refused, once, and also further up', () => {
  using folder = new SettingsFolder()
  chmodSync(folder.at('etc'), 0o777)
  assert.equal(folder.problems().length, 1)
  chmodSync(folder.at('etc'), 0o700)
  mkdirSync(folder.at('open'))
  renameSync(folder.at('etc'), folder.at('open/etc'))
  chmodSync(folder.at('open'), 0o777)
  assert.throws(() => readSettings(folder.at('open/etc/backup-host.toml')), SettingsError)
})

test('files of another user are refused', { skip: notRoot }, () => {
  using folder = new SettingsFolder()
  chownSync(folder.at('etc/host.key'), 12_345, 12_345)
  assert.match(
    folder.problems().join(),
    /host\.key: found user 12345 as its owner; expected root as its owner/,
  )
})

test('hashes are argon2id, and can be verified in bounded time and memory', () => {
  assert.ok(isPasswordHash(hash))
  assert.ok(isPasswordHash(hash.replace('m=65536,p=4,t=3', 'm=65536,t=3,p=4')))
  const bad = [
    'argon2i$',
    'v=16',
    'm=4294967295',
    'm=8',
    't=4000',
    'p=255',
    'm=65536,p=4',
    'm=,p=4,t=3',
    'm=65536,p=4,t=3\n',
  ]
  const parts = [
    'argon2id$',
    'v=19',
    'm=65536',
    'm=65536',
    't=3',
    'p=4',
    'm=65536,p=4,t=3',
    'm=65536,p=4,t=3',
    'm=65536,p=4,t=3',
  ]
  for (const [index, part] of parts.entries()) {
    assert.ok(!isPasswordHash(hash.replace(part, bad[index]!)), bad[index])
  }
  for (const text of ['', 'secret', `${hash}$`, `${hash} `, hash.slice(0, -30)])
    assert.ok(!isPasswordHash(text), text)
})

test('addresses to listen on are numbers, with brackets around IPv6', () => {
  assert.deepEqual(parseListenAddress('[::]:7911'), { address: '::', port: 7911 })
  assert.deepEqual(parseListenAddress('127.0.0.1:0'), { address: '127.0.0.1', port: 0 })
  for (const text of [
    '',
    '7911',
    ':7911',
    '::1:7911',
    '[127.0.0.1]:1',
    'localhost:1',
    '1.2.3.4',
    '1.2.3.4:65536',
    '1.2.3.4:-1',
  ]) {
    assert.equal(parseListenAddress(text), null, text)
  }
})

test('hooks are read in their order, with defaults', () => {
  const { settings, problems } = parseSettings(
    '/etc/x/f.toml',
    `state_directory = "/var/lib/x"
${minimal}
[hooks.freeze]
command = ["/usr/local/sbin/freeze", "a b"]
when = "before"
[hooks.thaw]
command = ["/usr/local/sbin/thaw"]
when = "after-always"
run = "always"
time_limit_seconds = 20
runs_per_hour = 3600
tell_output = false
[limits]
bytes_per_second = 65536
runs_per_hour = 1
`,
  )
  assert.deepEqual(problems, [])
  assert.deepEqual(settings!.hooks, [
    {
      name: 'freeze',
      command: ['/usr/local/sbin/freeze', 'a b'],
      when: 'before',
      always: false,
      timeLimitMs: 300_000,
      failsRun: true,
      runsPerHour: 12,
      tellsOutput: true,
    },
    {
      name: 'thaw',
      command: ['/usr/local/sbin/thaw'],
      when: 'after-always',
      always: true,
      timeLimitMs: 20_000,
      failsRun: false,
      runsPerHour: 3600,
      tellsOutput: false,
    },
  ])
  assert.equal(settings!.stateDirectory, '/var/lib/x')
  assert.deepEqual([settings!.limits.bytesPerSecond, settings!.limits.runsPerHour], [65_536, 1])
})

test('a hook that would be another than it looks is refused, with what was expected', () => {
  const problems = (section: string) => problemsOf(`${minimal}\n${section}`).join('\n')
  const good = 'when = "before"'
  assert.match(
    problems(`[hooks.x]\n${good}\ncommand = "dump --all"`),
    /hooks\.x\.command: .*a list: the absolute path/,
  )
  assert.match(problems(`[hooks.x]\n${good}\ncommand = []`), /a list: the absolute path/)
  assert.match(problems(`[hooks.x]\n${good}\ncommand = ["dump"]`), /a list: the absolute path/)
  assert.match(problems(`[hooks.x]\n${good}\ncommand = ["/a/../b"]`), /a list: the absolute path/)
  assert.match(problems(`[hooks.x]\n${good}\ncommand = ["/a", "b\\u0000"]`), /an argument without a NUL/)
  assert.match(problems('[hooks.x]\ncommand = ["/a"]\nwhen = "later"'), /one of before, after, after-always/)
  assert.match(problems('[hooks."a b"]\ncommand = ["/a"]\nwhen = "after"'), /with names of 1 to 63 letters/)
  assert.match(
    problems('[hooks.x]\ncommand = ["/a"]\nwhen = "after"\non_failure = "fail"'),
    /hooks\.x\.on_failure: .*only what runs before a backup/,
  )
  assert.match(
    problems(`[hooks.x]\ncommand = ["/a"]\n${good}\nshell = true`),
    /an unknown key; expected one of command, when/,
  )
  const long = (name: string) => `[hooks.${name}]\ncommand = ["/a"]\n${good}\ntime_limit_seconds = 2000\n`
  assert.match(problems(long('x') + long('y')), /hooks: .*3600 s at most for all hooks before a run together/)
})
