/** Promise 1: what was backed up comes back with stock tools, bit for bit and attribute for attribute. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  closeSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { bytesFromText, type Entry } from '@central-backup/archive'
import {
  listWithBsdtar,
  listWithGnuTar,
  listWithPython,
  listWithTarStream,
  skippedWithout,
} from '../packages/archive/test/oracles.ts'
import { DeepFolder, runProgram } from '../packages/archive/test/packing-folder.ts'
import { readWholeArchive } from './harness/archives.ts'
import { describeExactly } from './harness/exact-tree.ts'
import { Program, runCommand } from './harness/program.ts'
import { type RunEnded, readRun, Site, type TestHost } from './harness/site.ts'
import { noise } from './harness/tree.ts'

const isRoot = process.geteuid!() === 0

/** For gigabytes, also on a machine that has other things to do. */
const patienceLargeMs = 5 * 60_000

/** A run that must find nothing to complain of. Returns its archive. */
async function backUpWhole(site: Site, host: TestHost): Promise<{ archive: string; run: RunEnded }> {
  const run = readRun(await site.startServer(['run', '--json', '--full']).endWithin(patienceLargeMs))
  const end = run.ends[host.name]!
  assert.equal(run.code, 0, run.stderr + run.stdout.slice(-2000))
  assert.deepEqual([end.outcome, end.warningCount], ['complete', 0], JSON.stringify(run.warnings))
  return { archive: site.archives(host.name).at(-1)!, run }
}

/** Unpacks with a program that must succeed; what it says must match `allowed`, line by line. */
async function unpack(
  program: readonly string[],
  archive: string,
  target: string,
  allowed: RegExp,
): Promise<void> {
  mkdirSync(target)
  const { code, stderr } = await runCommand([...program, archive, '-C', target])
  const complaints = stderr.split('\n').filter((line) => line !== '' && !allowed.test(line))
  assert.deepEqual(complaints.slice(0, 5), [])
  assert.equal(code, 0)
}

/** As it is the only thing to do here, the agent need not give way to others. */
const inAHurry = '[limits]\ncpu_nice = 0'

const gnuTar = ['tar', '--zstd', '-xpf']
const nothing = /^$/

/** Fails with the first differences, and not with two lists of thousands. */
function requireSame(found: ReadonlyMap<string, string>, expected: ReadonlyMap<string, string>): void {
  const paths = new Set([...found.keys(), ...expected.keys()])
  const differ = [...paths].filter((path) => found.get(path) !== expected.get(path))
  const shown = differ.slice(0, 5).map((path) => ({
    path: path.slice(0, 200),
    found: found.get(path),
    expected: expected.get(path),
  }))
  assert.deepEqual(shown, [], `${differ.length} of ${paths.size} differ`)
}

test('the system: /etc and a good part of /usr/share come back from the archive with stock tar as they are', async (t) => {
  if (!isRoot) return t.skip('only root can give files their owners')
  await using site = await Site.create()
  const folders = ['doc', 'i18n', 'perl', 'terminfo', 'zoneinfo']
  const host = await site.addHost('web1', {
    paths: ['/etc', `/usr/share/{${folders.join(',')}}`],
    settings: inAHurry,
  })
  await host.start()
  const { archive } = await backUpWhole(site, host)
  const target = site.at('unpacked')
  await unpack(gnuTar, archive, target, nothing)
  const entries = await readWholeArchive(archive)
  const selected = [...entries.values()].filter(
    ({ path, type, ancestor }) => !ancestor && type !== 'socket' && path !== '',
  )
  assert.ok(selected.length > 1000)
  let compared = 0
  const present = folders.map((name) => `/usr/share/${name}`).filter((path) => entries.has(path.slice(1)))
  for (const root of ['/etc', ...present]) {
    const found = describeExactly(join(target, root))
    requireSame(found, describeExactly(root))
    compared += found.size
  }
  assert.equal(compared, selected.length)
  for (const ancestor of ['/usr', '/usr/share']) {
    assert.equal(describeFolder(join(target, ancestor)), describeFolder(ancestor))
  }
})

