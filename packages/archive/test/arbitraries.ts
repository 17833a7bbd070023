import fc from 'fast-check'
import {
  type BytePath,
  type Entry,
  type EntryType,
  type Extent,
  type Gone,
  inodeFlags,
} from '../src/index.ts'

/** Random values of the types of the package, for property tests: every value that the format allows can come. */

const byte = fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code))

/** Names with everything that Linux allows, often with bytes that sort or print badly. */
export const name: fc.Arbitrary<string> = fc
  .oneof(
    fc.string({
      unit: fc.constantFrom('a', 'b', '.', '-', '\x01', ' ', '\n', '\xe9', '\xff'),
      minLength: 1,
      maxLength: 12,
    }),
    fc.string({ unit: byte, minLength: 1, maxLength: 255 }),
  )
  .map((text) => text.replaceAll('/', '_'))
  .filter((text) => text !== '.' && text !== '..')

export const path: fc.Arbitrary<BytePath> = fc
  .array(name, { minLength: 1, maxLength: 6 })
  .map((names) => names.join('/') as BytePath)

export const gone: fc.Arbitrary<Gone> = fc
  .tuple(path, fc.constantFrom('deleted', 'unselected'))
  .map(([path, reason]) => ({ path, reason }))

const ownerName = fc.string({ unit: byte, maxLength: 40 }) as fc.Arbitrary<BytePath>
const id = fc.oneof(fc.nat(70_000), fc.nat(2 ** 32 - 1))
const seconds = fc.oneof(fc.integer({ min: -10, max: 2 ** 34 }), fc.maxSafeInteger())
const nanoseconds = fc.oneof(fc.constant(0), fc.nat(999_999_999))
const unsigned64 = fc.oneof(fc.maxSafeNat(), fc.bigInt(2n ** 53n, 2n ** 64n - 1n))

const xattrs = fc.oneof(
  fc.constant(null),
  fc
    .array(
      fc.tuple(fc.string({ unit: byte, minLength: 1, maxLength: 40 }), fc.uint8Array({ maxLength: 80 })),
      { maxLength: 4 },
    )
    .map((pairs) => new Map(pairs)),
)

const flags = fc.oneof(
  fc.constant(null),
  fc.subarray(Object.values(inodeFlags)).map((bits) => bits.reduce((all, bit) => all | bit, 0)),
)

const attributes = fc.record({
  mode: fc.nat(0o7777),
  uid: id,
  gid: id,
  user: ownerName,
  group: ownerName,
  mtimeSeconds: seconds,
  mtimeNanoseconds: nanoseconds,
  ctimeSeconds: seconds,
  ctimeNanoseconds: nanoseconds,
  ino: unsigned64,
  dev: unsigned64,
  nlink: id,
  xattrs,
  project: id,
  changedWhileRead: fc.boolean(),
  ancestor: fc.boolean(),
})

/** Of directories only. */
const mountPoint: fc.Arbitrary<{ mountPoint?: true }> = fc.record(
  { mountPoint: fc.constant(true as const) },
  { requiredKeys: [] },
)

/** Extents in ascending order, in this archive and in others. */
const extents: fc.Arbitrary<Extent[]> = fc
  .array(
    fc.record({
      archive: fc.constantFrom(
        null,
        '2026-11-21T030000Z-full.tar.zst',
        '2026-11-22T030000Z-incremental.tar.zst',
      ),
      gap: fc.nat(2 ** 40),
      length: fc.integer({ min: 1, max: 2 ** 40 }),
    }),
    { maxLength: 4 },
  )
  .map((pieces) => {
    let offset = 0
    return pieces.map(({ archive, gap, length }) => {
      offset += gap
      const extent = { archive, offset, length }
      offset += length
      return extent
    })
  })

const content = fc.record({
  extents,
  digest: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  /** Of a sparse file, where its pieces have room for a map. */
  holeBytes: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 2 ** 50 })),
})
const deviceNumber = fc.nat(2 ** 31 - 1)
const device = fc.tuple(deviceNumber, deviceNumber).map(([major, minor]) => ({ major, minor }))

const types: EntryType[] = [
  'file',
  'directory',
  'symlink',
  'hardlink',
  'fifo',
  'socket',
  'character-device',
  'block-device',
]

export const entry: fc.Arbitrary<Entry> = fc
  .record({
    path,
    type: fc.constantFrom(...types),
    attributes,
    flags,
    content,
    device,
    mountPoint,
    target: path,
  })
  .map(({ path, type, attributes, flags, content, device, mountPoint, target }) => {
    const isFile = type === 'file'
    const stored = isFile ? content.extents.reduce((sum, { length }) => sum + length, 0) : 0
    const holeBytes = stored >= 512 ? content.holeBytes : 0
    const links: Partial<Record<EntryType, string>> = { symlink: target, hardlink: '\x01' }
    return {
      path: type === 'hardlink' ? (`\x02${path}` as BytePath) : path,
      type,
      ...attributes,
      flags: isFile || type === 'directory' ? flags : null,
      size: stored + holeBytes,
      storedSize: holeBytes > 0 ? stored : null,
      target: (links[type] ?? null) as BytePath | null,
      device: type.endsWith('device') ? device : null,
      digest: isFile ? content.digest : null,
      extents: isFile ? content.extents : [],
      ...(type === 'directory' && mountPoint),
    }
  })
