import assert from 'node:assert/strict'
import { chmodSync, rmSync, symlinkSync, utimesSync } from 'node:fs'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { describeProblem } from '../src/errors.ts'
import { goodHost, HomeFolder } from './home-folder.ts'

test('a home is read with its defaults and absolute paths', async () => {
  using home = new HomeFolder({
    'settings.ts': "export default { repository: '../elsewhere', defaults: { exclude: ['*.tmp'] } }",
  })
  home.writeHost(
    'web1',
    "{ address: '::1', password: 'p', paths: ['/etc'], exclude: ['*.o'], expectEvery: '2 days' }",
  )
  const { settings, hosts, problems } = await home.load()
  assert.deepEqual(problems, [])
  assert.equal(settings.repository, home.at('../elsewhere'))
  assert.equal(settings.certs, home.at('certs'))
  assert.equal(settings.concurrency, 4)
  assert.deepEqual(settings.connection, { timeoutMs: 20_000, attempts: 3, pauseMs: 5000 })
  const [host] = hosts
  assert.equal(host?.name, 'web1')
  assert.equal(host.port, 7911)
  assert.equal(host.compressionLevel, 3)
  assert.equal(host.expectEveryMs, 2 * 86_400_000)
  assert.deepEqual(host.exclude, ['*.tmp', '*.o'])
  assert.equal(host.password.reveal(), 'p')
})

test('all problems of settings and of host modules are told at once, with file, key, found and expected', async () => {
  using home = new HomeFolder({
    'settings.ts': "export default { conection: {}, log: { levl: 'info' }, concurrency: 0 }",
  })
  home.writeHost(
    'web1',
    "{ adress: 'x', password: 'p', paths: ['etc', '/a/../b'], port: 70000, expectEvery: 'often', exclude: ['!'] }",
  )
  const lines = (await home.loadProblems()).map(describeProblem)
  const settings = home.at('settings.ts')
  const web1 = home.at('hosts/web1.ts')
  const expected = [
    `${settings}: repository: found nothing; expected a path`,
    `${settings}: concurrency: found 0; expected an integer from 1 to 64`,
    `${settings}: log.levl: found an unknown key; expected one of file, level; did you mean 'level'?`,
    `${web1}: port: found 70000; expected an integer from 1 to 65535`,
    `${web1}: paths[0]: found "etc"; expected an absolute path, like '/etc'`,
    `${web1}: paths[1]: found "/a/../b"; expected a path without '..'`,
    `${web1}: expectEvery: found "often"; expected a duration like '90 seconds', '30m', '26 hours' or '2 days'`,
  ]
  for (const line of expected) assert.ok(lines.includes(line), `${line}\nis not among\n${lines.join('\n')}`)
  const hint = (key: string, word: string) =>
    lines.some((line) => line.includes(` ${key}: `) && line.endsWith(`did you mean '${word}'?`))
  assert.ok(hint('conection', 'connection'))
  assert.ok(hint('adress', 'address'))
  assert.ok(
    lines.some((line) =>
      line.startsWith(`${web1}: exclude[0]: found "!"; expected a pattern that can be understood`),
    ),
  )
  assert.ok(lines.some((line) => line.startsWith(`${web1}: address: found nothing;`)))
})

test('one bad module leaves the other hosts alone', async () => {
  using home = new HomeFolder()
  home.writeHost('good')
  home.writeHost('zebra')
  home.write('hosts/syntax.ts', 'export default {\n  address: ,\n}\n')
  home.write('hosts/throws.ts', "\nthrow new Error('out of order')\n")
  home.write('hosts/enum.ts', 'enum A { B }\nexport default {}\n')
  home.write('hosts/nothing.ts', 'export const host = {}\n')
  home.write('hosts/missing.ts', "import './not-there.ts'\nexport default {}\n")
  home.write('hosts/bad name.ts', 'export default {}\n')
  const { hosts, problems } = await home.load()
  assert.deepEqual(
    hosts.map(({ name }) => name),
    ['good', 'zebra'],
  )
  const byHost = new Map(problems.map((problem) => [problem.host, problem]))
  assert.deepEqual([...byHost.keys()].sort(), ['bad name', 'enum', 'missing', 'nothing', 'syntax', 'throws'])
  assert.equal(byHost.get('syntax')!.file, home.at('hosts/syntax.ts'))
  assert.equal(byHost.get('syntax')!.line, 2)
  assert.equal(byHost.get('throws')!.line, 2)
  assert.match(byHost.get('throws')!.found, /out of order/)
  assert.equal(byHost.get('enum')!.line, 1)
  assert.match(byHost.get('nothing')!.expected, /export default/)
  assert.match(byHost.get('missing')!.found, /not-there\.ts/)
})

