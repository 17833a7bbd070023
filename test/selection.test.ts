/** What a host module names is what its archive holds: once, all of it, and nothing else. */
import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { bytesFromText } from '@central-backup/archive'
import { readWholeArchive } from './harness/archives.ts'
import { runCommand } from './harness/program.ts'
import { type HostEnd, type RunEnded, Site, type TestHost } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

/** One host for all tests, whose agent keeps a local copy of each archive. Each test has a tree of its own. */
let site: Site
let host: TestHost

// In a suite: where no test of it is to run, its hooks are not called either.
describe('the paths of a host module', () => {
  before(async () => {
    site = await Site.create()
    host = await site.addHost('web1', {
      settings: `[local_copy]\ndirectory = ${JSON.stringify(site.at('copies'))}\nkeep = 1`,
    })
    await host.start()
  })
  after(() => site[Symbol.asyncDispose]())

  let trees = 0

  function makeTree(files: Readonly<Record<string, string>>): string {
    const root = site.tree(`tree-${trees++}`)
    writeTree(root, files)
    return root
  }

  /** Writes what the module selects; names begin in the tree unless they are absolute. */
  function choose(root: string, paths: readonly string[], exclude: readonly string[] = []): void {
    const absolute = paths.map((path) => (path.startsWith('/') ? path : `${root}/${path}`))
    host.changeModule((text) =>
      text
        .replace(/paths: \[[\s\S]*?\],\n/, `paths: ${JSON.stringify(absolute)},\n`)
        .replace(/exclude: \[[\s\S]*?\],\n/, `exclude: ${JSON.stringify(exclude)},\n`),
    )
  }

  interface Result extends RunEnded {
    end: HostEnd
    /** Codes and paths, which begin in the tree. */
    told: string[]
    /** What the new archive holds in the tree, ancestors left out; `null` where there is no new archive. */
    packed: string[] | null
  }

  async function run(root: string): Promise<Result> {
    const before = site.archives('web1')
    const ended = await site.run('--full')
    const made = site.archives('web1').filter((path) => !before.includes(path))
    const packed =
      made[0] === undefined ? null : namesOf(root, [...(await readWholeArchive(made[0])).entries()])
    const told = ended.warnings.map(({ code, path }) => `${code} ${String(path).replace(`${root}/`, '')}`)
    return { ...ended, end: ended.ends.web1!, told, packed }
  }

  function namesOf(root: string, entries: readonly [string, { ancestor: boolean }][]): string[] {
    const within = entries.filter(([path, { ancestor }]) => !ancestor && `/${path}`.startsWith(`${root}/`))
    return within.map(([path]) => path.slice(root.length)).sort()
  }

  const files = {
    'etc/hosts': 'hosts',
    'etc/app/app.conf': 'conf',
    'etc/app/app.conf.bak': 'old',
    'www/a/public/index.html': 'a',
    'www/a/private/key': 'secret',
    'www/b/public/index.html': 'b',
    'www/b/cache/x': 'x',
    'log/today.log': 'log',
  }

  test('paths that overlap, in whatever way, are packed once', async () => {
    const root = makeTree(files)
    choose(root, ['etc', 'etc/app', 'etc/*', 'etc/**', 'etc/app/app.conf', 'etc/', 'etc/{hosts,app}'])
    const { code, end, packed, told } = await run(root)
    assert.deepEqual([code, end.outcome, told], [0, 'complete', []])
    assert.deepEqual(packed, ['etc', 'etc/app', 'etc/app/app.conf', 'etc/app/app.conf.bak', 'etc/hosts'])
    const { stdout } = await runCommand(['tar', '-tf', site.archives('web1').at(-1)!])
    const lines = stdout.split('\n').filter(Boolean)
    assert.equal(new Set(lines).size, lines.length)
    assert.equal(end.counts.files, 3)
  })

  test('patterns are matched anew in each run, and excludes leave out what they match', async () => {
    const root = makeTree(files)
    choose(root, ['www/*/public', 'etc'], ['*.bak', 'www/b'])
    const first = await run(root)
    assert.equal(first.code, 0, first.stderr)
    assert.deepEqual(first.packed, [
      'etc',
      'etc/app',
      'etc/app/app.conf',
      'etc/hosts',
      'www/a/public',
      'www/a/public/index.html',
    ])
    assert.equal(first.end.counts.excluded, 1)
    writeTree(root, { 'www/c/public/new.html': 'new' })
    const second = await run(root)
    assert.deepEqual(
      second.packed!.filter((path) => !first.packed!.includes(path)),
      ['www/c/public', 'www/c/public/new.html'],
    )
  })

  test('a path that is named and not there makes the run incomplete, with exit code 3, and all else is kept', async () => {
    const root = makeTree(files)
    choose(root, ['etc/hosts', 'gone', 'etc/hosts/below'])
    const { code, end, packed, told } = await run(root)
    assert.deepEqual([code, end.outcome], [3, 'incomplete'])
    assert.deepEqual(told, ['path-not-found gone', 'path-not-found etc/hosts/below'])
    assert.deepEqual(packed, ['etc/hosts'])
    const { runs } = JSON.parse((await site.ask('list', '--json', 'web1')).stdout)
    assert.equal(runs.at(-1).outcome, 'incomplete')
  })

  test('a pattern that matches nothing is a warning, and the run is complete', async () => {
    const root = makeTree(files)
    choose(root, ['etc/hosts', 'etc/*.ini', 'gone/*'])
    const { code, end, told } = await run(root)
    assert.deepEqual([code, end.outcome], [0, 'complete'])
    assert.deepEqual(told, ['pattern-matched-nothing etc/*.ini', 'pattern-matched-nothing gone/*'])
    assert.equal(end.warningCount, 2)
  })

  test('a run that finds no file fails with exit code 1, and leaves neither an archive nor a part of one', async () => {
    const root = makeTree(files)
    const copies = async () => (await runCommand(['ls', '-A', site.at('copies')])).stdout
    const before = { files: site.files('web1'), copies: await copies() }
    mkdirSync(join(root, 'empty/below'), { recursive: true })
    for (const [paths, exclude] of [
      [['gone', 'etc/*.ini'], []],
      [['empty'], []],
      [['etc', 'www/*'], ['*']],
    ] as const) {
      choose(root, paths, exclude)
      const { code, end, stderr } = await run(root)
      assert.deepEqual([code, end.outcome, end.archive], [1, 'failed', null], `${paths}: ${stderr}`)
      assert.ok(end.error!.message.length > 0)
      assert.deepEqual({ files: site.files('web1'), copies: await copies() }, before, `${paths}`)
    }
    const { runs } = JSON.parse((await site.ask('list', '--json', 'web1')).stdout)
    assert.ok(runs.slice(-3).every(({ outcome }: { outcome: string }) => outcome === 'failed'))
  })

  test('a dry run lists exactly what a run packs, with the same outcome, and changes nothing', async () => {
    const root = makeTree({ ...files, 'odd/new\nline': 'x', 'odd/-rf': 'x', 'odd/é': 'x' })
    writeFileSync(Buffer.from(`${root}/odd/caf\xe9`, 'latin1'), 'x')
    symlinkSync('etc', join(root, 'link'))
    for (const [paths, exclude, code] of [
      [['etc', 'www/*/p*', 'odd', 'link'], ['*.bak', 'private/'], 0],
      [['link/app', 'odd/**', 'gone'], [], 3],
      [['etc'], ['*'], 1],
    ] as const) {
      choose(root, paths, exclude)
      const before = site.files('web1')
      const dry = await site.server('run', '--dry-run', '--json')
      assert.equal(dry.code, code, dry.stderr)
      assert.deepEqual(site.files('web1'), before)
      const end = dry.json.find(({ event }) => event === 'end') as unknown as HostEnd
      const listed = dry.json
        .filter(({ event }) => event === 'entry')
        .map(({ path, type, size }) => ({ path, type, size }))
      const real = await run(root)
      assert.deepEqual([end.outcome, real.code], [real.end.outcome, code])
      if (real.end.archive === null) continue
      const { excluded, ...counts } = end.counts
      for (const [name, count] of Object.entries({ ...counts, excluded })) {
        if (name !== 'contentBytes') assert.equal(count, real.end.counts[name], name)
      }
      const archive = [...(await readWholeArchive(site.archives('web1').at(-1)!)).entries()]
      assert.deepEqual(
        listed,
        archive.map(([path, { type, size }]) => ({ path: `/${path}`, type, size })),
      )
      if (code !== 0) continue
      const plain = await site.server('run', '--dry-run')
      assert.equal(
        plain.stdout.split('\n').filter((line) => !line.startsWith('web1: left out: ')).length - 1,
        listed.length,
        'a line for each, also of names with newlines',
      )
    }
  })

  test('a path through a link, names that are not UTF-8 and names with glob characters are taken as they stand', async () => {
    const root = makeTree({ 'real/data/x': 'x', '[a]/y': 'y', 'a/z': 'z', '{b,c}': 'b' })
    symlinkSync('real', join(root, 'link'))
    writeFileSync(Buffer.from(`${root}/caf\xe9`, 'latin1'), 'coffee')
    choose(root, ['link/data', '[a]', '{b,c}', 'caf\udce9'])
    const { code, told, packed } = await run(root)
    assert.deepEqual([code, told], [0, []])
    assert.deepEqual(
      packed,
      ['[a]', '[a]/y', 'caf\udce9', 'link', 'real/data', 'real/data/x', '{b,c}'].sort(),
    )
    assert.equal(bytesFromText('caf\udce9').length, 4)
  })

  test('what the settings of the host do not allow is not packed, whatever the module says', async () => {
    const root = makeTree({ 'public/x': 'x', 'secret/y': 'y', 'secret2/z': 'z' })
    symlinkSync('../secret', join(root, 'public/way-out'))
    host.configure((text) => text.replace('read = ["/"]', `read = [${JSON.stringify(join(root, 'public'))}]`))
    await host.stop()
    await host.start()

    choose(root, ['public', 'secret'])
    const mixed = await run(root)
    assert.deepEqual([mixed.code, mixed.end.outcome], [3, 'incomplete'])
    assert.deepEqual(mixed.told, ['path-not-allowed secret'])
    assert.deepEqual(mixed.packed, ['public', 'public/way-out', 'public/x'])

    choose(root, [
      'public/way-out/',
      'public/{way-out,x}/*',
      'secret/y',
      'secret/nothing',
      '*/y',
      '/etc/shadow',
    ])
    const outside = await run(root)
    assert.deepEqual([outside.code, outside.end.outcome, outside.packed], [1, 'failed', null])
    const answers = outside.warnings
      .filter(({ path }) => String(path).includes('/secret/'))
      .map(({ code, message }) => [code, message])
    assert.equal(answers.length, 2)
    assert.deepEqual(answers[0], answers[1], 'the same answer whether it is there or not')

    // All of the machine means all that is allowed of it.
    choose(root, ['/'])
    const all = await run(root)
    assert.equal(all.end.outcome, 'failed')
    assert.match(all.warnings[0]!.code!, /path-not-allowed/)
  })
})
