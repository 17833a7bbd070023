import { spawnSync } from 'node:child_process'
import { createReadStream } from 'node:fs'
import type { TestContext } from 'node:test'
import { type Options, Unpackr } from 'msgpackr'
import { extract, type Header } from 'tar-stream'

/** Programs that people will read archives with, and what they say is in one. */

// Its types do not know 'auto': a number where that is exact, else a bigint.
const unpackr = new Unpackr({ useRecords: false, int64AsType: 'auto' } as object as Options)

/** What msgpackr reads. */
export function unpack(bytes: Uint8Array): unknown {
  return unpackr.unpack(bytes)
}

/** What a reader lists of a member. Names and targets are strings with one character a byte. */
export interface Listed {
  path: string
  type: 'file' | 'directory' | 'symlink' | 'hardlink' | 'fifo' | 'character-device' | 'block-device'
  size: number
  uid: number
  gid: number
  mode: number
  /** Decimal, nine places. */
  mtime: string
  target: string
}

const packages: Record<string, string> = {
  tar: 'tar',
  bsdtar: 'libarchive-tools',
  python3: 'python3',
  zstd: 'zstd',
}

/** Skips the test, with a reason, where the program is not installed; returns whether it did. */
export function skippedWithout(t: TestContext, program: string): boolean {
  if (spawnSync(program, ['--version']).error === undefined) return false
  t.skip(`${program} is not installed (Debian: ${packages[program]})`)
  return true
}

/** Runs a program that must succeed without a word on standard error; returns its standard output. */
export function run(program: string, args: readonly string[], locale = 'C'): Buffer {
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, LC_ALL: locale, TZ: 'UTC' }
  const { status, stdout, stderr, error } = spawnSync(program, args, { env, maxBuffer: 256 * 1024 * 1024 })
  if (error !== undefined) throw error
  if (status !== 0 || stderr.length > 0) {
    throw new Error(
      `${program} ${args.join(' ')} ended with ${status} and said: ${stderr.toString('latin1').slice(0, 2000)}`,
    )
  }
  return stdout
}

const gnuTypes: Record<string, Listed['type']> = {
  '-': 'file',
  d: 'directory',
  l: 'symlink',
  h: 'hardlink',
  p: 'fifo',
  c: 'character-device',
  b: 'block-device',
}

export function listWithGnuTar(path: string): Listed[] {
  const args = ['--numeric-owner', '--full-time', '--quoting-style=c', '-tvf', path]
  run('tar', args, 'C.UTF-8')
  return lines(run('tar', args)).map((line) => {
    const match =
      /^(.)(\S{9})\s+(\d+)\/(\d+)\s+(\S+) (\S+ \S+)\s+"((?:[^"\\]|\\.)*)"(?: (?:->|link to) "(.*)")?$/.exec(
        line,
      )
    if (match === null) throw new Error(`cannot read a line of tar -tv: ${line.slice(0, 400)}`)
    const [, type, mode, uid, gid, size, time, name, target] = match
    return {
      path: fromCString(name!).replace(/\/$/, ''),
      type: gnuTypes[type!]!,
      size: size!.includes(',') ? 0 : Number(size),
      uid: Number(uid),
      gid: Number(gid),
      mode: modeOf(mode!),
      mtime: decimalOf(time!),
      target: fromCString(target ?? ''),
    }
  })
}

/** bsdtar can turn a tar into an mtree listing, which has everything but the names of hard links. */
export function listWithBsdtar(path: string): Listed[] {
  const args = [
    '-cf',
    '-',
    '--format=mtree',
    '--options=!all,type,size,uid,gid,mode,time,link,!use-set',
    `@${path}`,
  ]
  run('bsdtar', args, 'C.UTF-8')
  const types: Record<string, Listed['type']> = {
    file: 'file',
    dir: 'directory',
    link: 'symlink',
    fifo: 'fifo',
    char: 'character-device',
    block: 'block-device',
  }
  return lines(run('bsdtar', args))
    .filter((line) => line.startsWith('./'))
    .map((line) => {
      const [name, ...words] = line.split(' ')
      const values = Object.fromEntries(
        words.map((word) => [word.split('=')[0], word.slice(word.indexOf('=') + 1)]),
      )
      return {
        path: fromOctalEscapes(name!.slice(2)),
        type: types[values.type!]!,
        size: Number(values.size ?? 0),
        uid: Number(values.uid),
        gid: Number(values.gid),
        mode: Number.parseInt(values.mode!, 8),
        // mtree has a number of nanoseconds after the dot.
        mtime: values.time!.replace(/\d+$/, (nanoseconds: string) => nanoseconds.padStart(9, '0')),
        target: fromOctalEscapes(values.link ?? ''),
      }
    })
}