/** The line of the folder itself. */
function describeFolder(path: string): string {
  const script = 'stat -c "%F %a %u:%g %.9Y" "$1"'
  const { stdout } = spawnSync('sh', ['-c', script, 'sh', path], { encoding: 'utf8' })
  return stdout
}

const oddNames = [
  '-rf',
  '--checkpoint-action=exec=sh',
  "'quoted'",
  '"double"',
  'new\nline',
  '\n',
  ' ',
  'tab\t',
  '\x1b[31mred\x07',
  'back\\slash',
  '*',
  '?',
  '[a]',
  '{a,b}',
  '!(x)',
  '\udce9\udcff\udc80',
  'é',
  'e\u0301',
  '💾',
  '\u202egnp.exe',
  '...',
  '..a',
  '~',
  '#',
  '%2F',
  'n'.repeat(255),
  '\udcff'.repeat(255),
  'é'.repeat(127),
]

const oddTimes = [
  '1901-12-14 00:00:00.000000001',
  '1969-12-31 23:59:59.999999999',
  '1969-12-31 23:59:58.25',
  '1970-01-01 00:00:00',
  '1970-01-01 00:00:00.000000001',
  '2001-09-09 01:46:39.5',
  '2038-01-19 03:14:08.123456789',
  '2106-02-07 06:28:16.000000001',
  '2261-01-01 00:00:00.987654321',
]

/** Everything that the issue of odd names, owners, times and kinds names, but for paths that only bsdtar restores. */
function makeOddTree(root: string): void {
  const at = (name: string) => Buffer.from(bytesFromText(join(root, name)), 'latin1')
  const write = (name: string, content: string | Buffer = '') => {
    mkdirSync(Buffer.from(bytesFromText(dirname(join(root, name))), 'latin1'), { recursive: true })
    writeFileSync(at(name), content)
  }
  for (const name of oddNames) {
    write(`names/${name}`, `content of ${name}`)
    write(`folders/${name}/inside`, 'inside')
    mkdirSync(at('links'), { recursive: true })
    symlinkSync(bytesFromText(name).includes('\x80') ? at(name) : name.toWellFormed(), at(`links/${name}`))
  }
  symlinkSync(Buffer.from('\xe9/'.repeat(2047), 'latin1'), at('links/long'))
  for (const mode of [0o000, 0o001, 0o444, 0o777, 0o4755, 0o2755, 0o1777, 0o7777]) {
    write(`modes/${mode.toString(8)}`, `${mode}`)
    mkdirSync(at(`modes/folder-${mode.toString(8)}`))
    for (const name of [`modes/${mode.toString(8)}`, `modes/folder-${mode.toString(8)}`])
      chmodSync(at(name), mode)
  }
  makeKinds(root, write)
  for (const [i, [uid, gid]] of (
    [
      [1, 1],
      [65_534, 65_534],
      [2_097_151, 2_097_152],
      [3_000_000, 4_294_967_294],
    ] as const
  ).entries()) {
    write(`owners/file-${i}`)
    symlinkSync('nowhere', at(`owners/link-${i}`))
    mkdirSync(at(`owners/folder-${i}`))
    for (const kind of ['file', 'link', 'folder']) lchownSync(at(`owners/${kind}-${i}`), uid, gid)
  }
  for (const [i, time] of oddTimes.entries()) {
    write(`times/file-${i}`)
    symlinkSync('nowhere', at(`times/link-${i}`))
    mkdirSync(at(`times/folder-${i}`))
    for (const kind of ['file', 'link', 'folder']) {
      runProgram('touch', ['-h', '-d', `${time} UTC`, join(root, `times/${kind}-${i}`)])
    }
  }
}

