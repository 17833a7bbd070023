/** What has to hold whatever has struck. All of it is in one place, so that every fault is held to the same. */
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Catalog } from '../../packages/central-server/src/catalog/catalog.ts'
import { standingEntries } from '../../packages/central-server/src/catalog/versions.ts'
import { exitCodes } from '../../packages/central-server/src/exit-codes.ts'
import type { Ended } from '../harness/program.ts'
import { linesOf, readSnapshot } from '../harness/snapshot.ts'
import { comesTrue, copiesKept, readNames, type Scene, treeLines } from './scene.ts'
import { argumentsOf, differences, type Work } from './works.ts'

/** How long an agent may take to notice that its server is gone. */
const restMsMax = 30_000

/** A run as `list --json` gives it. */
interface ListedRun {
  id: number
  outcome: string
  archive: { name: string } | null
}

/**
 * Looks at a scene after a work was struck and what struck is over. Returns what is wrong, one sentence each: with what it
 * told of itself, with what was reported good before or by it, with the same work when it is done again, with what is left
 * behind, and with a catalog that is made anew. Where the line `hangs`, the agent is given up only in the end, and what is
 * done again has to come through beside what it still waits for. What failed `elsewhere` need not be explained.
 */
export async function findFaults(
  scene: Scene,
  work: Work,
  struck: Ended,
  { hangs = false, elsewhere = false } = {},
): Promise<string[]> {
  const found: string[] = []
  if (!elsewhere) found.push(...faultsOfWord(struck))
  if (struck.code === 0) found.push(...(await work.faultsOfDone(scene, struck.json)))
  if (!hangs && !(await comesTrue(() => !scene.host.isRunning || scene.agentIsIdle, restMsMax)))
    found.push('the agent does not come to rest')
  if (!scene.host.isRunning) await scene.startAgent()
  const unread = work.name === 'rebuild-damaged' && struck.code !== 0
  if (!unread) found.push(...label('at once', await faultsOfGood(scene, work)))
  const again = await faultsOfDoingAgain(scene, work)
  found.push(...label('done again', hangs ? again.filter((one) => !beingWritten.test(one)) : again))
  found.push(...label('afterwards', await faultsOfGood(scene, work)))
  if (!work.arguments.includes('run')) await scene.backUp()
  // Forgets readers that are dead, and packs anew what is due.
  const pruned = await scene.ask('prune', '--json')
  if (pruned.code !== 0) found.push(`prune: ${pruned.stdout}${pruned.stderr}`)
  found.push(...(await faultsOfLeftovers(scene)))
  found.push(...(await faultsOfRebuild(scene)))
  return found
}

function label(when: string, found: readonly string[]): string[] {
  return found.map((one) => `${when}: ${one}`)
}

const outOfMemory = /heap out of memory|FATAL ERROR|out of memory/

/** What strikes ends a program by these, and V8 by SIGABRT where it has no memory; by any other, it has crashed. */
const struckBy: ReadonlySet<NodeJS.Signals> = new Set(['SIGKILL', 'SIGTERM', 'SIGINT'])

/** An exit code of the table; and where it is not 0, a reason that is ours and not a bug. */
export function faultsOfWord({ code, signal, stdout, stderr, json }: Ended): string[] {
  if (signal !== null && !struckBy.has(signal) && !outOfMemory.test(stderr)) return [`it crashed: ${signal}`]
  if (signal !== null) return []
  const known: number[] = Object.values(exitCodes).map((exit) => exit.code)
  // Node's own, where it cannot even begin or has no memory left.
  if (code === null || !known.includes(code))
    return outOfMemory.test(stderr) ? [] : [`exit code ${code}: ${stderr.slice(-400)}`]
  const errors = json.flatMap((line) => {
    const { error } = line as { error?: { code?: string; message?: string } | null }
    return error == null ? [] : [error]
  })
  const found = errors
    .filter((error) => error.code === 'internal' || !error.message)
    .map((error) => `it takes it for a bug: ${error.message}`)
  if (code !== 0 && json.length === 0 && stderr === '') found.push(`exit code ${code}, and not a word of why`)
  if (code === 0 && errors.length > 0) found.push(`exit code 0 with an error: ${stdout.slice(-400)}`)
  return found
}

