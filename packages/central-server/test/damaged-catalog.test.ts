/**
 * Bits flipped in the catalog, pages lost, the file cut short: whatever a command then says is right, or `verify` names the
 * damage, or the command ends with an error that says what to do. `CENTRAL_BACKUP_FLIPS=400` for more of them.
 */
import assert from 'node:assert/strict'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Random } from '../../../test/harness/random.ts'
import { file, other } from '../../archive/test/sample.ts'
import { Catalog, type Run } from '../src/catalog/catalog.ts'
import { takeLease } from '../src/catalog/lease.ts'
import type { Host } from '../src/config/hosts.ts'
import { pruneHost } from '../src/jobs/prune.ts'
import { rebuildCatalog } from '../src/jobs/rebuild-catalog.ts'
import { HomeFolder } from './home-folder.ts'
import { day, dumpVersions, PastRuns, type Tree, trashDays } from './past-run.ts'
import { backupServerInProcess } from './run-in-process.ts'
import { backupServer, type Ended } from './run-program.ts'

const flips = Number(process.env.CENTRAL_BACKUP_FLIPS ?? 25)
const seed = Number(process.env.CENTRAL_BACKUP_SEED ?? 1)
const hour = 3_600_000
const pageBytes = 4096

/** Errors that a damaged catalog may end a command with. */
const namedCodes = ['catalog-damaged', 'catalog-too-new']

function makeTree(): Tree {
  const tree: Record<string, Tree[string]> = { t: 'folder' }
  for (let n = 0; n < 60; n++) {
    tree[`t/d${n % 6}`] = 'folder'
    tree[`t/d${n % 6}/file ${n}`] = { content: `content ${n} `.repeat(n) }
  }
  tree['t/link'] = other('t/link', 'symlink', { target: 'd1' as never })
  tree['t/attributes'] = file('t/attributes', 'x', {
    xattrs: new Map([['user.note', Buffer.from('of somebody')]]),
  })
  return tree
}

/** Runs of all kinds: full, incremental, removed, merged into others, pinned, failed. */
async function addHistory(past: PastRuns): Promise<void> {
  await past.add({ startedAtMs: day(1), kind: 'full', tree: makeTree() })
  await past.add({ startedAtMs: day(2), gone: ['t/d1', 't/d2/file 2'] })
  await past.add({
    startedAtMs: day(3),
    unselected: ['t/d3/file 3'],
    tree: { 't/d3': other('t/d3', 'directory') },
  })
  await past.add({ startedAtMs: day(4), tree: { 't/d2/file 2': { content: 'again' } } })
  past.catalog.setPinned(2, true)
  await past.add({
    startedAtMs: day(5),
    tree: { 't/d4/file 4': { content: 'changed' } },
    outcome: 'incomplete',
  })
  past.nowMs = day(5) + hour
  await prune(past)
  past.nowMs += (trashDays + 1) * 24 * hour
  await prune(past)
  await past.add({ startedAtMs: day(9), kind: 'full', tree: makeTree() })
  await past.add({ startedAtMs: day(10), gone: ['t/link'], tree: { 't/new': { content: 'new' } } })
  past.nowMs = day(10) + hour
  past.catalog.setPinned(5, true)
  using lease = takeLease(past.catalog, 'web1')
  const failed = { host: 'web1', kind: 'incremental', generation: 6, leaseToken: lease.token } as const
  const warnings = [{ code: 'unreadable', path: '/t/x', message: 'it cannot be read' }]
  past.catalog.finishRun(past.catalog.beginRun({ ...failed, startedAtMs: day(10) + 1 }), {
    ...{ outcome: 'failed', kind: 'incremental', archive: null, contentBytes: 0, counts: { files: 3 } },
    error: { code: 'stalled', message: 'nothing came' },
    ...{ warningCount: 1, warnings },
  })
}

function prune(past: PastRuns) {
  return pruneHost(past.prune, { name: 'web1', retention: { last: 2 }, expectEveryMs: 24 * hour } as Host)
}

/** What the catalog has of runs, without what a new one cannot know. */
function dumpRuns(catalog: Catalog): unknown {
  return catalog.runs().map(({ id: _, generation: _g, ...run }: Run) => run)
}

/** Changes the file in one of the ways in which disks and memory do. Returns how, for people. */
function damage(bytes: Buffer, random: Random): { bytes: Buffer; how: string } {
  const damaged = Buffer.from(bytes)
  // Much of a page is room that nobody has used: where something stands is struck more often.
  let at = random.below(bytes.length)
  for (let again = 0; again < 3 && bytes[at] === 0; again++) at = random.below(bytes.length)
  const dice = random.next()
  if (dice < 0.7) {
    const bit = random.below(8)
    damaged[at]! ^= 1 << bit
    return { bytes: damaged, how: `bit ${bit} of byte ${at} flipped` }
  }
  if (dice < 0.85) {
    damaged[at] = (damaged[at]! + 1 + random.below(255)) % 256
    return { bytes: damaged, how: `byte ${at} is ${damaged[at]}` }
  }
  if (dice < 0.95) {
    const page = Math.floor(at / pageBytes)
    damaged.fill(0, page * pageBytes, (page + 1) * pageBytes)
    return { bytes: damaged, how: `page ${page} is zero` }
  }
  // The program makes a catalog where there is none: an empty file is a new one.
  return { bytes: damaged.subarray(0, Math.max(at, 1)), how: `cut to ${at} bytes` }
}

