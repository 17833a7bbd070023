/**
 * A hostile neighbour of a restore, as a process of its own: until it is killed, it swaps two names with
 * renameat2(RENAME_EXCHANGE), or replaces each temporary name that it finds in a folder by a link. Prints `ready` when it
 * begins.
 *
 *   swap-names.ts exchange NAME NAME
 *   swap-names.ts plant FOLDER LINK_TARGET
 */
import { readdirSync, renameSync, symlinkSync } from 'node:fs'
import koffi from 'koffi'

const AT_FDCWD = -100
const RENAME_EXCHANGE = 2
const renameat2 = koffi.load(null).func('int renameat2(int, const char *, int, const char *, unsigned int)')

const [mode, a, b] = process.argv.slice(2) as [string, string, string]
process.stdout.write('ready\n')
for (let round = 0; ; round++) {
  if (mode === 'exchange') renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE)
  else plant(a, b, round)
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
