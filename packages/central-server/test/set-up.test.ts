import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { test } from 'node:test'
import { loadConfiguration } from '../src/config/load.ts'
import { findCertificateFaults } from '../src/pki/inspect.ts'
import { backupServerInProcess } from './run-in-process.ts'
import { backupHost, backupServer } from './run-program.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const surroundings = { environment: {}, uid: process.geteuid!() }

function mode(path: string): number {
  return lstatSync(path).mode & 0o777
}

/** Every path below the folder with its content, to see that nothing was changed. */
function snapshot(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  )
  return Object.fromEntries(
    files.map((entry) => [
      `${entry.parentPath}/${entry.name}`,
      readFileSync(`${entry.parentPath}/${entry.name}`, 'hex'),
    ]),
  )
}

function init(folder: TemporaryFolder) {
  return backupServerInProcess(['--home', folder.at('home'), 'init', '--repository', folder.at('repository')])
}

test('a repository where the file system takes no folder is refused, and does not keep init from ending', async () => {
  using folder = new TemporaryFolder()
  const made = await backupServerInProcess([
    ...['--home', folder.at('home'), 'init', '--repository', '/proc/central-backup'],
  ])
  assert.equal(made.status, 1)
  assert.match(made.stderr, /Cannot make the folder \/proc\/central-backup\S*: \/proc takes no folder/)
})

test('from nothing to a host that is set up, with the real programs', async () => {
  using folder = new TemporaryFolder()
  const home = folder.at('home')
  const made = backupServer(['--home', home, 'init', '--repository', folder.at('repository')])
  assert.equal(made.stderr, '')
  assert.equal(made.status, 0)
  for (const secret of ['certs/ca.key', 'certs/server.key']) assert.equal(mode(`${home}/${secret}`), 0o600)
  for (const part of ['', 'hosts', 'secrets', 'certs']) assert.equal(mode(`${home}/${part}`), 0o700)
  assert.equal(JSON.parse(readFileSync(folder.at('repository/central-backup.json'), 'utf8')).format, 1)

  const bundle = folder.at('web1.bundle')
  const added = backupServer([
    '--home',
    home,
    'host',
    'add',
    'web1',
    '--address',
    '192.0.2.10:7000',
    '--path',
    '/etc',
    '--path',
    "/srv/o'neill",
    '--exclude',
    '*.tmp',
    '--bundle',
    bundle,
  ])
  assert.equal(added.stderr, '')
  assert.equal(added.status, 0)
  assert.match(added.stdout, /backup-host init --bundle/)
  assert.equal(mode(bundle), 0o600)
  assert.equal(mode(`${home}/secrets/web1`), 0o600)

  const { hosts, problems, settings } = await loadConfiguration(home, surroundings)
  assert.deepEqual(problems, [])
  assert.equal(settings.repository, folder.at('repository'))
  const [web1] = hosts
  const password = readFileSync(`${home}/secrets/web1`, 'utf8').trim()
  assert.ok(password.length >= 22, 'a password of at least 128 bits')
  assert.equal(web1!.password.reveal(), password)
  assert.deepEqual(
    [web1!.address, web1!.port, web1!.paths.map(({ path }) => path), web1!.exclude],
    ['192.0.2.10', 7000, ['/etc', "/srv/o'neill"], ['*.tmp']],
  )
  assert.doesNotMatch(added.stdout, new RegExp(password))

  const { key, certificate, authority } = JSON.parse(readFileSync(bundle, 'utf8'))
  assert.deepEqual(
    findCertificateFaults({ certificate, key, authority }, { role: 'host', name: 'web1' }, Date.now()),
    [],
  )
  assert.equal(readFileSync(`${home}/certs/hosts/web1.crt`, 'utf8'), certificate)
  const keyText = key.split('\n')[1]
  for (const [file, content] of Object.entries(snapshot(home))) {
    assert.ok(!Buffer.from(content, 'hex').includes(keyText), `the key of the host stays in ${file}`)
  }

  const config = folder.at('agent/backup-host.toml')
  const initialized = backupHost(['--config', config, 'init', '--bundle', bundle, '--json'])
  assert.equal(initialized.status, 0, initialized.stderr)
  assert.deepEqual(JSON.parse(initialized.stdout).problems, [])
  const checked = backupHost(['--config', config, 'check', '--json'])
  assert.equal(checked.status, 0, checked.stdout)
  assert.equal(JSON.parse(checked.stdout).name, 'web1')
  assert.ok(existsSync(bundle), 'the bundle is left for a person to delete')
  assert.match(readFileSync(config, 'utf8'), /^listen = "0\.0\.0\.0:7000"$/m)
  assert.doesNotMatch(readFileSync(config, 'utf8'), new RegExp(password))
})

