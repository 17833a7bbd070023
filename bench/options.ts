import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type PeerName, peerNames } from './peers/choose.ts'
import { allWorks, type ChosenWork, defaultWorkNames, workKinds } from './works.ts'

/** A mistake on the command line. */
export class OptionError extends Error {}

export interface Options {
  command: 'works' | 'growth' | 'help'
  works: ChosenWork[]
  peers: PeerName[]
  rounds: number
  scale: number
  cold: boolean
  folder: string
  /** Run the programs from the sources instead of building them. */
  fromSources: boolean
  /** Growth also with a million files. */
  million: boolean
  json: string | null
  into: string | null
  svg: string | null
}

export const help = `Measures central-backup beside tar, ssh, rsync, borg and restic: those that are installed.

  npm run bench [-- OPTION...]              all works that are usual
  npm run bench -- growth [OPTION...]       how ours grows with the number of files and of runs

  --work LIST     these works, separated by commas, as WORK-TREE: full-small. WORK alone is that work on its usual trees:
                  small, and for full and restore-one also large. All of them are usual:
                  ${workKinds.join(', ')}
  --peer LIST     ours and these: ${peerNames.filter((name) => name !== 'ours').join(', ')};
                  without the option, all but borg-ssh
  --rounds N      measured runs of each, after a warm-up (5); fewer of those that take long
  --scale N       trees of this share of their size, to try the bench itself: 0.01
  --cold          empty the page cache before each run (root only)
  --dir DIR       where trees are made once and kept, and backups are made (${join(tmpdir(), 'central-backup-bench')})
  --sources       run our programs from the sources, instead of building them as they are installed
  --million       growth: also with 1,000,000 files
  --json FILE     write all figures as JSON
  --into FILE     put the tables into a page of the docs, between its marks
  --svg FILE      growth: write the plot
  --help

Trees: small (65,000 files, 600 MB, like /usr/share), large (one file of 2 GiB, half compressible), million (1,000,000
small files). It takes 25 GB of disk, 40 GB with the million. A goal that is missed is shown, and is no failure.
On Debian, the peers are installed by: apt-get install openssh-server rsync borgbackup restic zstd

  npm run bench -- --work full-small,restore-one --peer tar,ssh --rounds 3
`

/** Throws `OptionError`. Relative paths stay as they are. */
export function parseOptions(args: readonly string[]): Options {
  const { values, positionals } = parse(args)
  const [command = 'works', ...rest] = positionals
  if ((command !== 'works' && command !== 'growth') || rest.length > 0)
    throw new OptionError(`"${positionals.join(' ')}" is unknown; only growth can stand here`)
  if (values.cold && process.geteuid!() !== 0) throw new OptionError('--cold is for root only')
  return {
    command: values.help ? 'help' : command,
    works: chooseWorks(values.work?.split(',')),
    peers: choosePeers(values.peer?.split(',')),
    rounds: parseNumber('--rounds', values.rounds, (value) => Number.isInteger(value) && value >= 1),
    scale: parseNumber('--scale', values.scale, (value) => value > 0 && value <= 1),
    cold: values.cold,
    folder: values.dir,
    fromSources: values.sources,
    million: values.million,
    json: values.json ?? null,
    into: values.into ?? null,
    svg: values.svg ?? null,
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        work: { type: 'string' },
        peer: { type: 'string' },
        rounds: { type: 'string', default: '5' },
        scale: { type: 'string', default: '1' },
        cold: { type: 'boolean', default: false },
        dir: { type: 'string', default: join(tmpdir(), 'central-backup-bench') },
        sources: { type: 'boolean', default: false },
        million: { type: 'boolean', default: false },
        json: { type: 'string' },
        into: { type: 'string' },
        svg: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    })
  } catch (error) {
    throw new OptionError((error as Error).message)
  }
}

/** In the order of all works, so that trees come one after the other. */
function chooseWorks(names: readonly string[] = defaultWorkNames): ChosenWork[] {
  const chosen = new Set(names.flatMap(expandWork))
  return allWorks.filter(({ name }) => chosen.has(name))
}

function expandWork(name: string): string[] {
  if (allWorks.some((work) => work.name === name)) return [name]
  const usual = allWorks.filter((work) => work.kind === name && defaultWorkNames.includes(work.name))
  if (usual.length > 0) return usual.map((work) => work.name)
  throw new OptionError(`--work: there is no work "${name}"; --help lists them`)
}

/** Borg over ssh is borg once more, and takes the longest of all. */
const defaultPeerNames = peerNames.filter((name) => name !== 'borg-ssh')

/** Ours is always there, as all others are compared with it. */
function choosePeers(names: readonly string[] = defaultPeerNames): PeerName[] {
  const unknown = names.filter((name) => !peerNames.includes(name as PeerName))
  if (unknown.length > 0)
    throw new OptionError(`--peer: "${unknown.join(', ')}" is none of ${peerNames.join(', ')}`)
  return peerNames.filter((name) => name === 'ours' || names.includes(name))
}

function parseNumber(option: string, text: string, isValid: (value: number) => boolean): number {
  const value = Number(text)
  if (text.trim() === '' || !isValid(value)) throw new OptionError(`${option}: "${text}" cannot be used`)
  return value
}