function codeOf({ stdout }: Ended): string | null {
  const last = stdout.trimEnd().split('\n').at(-1)!
  try {
    return (JSON.parse(last) as { error?: { code: string } }).error?.code ?? null
  } catch {
    return null
  }
}

test(`after each of ${flips} damages, what is told is right, or the damage is named, and a new catalog is the old one`, async (t) => {
  using past = await PastRuns.create()
  await addHistory(past)
  past.catalog.checkpoint()
  past.catalog.close()
  using home = new HomeFolder()
  const made = backupServer(['--home', home.at('server'), 'init', '--repository', home.at('unused')])
  assert.equal(made.status, 0, made.stderr)
  home.write(
    'server/settings.ts',
    `export default { repository: ${JSON.stringify(past.repository.folder)}, connection: { attempts: 1 } }`,
  )
  home.write(
    'server/hosts/web1.ts',
    "export default { address: '127.0.0.1', port: 1, password: 'secret', paths: ['/t'] }",
  )
  const { catalogFile } = past.repository
  const whole = readFileSync(catalogFile)
  const put = (bytes: Buffer) => {
    for (const suffix of ['', '-wal', '-shm', '.replaced']) rmSync(catalogFile + suffix, { force: true })
    writeFileSync(catalogFile, bytes)
  }
  const server = (...args: string[]) =>
    backupServerInProcess(['--home', home.at('server'), '--json', ...args], {})
  const views = [
    ['list'],
    ['ls', 'web1', '-R'],
    ['ls', 'web1', '-R', '--at', '5'],
    ['ls', 'web1', '/t/d2', '--at', '2'],
    ['find', '*'],
  ]
  const look = async () => {
    const seen: Ended[] = []
    for (const view of views) seen.push(await server(...view))
    return seen
  }
  const files = [past.files('archives'), past.files('trash')]
  const expected = await look()
  for (const { status, stderr } of expected) assert.equal(status, 0, stderr)
  const well = await server('verify')
  assert.equal(well.status, 0, well.stdout)
  const runBefore = await server('run', 'web1')
  put(whole)
  const rebuild = async () => {
    await rebuildCatalog(past.repository, () => past.nowMs, { onArchive: () => {} })
    using catalog = new Catalog(catalogFile)
    return { runs: dumpRuns(catalog), versions: dumpVersions(catalog) }
  }
  const rebuilt = await rebuild()

  const random = new Random(seed)
  const wrong: string[] = []
  const figures = { damages: 0, harmless: 0, 'told by verify': 0, 'told by all': 0, 'views that differed': 0 }
  for (let n = 0; n < flips; n++) {
    const { bytes, how } = damage(whole, random)
    put(bytes)
    figures.damages++
    const verified = await server('verify')
    const named = (ended: Ended) => namedCodes.includes(codeOf(ended) ?? '')
    const require = (holds: boolean, what: string, { status, stderr }: Ended) => {
      if (!holds) wrong.push(`${how}: ${what}: ${status}: ${stderr.slice(0, 300)}`)
    }
    require([0, 3].includes(verified.status!) || named(verified), 'verify', verified)
    for (const [at, ended] of (await look()).entries()) {
      const what = views[at]!.join(' ')
      // Versions have no checksums: a folder whose version is damaged is not found, and `verify` tells why.
      const isNotFound = ended.status === 2 && verified.status !== 0
      require(ended.status === 0 || isNotFound || named(ended), what, ended)
      if (ended.status !== 0 || ended.stdout === expected[at]!.stdout) continue
      figures['views that differed']++
      require(verified.status !== 0, `${what} has another answer, and verify says nothing`, ended)
    }
    const ran = await server('run', 'web1')
    require(ran.status === runBefore.status || named(ran), 'run', ran)
    const left = [past.files('archives'), past.files('trash')]
    require(JSON.stringify(left) === JSON.stringify(files), `run moved archives: ${left}`, ran)
    if (verified.status === 0) figures.harmless++
    else if (verified.status === 3) figures['told by verify']++
    else figures['told by all']++
    put(bytes)
    assert.deepEqual(await rebuild(), rebuilt, how)
  }
  t.diagnostic(JSON.stringify(figures))
  assert.deepEqual(wrong, [])
})