test('a second init changes nothing, and says so', async () => {
  using folder = new TemporaryFolder()
  await init(folder)
  const before = snapshot(folder.path)
  const again = await backupServerInProcess(['--home', folder.at('home'), '--json', 'init'])
  assert.equal(again.status, 0, again.stderr)
  const { steps } = JSON.parse(again.stdout) as { steps: { action: string }[] }
  assert.ok(steps.every(({ action }) => action === 'keep'))
  assert.deepEqual(snapshot(folder.path), before)
})

test('an init that was cut short is completed by the next', async () => {
  using folder = new TemporaryFolder()
  await init(folder)
  const before = snapshot(folder.path)
  rmSync(folder.at('home/settings.ts'))
  rmSync(folder.at('home/certs/server.key'))
  rmSync(folder.at('home/certs/server.crt'))
  assert.equal((await init(folder)).status, 0)
  const after = snapshot(folder.path)
  // What was made once stays known, so that it can be revoked.
  const known = (files: object) => Object.keys(files).filter((file) => !file.includes('/issued/'))
  assert.deepEqual(known(after), known(before))
  assert.equal(after[folder.at('home/certs/ca.crt')], before[folder.at('home/certs/ca.crt')])
})

test('init with another repository than that of the settings is refused and changes nothing', async () => {
  using folder = new TemporaryFolder()
  await init(folder)
  const before = snapshot(folder.path)
  const { status, stderr } = await backupServerInProcess([
    '--home',
    folder.at('home'),
    'init',
    '--repository',
    folder.at('other'),
  ])
  assert.equal(status, 2)
  assert.match(stderr, /is there already/)
  assert.deepEqual(snapshot(folder.path), before)
})

test('init refuses a place where others could change what is run', async () => {
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('open'))
  chmodSync(folder.at('open'), 0o777)
  const { status, stderr } = await backupServerInProcess([
    '--home',
    folder.at('open/home'),
    'init',
    '--repository',
    folder.at('repository'),
  ])
  assert.equal(status, 2)
  assert.match(stderr, /chmod go-w/)
  assert.deepEqual(readdirSync(folder.path, { recursive: true }), ['open'])
})

test('without the key of the authority, no certificate is made, and nothing else is missing it', async () => {
  using folder = new TemporaryFolder()
  const home = folder.at('home')
  await init(folder)
  renameSync(`${home}/certs/ca.key`, folder.at('ca.key'))
  const add = () => backupServerInProcess(['--home', home, 'host', 'add', 'web1', '--address', 'web1'])
  const before = snapshot(home)
  const { status, stderr } = await add()
  assert.equal(status, 2)
  assert.match(stderr, /ca\.key is missing/)
  assert.deepEqual(snapshot(home), before)
  assert.equal((await backupServerInProcess(['--home', home, 'init'])).status, 0)
  renameSync(folder.at('ca.key'), `${home}/certs/ca.key`)
  assert.equal((await add()).status, 0)
})

test('a host that is there is not overwritten, not even one file of it', async () => {
  using folder = new TemporaryFolder()
  const home = folder.at('home')
  await init(folder)
  const add = () =>
    backupServerInProcess(['--home', home, '--json', 'host', 'add', 'web1', '--address', 'web1'])
  writeFileSync(`${home}/secrets/web1`, 'precious')
  const before = snapshot(home)
  const { status, stdout } = await add()
  assert.equal(status, 2)
  const { error } = JSON.parse(stdout)
  assert.equal(error.code, 'already-exists')
  assert.match(error.message, /secrets\/web1$/)
  assert.deepEqual(snapshot(home), before)
})

