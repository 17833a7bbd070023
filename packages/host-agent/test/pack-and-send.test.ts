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

test('wherever the connection breaks, all memory of the packing is there for the next one', async () => {
  using folder = new TemporaryFolder()
  writeFileSync(join(folder.path, 'noise'), randomBytes(40 * MiB))
  const pool = new CompressorPool(1)
  const request: MessageOf<'backup'> = {
    type: 'backup',
    host: 'web1',
    paths: [Buffer.from(folder.path)],
    exclude: [],
    kind: 'full',
    base: null,
    startedAtMs: 0,
  }
  for (const takenBytes of [0, 1, 5 * MiB, 9 * MiB, 13 * MiB]) {
    const [agentSide, serverSide] = duplexPair()
    const channel = new Channel(agentSide)
    let left = takenBytes
    serverSide.on('data', (piece: Buffer) => {
      left -= piece.length
      if (left <= 0) serverSide.destroy()
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
    await assert.rejects(packAndSend(session, request, sending), { code: 'connection-lost' })
    const deadlineMs = performance.now() + 30_000
    while (pool.memory.spare < 2 + 3) {
      assert.ok(
        performance.now() < deadlineMs,
        `${pool.memory.spare} blocks came back after ${takenBytes} bytes`,
      )
      await nextTurn()
    }
  }
  await pool.close()
})
