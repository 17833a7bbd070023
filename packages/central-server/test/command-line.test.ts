import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync } from 'node:fs'
import { test } from 'node:test'
import { parseAddress } from '../src/cli/address.ts'
import { printable } from '../src/cli/printable.ts'
import { HomeFolder } from './home-folder.ts'
import { backupServerInProcess } from './run-in-process.ts'
import { backupServer } from './run-program.ts'

test('the help tells the exit codes and an example of every command', () => {
  const { status, stdout, stderr } = backupServer(['--help'])
  assert.equal(status, 0)
  assert.equal(stderr, '')
  for (const code of [0, 1, 2, 3, 10, 11, 12, 13, 130, 143])
    assert.match(stdout, new RegExp(`^ +${code}  \\w`, 'm'))
  for (const command of ['init', 'host add'])
    assert.match(stdout, new RegExp(`^  backup-server .*${command}`, 'm'))
})

test('every command has a help with an example', async () => {
  for (const words of [['init'], ['host', 'add']]) {
    const { status, stdout } = await backupServerInProcess([...words, '--help'])
    assert.equal(status, 0)
    assert.match(stdout, /Example:\n {2}backup-server /)
    assert.match(stdout, /--json/)
  }
})

test('a wrong use is 2, with a message and a hint on standard error and nothing on standard output', async () => {
  const wrong = [
    ['init', '--frob'],
    ['init', 'extra'],
    ['host'],
    ['host', 'add'],
    ['--home'],
    ['-v', '-q', 'init'],
    ['--home', '', 'init'],
  ]
  for (const args of wrong) {
    const { status, stdout, stderr } = await backupServerInProcess(args)
    assert.equal(status, 2, args.join(' '))
    assert.equal(stdout, '')
    assert.match(stderr, /^backup-server: .*\n(.*\n)?Hint: /, args.join(' '))
  }
})

test('with --json, a wrong use is JSON on standard output too', () => {
  const { status, stdout, stderr } = backupServer(['init', '--frob', '--json'])
  assert.equal(status, 2)
  const { error } = JSON.parse(stdout)
  assert.equal(error.code, 'usage')
  assert.match(error.message, /--frob/)
  assert.match(stderr, /--frob/)
})

test('problems of the configuration are told for people and, with --json, as data', async () => {
  using home = new HomeFolder({ 'settings.ts': 'export default { repositry: 1 }' })
  chmodSync(home.writeHost('web1'), 0o666)
  const { status, stdout, stderr } = await backupServerInProcess(
    ['--json', 'host', 'add', 'web2', '--address', 'a'],
    { cwd: home.path },
  )
  assert.equal(status, 2)
  const { error } = JSON.parse(stdout)
  assert.equal(error.code, 'configuration')
  assert.deepEqual(
    error.problems.map(({ key }: { key: string | null }) => key),
    ['repository', 'repositry', null],
  )
  assert.match(stderr, /did you mean 'repository'/)
})

test('the home comes from the environment, and a wrong one says how it was chosen', async () => {
  using home = new HomeFolder()
  const add = ['host', 'add', 'web1', '--address', 'a']
  const chosen = await backupServerInProcess(add, { env: { BACKUP_SERVER_HOME: home.path } })
  assert.match(chosen.stderr, /ca\.crt is missing/)
  const wrong = await backupServerInProcess(add, { env: { BACKUP_SERVER_HOME: home.at('nowhere') } })
  assert.equal(wrong.status, 2)
  assert.match(wrong.stderr, /nowhere \(\$BACKUP_SERVER_HOME\)/)
})

test('modules of a home do not make Node warn', () => {
  using home = new HomeFolder()
  home.writeHost('web1')
  const { stderr } = backupServer(['--home', home.path, 'host', 'add', 'web1', '--address', 'a'])
  assert.doesNotMatch(stderr, /Warning/)
})

test('control characters of the configuration do not reach the terminal', () => {
  using home = new HomeFolder({ 'settings.ts': "throw new Error('\\u001b]0;owned\\u0007\\u202e')" })
  const { stderr } = backupServer(['--home', home.path, 'host', 'add', 'web1', '--address', 'a'])
  assert.match(stderr, /\\x1b\]0;owned\\x07/)
  assert.doesNotMatch(stderr, /[\u001b\u0007\u202e]/)
})

test('a reader that has seen enough is no failure', () => {
  using home = new HomeFolder()
  const program = new URL('../bin/backup-server.js', import.meta.url).pathname
  const script = `"$0" "$1" --help 2>"$2" | true; cat "$2"`
  const { stdout } = spawnSync('sh', ['-c', script, process.execPath, program, home.at('stderr')], {
    encoding: 'utf8',
  })
  assert.equal(stdout, '')
})

test('an older Node is told in one line', () => {
  const old =
    "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.20.2' } })"
  const program = new URL('../bin/backup-server.js', import.meta.url).pathname
  const args = ['--import', `data:text/javascript,${encodeURIComponent(old)}`, program, '--help']
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  assert.equal(status, 2)
  assert.equal(stdout, '')
  assert.match(stderr, /^backup-server needs Node\.js 24 or newer; .*\n$/)
})

test('what is unprintable is escaped, and all else stays', () => {
  assert.equal(printable('/srv/Käse & 日本/🎉'), '/srv/Käse & 日本/🎉')
  assert.equal(printable('a\nb\t\u001b[2J\u007f\u009b'), 'a\\x0ab\\x09\\x1b[2J\\x7f\\x9b')
  assert.equal(printable('\u202egnp.exe\u2028\ufeff'), '\\u{202e}gnp.exe\\u{2028}\\u{feff}')
  assert.equal(printable('half \ud800'), 'half \\u{d800}')
})

test('addresses are read with and without port', () => {
  assert.deepEqual(parseAddress('web1.example.org'), { address: 'web1.example.org', port: null })
  assert.deepEqual(parseAddress('192.0.2.1:80'), { address: '192.0.2.1', port: 80 })
  assert.deepEqual(parseAddress('2001:db8::1'), { address: '2001:db8::1', port: null })
  assert.deepEqual(parseAddress('[2001:db8::1]'), { address: '2001:db8::1', port: null })
  assert.deepEqual(parseAddress('[2001:db8::1]:443'), { address: '2001:db8::1', port: 443 })
  for (const text of [
    '',
    ':80',
    'a:',
    'a:0',
    'a b',
    '[web1]:80',
    '[::1',
    '1.2.3',
    'a/b',
    'https://a',
    '-a',
  ]) {
    assert.throws(() => parseAddress(text), { code: 'usage' }, text)
  }
})
