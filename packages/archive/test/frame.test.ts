import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { ArchiveError, type ArchiveErrorCode } from '../src/errors.ts'
import {
  compressFrame,
  decompressFrame,
  parseZstdFrame,
  unwrapSkippable,
  wrapSkippable,
} from '../src/frame.ts'
import { frameBytesMax, frameCompressedBytesMax } from '../src/limits.ts'
import { run, skippedWithout } from './oracles.ts'

const magic = 0x184d2a5b

function refused(code: ArchiveErrorCode, action: () => unknown, message?: RegExp): void {
  assert.throws(action, (error) => {
    assert.ok(error instanceof ArchiveError, String(error))
    assert.equal(error.code, code, error.message)
    if (message !== undefined) assert.match(error.message, message)
    return true
  })
}

/** A frame header by hand: descriptor and what follows it, one raw block of `block`, a checksum that is not looked at. */
function handmade(descriptor: number, fields: number[], block = [(3 << 3) | 1, 0, 0, 1, 2, 3]): Buffer {
  return Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...fields, ...block, 9, 9, 9, 9])
}

/** The last block of a frame: one byte that stands for `size` of them. */
function runOf(size: number): number[] {
  const header = (size << 3) | (1 << 1) | 1
  return [header & 0xff, (header >> 8) & 0xff, header >> 16, 7]
}

test('frames of every size and level are parsed and come back as they were', () => {
  const contents = fc.oneof(
    fc.uint8Array({ maxLength: 3000 }),
    fc.nat(600_000).map((size) => Buffer.alloc(size, 'abc')),
    fc.nat(600_000).map((size) => randomBytes(size)),
  )
  fc.assert(
    fc.property(contents, fc.integer({ min: 1, max: 6 }), (content, level) => {
      const frame = compressFrame(content, level)
      assert.equal(parseZstdFrame(frame).contentBytes, content.length)
      assert.ok(decompressFrame(frame).equals(content))
    }),
    { numRuns: 60 },
  )
})

test('a full frame of zeros, which zstd keeps as runs of one byte, is read', () => {
  const content = Buffer.alloc(frameBytesMax)
  assert.ok(decompressFrame(compressFrame(content)).equals(content))
  const run = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x24, 9, (9 << 3) | 3, 0, 0, 7, 1, 1, 1, 1])
  assert.equal(parseZstdFrame(run).contentBytes, 9)
})

test('a full frame of what does not compress is within the limits', () => {
  const content = randomBytes(frameBytesMax)
  const frame = compressFrame(content)
  assert.ok(frame.length <= frameCompressedBytesMax)
  assert.ok(decompressFrame(frame).equals(content))
  refused('frame-too-large', () => compressFrame(Buffer.alloc(frameBytesMax + 1)))
})

test('frames of the zstd program are read, and it reads ours', (t) => {
  if (skippedWithout(t, 'zstd')) return
  const directory = mkdtempSync(join(tmpdir(), 'archive-frame-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const content = Buffer.from('all work and no play\n'.repeat(30_000))
  writeFileSync(join(directory, 'plain'), content)
  for (const level of ['-1', '-9', '-19']) {
    const frame = run('zstd', ['-q', '-c', '--check', level, join(directory, 'plain')])
    assert.equal(parseZstdFrame(frame).contentBytes, content.length)
    assert.ok(decompressFrame(frame).equals(content))
  }
  refused(
    'frame-invalid',
    () => parseZstdFrame(run('zstd', ['-q', '-c', '--no-check', join(directory, 'plain')])),
    /checksum/,
  )
  writeFileSync(join(directory, 'ours.zst'), compressFrame(content))
  assert.ok(run('zstd', ['-q', '-d', '-c', join(directory, 'ours.zst')]).equals(content))
})

test('content sizes of all four widths are read', () => {
  assert.deepEqual(parseZstdFrame(handmade(0x24, [3])), { contentBytes: 3, windowBytes: 3 })
  assert.deepEqual(parseZstdFrame(handmade(0x64, [3, 0], runOf(259))), {
    contentBytes: 259,
    windowBytes: 259,
  })
  assert.deepEqual(parseZstdFrame(handmade(0xa4, [3, 0, 1, 0], runOf(65_539))), {
    contentBytes: 65_539,
    windowBytes: 65_539,
  })
  assert.deepEqual(parseZstdFrame(handmade(0xe4, [3, 0, 0, 0, 0, 0, 0, 0])), {
    contentBytes: 3,
    windowBytes: 3,
  })
  // Mantissa 1 and exponent 3: 8 KiB and an eighth of it.
  assert.deepEqual(parseZstdFrame(handmade(0x84, [0x19, 3, 0, 0, 0])), { contentBytes: 3, windowBytes: 9216 })
})

test('a frame is refused that the format does not want', () => {
  refused('frame-invalid', () => parseZstdFrame(Buffer.alloc(0)), /begin/)
  refused(
    'frame-invalid',
    () => parseZstdFrame(wrapSkippable(magic, compressFrame(Buffer.from('a')))),
    /begin/,
  )
  refused('frame-invalid', () => parseZstdFrame(handmade(0x20, [3])), /checksum/)
  refused('frame-invalid', () => parseZstdFrame(handmade(0x25, [7, 3])), /dictionary/)
  refused('frame-invalid', () => parseZstdFrame(handmade(0x2c, [3])), /reserved/)
  refused('frame-invalid', () => parseZstdFrame(handmade(0x04, [0x19])), /size of its content/)
  const reservedBlock = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x24, 3, 7, 0, 0, 9, 9, 9, 9])
  refused('frame-invalid', () => parseZstdFrame(reservedBlock), /reserved/)
  const largeBlock = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x24, 3, 0x0b, 0x00, 0x10, 1, 9, 9, 9, 9])
  refused('frame-invalid', () => parseZstdFrame(largeBlock), /131073/)
})

