import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Program, patienceMs } from '../../../test/harness/program.ts'
import { DeadMount } from '../../archive/test/dead-mount.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const program = join(import.meta.dirname, 'restore-watched.ts')

test('a target that does not answer is told of, with the path, and the restore waits for it until it does', async (t) => {
  using folder = new TemporaryFolder()
  mkdirSync(folder.at('target'))
  // On the way to the file: what hangs is a call in the middle of the work.
  using mount = DeadMount.create(t, folder.at('target/some'))
  if (mount === null) return
  await using restoring = new Program([process.execPath, program, folder.at('target')])
  const told = () =>
    /Warning: .*\/target: its file system has not answered for .* at \/some\/file: .*kill -9 (\d+)/.exec(
      restoring.stderr,
    )
  const [, pid] = await restoring.until(() => told() ?? undefined, 'the warning')
  assert.equal(Number(pid), restoring.pid)
  assert.ok(restoring.running)
  mount[Symbol.dispose]()
  const { code, stdout, stderr } = await restoring.endWithin(patienceMs)
  assert.equal(code, 0, stderr)
  // The calls that waited fail then.
  const { files, failed } = JSON.parse(stdout)
  assert.deepEqual([files, failed.length], [0, 1], stderr)
})

test('so is a target that cannot even be looked at', async (t) => {
  using folder = new TemporaryFolder()
  using mount = DeadMount.create(t, folder.at('target'))
  if (mount === null) return
  await using restoring = new Program([process.execPath, program, folder.at('target/folder')])
  const told = () =>
    /\/target\/folder: its file system has not answered for \d+ s: look/.exec(restoring.stderr)
  await restoring.until(() => told() ?? undefined, 'the warning')
  mount[Symbol.dispose]()
  assert.notEqual((await restoring.endWithin(patienceMs)).code, 0)
})

test('of a target that answers nothing is told', async () => {
  using folder = new TemporaryFolder()
  await using restoring = new Program([process.execPath, program, folder.at('target')])
  const { code, stderr } = await restoring.endWithin(patienceMs)
  assert.deepEqual([code, stderr], [0, ''])
  assert.equal(readFileSync(folder.at('target/some/file'), 'utf8'), 'content')
})
