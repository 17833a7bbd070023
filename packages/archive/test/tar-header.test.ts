import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  ArchiveError,
  type Entry,
  encodeEntryHeader,
  endOfArchive,
  paddingBytes,
  storedBytes,
} from '../src/index.ts'
import * as arbitrary from './arbitraries.ts'
import { readTarMember } from './mini-tar.ts'
import { bytes, entry } from './sample.ts'

const typeflags: Record<Entry['type'], string> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  'character-device': '3',
  'block-device': '4',
  directory: '5',
  fifo: '6',
  socket: '',
}

test('every entry reads back from its header as it was', () => {
  const packable = arbitrary.entry.filter(({ type }) => type !== 'socket')
  fc.assert(
    fc.property(packable, (entry) => {
      const header = Buffer.from(encodeEntryHeader(entry))
      const member = readTarMember(header)
      assert.equal(member.headerBytes, header.length)
      assert.equal(member.typeflag, typeflags[entry.type])
      assert.equal(member.name, entry.type === 'directory' ? `${entry.path}/` : entry.path)
      assert.equal(member.link, entry.target ?? '')
      for (const key of ['mode', 'uid', 'gid'] as const) assert.equal(member[key], entry[key], key)
      assert.equal(member.size, storedBytes(entry))
      assert.equal(member.realSize, entry.storedSize === null ? null : entry.size)
      assert.deepEqual(member.mtime, [BigInt(entry.mtimeSeconds), entry.mtimeNanoseconds])
      assert.deepEqual([member.major, member.minor], [entry.device?.major ?? 0, entry.device?.minor ?? 0])
      assert.deepEqual([...member.xattrs.keys()], [...(entry.xattrs?.keys() ?? [])])
      for (const [key, value] of member.xattrs)
        assert.deepEqual(new Uint8Array(value), new Uint8Array(entry.xattrs!.get(key)!))
    }),
    { numRuns: 600 },
  )
})

test('an entry that ustar can say has one block, and one with nanoseconds has three', () => {
  assert.equal(encodeEntryHeader(entry('etc/hosts', { mtimeNanoseconds: 0 })).length, 512)
  assert.equal(encodeEntryHeader(entry('etc/hosts')).length, 1536)
})

test('a path takes extra blocks only where prefix and name have no room for it', () => {
  const size = (path: string) => encodeEntryHeader(entry(path, { mtimeNanoseconds: 0 })).length
  assert.equal(size('n'.repeat(100)), 512)
  assert.equal(size('n'.repeat(101)), 1536)
  assert.equal(size(`${'p'.repeat(155)}/${'n'.repeat(100)}`), 512)
  assert.equal(size(`${'p'.repeat(156)}/${'n'.repeat(100)}`), 1536)
  assert.equal(size(`${'p'.repeat(100)}/${'n'.repeat(101)}`), 1536)
})

test('the slash of a directory counts as part of its name', () => {
  const read = (path: string) => {
    const header = Buffer.from(encodeEntryHeader(entry(path, { type: 'directory', mtimeNanoseconds: 0 })))
    return { size: header.length, name: readTarMember(header).name }
  }
  assert.deepEqual(read('d'.repeat(99)), { size: 512, name: `${'d'.repeat(99)}/` })
  assert.deepEqual(read('d'.repeat(100)), { size: 1536, name: `${'d'.repeat(100)}/` })
  const split = `${'p'.repeat(120)}/${'d'.repeat(99)}`
  assert.deepEqual(read(split), { size: 512, name: `${split}/` })
})

test('paths and hard link targets of 16 KiB come back whole', () => {
  const long = `${'directory/'.repeat(1638)}ab`
  const member = readTarMember(
    Buffer.from(encodeEntryHeader(entry(`${long}2`, { type: 'hardlink', target: bytes(long) }))),
  )
  assert.equal(member.name, `${long}2`)
  assert.equal(member.link, long)
})

test('times before 1970 and with fractions are exact', () => {
  const mtimeOf = (mtimeSeconds: number, mtimeNanoseconds: number) =>
    readTarMember(Buffer.from(encodeEntryHeader(entry('a', { mtimeSeconds, mtimeNanoseconds })))).mtime
  assert.deepEqual(mtimeOf(-2, 500_000_000), [-2n, 500_000_000])
  assert.deepEqual(mtimeOf(-1, 999_999_999), [-1n, 999_999_999])
  assert.deepEqual(mtimeOf(-1, 0), [-1n, 0])
  assert.deepEqual(mtimeOf(0, 1), [0n, 1])
  assert.deepEqual(mtimeOf(999_999_999, 7), [999_999_999n, 7])
  assert.deepEqual(mtimeOf(8_589_934_592, 0), [8_589_934_592n, 0])
  assert.deepEqual(mtimeOf(Number.MAX_SAFE_INTEGER, 999_999_999), [
    BigInt(Number.MAX_SAFE_INTEGER),
    999_999_999,
  ])
})

test('an owner name of more than 31 bytes stands in a pax record, and nowhere where it is not ASCII', () => {
  const read = (user: string) =>
    readTarMember(Buffer.from(encodeEntryHeader(entry('a', { user: bytes(user) })))).user
  assert.equal(read('u'.repeat(31)), 'u'.repeat(31))
  assert.equal(read('u'.repeat(32)), 'u'.repeat(32))
  assert.equal(read('ü'.repeat(15)), bytes('ü'.repeat(15)))
  assert.equal(read('ü'.repeat(16)), '')
  assert.equal(read('\udce9'.repeat(31)), '\xe9'.repeat(31))
  assert.equal(read('\udce9'.repeat(32)), '')
})

test('nothing of a long header is left in a short one after it', () => {
  const short = Buffer.from(encodeEntryHeader(entry('a')))
  encodeEntryHeader(
    entry('x'.repeat(5000), {
      type: 'symlink',
      target: bytes('\udcff'.repeat(4000)),
      xattrs: new Map([['user.a', Buffer.alloc(9000, 0xff)]]),
    }),
  )
  assert.deepEqual(Buffer.from(encodeEntryHeader(entry('a'))), short)
})

test('a socket has no form in tar', () => {
  assert.throws(() => encodeEntryHeader(entry('run/s', { type: 'socket' })), TypeError)
})

test('a size that is no exact number is refused', () => {
  for (const size of [-1, 2 ** 53, Number.NaN]) {
    assert.throws(() => encodeEntryHeader(entry('a', { size })), ArchiveError)
  }
})

test('content is padded to whole blocks and the stream ends in two blocks of zeros', () => {
  assert.deepEqual([0, 1, 511, 512, 513, 2 ** 40 + 1].map(paddingBytes), [0, 511, 1, 0, 511, 511])
  assert.deepEqual(endOfArchive, Buffer.alloc(1024))
})
