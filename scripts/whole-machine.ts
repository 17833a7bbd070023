/**
 * A whole machine, backed up with `paths: ['/']` and brought back: `npm run whole-machine [-- --root DIR] [-- --keep]`. As
 * root. DIR is the root folder of a Debian; without it, one is made by debootstrap, which takes some minutes and a
 * mirror. The agent runs in it by chroot, with its own /proc, /dev and /run as a machine has them. What is restored is
 * compared with what was backed up, object by object; then `dpkg --verify` and other programs of the restored system run in
 * it by chroot, and must say what they say in the original.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, realpathSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { compareTrees, readTree, type Tree } from '../test/harness/compare-trees.ts'
import { shownDifferences } from '../test/harness/fidelity.ts'
import { Program } from '../test/harness/program.ts'
import { readRun, Site } from '../test/harness/site.ts'
import { makeDebian } from './debian.ts'

const checkout = join(import.meta.dirname, '..')
const patienceMs = 10 * 60_000

/** What must say the same in both systems. */
const questions = [
  'dpkg --verify',
  'dpkg --audit',
  'dpkg --list | cat',
  'apt-get check',
  'ldconfig -p | sort',
  'su -s /bin/sh nobody -c id',
  'find / -xdev -perm /6000 -printf "%m %u %g %p\\n" | sort',
]

const { values: options } = parseArgs({
  options: { root: { type: 'string' }, keep: { type: 'boolean', default: false } },
})

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** A root folder: the one that was named, or a new one. */
function prepareRoot(work: string): string {
  if (options.root !== undefined) return realpathSync(resolve(options.root))
  const root = join(work, 'debian')
  say('== debootstrap: a small Debian')
  makeDebian(root)
  return root
}

/** Where the agent sees what is not of its machine: on a file system in memory, so that the root is not written to. */
const lent = '/mnt'

/** What is mounted in a root while something runs in it, as on a machine that runs. */
const mountPoints = ['dev', 'proc', 'run', 'sys', lent.slice(1)]

/**
 * What a command is put behind to run in a root. `seen` are folders of this machine that it sees below `lent`; in its
 * arguments they are named so.
 */
function inRoot(root: string, seen: readonly string[] = []): string[] {
  const script = [
    `mount -t proc proc '${root}/proc'`,
    `mount -t sysfs sys '${root}/sys'`,
    `mount -t tmpfs run '${root}/run'`,
    `mount --rbind /dev '${root}/dev'`,
    `mount -t tmpfs lent '${root}${lent}'`,
    ...seen.map((path, i) => `mkdir '${root}${lent}/${i}'; mount --bind '${path}' '${root}${lent}/${i}'`),
    'for argument do',
    ...seen.map((path, i) => `  argument=$(printf %s "$argument" | sed 's#^${path}#${lent}/${i}#')`),
    '  set -- "$@" "$argument"; shift',
    'done',
    `exec chroot '${root}' "$@"`,
  ]
  return ['unshare', '-m', 'sh', '-ec', script.join('\n'), 'sh']
}

/** What a program of the system in `root` says. */
async function ask(root: string, question: string): Promise<string> {
  const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' }
  const asked = new Program(['/bin/sh', '-c', question], { wrapper: inRoot(root), env })
  const { code, stdout, stderr } = await asked.endWithin(patienceMs)
  return `${stdout}${stderr}exit code ${code}`
}

/** Backs the machine in `root` up, and restores it into `target`. */
async function backUpAndRestore(site: Site, root: string, target: string): Promise<void> {
  const host = await site.addHost('machine', { paths: ['/'], settings: '[limits]\ncpu_nice = 0' })
  const wrapper = inRoot(root, [checkout, dirname(process.execPath), site.folder])
  await host.start({ wrapper, env: { NODE_COMPILE_CACHE: `${lent}/cache` } })
  const run = readRun(await site.startServer(['run', '--json']).endWithin(patienceMs))
  const end = run.ends.machine
  if (run.code !== 0 || end?.outcome !== 'complete')
    throw new Error(`the run failed: ${run.stdout}${run.stderr}`)
  const counts = Object.entries(end.counts).filter(([, count]) => count > 0)
  say(
    `   ${end.outcome}, ${end.archive!.bytes} bytes: ${counts.map(([name, count]) => `${name} ${count}`).join(', ')}`,
  )
  for (const { path, message } of run.warnings) say(`   ${path}: ${message}`)
  await host.stop()
  say('== restore')
  const restored = await site
    .startServer(['restore', 'machine', '--json', '--numeric-ids', '--target', target])
    .endWithin(patienceMs)
  const report = restored.json.find(({ event }) => event === 'end')
  if (restored.code !== 0) throw new Error(`the restore failed: ${restored.stdout}${restored.stderr}`)
  say(`   ${JSON.stringify(report)}`)
}

/** Everything but the folder itself and what is mounted in it while it runs. */
function machineOf(root: string): Tree {
  const isOf = (path: string) => path !== '' && !mountPoints.includes(path.split('/')[0]!)
  return new Map([...readTree(root)].filter(([path]) => isOf(path)))
}

async function main(): Promise<number> {
  if (process.geteuid!() !== 0) throw new Error('only root can back up a machine and enter what was restored')
  const work = mkdtempSync(join(tmpdir(), 'central-backup-machine-'))
  try {
    const root = prepareRoot(work)
    if (!existsSync(join(root, 'etc'))) throw new Error(`${root} is not the root folder of a machine`)
    await using site = await Site.create()
    const target = join(work, 'restored')
    mkdirSync(target)
    chmodSync(target, statSync(root).mode & 0o7777)
    say(`== backup of / in ${root}`)
    await backUpAndRestore(site, root, target)
    const expected = machineOf(root)
    const differences = compareTrees(machineOf(target), expected)
    say(`== compared: ${expected.size} objects, ${differences.length} differences`)
    for (const one of shownDifferences(differences)) say(`   ${JSON.stringify(one)}`)
    let failed = differences.length
    for (const question of questions) {
      const [before, after] = [await ask(root, question), await ask(target, question)]
      say(
        `== ${question}: ${before === after ? 'the same' : 'DIFFERENT'}, ${before.split('\n').length} lines, ${before.split('\n').at(-1)}`,
      )
      if (before === after) continue
      failed++
      say(`-- original\n${before.slice(0, 2000)}\n-- restored\n${after.slice(0, 2000)}`)
    }
    return failed === 0 ? 0 : 1
  } finally {
    if (options.keep) say(`kept: ${work}`)
    else spawnSync('rm', ['-rf', '--one-file-system', work])
  }
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`)
  process.exitCode = 1
}
