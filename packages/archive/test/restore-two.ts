/** Restores the files `new` and `old` below `process.argv[2]`, in place of what is there: a program to be watched. */
import { restoreTree } from '../src/index.ts'
import { file } from './sample.ts'
import { ListSource } from './tree.ts'

const members = [file('new', 'content'), file('old', 'content')]
const source = new ListSource(
  members.map(({ entry }) => entry),
  async function* () {
    yield Buffer.from('content')
  },
)
await restoreTree(source, process.argv[2]!, { overwrite: 'always' })