/** Paths and sizes only, but without reading through the content. */
export function listSizesWithBsdtar(path: string): { path: string; size: number }[] {
  return lines(run('bsdtar', ['-tvf', path])).map((line) => {
    const words = line.split(/ +/)
    return { path: words.at(-1)!, size: Number(words[4]) }
  })
}

const pythonScript = `
import json, os, sys, tarfile
raw = lambda name: os.fsencode(name).decode('latin1')
types = {b'0': 'file', b'1': 'hardlink', b'2': 'symlink', b'3': 'character-device', b'4': 'block-device', b'5': 'directory', b'6': 'fifo'}
for m in tarfile.open(sys.argv[1]):
    print(json.dumps(dict(path=raw(m.name), type=types[m.type], size=m.size, uid=m.uid, gid=m.gid, mode=m.mode,
        mtime=m.pax_headers.get('mtime', str(m.mtime)), target=raw(m.linkname))))
`

export function listWithPython(path: string): Listed[] {
  const listed = lines(run('python3', ['-c', pythonScript, path], 'C.UTF-8')).map(
    (line) => JSON.parse(line) as Listed,
  )
  return listed.map((member) => ({ ...member, mtime: nineDecimals(member.mtime) }))
}

/** tar-stream decodes names as UTF-8, and takes uid, gid and mtime from the ustar block: the caller knows. */
export async function listWithTarStream(path: string): Promise<Listed[]> {
  const listed: Listed[] = []
  const reader = extract()
  createReadStream(path).pipe(reader)
  for await (const member of reader) {
    const header = member.header as Header & { pax?: Record<string, string> | null }
    listed.push({
      path: header.name.replace(/\/$/, ''),
      type: tarStreamTypes[header.type ?? ''] ?? (header.type as Listed['type']),
      size: header.size ?? 0,
      uid: header.uid ?? 0,
      gid: header.gid ?? 0,
      mode: header.mode ?? 0,
      mtime: nineDecimals(header.pax?.mtime ?? String(header.mtime!.getTime() / 1000)),
      target: header.linkname ?? '',
    })
    member.resume()
  }
  return listed
}

const tarStreamTypes: Record<string, Listed['type']> = { link: 'hardlink' }

function lines(output: Buffer): string[] {
  return output.toString('latin1').split('\n').slice(0, -1)
}

function modeOf(text: string): number {
  let mode = 0
  for (const [i, letter] of [...text].entries()) {
    if (letter !== '-' && letter !== 'S' && letter !== 'T') mode |= 0o400 >> i
    if (/[sStT]/.test(letter)) mode |= 0o4000 >> Math.floor(i / 3)
  }
  return mode
}

function decimalOf(time: string): string {
  const [seconds, fraction] = time.split('.')
  const parsed = Date.parse(`${seconds!.replace(' ', 'T')}Z`) / 1000
  return `${parsed}.${(fraction ?? '').padEnd(9, '0')}`
}

function nineDecimals(decimal: string): string {
  const [seconds, fraction] = decimal.split('.')
  return `${seconds}.${(fraction ?? '').padEnd(9, '0')}`
}

const cEscapes: Record<string, string> = { n: '\n', t: '\t', r: '\r', a: '\x07', b: '\b', f: '\f', v: '\v' }

function fromCString(text: string): string {
  return text.replace(/\\([0-7]{3}|.)/g, (_, code: string) =>
    code.length === 3 ? String.fromCharCode(Number.parseInt(code, 8)) : (cEscapes[code] ?? code),
  )
}

function fromOctalEscapes(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
