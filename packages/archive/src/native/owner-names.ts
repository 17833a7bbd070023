import koffi from 'koffi'
import type { BytePath } from '../path.ts'
import { errno, libc, low } from './libc.ts'

const nativeGetpwuid = libc.func('int getpwuid_r(unsigned int, void *, void *, size_t, _Out_ void **)')
const nativeGetgrgid = libc.func('int getgrgid_r(unsigned int, void *, void *, size_t, _Out_ void **)')

/** Names of users and groups by their numbers, each looked up once. `''` for a number without a name. */
export class OwnerNames {
  readonly #users = new Map<number, BytePath>()
  readonly #groups = new Map<number, BytePath>()

  user(uid: number): BytePath {
    return remembered(this.#users, uid, userName)
  }

  group(gid: number): BytePath {
    return remembered(this.#groups, gid, groupName)
  }
}

function remembered(names: Map<number, BytePath>, id: number, lookUp: (id: number) => BytePath): BytePath {
  let name = names.get(id)
  if (name === undefined) {
    name = lookUp(id)
    names.set(id, name)
  }
  return name
}

/** Name of a user, `''` where there is none (getpwuid_r, so NSS and its caches answer). */
function userName(uid: number): BytePath {
  return ownerName(nativeGetpwuid, uid)
}

/** Name of a group, `''` where there is none. */
function groupName(gid: number): BytePath {
  return ownerName(nativeGetgrgid, gid)
}

function ownerName(lookUp: typeof nativeGetpwuid, id: number): BytePath {
  // Both struct passwd and struct group begin with `char *name` and have less than 64 bytes.
  const record = Buffer.alloc(128)
  for (let size = 4096; size <= 1 << 20; size *= 4) {
    const strings = Buffer.alloc(size)
    const found: [unknown] = [null]
    const error = lookUp(id, record, strings, size, found)
    if (error === errno.ERANGE) continue
    if (error !== 0 || found[0] === null) return '' as BytePath
    const end = strings.indexOf(0, nameOffset(record, strings))
    return strings.latin1Slice(nameOffset(record, strings), end) as BytePath
  }
  return '' as BytePath
}

/** Where in `strings` the name lies that the record's first field points to. */
function nameOffset(record: Buffer, strings: Buffer): number {
  const pointer = low === 0 ? record.readBigUInt64LE(0) : record.readBigUInt64BE(0)
  return Number(pointer - BigInt(koffi.address(strings)))
}
