import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { aclGroupPermissions, aclText } from '../src/acl.ts'
import { encodeEntryHeader } from '../src/index.ts'
import { aclValue } from './object-attributes.ts'
import { entry } from './sample.ts'

const full = aclValue([
  ['owner', 7],
  ['user', 5, 1000],
  ['user', 0, 4_294_967_294],
  ['owning-group', 6],
  ['group', 2, 100],
  ['mask', 5],
  ['other', 1],
])

test('an ACL is the text that acl(5) has for it, with numbers', () => {
  const lines = [
    'user::rwx',
    'user:1000:r-x',
    'user:4294967294:---',
    'group::rw-',
    'group:100:-w-',
    'mask::r-x',
    'other::--x',
  ]
  assert.equal(aclText(full), `${lines.join('\n')}\n`)
  assert.equal(aclGroupPermissions(full), 4)
})

test('values that are no ACLs have no text, and stand in the tar as attributes alone', () => {
  const wrong = {
    empty: Buffer.alloc(0),
    'without entries': full.subarray(0, 4),
    'of another version': Buffer.concat([Buffer.from([3, 0, 0, 0]), full.subarray(4)]),
    'cut off': full.subarray(0, -1),
    'with a tag that is not known': Buffer.concat([
      full.subarray(0, 4),
      Buffer.from('4000070000000000', 'hex'),
    ]),
    'with more than three permissions': Buffer.concat([
      full.subarray(0, 4),
      Buffer.from('01000800ffffffff', 'hex'),
    ]),
  }
  for (const [what, value] of Object.entries(wrong)) {
    assert.equal(aclText(value), null, what)
    const xattrs = new Map([['system.posix_acl_access', value]])
    const header = encodeEntryHeader(entry('f', { xattrs })).toString('latin1')
    assert.ok(header.includes('SCHILY.xattr.system.posix_acl_access='), what)
    assert.ok(!header.includes('SCHILY.acl'), what)
  }
})

test('any bytes are the text of an ACL, or none', () => {
  const anyEntry = fc.tuple(fc.constantFrom(1, 2, 4, 8, 16, 32, 64), fc.nat(9), fc.nat(0xffff_ffff))
  const value = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.array(anyEntry, { maxLength: 5 }).map((entries) => {
      const bytes = Buffer.alloc(4 + 8 * entries.length)
      bytes.writeUInt32LE(2)
      for (const [i, [tag, permissions, id]] of entries.entries()) {
        bytes.writeUInt16LE(tag, 4 + 8 * i)
        bytes.writeUInt16LE(permissions, 6 + 8 * i)
        bytes.writeUInt32LE(id, 8 + 8 * i)
      }
      return bytes
    }),
  )
  fc.assert(
    fc.property(value, (bytes) => {
      const text = aclText(bytes)
      if (text !== null) assert.match(text, /^(?:(?:user|group|mask|other):\d*:[r-][w-][x-]\n)+$/)
      assert.ok([null, 0, 1, 2, 3, 4, 5, 6, 7].includes(aclGroupPermissions(bytes)))
    }),
  )
})