/** Every run that was reported good is listed, and every one that is listed as good comes back as it was. */
async function faultsOfGood(scene: Scene, work: Work): Promise<string[]> {
  const found: string[] = []
  const verified = await scene.ask('verify', '--json')
  const [result] = verified.json.filter((line) => 'damaged' in line)
  if (verified.code !== 0 && (result === undefined || (result.damaged as number) > 0))
    found.push(`verify: ${verified.code} ${verified.stdout.slice(-600)}${verified.stderr.slice(-300)}`)
  const listed = await scene.ask('list', 'web1', '--json')
  if (listed.code !== 0) return [...found, `list: ${listed.stderr}`]
  const { runs } = listed.json[0] as unknown as { runs: ListedRun[] }
  const whole = runs.filter(({ outcome }) => /^complete/.test(outcome))
  const wanted = [...scene.good.keys()].slice(-(work.keeps ?? scene.good.size))
  for (const name of wanted)
    if (!whole.some(({ archive }) => archive?.name === name))
      found.push(`${name} was good, and is not listed`)
  for (const { id, archive } of whole) {
    const { name } = archive!
    // What was stored and could not be reported is as good as any. The tree has not changed since.
    if (!scene.good.has(name)) scene.good.set(name, readSnapshot(scene.tree))
    found.push(...(await faultsOfRestoring(scene, id, linesOf(scene.good.get(name)!))))
  }
  return found
}

async function faultsOfRestoring(scene: Scene, run: number, expected: string[]): Promise<string[]> {
  const target = scene.site.at('compared')
  rmSync(target, { recursive: true, force: true })
  const restored = await scene.ask('restore', 'web1', '--target', target, '--at', String(run))
  if (restored.code !== 0) return [`run ${run} does not come back: ${restored.stderr.slice(-400)}`]
  return differences(`run ${run}`, treeLines(join(target, scene.tree)), expected)
}

async function faultsOfDoingAgain(scene: Scene, work: Work): Promise<string[]> {
  const begunMs = Date.now()
  const said = await scene.ask(...argumentsOf(work, scene))
  if (said.code !== 0) return [`exit code ${said.code}: ${(said.stdout + said.stderr).slice(-800)}`]
  const found = await work.faultsOfDone(scene, said.json)
  if (!work.arguments.includes('prune')) return found
  const [pruned] = said.json as unknown as { refusal: string | null; putOff: string | null }[]
  const why = pruned?.refusal ?? pruned?.putOff ?? null
  if (why !== null) found.push(`nothing was pruned: ${why}`)
  found.push(...faultsOfTrash(scene, begunMs))
  return found
}

/** The trash of this scene keeps things for a second. */
function faultsOfTrash(scene: Scene, prunedAtMs: number): string[] {
  const folder = join(scene.site.repository, 'trash', 'web1')
  return readNames(folder)
    .filter((name) => statSync(join(folder, name)).mtimeMs < prunedAtMs - 1000)
    .map((name) => `${name} has been in the trash for too long`)
}

/** What a restore that still waits is writing, another leaves alone. Once its wait is over, nothing of it may be left. */
const beingWritten = /^restored: has "[^"]*\.central-backup-restore-/

const leftover = /\.partial$|\.rebuilt|\.probe-|^\.central-backup-restore-|-wal$|-shm$|-journal$|\.tmp/

