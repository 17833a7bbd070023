/**
 * A reader of tar headers that was written from the standard (POSIX.1-2017, pax) and GNU tar's manual, and shares no code
 * with the encoder that it judges. Names are strings with one character a byte.
 */
export interface TarMember {
  name: string
  link: string
  typeflag: string
  mode: number
  uid: number
  gid: number
  size: number
  /** `[seconds, nanoseconds]`, floored. */
  mtime: [bigint, number]
  user: string
  group: string
  major: number
  minor: number
  xattrs: Map<string, Buffer>
  /** Of a sparse file in GNU format 1.0: its size with all holes. `size` is that of map and data. */
  realSize: number | null
  /** Blocks of all headers. */
  headerBytes: number
}

/** Reads the headers of one member, which `tar` begins with. Throws where a rule is broken. */
export function readTarMember(tar: Buffer): TarMember {
  let at = 0
  let longName: string | undefined
  let longLink: string | undefined
  let pax = new Map<string, Buffer>()
  for (;;) {
    const block = tar.subarray(at, at + 512)
    checkBlock(block)
    const type = String.fromCharCode(block[156]!)
    const size = Number(number(block, 124, 12))
    at += 512
    if (!['x', 'L', 'K'].includes(type)) {
      const member = readBlock(block, type, pax)
      member.name = pax.get('GNU.sparse.name')?.toString('latin1') ?? longName ?? member.name
      member.link = longLink ?? member.link
      return { ...member, headerBytes: at }
    }
    const body = tar.subarray(at, at + size)
    const padding = tar.subarray(at + size, at + Math.ceil(size / 512) * 512)
    if (body.length !== size || padding.some((byte) => byte !== 0)) throw new Error(`bad body of ${type}`)
    at += size + padding.length
    if (type === 'x') pax = paxRecords(body)
    else if (body.at(-1) !== 0 || body.indexOf(0) !== size - 1) throw new Error('a long name ends in one NUL')
    else if (type === 'L') longName = body.toString('latin1', 0, size - 1)
    else longLink = body.toString('latin1', 0, size - 1)
  }
}

function checkBlock(block: Buffer): void {
  if (block.length !== 512) throw new Error('no whole block')
  const magic = block.toString('latin1', 257, 265)
  if (magic !== 'ustar\x0000' && magic !== 'ustar  \0') throw new Error(`magic ${JSON.stringify(magic)}`)
  let sum = 0
  for (const [i, byte] of block.entries()) sum += i >= 148 && i < 156 ? 0x20 : byte
  if (Number(number(block, 148, 8)) !== sum) throw new Error('checksum')
}

function readBlock(block: Buffer, typeflag: string, pax: Map<string, Buffer>): TarMember {
  const prefix = text(block, 345, 155)
  const name = text(block, 0, 100)
  const decimal = (key: string, at: number, size: number) =>
    Number(pax.has(key) ? BigInt(pax.get(key)!.toString()) : number(block, at, size))
  const xattrs = new Map<string, Buffer>()
  for (const [key, value] of pax) {
    if (!key.startsWith('SCHILY.xattr.')) continue
    xattrs.set(key.slice(13).replaceAll('%3D', '=').replaceAll('%25', '%'), value)
  }
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    link: text(block, 157, 100),
    typeflag,
    mode: Number(number(block, 100, 8)),
    uid: decimal('uid', 108, 8),
    gid: decimal('gid', 116, 8),
    size: decimal('size', 124, 12),
    mtime: pax.has('mtime') ? time(pax.get('mtime')!.toString()) : [number(block, 136, 12), 0],
    user: pax.get('uname')?.toString('latin1') ?? text(block, 265, 32),
    group: pax.get('gname')?.toString('latin1') ?? text(block, 297, 32),
    major: Number(number(block, 329, 8)),
    minor: Number(number(block, 337, 8)),
    xattrs,
    realSize: realSizeOf(pax),
    headerBytes: 0,
  }
}

function realSizeOf(pax: Map<string, Buffer>): number | null {
  if (!pax.has('GNU.sparse.major')) return null
  const version = ['major', 'minor'].map((part) => pax.get(`GNU.sparse.${part}`)!.toString())
  if (version.join('.') !== '1.0') throw new Error(`sparse format ${version.join('.')}`)
  return Number(BigInt(pax.get('GNU.sparse.realsize')!.toString()))
}

function text(block: Buffer, at: number, size: number): string {
  const field = block.toString('latin1', at, at + size)
  const end = field.indexOf('\0')
  return end < 0 ? field : field.slice(0, end)
}

function number(block: Buffer, at: number, size: number): bigint {
  if (block[at]! >= 0x80) {
    let value = BigInt.asIntN(7, BigInt(block[at]! & 0x7f))
    for (let i = 1; i < size; i++) value = value * 256n + BigInt(block[at + i]!)
    return value
  }
  const digits = text(block, at, size).trim()
  if (!/^[0-7]+$/.test(digits)) throw new Error(`no octal number: ${JSON.stringify(digits)}`)
  return BigInt(`0o${digits}`)
}

function paxRecords(body: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>()
  for (let at = 0; at < body.length; ) {
    const space = body.indexOf(0x20, at)
    const length = Number(body.toString('latin1', at, space))
    const equals = body.indexOf(0x3d, space)
    if (body[at + length - 1] !== 0x0a || equals < 0 || equals >= at + length)
      throw new Error('bad pax record')
    records.set(body.toString('latin1', space + 1, equals), body.subarray(equals + 1, at + length - 1))
    at += length
  }
  return records
}

function time(decimal: string): [bigint, number] {
  const match = /^(-?)(\d+)(?:\.(\d{1,9}))?$/.exec(decimal)
  if (match === null) throw new Error(`no time: ${decimal}`)
  const nanoseconds = BigInt(match[2]!) * 1_000_000_000n + BigInt((match[3] ?? '').padEnd(9, '0'))
  const signed = match[1] === '-' ? -nanoseconds : nanoseconds
  const seconds = (signed - (((signed % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n)) / 1_000_000_000n
  return [seconds, Number(signed - seconds * 1_000_000_000n)]
}
