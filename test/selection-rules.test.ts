/** Mounts, marks, limits and options of paths, from the host module to the archive; and a dry run that says why. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { enterPrivateMounts, mount, mountNew, mountTmpfs } from '../packages/archive/test/private-mounts.ts'
import { readWholeArchive } from './harness/archives.ts'
import { Site, type TestHost } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

const skip = enterPrivateMounts()

let site: Site
let host: TestHost

// In a suite: where no test of it is to run, its hooks are not called either.
describe('the rules of a host module', () => {
  before(async () => {
    site = await Site.create()
    host = await site.addHost('web1')
    await host.start()
  })
  after(() => site[Symbol.asyncDispose]())

  let trees = 0

  function makeTree(files: Readonly<Record<string, string>>): string {
    const root = site.tree(`tree-${trees++}`)
    writeTree(root, files)
    return root
  }

  /** Takes away in the end what is mounted at these names. */
  function unmounting(root: string, ...names: readonly string[]): Disposable {
    return {
      [Symbol.dispose]() {
        for (const name of names) spawnSync('umount', ['--recursive', '--lazy', join(root, name)])
      },
    }
  }

  /** Writes the module anew, with these fields in place of its paths and excludes. */
  function choose(fields: object): void {
    host.changeModule((text) => {
      const kept = /address:.*\n.*port:.*\n.*password:.*\n/.exec(text)
      assert.ok(kept, text)
      const chosen = Object.entries(fields).map(([key, value]) => `  ${key}: ${JSON.stringify(value)},\n`)
      return `export default {\n  ${kept[0]}${chosen.join('')}}\n`
    })
  }

  /** Names in the tree that the next run packs, ancestors left out, with what is told, as names too. */
  async function run(root: string, ...args: string[]) {
    const ended = await site.run(...args)
    const archive = site.archives('web1').at(-1)!
    const entries = [...(await readWholeArchive(archive)).entries()]
    const within = entries.filter(([path, { ancestor }]) => !ancestor && `/${path}`.startsWith(`${root}/`))
    const packed = within.map(([path]) => path.slice(root.length)).sort()
    const told = ended.warnings.map(({ code, path }) => `${code} ${String(path).replace(`${root}/`, '')}`)
    return { ...ended, end: ended.ends.web1!, packed, told }
  }

  /** What a dry run leaves out, as `reason name: message`. */
  async function leftOut(root: string): Promise<string[]> {
    const { code, stderr, json } = await site.server('run', '--dry-run', '--json')
    assert.equal(code, 0, stderr)
    return json
      .filter(({ event }) => event === 'left-out')
      .map(({ reason, path, message }) => `${reason} ${String(path).replace(`${root}/`, '')}: ${message}`)
  }

  test('options of a path hold for it, those of the host for the others, and patterns take back', async () => {
    const root = makeTree({
      'etc/a.conf': 'a',
      'etc/b.iso': 'b',
      'etc/cache/CACHEDIR.TAG': 'Signature: 8a477f597d28d172789f06886806bc55\n',
      'etc/cache/x': 'x',
      'home/a.iso': 'a',
      'home/small.iso': 's',
      'home/large': 'x'.repeat(3000),
      'home/eve/.nobackup': '',
      'home/eve/mail': 'm',
      'home/cache/CACHEDIR.TAG': 'Signature: 8a477f597d28d172789f06886806bc55\n',
      'home/cache/y': 'y',
    })
    choose({
      paths: [
        `${root}/etc`,
        {
          path: `${root}/home`,
          exclude: ['*.iso', '!small.iso'],
          excludeIfPresent: ['.nobackup'],
          excludeCaches: false,
          maxFileSize: '2k',
        },
      ],
      excludeCaches: true,
    })
    const { code, packed, end, told } = await run(root, '--full')
    assert.deepEqual([code, told], [0, []])
    assert.deepEqual(packed, [
      'etc',
      'etc/a.conf',
      'etc/b.iso',
      'etc/cache',
      'etc/cache/CACHEDIR.TAG',
      'home',
      'home/cache',
      'home/cache/CACHEDIR.TAG',
      'home/cache/y',
      'home/eve',
      'home/eve/.nobackup',
      'home/small.iso',
    ])
    assert.equal(end.counts.excluded, 4)
    assert.deepEqual(await leftOut(root), [
      'cache-directory etc/cache: it holds a CACHEDIR.TAG',
      "excluded home/a.iso: the pattern '*.iso'",
      'marker home/eve: it holds a .nobackup',
      'too-large home/large: its 3000 bytes are more than 2048',
    ])
    const { stdout } = await site.server('run', '--dry-run')
    assert.ok(stdout.includes(`web1: left out: ${root}/home/a.iso (excluded: the pattern '*.iso')\n`), stdout)
  })

  test('a tree with mounts: what holds no data is never entered, other mounts as the path says', {
    skip,
  }, async () => {
    const root = makeTree({ 'a/x': 'x', 'data/covered': '', 'proc/covered': '' })
    using _ = unmounting(root, 'data', 'proc')
    mountTmpfs(`${root}/data`)
    mount(`${root}/proc`, '-t', 'proc', 'proc')
    writeTree(root, { 'data/y': 'y' })
    // An agent sees what is mounted after its start where it is in the same namespace.
    choose({ paths: [root] })
    assert.deepEqual((await run(root, '--full')).packed, ['a', 'a/x', 'data', 'data/y', 'proc'])
    choose({ paths: [{ path: root, oneFileSystem: true }] })
    const one = await run(root, '--full')
    assert.deepEqual([one.packed, one.code], [['a', 'a/x', 'data', 'proc'], 0])
    assert.deepEqual(await leftOut(root), [
      'mount-point data: another file system: tmpfs of selection-test',
      'pseudo-file-system proc: a file system that holds no data: proc',
    ])
    choose({ paths: [{ path: root, oneFileSystem: true }, `${root}/data`] })
    assert.deepEqual((await run(root, '--full')).packed, ['a', 'a/x', 'data', 'data/y', 'proc'])
    choose({ paths: [`${root}/*`] })
    assert.deepEqual((await run(root, '--full')).packed, ['a', 'a/x', 'data', 'data/y'])
    assert.deepEqual(await leftOut(root), ['pseudo-file-system proc: a file system that holds no data: proc'])
    choose({ paths: [`${root}/**/hostname`, `${root}/a`] })
    assert.deepEqual((await run(root, '--full')).told, ['pattern-matched-nothing **/hostname'])
    choose({ paths: [`${root}/proc/sys/kernel/hostname`] })
    assert.deepEqual((await run(root, '--full')).packed, ['proc/sys/kernel/hostname'])
  })

  test('a disk that is left out is told once a run, until it is named or excluded', { skip }, async (t) => {
    const root = makeTree({ 'a/x': 'x' })
    using _ = unmounting(root, 'disk')
    const reason = mountNew('ext4', site.folder, join(root, 'disk'))
    if (reason !== false) return t.skip(reason)
    choose({ paths: [root], oneFileSystem: true })
    const { told, end, warnings } = await run(root, '--full')
    assert.deepEqual([told, end.outcome], [['mounts-left-out disk'], 'complete'])
    assert.match(String(warnings[0]!.message), /\/disk" \(ext4\)/)
    assert.deepEqual((await run(root)).told, ['mounts-left-out disk'])
    choose({ paths: [root], exclude: ['disk'], oneFileSystem: true })
    assert.deepEqual((await run(root)).told, [])
  })

  test('of the whole machine, what is mounted below / is left out without being asked for', {
    skip,
  }, async () => {
    // All but a folder is excluded, as the machine is not the test's.
    const root = makeTree({ 'a/x': 'x' })
    mountTmpfs(`${root}/b`)
    using _ = unmounting(root, 'b')
    writeTree(root, { 'b/y': 'y' })
    const exclude = ['/*', `!${root}`]
    choose({ paths: ['/'], exclude })
    assert.deepEqual((await run(root, '--full')).packed, ['a', 'a/x', 'b'])
    choose({ paths: [{ path: '/', oneFileSystem: false }], exclude })
    assert.deepEqual((await run(root, '--full')).packed, ['a', 'a/x', 'b', 'b/y'])
  })

  test('what is excluded, marked or covered since is unselected, and what is deleted is deleted', {
    skip,
  }, async () => {
    const root = makeTree({ 'a/x': 'x', 'b/y': 'y', 'c/z': 'z', 'd/w': 'w', e: 'e' })
    choose({ paths: [root] })
    await run(root, '--full')
    writeFileSync(join(root, 'a/.nobackup'), '')
    mountTmpfs(`${root}/b`)
    using _ = unmounting(root, 'b')
    rmSync(join(root, 'd/w'))
    choose({ paths: [root], oneFileSystem: true, excludeIfPresent: ['.nobackup'], exclude: ['c'] })
    const { end } = await run(root)
    assert.equal(end.counts.gone, 4)
    const { json } = await site.ask('ls', 'web1', root, '-R', '--json')
    const standing = json
      .map(({ path }) => String(path).replace(`${root}/`, ''))
      .filter((path) => path !== root)
    assert.deepEqual(standing.sort(), ['a', 'a/.nobackup', 'b', 'd', 'e'])
  })

  test('a disk that is not mounted this time keeps what was on it, and the run says so', {
    skip,
  }, async () => {
    const root = makeTree({ 'a/x': 'x' })
    using _ = unmounting(root, 'disk')
    mountTmpfs(`${root}/disk`)
    writeTree(root, { 'disk/y': 'y' })
    choose({ paths: [root] })
    await run(root, '--full')
    spawnSync('umount', [join(root, 'disk')])
    const { code, told, end } = await run(root)
    assert.deepEqual([code, end.outcome, told], [3, 'incomplete', ['not-mounted disk']])
    const target = site.at('restored')
    const restored = await site.server('restore', 'web1', `${root}/disk`, '--target', target)
    assert.equal(restored.code, 0, restored.stderr)
    assert.equal(readFileSync(join(target, root, 'disk/y'), 'utf8'), 'y')
  })

  test('no pattern of the server takes back what the host keeps for itself', async () => {
    const root = makeTree({ x: 'x' })
    const copies = join(root, 'copies')
    mkdirSync(copies)
    host.configure((text) => `${text}\n[local_copy]\ndirectory = ${JSON.stringify(copies)}\nkeep = 2\n`)
    await host.stop()
    await host.start()
    choose({ paths: [{ path: root, exclude: ['!*.tar.zst', '!*'] }], exclude: ['*.zst', '!*.zst'] })
    assert.deepEqual((await run(root, '--full')).packed, ['copies', 'x'])
    assert.deepEqual((await run(root, '--full')).packed, ['copies', 'x'])
  })
})
