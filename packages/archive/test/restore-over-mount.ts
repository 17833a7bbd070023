/**
 * Restores a folder `mnt` with something in it, and a file beside it, below a path (`process.argv[3]`) in a target (2).
 * Prints the report as JSON.
 */
import { restoreTree } from '../src/index.ts'
import { file, other } from './sample.ts'
import { memberSource } from './tree.ts'

const [target, path] = process.argv.slice(2) as [string, string]
const at = (name: string) => `${path.slice(1)}/${name}`
const members = [
  other(at('mnt'), 'directory'),
  other(at('mnt/d'), 'directory'),
  file(at('mnt/x'), 'content'),
  file(at('z'), 'content'),
]
process.stdout.write(
  JSON.stringify(await restoreTree(memberSource(members), target, { overwrite: 'always' })),
)
