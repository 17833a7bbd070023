import koffi from 'koffi'
import type { BytePath } from '../path.ts'
import { cName, errno, libc, low } from './libc.ts'

const nativeGetpwuid = libc.func('int getpwuid_r(unsigned int, void *, void *, size_t, _Out_ void **)')
const nativeGetgrgid = libc.func('int getgrgid_r(unsigned int, void *, void *, size_t, _Out_ void **)')
const nativeGetpwnam = libc.func('int getpwnam_r(const void *, void *, void *, size_t, _Out_ void **)')
const nativeGetgrnam = libc.func('int getgrnam_r(const void *, void *, void *, size_t, _Out_ void **)')

/** Names come from archives, which nobody has to trust: no more than these are remembered. */
const namesRememberedMax = 65_536

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

/** Numbers of users and groups by their names, most of which are looked up once. `null` for a name that is not known here. */
export class OwnerNumbers {
  readonly #users = new Map<BytePath, number | null>()
  readonly #groups = new Map<BytePath, number | null>()

  user(name: BytePath): number | null {
    return this.#numberOf(this.#users, name, nativeGetpwnam)
  }

  group(name: BytePath): number | null {
    return this.#numberOf(this.#groups, name, nativeGetgrnam)
  }

  #numberOf(
    numbers: Map<BytePath, number | null>,
    name: BytePath,
    lookUp: typeof nativeGetpwnam,
  ): number | null {
    let number = numbers.get(name)
    if (number === undefined) {
      number = withRecord(
        (record, strings, found) => lookUp(cName(name), record, strings, strings.length, found),
        (record) => numberIn(record),
      )
      if (numbers.size < namesRememberedMax) numbers.set(name, number)
    }
    return number
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
  const name = withRecord(
    (record, strings, found) => lookUp(id, record, strings, strings.length, found),
    (record, strings) => {
      const start = nameOffset(record, strings)
      return strings.latin1Slice(start, strings.indexOf(0, start)) as BytePath
    },
  )
  return name ?? ('' as BytePath)
}

/** Calls with larger and larger memory until it suffices. `null` where nobody is found, or that cannot be told. */
function withRecord<T>(
  lookUp: (record: Buffer, strings: Buffer, found: [unknown]) => number,
  read: (record: Buffer, strings: Buffer) => T,
): T | null {
  // Both struct passwd and struct group have less than 64 bytes.
  const record = Buffer.alloc(128)
  for (let size = 4096; size <= 1 << 20; size *= 4) {
    const strings = Buffer.alloc(size)
    const found: [unknown] = [null]
    const error = lookUp(record, strings, found)
    if (error === errno.ERANGE) continue
    return error !== 0 || found[0] === null ? null : read(record, strings)
  }
  return null
}

/** Both begin with two pointers to strings, the first to the name, followed by the number. */
function numberIn(record: Buffer): number {
  const at = 2 * koffi.sizeof('void *')
  return low === 0 ? record.readUInt32LE(at) : record.readUInt32BE(at)
}

/** Where in `strings` the name lies that the record's first field points to. */
function nameOffset(record: Buffer, strings: Buffer): number {
  const pointer = low === 0 ? record.readBigUInt64LE(0) : record.readBigUInt64BE(0)
  return Number(pointer - BigInt(koffi.address(strings)))
}
