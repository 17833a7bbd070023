/**
 * Access control lists as the kernel has them in an extended attribute, and as tar has them in a pax record: GNU tar with
 * `--acls` and bsdtar take nothing but the text, and leave the attribute of the same content aside.
 */

/** Extended attributes that are POSIX access control lists, and the pax keywords of their text. */
export const aclKeywords: ReadonlyMap<string, string> = new Map([
  ['system.posix_acl_access', 'SCHILY.acl.access'],
  ['system.posix_acl_default', 'SCHILY.acl.default'],
])

/** ACL_USER_OBJ and so on, as linux/posix_acl.h numbers them. */
const tags: ReadonlyMap<number, { name: string; hasId: boolean }> = new Map([
  [0x01, { name: 'user', hasId: false }],
  [0x02, { name: 'user', hasId: true }],
  [0x04, { name: 'group', hasId: false }],
  [0x08, { name: 'group', hasId: true }],
  [0x10, { name: 'mask', hasId: false }],
  [0x20, { name: 'other', hasId: false }],
])

const version = 2
const headerBytes = 4
const entryBytes = 8

/** What the owning group may do by an access control list, 0 to 7; `null` where that cannot be told. */
export function aclGroupPermissions(value: Uint8Array): number | null {
  const permissions = new Map(aclEntries(value)?.map((entry) => [entry.tag, entry.permissions]))
  const group = permissions.get(0x04)
  return group === undefined ? null : group & (permissions.get(0x10) ?? 7)
}

/**
 * The text of an access control list, as acl(5) has it, users and groups by number; `null` where the value is none that
 * this program knows.
 */
export function aclText(value: Uint8Array): string | null {
  const lines = aclEntries(value)?.map(({ tag, permissions, id }) => {
    const { name, hasId } = tags.get(tag)!
    const letters = ['r', 'w', 'x'].map((letter, i) => ((permissions & (4 >> i)) === 0 ? '-' : letter))
    return `${name}:${hasId ? id : ''}:${letters.join('')}`
  })
  return lines === undefined || lines.length === 0 ? null : `${lines.join('\n')}\n`
}

interface AclEntry {
  tag: number
  permissions: number
  id: number
}

/** `undefined` where the value is no access control list, or one of another version. */
function aclEntries(value: Uint8Array): AclEntry[] | undefined {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  if (bytes.length < headerBytes || (bytes.length - headerBytes) % entryBytes !== 0) return undefined
  // struct posix_acl_xattr_header and _entry are little-endian on every machine.
  if (bytes.readUInt32LE(0) !== version) return undefined
  const entries: AclEntry[] = []
  for (let at = headerBytes; at < bytes.length; at += entryBytes) {
    const entry = {
      tag: bytes.readUInt16LE(at),
      permissions: bytes.readUInt16LE(at + 2),
      id: bytes.readUInt32LE(at + 4),
    }
    if (!tags.has(entry.tag) || entry.permissions > 7) return undefined
    entries.push(entry)
  }
  return entries
}
