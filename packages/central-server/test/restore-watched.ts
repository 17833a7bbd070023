/**
 * Restores one file to the folder `process.argv[2]`, watched as `restore` does it, but told of sooner: a program of its own, as
 * it may hang.
 */
import type { RestoreSource } from '@central-backup/archive'
import { file } from '../../archive/test/sample.ts'
import { TargetWatch } from '../src/cli/target-watch.ts'
import { restore } from '../src/jobs/restore.ts'

const target = process.argv[2]!
const { entry, content } = file('some/file', 'content')
entry.extents = [{ archive: null, offset: 0, length: content.length }]
const source: RestoreSource = {
  *entries(_order, types) {
    if (types === undefined || types.includes('file')) yield entry
  },
  entryAt: () => null,
  async *content() {
    yield Buffer.from(content)
  },
}
using watch = new TargetWatch(target, 400)
const { restored, failed } = await restore(watch.follow(source), target, { observer: watch.observe({}) })
process.stdout.write(JSON.stringify({ files: restored.files, failed: failed.listed }))
