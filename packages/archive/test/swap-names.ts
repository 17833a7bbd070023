/**
 * A hostile neighbour of a restore, as a process of its own: until it is killed, it swaps two names with
 * renameat2(RENAME_EXCHANGE), replaces each temporary name that it finds in a folder by a link, moves a folder away and
 * back, or puts objects of all kinds in the place of what it finds in a folder. Prints `ready` when it begins.
 *
 *   swap-names.ts exchange NAME NAME
 *   swap-names.ts plant FOLDER LINK_TARGET
 *   swap-names.ts move FOLDER NEW_NAME
 *   swap-names.ts kinds FOLDER FOLDER_OUTSIDE FILE_OUTSIDE
 */
import { linkSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import koffi from 'koffi'

const AT_FDCWD = -100
const RENAME_EXCHANGE = 2
const renameat2 = koffi.load(null).func('int renameat2(int, const char *, int, const char *, unsigned int)')

const makeFifo = koffi.load(null).func('int mkfifo(const char *, unsigned int)')

const [mode, a, b, c] = process.argv.slice(2) as [string, string, string, string]
process.stdout.write('ready\n')
for (let round = 0; ; round++) {
  if (mode === 'exchange') renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE)
  else if (mode === 'plant') plant(a, b, round)
  else if (mode === 'move') move(a, b)
  else plantKinds(a, round)
}

function move(from: string, to: string): void {
  try {
    renameSync(from, to)
    // Long enough for a restore to come by, and to make the folder anew.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2)
    rmSync(from, { recursive: true, force: true })
    renameSync(to, from)
  } catch {
    // A restore has got in between.
  }
}

/** Something else in the place of one name after the other. */
function plantKinds(folder: string, round: number): void {
  const planted = `${folder}/../planted-${round}`
  const kinds: (() => void)[] = [
    () => symlinkSync(b, planted),
    () => symlinkSync(`${b}/secret`, planted),
    () => linkSync(c, planted),
    () => makeFifo(planted, 0o666),
    () => mkdirSync(planted),
    () => symlinkSync(planted, planted),
    () => {
      mkdirSync(planted)
      symlinkSync(`${b}/folder/a`, `${planted}/a`)
    },
    () => writeFileSync(planted, 'planted'),
  ]
  const names = readdirSync(folder)
  const name = names[round % Math.max(1, names.length)]
  if (name === undefined) return
  try {
    kinds[round % kinds.length]!()
    renameat2(AT_FDCWD, planted, AT_FDCWD, `${folder}/${name}`, RENAME_EXCHANGE)
  } catch {
    // It was not there any more.
  }
  rmSync(planted, { recursive: true, force: true })
}

function plant(folder: string, target: string, round: number): void {
  for (const name of readdirSync(folder)) {
    if (!name.startsWith('.central-backup-restore-')) continue
    try {
      symlinkSync(target, `${folder}/planted-${round}`)
      renameSync(`${folder}/planted-${round}`, `${folder}/${name}`)
    } catch {
      // It had its real name by then.
    }
  }
}
