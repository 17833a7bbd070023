import assert from 'node:assert/strict'
import { chmodSync, chownSync, existsSync, realpathSync, symlinkSync } from 'node:fs'
import { test } from 'node:test'
import { findTrustProblems } from '../src/config/trust.ts'
import { HomeFolder } from './home-folder.ts'

const notRoot = process.geteuid!() !== 0 && 'only root can give files away'

/** A module that leaves a trace where it is run. */
function trap(home: HomeFolder): string {
  return `import { writeFileSync } from 'node:fs'\nwriteFileSync(${JSON.stringify(home.at('trace'))}, '')\nexport default {}\n`
}

for (const mode of [0o664, 0o646, 0o666]) {
  test(`a module of mode ${mode.toString(8)} is refused and never run`, async () => {
    using home = new HomeFolder()
    home.writeHost('good')
    chmodSync(home.write('hosts/open.ts', trap(home)), mode)
    const { hosts, problems } = await home.load()
    assert.deepEqual(
      hosts.map(({ name }) => name),
      ['good'],
    )
    assert.equal(problems.length, 1)
    assert.equal(problems[0]!.file, realpathSync(home.at('hosts/open.ts')))
    assert.match(problems[0]!.found, /^mode 06/)
    assert.match(problems[0]!.expected, /chmod go-w/)
    assert.ok(!existsSync(home.at('trace')))
  })
}

test('settings that others may write to are refused and never run', async () => {
  using home = new HomeFolder()
  chmodSync(home.write('settings.ts', trap(home)), 0o666)
  const problems = await home.loadProblems()
  assert.match(problems[0]!.found, /mode 0666/)
  assert.ok(!existsSync(home.at('trace')))
})

test('a file that a module imports is held to the same, also through another one', async () => {
  using home = new HomeFolder()
  home.writeHost('good')
  home.write('hosts/_outer.ts', "export * from './_inner.ts'\n")
  chmodSync(home.write('hosts/_inner.ts', trap(home)), 0o666)
  home.write('hosts/web1.ts', "import * as outer from './_outer.ts'\nexport default outer\n")
  const { hosts, problems } = await home.load()
  assert.deepEqual(
    hosts.map(({ name }) => name),
    ['good'],
  )
  assert.deepEqual(
    problems.map(({ host, file }) => [host, file]),
    [['web1', realpathSync(home.at('hosts/_inner.ts'))]],
  )
  assert.ok(!existsSync(home.at('trace')))
})

test('a folder that others may write to takes all its modules with it, and is named once', async () => {
  using home = new HomeFolder()
  home.writeHost('one')
  home.writeHost('two')
  chmodSync(home.at('hosts'), 0o777)
  const { hosts, problems } = await home.load()
  assert.deepEqual(hosts, [])
  assert.deepEqual(
    problems.map(({ host, file }) => [host, file]),
    [[null, realpathSync(home.at('hosts'))]],
  )
})

test('a sticky folder of root may hold the folder of a module, but not the module', { skip: notRoot }, () => {
  using folder = new HomeFolder()
  const inside = folder.write('sticky/private/module.ts', '')
  const directly = folder.write('sticky/module.ts', '')
  chmodSync(folder.at('sticky'), 0o1777)
  assert.deepEqual(findTrustProblems(realpathSync(inside), 0), [])
  assert.deepEqual(
    findTrustProblems(realpathSync(directly), 0).map(({ file }) => file),
    [realpathSync(folder.at('sticky'))],
  )
})

test('a symbolic link out of the folder is refused, one within it is followed', async () => {
  using home = new HomeFolder()
  home.writeHost('web1')
  home.write('elsewhere.ts', trap(home))
  symlinkSync('../elsewhere.ts', home.at('hosts/outside.ts'))
  symlinkSync('web1.ts', home.at('hosts/alias.ts'))
  symlinkSync('nowhere.ts', home.at('hosts/dangling.ts'))
  const { hosts, problems } = await home.load()
  assert.deepEqual(
    hosts.map(({ name }) => name),
    ['alias', 'web1'],
  )
  assert.deepEqual(
    problems.map(({ host }) => host),
    ['dangling', 'outside'],
  )
  assert.match(problems[1]!.found, /a symbolic link to .*elsewhere\.ts/)
  assert.ok(!existsSync(home.at('trace')))
})

test('a module of another user is refused', { skip: notRoot }, async () => {
  using home = new HomeFolder()
  chownSync(home.writeHost('theirs'), 12_345, 12_345)
  const { problems } = await home.load()
  assert.match(problems[0]!.found, /user 12345/)
  assert.match(problems[0]!.expected, /chown/)
})

test('a module of root is good for every user, and one of the user for that user', { skip: notRoot }, () => {
  using folder = new HomeFolder()
  const file = realpathSync(folder.writeHost('web1'))
  assert.deepEqual(findTrustProblems(file, 4711), [])
  chownSync(file, 4711, 4711)
  assert.deepEqual(findTrustProblems(file, 4711), [])
  assert.equal(findTrustProblems(file, 4712).length, 1)
})