test('an error in a file that a module imports is told with the place in that file', async () => {
  using home = new HomeFolder({ 'hosts/_shared.ts': 'export const paths = [\n  ,,]]\n' })
  home.write(
    'hosts/web1.ts',
    `import { paths } from './_shared.ts'\nexport default { ...${goodHost}, paths }\n`,
  )
  const { problems } = await home.load()
  assert.equal(problems[0]!.file, home.at('hosts/_shared.ts'))
  assert.equal(problems[0]!.line, 2)
  assert.equal(problems[0]!.host, 'web1')
})

test('names that begin with _ or end in .example.ts are no hosts', async () => {
  using home = new HomeFolder()
  for (const file of ['_shared.ts', 'web1.example.ts', '.hidden.ts', 'types.d.ts', 'README.md', 'web2.ts~']) {
    home.write(`hosts/${file}`, "throw new Error('must not run')")
  }
  assert.deepEqual(await home.load().then(({ hosts, problems }) => ({ hosts, problems })), {
    hosts: [],
    problems: [],
  })
})

test('a module that was changed is read anew in the same process', async () => {
  using home = new HomeFolder()
  const file = home.writeHost('web1', "{ address: 'one', password: 'p', paths: ['/'] }")
  assert.equal((await home.load()).hosts[0]!.address, 'one')
  home.writeHost('web1', "{ address: 'two', password: 'p', paths: ['/'] }")
  utimesSync(file, 1, 1)
  assert.equal((await home.load()).hosts[0]!.address, 'two')
})

test('passwords come from the module, a private file or the environment', async () => {
  using home = new HomeFolder()
  home.write('secrets/a', 'from a file\n', 0o600)
  home.writeHost('file', "{ address: 'h', password: { file: '../secrets/a' }, paths: ['/'] }")
  home.writeHost('variable', "{ address: 'h', password: { env: 'THE_PASSWORD' }, paths: ['/'] }")
  const { hosts, problems } = await home.load({ THE_PASSWORD: 'from the environment' })
  assert.deepEqual(problems, [])
  assert.deepEqual(
    hosts.map(({ password }) => password.reveal()),
    ['from a file', 'from the environment'],
  )
})

test('a password that cannot be had is a problem of its host only', async () => {
  using home = new HomeFolder()
  home.write('secrets/open', 'p', 0o644)
  home.write('secrets/empty', '\n', 0o600)
  home.writeHost('empty', "{ address: 'h', password: { file: '../secrets/empty' }, paths: ['/'] }")
  home.writeHost('missing', "{ address: 'h', password: { file: '../secrets/none' }, paths: ['/'] }")
  home.writeHost('open', "{ address: 'h', password: { file: '../secrets/open' }, paths: ['/'] }")
  home.writeHost('unset', "{ address: 'h', password: { env: 'NOT_SET' }, paths: ['/'] }")
  home.writeHost('good')
  const { hosts, problems } = await home.load()
  assert.deepEqual(
    hosts.map(({ name }) => name),
    ['good'],
  )
  assert.deepEqual(
    problems.map(({ host }) => host),
    ['empty', 'missing', 'open', 'unset'],
  )
  assert.match(problems[2]!.expected, /chmod 600/)
  assert.match(problems[3]!.expected, /NOT_SET/)
})

test('a password is read through a link only where nobody else could have put it there', async () => {
  using home = new HomeFolder()
  home.write('secrets/a', 'that of a', 0o600)
  home.write('links/none', '')
  symlinkSync('../secrets/a', home.at('links/b'))
  home.writeHost('b', "{ address: 'h', password: { file: '../links/b' }, paths: ['/'] }")
  assert.deepEqual((await home.load()).problems, [])
  chmodSync(home.at('links'), 0o777)
  const { hosts, problems } = await home.load()
  assert.deepEqual(hosts, [])
  assert.deepEqual(
    problems.map(({ file }) => file),
    [home.at('links')],
  )
})

test('a password appears in no problem and in no printed host', async () => {
  using home = new HomeFolder()
  home.writeHost('bad', "{ address: 'h', password: 987654321, paths: ['/'] }")
  home.writeHost('worse', "{ address: 'h', password: { file: 5, text: 'hunter2' }, paths: ['/'] }")
  home.writeHost('good', "{ address: 'h', password: 'hunter2', paths: ['/'] }")
  const configuration = await home.load()
  const printed =
    JSON.stringify(configuration) +
    inspect(configuration, { depth: 9 }) +
    String(configuration.hosts[0]!.password)
  assert.doesNotMatch(printed, /hunter2|987654321/)
})

test('a home without settings or hosts says what is missing', async () => {
  using home = new HomeFolder()
  rmSync(home.at('settings.ts'))
  rmSync(home.at('hosts'), { recursive: true })
  const problems = await home.loadProblems()
  assert.deepEqual(
    problems.map(({ file, found }) => [file, found]),
    [
      [home.at('settings.ts'), 'nothing there'],
      [home.at('hosts'), 'no folder'],
    ],
  )
})
