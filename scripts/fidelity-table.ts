/** What of a file system comes back, kind by kind, with this and with the programs that people use: `npm run fidelity`. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { compareTrees, type Difference, readTree, type Tree } from '../test/harness/compare-trees.ts'
import { type Feature, features, type Made, releaseFeatures } from '../test/harness/features.ts'
import { differencesIn, FidelityScene, stockTar } from '../test/harness/fidelity.ts'
import { Mount } from '../test/harness/mount.ts'
import { readOptions } from './options.ts'

const document = join(import.meta.dirname, '..', 'docs', 'fidelity.md')
const begin = '<!-- made by npm run fidelity, from here -->'
const end = '<!-- to here -->'

const usage = `
Finds out what of a file system comes back, with this and with tar, rsync, borg and restic: npm run fidelity [-- --show]

As root, on small file systems that it makes and removes. Writes the tables of docs/fidelity.md; --show only prints them.
`

const { values: options } = readOptions(usage, { options: { show: { type: 'boolean' } } })

/** Another program, with which a tree is copied, or archived and brought back. */
interface Program {
  name: string
  /** What is run, for people. */
  commands: string
  version: string | null
  /** Lines of shell: from the tree $SOURCE to $WORK/target, with all that it needs below $WORK. */
  script: string
  /** Where the tree then is, below $WORK. */
  at: (source: string) => string
}

const tarOptions = "--acls --xattrs --xattrs-include='*' -S --numeric-owner"

const programs: readonly Program[] = [
  {
    name: 'GNU tar',
    commands: `\`tar --format=posix ${tarOptions} -cpf\`, \`tar ${tarOptions} -xpf\``,
    version: versionOf('tar --version | head -1'),
    script: `
      mkdir target
      tar --format=posix ${tarOptions} -cpf tree.tar -C "$SOURCE" .
      tar ${tarOptions} -xpf tree.tar -C target`,
    at: () => 'target',
  },
  {
    name: 'rsync',
    commands: '`rsync -aHAXS --numeric-ids`',
    version: versionOf('rsync --version | head -1'),
    script: 'rsync -aHAXS --numeric-ids "$SOURCE/" target/',
    at: () => 'target',
  },
  {
    name: 'borg',
    commands: '`borg create --sparse --numeric-ids`, `borg extract --sparse --numeric-ids`',
    version: versionOf('borg --version'),
    script: `
      export BORG_BASE_DIR="$WORK/borg"
      mkdir target
      borg init -e none repository
      (cd "$SOURCE" && borg create --sparse --numeric-ids "$WORK/repository::one" .)
      (cd target && borg extract --sparse --numeric-ids "$WORK/repository::one")`,
    at: () => 'target',
  },
  {
    name: 'restic',
    commands: '`restic backup`, `restic restore`',
    version: versionOf('restic version'),
    script: `
      export RESTIC_PASSWORD=none RESTIC_REPOSITORY="$WORK/repository" RESTIC_CACHE_DIR="$WORK/cache"
      restic init
      restic backup "$SOURCE"
      restic restore latest --target target`,
    at: (source) => join('target', source),
  },
]

function versionOf(command: string): string | null {
  const { status, stdout } = spawnSync('sh', ['-c', command], { encoding: 'utf8' })
  return status === 0 ? (/\d+(\.\d+)+/.exec(stdout)?.[0] ?? '') : null
}

const seconds = 120

/** What of a feature is lost on the way through another program. */
function lostBy(program: Program, source: string, base: string): Difference[] {
  const work = mkdtempSync(join(base, 'work-'))
  // It exits with an error where it has left something out; what that is, the comparison tells.
  spawnSync('timeout', [`${seconds}`, 'sh', '-c', program.script], {
    cwd: work,
    stdio: 'ignore',
    env: { ...process.env, SOURCE: source, WORK: work },
  })
  const target = join(work, program.at(source))
  const found: Tree = existsSync(target) ? readTree(target) : new Map()
  const differences = compareTrees(found, readTree(source))
  releaseFeatures(work)
  spawnSync('rm', ['-rf', work])
  return differences
}

/** The ways that are compared: three with our archives, and the other programs. */
const ours = 'restore'
const tarOfOurs = 'tar'
const bsdtarOfOurs = 'bsdtar'
const installed = programs.filter(({ version }) => version !== null)
const columns = [ours, tarOfOurs, bsdtarOfOurs, ...installed.map(({ name }) => name)]

/** By feature and column: what is lost of it. */
const results = new Map<Feature, Map<string, Difference[]>>()
const triedOn = new Map<Feature, string>()

