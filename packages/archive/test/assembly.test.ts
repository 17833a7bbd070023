import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import {
  ArchiveAssembly,
  ArchiveError,
  compressFrame,
  indexFrameMagic,
  SeekTable,
  wrapSkippable,
} from '../src/index.ts'

const frame = compressFrame(Buffer.alloc(1000, 'a'))
const index = wrapSkippable(indexFrameMagic, compressFrame(Buffer.from('a batch')))

function refused(code: string, action: () => unknown): void {
  assert.throws(action, (error) => error instanceof ArchiveError && error.code === code)
}

test('an assembly knows size, digest and seek table of the file', () => {
  const assembly = new ArchiveAssembly()
  const pieces = [frame, index, frame, frame, index]
  for (const piece of pieces) {
    if (piece === frame) assembly.addFrame(piece)
    else assembly.addIndex(piece)
  }
  assert.equal(assembly.archiveBytes, Buffer.concat(pieces).length)
  assert.equal(assembly.tarBytes, 3000)
  const { seekTable, digest, archiveBytes, tarBytes } = assembly.finish()
  const file = Buffer.concat([...pieces, seekTable])
  assert.equal(archiveBytes, file.length)
  assert.equal(tarBytes, 3000)
  assert.deepEqual(digest, createHash('sha256').update(file).digest())
  const table = SeekTable.parse(seekTable, archiveBytes)
  assert.deepEqual([...table.indexFrames()], [1, 4])
  assert.equal(table.tarBytes, tarBytes)
})

test('two assemblies of the same frames end the same', () => {
  const ends = [1, 2].map(() => {
    const assembly = new ArchiveAssembly()
    assembly.addFrame(frame)
    assembly.addIndex(index)
    return assembly.finish()
  })
  assert.deepEqual(ends[0], ends[1])
})

test('what is no frame is refused and leaves no trace', () => {
  const clean = new ArchiveAssembly()
  const tried = new ArchiveAssembly()
  refused('frame-invalid', () => tried.addFrame(index))
  refused('frame-invalid', () => tried.addFrame(frame.subarray(1)))
  refused('frame-invalid', () => tried.addFrame(Buffer.concat([frame, frame])))
  refused('frame-invalid', () => tried.addFrame(compressFrame(Buffer.alloc(0))))
  refused('frame-invalid', () => tried.addIndex(frame))
  refused('frame-invalid', () => tried.addIndex(wrapSkippable(indexFrameMagic, Buffer.from('a batch'))))
  refused('frame-invalid', () =>
    tried.addIndex(wrapSkippable(indexFrameMagic, Buffer.concat([frame, frame]))),
  )
  refused('frame-invalid', () => tried.addIndex(wrapSkippable(0x184d2a50, frame)))
  refused('frame-too-large', () =>
    tried.addIndex(wrapSkippable(indexFrameMagic, compressFrame(Buffer.alloc(2 ** 21 + 1)))),
  )
  for (const assembly of [clean, tried]) {
    assembly.addFrame(frame)
    assembly.addIndex(index)
  }
  assert.deepEqual(tried.finish(), clean.finish())
})

test('an archive ends once, and in its index', () => {
  const assembly = new ArchiveAssembly()
  refused('assembly-order', () => assembly.finish())
  assembly.addIndex(index)
  assembly.addFrame(frame)
  refused('assembly-order', () => assembly.finish())
  assembly.addIndex(index)
  assembly.finish()
  refused('assembly-order', () => assembly.finish())
  refused('assembly-order', () => assembly.addFrame(frame))
})