async function faultsOfLeftovers(scene: Scene): Promise<string[]> {
  const found: string[] = []
  scene.proxy.breakAll()
  if (!(await comesTrue(() => scene.agentIsIdle && scene.agentHoldsLittle, restMsMax)))
    found.push(`the agent does not come to rest, and holds ${scene.agentOpen()}`)
  const names = readdirSync(scene.data, { recursive: true }) as string[]
  for (const name of names)
    if (leftover.test(name.slice(name.lastIndexOf('/') + 1)) && !/\.replaced/.test(name))
      found.push(`left behind: ${name}`)
  for (const name of readNames(scene.site.at('tmp')))
    found.push(`left behind in the folder of temporary files: ${name}`)
  const copies = readNames(scene.copies)
  if (copies.length > copiesKept) found.push(`more copies than are to be kept: ${copies}`)
  if (!(await comesTrue(() => scene.otherProcesses().length === 0, restMsMax)))
    found.push(`still running: ${scene.otherProcesses()}`)
  using catalog = new Catalog(join(scene.site.repository, 'catalog.sqlite'))
  for (const table of ['leases', 'readers', 'repacks'])
    if (catalog.database.prepare(`SELECT * FROM ${table}`).all().length > 0)
      found.push(`rows are left in ${table}`)
  if (catalog.runs().some(({ outcome }) => outcome === 'running')) found.push('a run is still at work')
  return found
}

/**
 * What the catalog says of runs that can be seen is what the archives alone say, and they tell of no other runs but those that
 * retention has removed and whose archives are still there.
 */
async function faultsOfRebuild(scene: Scene): Promise<string[]> {
  const before = describeCatalog(scene)
  const rebuilt = await scene.ask('catalog', 'rebuild', '--json')
  if (rebuilt.code !== 0) return [`rebuild: ${rebuilt.stdout}${rebuilt.stderr}`]
  return differencesOfCatalogs(before, describeCatalog(scene))
}

/** What a catalog says, a list of lines for each archive of a run that can be seen; and the archives of removed ones. */
export interface DescribedCatalog {
  seen: ReadonlyMap<string, readonly string[]>
  removed: ReadonlySet<string>
}

/** At most three lines for each archive that is not the same in both. */
export function differencesOfCatalogs(before: DescribedCatalog, after: DescribedCatalog): string[] {
  const found: string[] = []
  for (const [archive, lines] of before.seen)
    found.push(...differences(`made anew, the catalog of ${archive}`, after.seen.get(archive) ?? [], lines))
  for (const archive of after.seen.keys())
    if (!before.seen.has(archive) && !before.removed.has(archive))
      found.push(`made anew, the catalog has ${archive}, which was not there`)
  return found
}

function describeCatalog(scene: Scene): DescribedCatalog {
  using catalog = new Catalog(join(scene.site.repository, 'catalog.sqlite'))
  const seen = new Map<string, string[]>()
  for (const run of catalog.runs()) {
    const { outcome, kind, broken, counts, contentBytes, startedAtMs, archive } = run
    if (archive === null) continue
    const digest = Buffer.from(archive.digest).toString('hex')
    const entries = [...standingEntries(catalog, run, { order: 'path' })]
    seen.set(archive.name, [
      toLine({ outcome, kind, broken, counts: sorted(counts), contentBytes, startedAtMs, digest }),
      ...entries.map(toLine),
    ])
  }
  const known = catalog.hostNames().flatMap((host) => catalog.archiveNames(host))
  return { seen, removed: new Set(known.filter((name) => !seen.has(name))) }
}

function sorted(counts: Readonly<Record<string, number>>): [string, number][] {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .sort()
}

function toLine(value: object): string {
  return JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? String(one) : one))
}

/** Files that have neither their old nor their new content: what replaced them was not all of it. By lines of trees. */
export function tornFiles(
  found: readonly string[],
  before: readonly string[],
  after: readonly string[],
): string[] {
  const allowed = new Set([...before, ...after].map(contentOf))
  return found
    .filter((line) => / file /.test(line) && !line.includes('.central-backup-restore-'))
    .filter((line) => !allowed.has(contentOf(line)))
}

/** Path, size and digest of a line of a tree. */
function contentOf(line: string): string {
  const [, path, rest] = /^("(?:[^"\\]|\\.)*") (.*)$/.exec(line)!
  const [type, , , , size, digest] = rest!.split(' ')
  return `${path} ${type} ${size} ${digest}`
}

export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