/** Tries all features that were not tried yet and that the file system has. */
async function tryOn(name: string, mounted: Mount): Promise<void> {
  process.stderr.write(`${name}: `)
  await using scene = await FidelityScene.create(mounted.path)
  const made = scene.made.filter(({ feature }) => !results.has(feature))
  const expected = scene.read()
  await scene.backUp()
  const target = scene.at('restored')
  await scene.site.server('restore', 'web1', '--target', target, '--numeric-ids')
  const archive = scene.site.archives('web1')[0]!
  await scene.unpack(['tar', '--zstd', ...stockTar.slice(1)], archive, scene.at('unpacked'))
  await scene.unpack(['bsdtar', '--numeric-owner', '-xpf'], archive, scene.at('unpacked-bsd'))
  const trees: [string, Tree][] = [
    [ours, readTree(scene.restored(target))],
    [tarOfOurs, readTree(scene.restored(scene.at('unpacked')))],
    [bsdtarOfOurs, readTree(scene.restored(scene.at('unpacked-bsd')))],
  ]
  for (const one of made) {
    const lost = new Map(
      trees.map(([column, tree]) => [column, ofFeature(one, differencesIn(one, tree, expected))]),
    )
    const source = join(scene.root, one.folder)
    for (const program of installed)
      lost.set(program.name, ofFeature(one, lostBy(program, source, mounted.path)))
    results.set(one.feature, lost)
    triedOn.set(one.feature, name)
    process.stderr.write('.')
  }
  process.stderr.write('\n')
}

function ofFeature({ feature, folder }: Made, differences: readonly Difference[]): Difference[] {
  // The folder of the feature itself is where the programs are pointed at, and not all of them take that along.
  const within = differences.filter(({ path }) => path !== '' && path !== folder)
  return within.filter(({ aspect }) => aspect === 'presence' || feature.aspects.includes(aspect))
}

const fileSystems: Record<string, () => Mount> = {
  ext4: () => Mount.ext4WithLargeAttributes(900),
  xfs: () => Mount.xfs(900),
  btrfs: () => Mount.btrfs(900),
}

function table(): string {
  const rows = features.flatMap((feature) => {
    const lost = results.get(feature)
    if (lost === undefined) return []
    const cells = columns.map((column) => cell(lost.get(column)!))
    return [`| ${feature.name} | ${triedOn.get(feature)} | ${cells.join(' | ')} |`]
  })
  return [
    `| | on | ${columns.map((column) => (column === ours ? '`restore`' : column)).join(' | ')} |`,
    `|---|---|${columns.map(() => ':-:').join('|')}|`,
    ...rows,
  ].join('\n')
}

function cell(differences: readonly Difference[]): string {
  if (differences.length === 0) return 'yes'
  const lost = new Set(differences.map(({ aspect }) => (aspect === 'presence' ? 'missing' : aspect)))
  return `no: ${[...lost].join(', ')}`
}

/** One example of each loss, with what was expected and what came. */
function losses(): string {
  const lines = columns.flatMap((column) => {
    const lost = features.flatMap((feature) => {
      const [first, ...more] = results.get(feature)?.get(column) ?? []
      if (first === undefined) return []
      const others = more.length === 0 ? '' : `, and ${more.length} more`
      return [`  - ${feature.name}: ${describe(first)}${others}`]
    })
    return lost.length === 0 ? [] : [`- **${column}**`, ...lost]
  })
  return lines.join('\n')
}

function describe({ path, aspect, found, expected }: Difference): string {
  const name = code(path.slice(path.lastIndexOf('/') + 1) || '.')
  if (aspect === 'presence') return found === undefined ? `${name} is missing` : `${name} should not be there`
  return `${aspect} of ${name} is ${code(found)} in place of ${code(expected)}`
}

/** As code, without what would end it or the line, and not too long. */
function code(text: string | undefined): string {
  if (text === undefined || text === '') return 'nothing'
  const short = text.length > 60 ? `${text.slice(0, 57)}...` : text
  return `\`${short.replace(/[^\x20-\x7e]|`|\|/g, '?')}\``
}

function report(): string {
  const versions = installed.map(({ name, version, commands }) => `- **${name}** ${version}: ${commands}`)
  const missing = programs.filter(({ version }) => version === null).map(({ name }) => name)
  return [
    begin,
    '',
    table(),
    '',
    `Made on ${new Date().toISOString().slice(0, 10)} with Linux ${release()}, as root, with`,
    '',
    ...versions,
    ...(missing.length === 0 ? [] : ['', `Not installed, and so not tried: ${missing.join(', ')}.`]),
    '',
    '### What is lost, one example each',
    '',
    losses(),
    '',
    end,
  ].join('\n')
}

async function main(): Promise<number> {
  if (process.geteuid!() !== 0) {
    process.stderr.write('npm run fidelity makes file systems, devices and owners, and so needs root.\n')
    return 1
  }
  for (const [name, mount] of Object.entries(fileSystems)) {
    let mounted: Mount
    try {
      mounted = mount()
    } catch (error) {
      process.stderr.write(`${name} is left out: ${(error as Error).message}\n`)
      continue
    }
    using _ = mounted
    await tryOn(name, mounted)
  }
  const made = report()
  if (options.show) {
    process.stdout.write(`${made}\n`)
    return 0
  }
  const text = readFileSync(document, 'utf8')
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from < 0 || to < from) {
    process.stderr.write(`${document} has no place for the tables: ${begin} and ${end}\n`)
    return 1
  }
  writeFileSync(document, text.slice(0, from) + made + text.slice(to + end.length))
  process.stderr.write(`${document} is written\n`)
  return 0
}

process.exitCode = await main()
