import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { restoreTree } from '../src/index.ts'
import { archiveName, packTree, sourceOf, TemporaryFolder } from './tree.ts'

const stale = (digit: string) =>
  `.central-backup-restore-${'00000000-0000-4000-8000-000000000000'.replaceAll('0', digit)}`

/** A folder of two files that was restored once, and what killed restores have left in it. */
class KilledRestore extends TemporaryFolder {
  readonly folder: string
  readonly #restore: () => ReturnType<typeof restoreTree>

  private constructor(restore: (scene: KilledRestore) => ReturnType<typeof restoreTree>) {
    super()
    this.#restore = () => restore(this)
    this.folder = this.at('target', this.at('source'), 'docs')
  }

  static async make(): Promise<KilledRestore> {
    const scene = new KilledRestore(async (self) => {
      await using source = sourceOf(entries, self.at(archiveName))
      return await restoreTree(source, self.at('target'))
    })
    mkdirSync(scene.at('target'))
    mkdirSync(scene.at('source/docs'), { recursive: true })
    for (const name of ['a', 'b']) writeFileSync(scene.at('source/docs', name), name)
    const entries = await packTree(scene.at('source'), scene.at(archiveName))
    await scene.restore()
    return scene
  }

  async restore(): Promise<void> {
    const { failed } = await this.#restore()
    assert.equal(failed.count, 0)
  }

  has(name: string): boolean {
    return existsSync(`${this.folder}/${name}`)
  }
}

/** A process that holds a lock of a file or a folder. */
async function locked(path: string, kind: '--shared' | '--exclusive'): Promise<ChildProcess> {
  const holder = spawn('flock', [kind, path, '-c', 'echo locked; read line'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(holder.stdout!, 'data')
  return holder
}

async function end(holder: ChildProcess): Promise<void> {
  holder.stdin!.end()
  await once(holder, 'close')
}

test('what a restore that was killed had begun is removed by the next, and nothing else', async () => {
  using scene = await KilledRestore.make()
  writeFileSync(`${scene.folder}/${stale('0')}`, 'half of it')
  linkSync(`${scene.folder}/a`, `${scene.folder}/${stale('1')}`)
  symlinkSync('nowhere', `${scene.folder}/${stale('2')}`)
  const others = ['mine', '.central-backup-restore-notes', `x${stale('3')}`]
  for (const name of others) writeFileSync(`${scene.folder}/${name}`, '')
  mkdirSync(`${scene.folder}/${stale('4')}`)
  await scene.restore()
  for (const digit of ['0', '1', '2']) assert.ok(!scene.has(stale(digit)), `${digit} is left`)
  for (const name of ['a', 'b', stale('4'), ...others]) assert.ok(scene.has(name), `${name} is gone`)
})

test('what another restore is writing is not removed, whether its target is the same or not', async () => {
  using scene = await KilledRestore.make()
  const file = `${scene.folder}/${stale('0')}`
  writeFileSync(file, 'half of it')
  symlinkSync('nowhere', `${scene.folder}/${stale('1')}`)
  const sameTarget = await locked(scene.at('target'), '--shared')
  await scene.restore()
  assert.ok(scene.has(stale('0')))
  await end(sameTarget)
  const writer = await locked(file, '--exclusive')
  await scene.restore()
  assert.ok(scene.has(stale('0')))
  await end(writer)
  await scene.restore()
  assert.ok(!scene.has(stale('0')))
})

test('somebody who holds on to the target keeps no restore from its work', async () => {
  using scene = await KilledRestore.make()
  const holder = await locked(scene.at('target'), '--exclusive')
  await scene.restore()
  await end(holder)
})
