import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { duplexPair } from 'node:stream'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type BytePath, CompressorPool } from '@central-backup/archive'
import { Channel, type MessageOf } from '@central-backup/protocol'
import { packAndSend } from '../src/pack-and-send.ts'
import { ProgressReports } from '../src/progress-reports.ts'
import type { Session } from '../src/session.ts'
import { Warnings } from '../src/warnings.ts'
import { TemporaryFolder } from './temporary-folder.ts'

const MiB = 1024 * 1024

/** Counts the frames that it has made. */
class CountingPool extends CompressorPool {
  frames = 0

  override async compressBlock(...job: Parameters<CompressorPool['compressBlock']>): Promise<number> {
    const bytes = await super.compressBlock(...job)
    this.frames++
    return bytes
  }
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 30_000
  while (!isSo()) {
    assert.ok(performance.now() < deadlineMs, `it never came to this: ${what}`)
    await nextTurn()
  }
}

test('wherever the connection breaks, all memory of the packing is there for the next one', async () => {
  using folder = new TemporaryFolder()
  writeFileSync(join(folder.path, 'noise'), randomBytes(40 * MiB))
  const pool = new CountingPool(1)
  const blocksMax = 2 * pool.threads + 3
  const request: MessageOf<'backup'> = {
    type: 'backup',
    host: 'web1',
    paths: [Buffer.from(folder.path)],
    exclude: [],
    kind: 'full',
    base: null,
    startedAtMs: 0,
  }
  for (const takenBytes of [1, 5 * MiB, 9 * MiB, 13 * MiB]) {
    pool.frames = 0
    const [agentSide, serverSide] = duplexPair()
    const channel = new Channel(agentSide)
    let left = takenBytes
    serverSide.on('data', (piece: Buffer) => {
      left -= piece.length
      if (left <= 0) serverSide.pause()
    })
    const settings = { name: 'web1', localCopy: null, limits: { readStallMs: 60_000 } }
    const session = { agent: { pool }, channel, settings } as unknown as Session
    const sending = {
      allowed: ['' as BytePath],
      copy: null,
      warnings: new Warnings(channel),
      progress: new ProgressReports(channel),
      leftOut: null,
    }
    const sent = assert.rejects(packAndSend(session, request, sending), { code: 'connection-lost' })
    // Nothing is taken any more: one part is half sent, the next waits for it, and all other blocks are full.
    const sentWhole = Math.floor(takenBytes / (4 * MiB))
    await until('all blocks are full', () => left <= 0 && pool.frames === sentWhole + blocksMax)
    serverSide.destroy()
    await sent
    await until(`blocks come back after ${takenBytes} bytes`, () => pool.memory.spare === blocksMax)
  }
  await pool.close()
})