function makeKinds(root: string, write: (name: string, content?: string | Buffer) => void): void {
  write('kinds/empty')
  write('kinds/one-byte', 'x')
  write('kinds/noise', noise(5_000_000, 'kinds'))
  write('kinds/sparse', 'beginning')
  truncateSync(join(root, 'kinds/sparse'), 10_000_000)
  mkdirSync(join(root, 'kinds/empty-folder'))
  runProgram('mkfifo', [join(root, 'kinds/fifo')])
  runProgram('mknod', [join(root, 'kinds/character'), 'c', '1', '3'])
  runProgram('mknod', [join(root, 'kinds/block'), 'b', '259', '1048575'])
  write('hard/b/first', 'one content of three names')
  mkdirSync(join(root, 'hard/a'))
  linkSync(join(root, 'hard/b/first'), join(root, 'hard/a/second'))
  linkSync(join(root, 'hard/b/first'), join(root, 'hard/third'))
  symlinkSync('nowhere', join(root, 'hard/link'))
  linkSync(join(root, 'hard/link'), join(root, 'hard/link-too'))
  linkSync(join(root, 'kinds/fifo'), join(root, 'hard/fifo'))
  linkSync(join(root, 'kinds/character'), join(root, 'hard/character'))
  write('hard/not-the-same', 'one content of three names')
}

/** A socket at the path, which every program leaves out of a tar. */
async function listenAt(path: string): Promise<AsyncDisposable> {
  const server = createServer().listen(path)
  await once(server, 'listening')
  return { [Symbol.asyncDispose]: async () => void (await once(server.close(), 'close')) }
}

/** What all four readers list of an archive, as the tar it is for them; those that are not installed are told. */
async function listWithAll(
  t: TestContext,
  site: Site,
  archive: string,
  entries: ReadonlyMap<string, Entry>,
): Promise<void> {
  const tar = site.at('plain.tar')
  const unpacked = await runCommand(['zstd', '-q', '-d', archive, '-o', tar])
  assert.equal(unpacked.code, 0, unpacked.stderr)
  const members = [...entries.values()].filter(({ type }) => type !== 'socket')
  const paths = members.map(({ path }) => path as string).sort()
  for (const [program, list] of [
    ['tar', listWithGnuTar],
    ['bsdtar', listWithBsdtar],
    ['python3', listWithPython],
  ] as const) {
    if ((await runCommand(['sh', '-c', `command -v ${program}`])).code !== 0) {
      t.diagnostic(`${program} is not installed, and so has listed nothing`)
      continue
    }
    const listed = list(tar).map(({ path }) => path)
    assert.deepEqual(listed.sort(), paths, program)
  }
  // It knows no sparse files, and sees them under the name that they have for such readers.
  const listed = (await listWithTarStream(tar)).map(({ path }) => path.replace('/GNUSparseFile.0/', '/'))
  assert.deepEqual(listed.sort(), paths.map((path) => Buffer.from(path, 'latin1').toString()).sort())
}

test('a tree of odd names, owners, times, modes and kinds comes back with stock tar, and all readers list it', async (t) => {
  if (!isRoot) return t.skip('only root can make devices and give files away')
  await using site = await Site.create()
  const root = site.tree('odd')
  makeOddTree(root)
  const host = await site.addHost('odd')
  await host.start()
  await using _ = await listenAt(join(root, 'kinds/socket'))
  const expected = describeExactly(root)
  const { archive, run } = await backUpWhole(site, host)
  requireSame(describeExactly(root), expected)
  const { counts } = run.ends.odd!
  assert.deepEqual([counts.sockets, counts.specials, counts.hardlinks], [1, 3, 5])

  const target = site.at('unpacked')
  await unpack(gnuTar, archive, target, /implausibly old time stamp|time stamp .* in the future/)
  requireSame(describeExactly(target + root), expected)

  const entries = await readWholeArchive(archive)
  assert.equal(entries.get(`${root.slice(1)}/kinds/socket`)!.type, 'socket')
  await listWithAll(t, site, archive, entries)
})

/** Paths over 4,096 bytes below `top`, with a file, a link and an empty folder at the end. */
function makeDeepTree(top: string): void {
  const names = Array.from({ length: 24 }, (_, i) => `${i}-`.padEnd(200, 'deep-'))
  using deep = new DeepFolder(Buffer.from(top), names)
  writeFileSync(deep.at('file'), noise(100_000, 'deep'))
  symlinkSync('file', deep.at('link'))
  mkdirSync(deep.at('folder'), 0o750)
  linkSync(deep.at('file'), deep.at('hard-link'))
}

