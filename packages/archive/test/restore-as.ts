/** Restores all that an archive (`process.argv[2]`) holds below a target (3) and prints the report as JSON. */
import { restoreTree } from '../src/index.ts'
import { readEntries, sourceOf } from './tree.ts'

const [archive, target] = process.argv.slice(2) as [string, string]
await using source = sourceOf(await readEntries(archive), archive)
process.stdout.write(JSON.stringify(await restoreTree(source, target)))