test('where it cannot be told whether a file is there, nothing is written', async () => {
  using folder = new TemporaryFolder()
  const home = folder.at('home')
  await init(folder)
  rmSync(`${home}/secrets`, { recursive: true })
  symlinkSync('secrets', `${home}/secrets`)
  const before = snapshot(home)
  const add = ['--home', home, 'host', 'add', 'web1', '--address', '192.0.2.10', '--bundle', folder.at('b')]
  const added = await backupServerInProcess(add)
  assert.equal(added.status, 1, added.stderr)
  assert.match(added.stderr, /look at .*secrets\/web1.*(ELOOP|too many)/)
  // The same of the certificates, for init.
  rmSync(`${home}/secrets`)
  renameSync(`${home}/certs`, folder.at('certs'))
  symlinkSync('certs', `${home}/certs`)
  const again = await init(folder)
  assert.equal(again.status, 1, again.stderr)
  assert.match(again.stderr, /look at .*certs\/.*(ELOOP|too many)/)
  rmSync(`${home}/certs`)
  renameSync(folder.at('certs'), `${home}/certs`)
  assert.deepEqual(snapshot(home), before)
  assert.ok(!existsSync(folder.at('b')))
})

test('where the bundle cannot be written, no half of a host is left', async () => {
  using folder = new TemporaryFolder()
  const home = folder.at('home')
  await init(folder)
  const before = snapshot(home)
  const bundle = folder.at('not-there', 'bundle')
  const { status } = await backupServerInProcess([
    '--home',
    home,
    'host',
    'add',
    'web1',
    '--address',
    'web1',
    '--bundle',
    bundle,
  ])
  assert.equal(status, 1)
  assert.deepEqual(snapshot(home), before)
})

test('a host without paths is backed up as a whole, but for what is no data', async () => {
  using folder = new TemporaryFolder()
  const home = folder.at('home')
  await init(folder)
  const { status, stdout } = await backupServerInProcess([
    '--home',
    home,
    'host',
    'add',
    'v6',
    '--address',
    '[2001:db8::1]:8000',
    '--json',
  ])
  assert.equal(status, 0)
  assert.equal(JSON.parse(stdout).files.bundle, `${home}/bundles/v6.bundle.json`)
  const { hosts } = await loadConfiguration(home, surroundings)
  assert.equal(hosts[0]!.address, '2001:db8::1')
  assert.deepEqual(hosts[0]!.paths, [{ path: '/', exclude: [] }])
  assert.ok(hosts[0]!.exclude.includes('/tmp/*'))
  assert.equal(new X509Certificate(readFileSync(`${home}/certs/hosts/v6.crt`)).subject, 'CN=v6')
})

test('what cannot be a host is refused before anything is made', async () => {
  using folder = new TemporaryFolder()
  const home = folder.at('home')
  await init(folder)
  const before = snapshot(home)
  const wrong: [string[], RegExp][] = [
    [['../evil', '--address', 'a'], /cannot be the name/],
    [['a\u001b[31m', '--address', 'a'], /cannot be the name/],
    [['web1', '--address', 'a:b:c'], /not an address/],
    [['web1', '--address', 'a:70000'], /not an address/],
    [['web1', '--address', ''], /not an address/],
    [
      ['web1', '--address', 'a', '--path', 'etc', '--path', '/a/../b', '--exclude', ''],
      /etc.*; .*\.\..*; .*--exclude/,
    ],
    [['web1'], /--address/],
  ]
  for (const [args, message] of wrong) {
    const { status, stderr } = await backupServerInProcess(['--home', home, 'host', 'add', ...args])
    assert.equal(status, 2, args.join(' '))
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /\u001b/)
  }
  assert.deepEqual(snapshot(home), before)
})