test('paths of more than 4,096 bytes are in the archive, and come back from it', async (t) => {
  if (!isRoot) return t.skip('only root can give files their owners')
  await using site = await Site.create()
  const root = site.tree('deep')
  const target = site.at('unpacked')
  // Not Node's rm, which knows no such paths.
  using _ = { [Symbol.dispose]: () => runProgram('rm', ['-rf', root, target]) }
  makeDeepTree(root)
  const host = await site.addHost('deep')
  await host.start()
  const { archive } = await backUpWhole(site, host)
  const entries = await readWholeArchive(archive)
  assert.ok([...entries.keys()].some((path) => path.length > 4500 && path.endsWith('/hard-link')))
  await listWithAll(t, site, archive, entries)

  // All of it comes back with our own program.
  const restored = await site.server('restore', 'deep', '--target', target)
  assert.equal(restored.code, 0, restored.stderr)
  requireSame(describeExactly(target + root), describeExactly(root))

  // Of stock programs, bsdtar can do it: files and folders. To owners, times and links it gives whole paths, too long for
  // the kernel, also where it has made the archive itself.
  if (skippedWithout(t, 'bsdtar')) return
  runProgram('rm', ['-rf', target])
  mkdirSync(target)
  await runCommand(['bsdtar', '-xmof', archive, '-C', target])
  const found = describeExactly(target + root)
  const content = (line: string | undefined) => line?.split(' ').slice(0, 3).join(' ')
  for (const [path, line] of describeExactly(root)) {
    if (line.startsWith('file') && path.endsWith('/file'))
      assert.equal(content(found.get(path)), content(line))
    if (line.startsWith('folder')) assert.match(found.get(path) ?? 'nothing', /^folder/)
  }
})

/** Of the file that is made there, by `sha256sum`. */
const largeDigest = '46f4b59f7802215cad19c72a5d72af32e37433069fb354d29181e7802b08d19d'

test('a file of more than 8 GiB is all in the archive, and all of it comes back', async (t) => {
  if ((await runCommand(['openssl', 'version'])).code !== 0) return t.skip('openssl is not installed')
  await using site = await Site.create()
  const root = site.tree('large')
  // Twelve octal digits, which a tar header has no room for, and something in places that 32 and 33 bits cannot count.
  const bytes = 8 * 2 ** 30 + 212_345
  const file = join(root, 'large.img')
  const allocated = await runCommand(['fallocate', '-l', String(bytes), file])
  if (allocated.code !== 0) return t.skip(`no room for 8 GiB that are no hole: ${allocated.stderr.trim()}`)
  const fd = openSync(file, 'r+')
  for (const at of [0, 2 ** 32 - 5, 8 * 2 ** 30 - 100, bytes - 70_000])
    writeSync(fd, noise(70_000, `${at}`), 0, 70_000, at)
  closeSync(fd)
  // The agent leaves no more of it in memory than there was, so that all of this takes half the time.
  await runCommand(['dd', `of=${file}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'])
  writeFileSync(join(root, 'z-after'), 'behind it')
  const host = await site.addHost('large', { settings: inAHurry })
  await host.start()
  const { archive, run } = await backUpWhole(site, host)
  assert.equal(run.ends.large!.contentBytes, bytes + 'behind it'.length)
  const found = await site.server('ls', '--json', 'large', join(root, 'large.img'))
  assert.ok(found.stdout.includes(largeDigest), found.stdout)

  const toDigest = `--to-command=echo "$TAR_FILENAME $TAR_SIZE $(openssl dgst -sha256 -r)"`
  const unpacking = new Program(['tar', '--zstd', '-xf', archive, toDigest], { cwd: site.folder })
  const { code, stdout, stderr } = await unpacking.endWithin(patienceLargeMs)
  assert.deepEqual([code, stderr], [0, ''])
  const small = createHash('sha256').update('behind it').digest('hex')
  assert.equal(
    stdout,
    `${root.slice(1)}/large.img ${bytes} ${largeDigest} *stdin\n${root.slice(1)}/z-after 9 ${small} *stdin\n`,
  )
})