test('a frame that promises too much is refused before anything is allocated', () => {
  const claims = (size: bigint) => {
    const frame = handmade(0xe4, [0, 0, 0, 0, 0, 0, 0, 0])
    frame.writeBigUInt64LE(size, 5)
    return frame
  }
  const before = process.memoryUsage().arrayBuffers
  for (const size of [BigInt(frameBytesMax) + 1n, 2n ** 32n, 2n ** 53n + 1n, 2n ** 64n - 1n]) {
    refused('frame-too-large', () => decompressFrame(claims(size)), /more than the 4194304 allowed/)
  }
  assert.ok(process.memoryUsage().arrayBuffers - before < 1024 * 1024)
  refused('frame-too-large', () => decompressFrame(compressFrame(Buffer.alloc(1000)), 999))
  refused('frame-too-large', () => parseZstdFrame(handmade(0x84, [0x69, 3, 0, 0, 0])), /window/)
  refused('frame-too-large', () => parseZstdFrame(Buffer.alloc(frameCompressedBytesMax + 1)), /bytes/)
})

test('a frame whose blocks hold more than its header says stays within what the header says', () => {
  const bomb = compressFrame(Buffer.alloc(100_000))
  const lying = Buffer.from(bomb)
  assert.equal(lying[4]! >> 6, 2, 'a content size of four bytes')
  lying.writeUInt32LE(1000, 5 + Number((lying[4]! & 0x20) === 0))
  refused('frame-damaged', () => decompressFrame(lying))
})

test('a frame that names content which its blocks cannot be is refused before it is decompressed', () => {
  const runs = (count: number) => {
    const header = Buffer.from('28b52ffdc4580000000000000000', 'hex')
    const block = (last: boolean) => Buffer.from([last ? 3 : 2, 0, 16, 0])
    const blocks = Array.from({ length: count }, (_, index) => block(index === count - 1))
    return Buffer.concat([header, ...blocks, Buffer.alloc(4)])
  }
  // Each block stands for 128 KiB of zeros.
  for (const [count, contentBytes, accepted] of [
    [2, 2 * 128 * 1024, true],
    [3, 2 * 128 * 1024, false],
    [1, 2 * 128 * 1024, false],
  ] as const) {
    const frame = runs(count)
    frame.writeBigUInt64LE(BigInt(contentBytes), 6)
    if (accepted) assert.equal(parseZstdFrame(frame).contentBytes, contentBytes)
    else refused('frame-invalid', () => parseZstdFrame(frame), /cannot be/)
  }
})

test('every frame that is cut, or has anything behind it, is refused', () => {
  const frame = compressFrame(Buffer.from('the quick brown fox '.repeat(40)))
  for (let size = 0; size < frame.length; size++)
    refused('frame-invalid', () => parseZstdFrame(frame.subarray(0, size)))
  refused('frame-invalid', () => parseZstdFrame(Buffer.concat([frame, Buffer.alloc(1)])), /1 bytes follow/)
  refused('frame-invalid', () => parseZstdFrame(Buffer.concat([frame, frame])), /follow/)
})

test('damage to the content of a frame never goes unnoticed', () => {
  const content = randomBytes(500)
  const frame = compressFrame(content)
  for (let at = 0; at < frame.length; at++) {
    const damaged = Buffer.from(frame)
    damaged[at]! ^= 0x10
    try {
      assert.ok(decompressFrame(damaged).equals(content), `byte ${at}`)
    } catch (error) {
      assert.ok(error instanceof ArchiveError, String(error))
    }
  }
})

test('a skippable frame gives back its payload, and nothing else is taken for one', () => {
  const payload = Buffer.from('payload')
  const frame = wrapSkippable(magic, payload)
  assert.deepEqual(unwrapSkippable(magic, frame), payload)
  assert.deepEqual(unwrapSkippable(magic, wrapSkippable(magic, Buffer.alloc(0))), Buffer.alloc(0))
  refused('frame-invalid', () => unwrapSkippable(0x184d2a5e, frame), /0x184d2a5b/)
  for (let size = 0; size < frame.length; size++)
    refused('frame-invalid', () => unwrapSkippable(magic, frame.subarray(0, size)))
  refused('frame-invalid', () => unwrapSkippable(magic, Buffer.concat([frame, Buffer.alloc(1)])))
})
