/** Holes come back at their places: through agent, archive, catalog and restore, and with stock tar. */
import assert from 'node:assert/strict'
import { chmodSync, closeSync, mkdirSync, openSync, readSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { lacksHoles, makeSparse, type Region, regionsOf } from '../packages/archive/test/holes.ts'
import { programFile } from '../scripts/built-programs.ts'
import { Mount } from './harness/mount.ts'
import { runCommand } from './harness/program.ts'
import { type HostEnd, Site } from './harness/site.ts'

const isRoot = process.geteuid!() === 0
const MiB = 2 ** 20
const GiB = 2 ** 30
const TiB = 2 ** 40

/** A run of web1 that found all it was to find. */
async function runWell(site: Site, ...options: string[]): Promise<HostEnd> {
  const { code, ends, stderr, warnings } = await site.run(...options)
  assert.equal(code, 0, stderr + JSON.stringify(warnings))
  assert.equal(ends.web1!.outcome, 'complete')
  return ends.web1!
}

async function restore(site: Site, target: string, ...options: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await site.server(
    ...['restore', 'web1', '--target', target, '--json', ...options],
  )
  assert.equal(code, 0, stderr + stdout.slice(-2000))
  const lines = stdout.split('\n').filter(Boolean)
  return JSON.parse(lines.at(-1)!) as Record<string, unknown>
}

async function mustRun(...command: string[]): Promise<void> {
  const { code, stderr } = await runCommand(command)
  assert.deepEqual([code, stderr], [0, ''], command.join(' '))
}

/** Files whose data begins and ends at whole blocks of any file system, and such that do not. */
function makeFiles(root: string): void {
  mkdirSync(join(root, 'folder'), { recursive: true })
  const make = (name: string, size: number, regions: Region[]) => makeSparse(join(root, name), size, regions)
  make('begin', 4 * MiB, [[3 * MiB, 4 * MiB]])
  make('end', 4 * MiB + 1, [[0, MiB]])
  make('hole', 4 * MiB, [])
  make('folder/é', 2 * MiB, [[MiB, MiB + 4096]])
  make(`folder/${'n'.repeat(150)}`, 2 * MiB, [[MiB, MiB + 4096]])
  make('byte', GiB, [[GiB / 2 + 5, GiB / 2 + 6]])
  make('large', 9 * GiB + 7, [
    [0, 1],
    [8 * GiB - 4096, 8 * GiB + 4096],
    [9 * GiB, 9 * GiB + 7],
  ])
  make(
    'comb',
    1000 * 16_384,
    Array.from({ length: 1000 }, (_, i) => [i * 16_384, i * 16_384 + 4096]),
  )
}

const names = ['begin', 'end', 'hole', 'folder/é', `folder/${'n'.repeat(150)}`, 'byte', 'large', 'comb']

/** Fails unless the files have the same sizes, holes and data. */
function requireSame(found: string, expected: string, which: readonly string[] = names): void {
  for (const name of which) {
    const [a, b] = [join(found, name), join(expected, name)]
    assert.equal(statSync(a).size, statSync(b).size, a)
    assert.deepEqual(regionsOf(a), regionsOf(b), a)
    for (const [start, end] of regionsOf(b)) assert.ok(read(a, start, end).equals(read(b, start, end)), a)
  }
}

function read(path: string, start: number, end: number): Buffer {
  const bytes = Buffer.alloc(end - start)
  const fd = openSync(path, 'r')
  assert.equal(readSync(fd, bytes, 0, bytes.length, start), bytes.length)
  closeSync(fd)
  return bytes
}

/** Gets a tree that was backed up back in every way there is, beside it and so on the same file system. */
async function getBack(t: TestContext, site: Site, base: string): Promise<void> {
  const root = join(base, 'tree')
  const restored = join(base, 'restored')
  await restore(site, restored, root)
  requireSame(join(restored, root), root)
  rmSync(restored, { recursive: true })

  const [archive] = site.archives('web1')
  const tar = join(site.folder, 'export.tar')
  const program = programFile('central-server')
  const pipe = 'exec "$0" "$1" --home "$2" -q export web1 "$3" > "$4"'
  const exported = await runCommand(['sh', '-c', pipe, process.execPath, program, site.home, root, tar])
  assert.equal(exported.code, 0, exported.stderr)
  for (const [name, ...args] of [
    ['tar', '--zstd', '-S', '-xpf', archive!],
    ['bsdtar', '-xpf', archive!],
    ['tar', '-xpf', tar],
  ] as const) {
    if ((await runCommand([name, '--version'])).code !== 0) {
      t.diagnostic(`${name} is not installed, and so has restored nothing`)
      continue
    }
    const unpacked = join(base, 'unpacked')
    mkdirSync(unpacked)
    await mustRun(name, ...args, '-C', unpacked, root.slice(1))
    requireSame(join(unpacked, root), root)
    rmSync(unpacked, { recursive: true })
  }
}

const fileSystems: Record<string, () => Mount> = {
  tmpfs: () => Mount.tmpfs('size=512m'),
  'xfs with blocks of 4 KiB': () => Mount.xfs(512, '-b', 'size=4096'),
  'xfs with blocks of 1 KiB': () => Mount.xfs(512, '-b', 'size=1024'),
  'ext4 with blocks of 1 KiB': () => Mount.ext4(512, '-b', '1024'),
  btrfs: () => Mount.btrfs(512),
}

test('holes come back at their places, by restore, stock tar and export', async (t) => {
  using mounts = new DisposableStack()
  await using site = await Site.create()
  const bases = new Map<string, string>()
  const missing = new Map<string, string>()
  const add = (name: string, makeFolder: () => string) => {
    try {
      const folder = makeFolder()
      const reason = lacksHoles(folder)
      if (reason !== false) missing.set(name, reason)
      else bases.set(name, folder)
    } catch (error) {
      missing.set(name, `this machine cannot mount it: ${(error as Error).message}`)
    }
  }
  add('the temporary folder', () => site.tree('base'))
  for (const [name, make] of Object.entries(fileSystems)) {
    if (isRoot) add(name, () => mounts.use(make()).path)
    else missing.set(name, 'only root can mount a small file system')
  }
  for (const [name, reason] of missing) await t.test(`on ${name}`, (t) => t.skip(reason))
  if (bases.size === 0) return

  const paths = [...bases.values()].map((base) => join(base, 'tree'))
  for (const path of paths) makeFiles(path)
  const host = await site.addHost('web1', { paths })
  await host.start()
  const { contentBytes } = await runWell(site)
  // Of 10 GiB on each.
  assert.ok(contentBytes < bases.size * 40 * MiB, `${contentBytes} bytes`)
  for (const [name, base] of bases) await t.test(`on ${name}`, (t) => getBack(t, site, base))
  const verified = await site.server('verify')
  assert.equal(verified.code, 0, verified.stderr)
})

test('on a file system that cannot tell where holes are, they are read as zeros', async (t) => {
  if (!isRoot) return t.skip('only root can mount a file system')
  using mount = Mount.ramfs()
  const image = join(mount.path, 'image')
  makeSparse(image, 8 * MiB, [[MiB, 2 * MiB]])
  assert.deepEqual(regionsOf(image), [[0, 8 * MiB]])
  assert.ok(statSync(image).blocks * 512 < 8 * MiB)
  await using site = await Site.create()
  const host = await site.addHost('web1', { paths: [mount.path] })
  await host.start()
  const { contentBytes } = await runWell(site)
  assert.equal(contentBytes, 8 * MiB)
  const target = site.at('restored')
  await restore(site, target)
  assert.ok(read(join(target, image), 0, 8 * MiB).equals(read(image, 0, 8 * MiB)))
})

test('a file of 1 TiB with 10 MiB of data costs 10 MiB, in every run and in the catalog', async (t) => {
  await using site = await Site.create()
  const root = site.tree('web1')
  const reason = lacksHoles(site.folder)
  if (reason !== false) return t.skip(reason)
  const host = await site.addHost('web1')
  await host.start()
  const image = join(root, 'image')
  makeSparse(
    image,
    TiB,
    Array.from({ length: 10 }, (_, i) => [i * 100 * GiB, i * 100 * GiB + MiB]),
  )
  const full = await runWell(site)
  assert.equal(full.contentBytes, 10 * MiB + 512)
  const before = regionsOf(image)

  chmodSync(image, 0o600)
  const attributes = await runWell(site)
  assert.deepEqual([attributes.kind, attributes.contentBytes], ['incremental', 0])
  assert.ok(attributes.archive!.bytes < 4096, `${attributes.archive!.bytes} bytes`)

  const fd = openSync(image, 'r+')
  writeSync(fd, Buffer.alloc(4096, 'new'), 0, null, 555 * GiB)
  closeSync(fd)
  const content = await runWell(site)
  assert.equal(content.contentBytes, 10 * MiB + 4096 + 512)
  const after = regionsOf(image)
  assert.equal(after.length, before.length + 1)

  const rebuilt = async () => {
    for (const [run, mode, regions] of [
      [full, 0o644, before],
      [attributes, 0o600, before],
      [content, 0o600, after],
    ] as const) {
      const target = site.at(`restored-${run.run}`)
      await restore(site, target, '--at', String(run.run))
      const found = join(target, image)
      assert.equal(statSync(found).size, TiB)
      assert.equal(statSync(found).mode & 0o777, mode)
      assert.deepEqual(regionsOf(found), regions)
      for (const [start, end] of before) assert.ok(read(found, start, end).equals(read(image, start, end)))
      rmSync(target, { recursive: true })
    }
  }
  await rebuilt()
  const made = await site.server('catalog', 'rebuild')
  assert.equal(made.code, 0, made.stderr)
  await rebuilt()

  const listed = await site.server('ls', 'web1', image, '--json')
  assert.match(listed.stdout, /"size":1099511627776/)
  assert.match(listed.stdout, /"digest":null,"storedSize":10490368/)
  const verified = await site.server('verify')
  assert.equal(verified.code, 0, verified.stderr)
})
