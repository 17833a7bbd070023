import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { freeSpaceSchema } from '../src/config/size.ts'
import { createRepository } from '../src/storage/repository.ts'
import { type FreeSpace, hostBytes, requireFreeSpace } from '../src/storage/space.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const disk = { bsize: 4096, blocks: 1000, bavail: 100, files: 1000, ffree: 500 }

function look(minFree: FreeSpace, changes: Partial<typeof disk> = {}): Promise<void> {
  return requireFreeSpace('/repository', minFree, async () => ({ ...disk, ...changes }))
}

test('space that is to stay free is a size or a part of the disk, and none is looked for where it is 0', async () => {
  await look({ bytes: 409_600 })
  await assert.rejects(look({ bytes: 409_601 }), {
    code: 'disk-full',
    message: /\/repository only 0 MiB are free/,
  })
  await look({ percent: 10 })
  await assert.rejects(look({ percent: 10.1 }), { code: 'disk-full' })
  await look({ bytes: 0 }, { bavail: 0, ffree: 0 })
  await look({ percent: 0 }, { bavail: 0, ffree: 0 })
})

test('inodes are to stay free, too, where the file system counts them', async () => {
  await look({ bytes: 1 }, { ffree: 10 })
  await assert.rejects(look({ bytes: 1 }, { ffree: 9 }), {
    code: 'disk-full',
    message: /only 9 inodes of 1000 are free/,
  })
  await assert.rejects(look({ percent: 5 }, { ffree: 49 }), { code: 'disk-full' })
  await look({ percent: 5 }, { files: 0, ffree: 0 })
})

test('a part of the disk is told from a size', () => {
  for (const [value, expected] of [
    ['1 %', { percent: 1 }],
    ['0.5%', { percent: 0.5 }],
    ['10 GiB', { bytes: 10 * 1024 ** 3 }],
    [4096, { bytes: 4096 }],
    [0, { bytes: 0 }],
  ] as const)
    assert.deepEqual(freeSpaceSchema.parse(value), expected)
  for (const wrong of ['100 %', '-1 %', '% 1', 'much', -1, 1.5, null])
    assert.equal(freeSpaceSchema.safeParse(wrong).success, false, String(wrong))
})

test('all files of a host count for its room: archives, what is set aside, and the trash', async () => {
  using folder = new TemporaryFolder()
  const repository = await createRepository(folder.at('repository'))
  assert.equal(await hostBytes(repository, 'web1'), 0)
  for (const [area, name, bytes] of [
    ['archives', '2026-11-21T030000Z-full.tar.zst', 1000],
    ['archives', '2026-11-22T030000Z-full.refused.partial', 200],
    ['trash', '2026-11-20T030000Z-full.tar.zst', 30],
  ] as const) {
    mkdirSync(folder.at('repository', area, 'web1'), { recursive: true })
    writeFileSync(folder.at('repository', area, 'web1', name), Buffer.alloc(bytes))
  }
  assert.equal(await hostBytes(repository, 'web1'), 1230)
  assert.equal(await hostBytes(repository, 'web2'), 0)
})
