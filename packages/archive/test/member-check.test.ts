/**
 * Where members begin: list, catalog, verify and restore go by the index of an archive, other programs by its tar stream.
 * Where the two were made to differ, in any of the ways in which readers of tar were led apart, the check refuses the
 * archive; and what it lets through, GNU tar, Python and tar-stream read as the index says.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { extract } from 'tar-stream'
import {
  type ArchiveError,
  ArchiveReader,
  type Entry,
  encodeEntryHeader,
  endOfArchive,
  MemberCheck,
  paddingBytes,
} from '../src/index.ts'
import { fillTar } from '../src/tar-filler.ts'
import { run, skippedWithout } from './oracles.ts'
import { buildArchiveAround, buildTar, bytes, file, header, type Member, other } from './sample.ts'

const folder = mkdtempSync(join(tmpdir(), 'central-backup-members-'))
after(() => rmSync(folder, { recursive: true, force: true }))

/** What a reader finds: `path type size digest`, in order. */
type View = string[]

const digestOf = (content: Uint8Array) => createHash('sha256').update(content).digest('hex').slice(0, 16)
const lineOf = (path: string, type: string, content: Uint8Array) =>
  `${path.replace(/\/$/, '')} ${type} ${content.length} ${digestOf(content)}`

/** By the index. Content that does not fit is that of no other reader. */
async function viewOfIndex(path: string): Promise<View> {
  await using reader = await ArchiveReader.open(path)
  const view: View = []
  for await (const { entries } of reader.batches()) {
    for (const entry of entries) {
      const pieces: Buffer[] = []
      try {
        for await (const piece of reader.readContent(entry)) pieces.push(piece)
        view.push(lineOf(entry.path, entry.type, Buffer.concat(pieces)))
      } catch (error) {
        view.push(`${entry.path} ${(error as ArchiveError).code}`)
      }
    }
  }
  return view
}

/** `null` where the check lets the archive through. */
async function refusalOf(path: string): Promise<string | null> {
  await using reader = await ArchiveReader.open(path)
  const members = new MemberCheck(reader)
  try {
    for await (const batch of reader.batches()) {
      if (batch.header !== null) members.begin(batch.header)
      for (const entry of batch.entries) await members.add(entry)
    }
    await members.finish()
    return null
  } catch (error) {
    assert.equal((error as ArchiveError).code, 'members-differ', `${error}`)
    return (error as Error).message
  }
}

const python = `
import hashlib, sys, tarfile
types = {b'0': 'file', b'\\0': 'file', b'5': 'directory', b'2': 'symlink', b'1': 'hardlink'}
try:
    with tarfile.open(sys.argv[1], encoding='latin1') as tar:
        for member in tar:
            content = tar.extractfile(member).read() if member.isfile() else b''
            name = types.get(member.type, 'unknown')
            print(member.name.rstrip('/'), name, len(content), hashlib.sha256(content).hexdigest()[:16])
except Exception as error:
    print('error', type(error).__name__)
`

const viewOfPython = (tar: string): View =>
  run('python3', ['-c', python, tar]).toString('latin1').split('\n').slice(0, -1)

/** By GNU tar, with its complaints. `--to-command` has the content of files; names come from the listing. */
function viewOfGnuTar(tar: string): View {
  try {
    const names = run('tar', ['--quoting-style=literal', '-tf', tar])
      .toString('latin1')
      .split('\n')
      .slice(0, -1)
    const contents = run('tar', ['-xOf', tar])
    return [...names.map((name) => name.replace(/\/$/, '')), digestOf(contents)]
  } catch {
    return ['error']
  }
}

const tarStreamTypes: Record<string, string> = { link: 'hardlink' }

async function viewOfTarStream(tar: string): Promise<View> {
  const view: View = []
  const stream = extract()
  stream.end(readFileSync(tar))
  try {
    for await (const member of stream) {
      const pieces: Buffer[] = []
      for await (const piece of member) pieces.push(piece as Buffer)
      const { name, type } = member.header
      view.push(lineOf(name, tarStreamTypes[type!] ?? type!, Buffer.concat(pieces)))
    }
  } catch (error) {
    view.push(`error ${(error as Error).message}`)
  }
  return view
}

interface Views {
  index: View
  python: View
  tarStream: View
  gnuTar: View
  /** What GNU tar would find where the index is right. */
  gnuTarExpected: View
}

async function viewsOf(
  name: string,
  tar: Buffer,
  members: readonly Member[],
  archive: Buffer,
): Promise<Views> {
  const path = join(folder, `${name.replaceAll(/[^a-z0-9]/gi, '-')}`)
  writeFileSync(`${path}.tar.zst`, archive)
  writeFileSync(`${path}.tar`, tar)
  const contents = Buffer.concat(members.map(({ content }) => content))
  return {
    index: await viewOfIndex(`${path}.tar.zst`),
    python: viewOfPython(`${path}.tar`),
    tarStream: await viewOfTarStream(`${path}.tar`),
    gnuTar: viewOfGnuTar(`${path}.tar`),
    gnuTarExpected: [...members.map(({ entry }) => entry.path as string), digestOf(contents)],
  }
}

const agree = ({ index, python, tarStream, gnuTar, gnuTarExpected }: Views): boolean =>
  [python, tarStream].every((view) => view.join('\n') === index.join('\n')) &&
  gnuTar.join('\n') === gnuTarExpected.join('\n')

/** Where the order of members is not that of the index. */
function sorted(views: Views): Views {
  return Object.fromEntries(Object.entries(views).map(([reader, view]) => [reader, view.toSorted()])) as Views
}

const hidden = () => memberBytes(file('hidden', 'nobody sees me'))

/** Header, content and padding of a member. */
function memberBytes({ entry, content }: Member): Buffer {
  return Buffer.concat([encodeEntryHeader(entry), content, Buffer.alloc(paddingBytes(content.length))])
}

/** The members that all crafted archives start from; their entries have the places that they have in `honestTar`. */
const members = () => [
  other('d', 'directory', { mode: 0o755 }),
  file('d/a', 'a'.repeat(700)),
  file('d/b', 'bb'),
  file('d/c', buildTar([file('evil', 'a tar in a file')])),
  other('d/l', 'symlink', { target: bytes('a') }),
]

/** Puts `bytes` before the header of a member, and moves what follows in the index, too. */
function insertBefore(all: readonly Member[], path: string, inserted: Buffer): Buffer {
  const pieces: Buffer[] = []
  let offset = 0
  for (const member of all) {
    if (member.entry.path === path) {
      pieces.push(inserted)
      offset += inserted.length
    }
    const head = Buffer.from(encodeEntryHeader(member.entry))
    if (member.content.length > 0)
      member.entry.extents = [{ archive: null, offset: offset + head.length, length: member.content.length }]
    const piece = Buffer.concat([head, member.content, Buffer.alloc(paddingBytes(member.content.length))])
    pieces.push(piece)
    offset += piece.length
  }
  return Buffer.concat([...pieces, endOfArchive])
}

/** Those with content first, then those that are named, then `more`. */
function lateMembers(all: readonly Member[], late: readonly string[], ...more: Buffer[]): Buffer {
  const first = buildTar(all.filter(({ content }) => content.length > 0))
  const behind = late.map((path) => memberBytes(all.find(({ entry }) => entry.path === path)!))
  return Buffer.concat([first.subarray(0, -endOfArchive.length), ...behind, ...more, endOfArchive])
}

/** Where the header of a member begins in a tar stream that `buildTar` made. */
function headerAt(all: readonly Member[], path: string): { begin: number; content: number } {
  const { entry } = all.find((member) => member.entry.path === path)!
  const content = entry.extents[0]!.offset
  return { begin: content - encodeEntryHeader(entry).length, content }
}

/** Gives the last block of a header another size, and its checksum. */
function resize(tar: Buffer, content: number, size: number): void {
  const block = tar.subarray(content - 512, content)
  block.write(`${size.toString(8).padStart(11, '0')}\0`, 124, 'latin1')
  rechecksum(block)
}

function rechecksum(block: Buffer): void {
  block.write('        ', 148, 'latin1')
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
}

/** A pax header, `x` for the next member or `g` for all that follow. */
function paxHeader(typeflag: 'x' | 'g', ...records: [string, string][]): Buffer {
  const body = Buffer.from(
    records
      .map(([keyword, value]) => {
        const rest = keyword.length + value.length + 3
        const length = rest + String(rest + String(rest).length).length
        return `${length} ${keyword}=${value}\n`
      })
      .join(''),
    'latin1',
  )
  const block = Buffer.from(encodeEntryHeader({ ...file('pax', body).entry, mtimeNanoseconds: 0 }))
  block.write(typeflag, 156, 'latin1')
  rechecksum(block)
  return Buffer.concat([block, body, Buffer.alloc(paddingBytes(body.length))])
}

interface Craft {
  name: string
  make(all: Member[]): Buffer
  /** As the archive says that it was packed anew, so that filler may stand in it. */
  repacked?: boolean
  absorbed?: boolean
  /** All readers agree, and the check has nothing against it. */
  honest?: boolean
}

const filler = (length: number, change: (bytes: Buffer) => void = () => {}): Buffer => {
  const bytes = Buffer.alloc(length)
  fillTar(bytes, 0, length)
  change(bytes)
  return bytes
}

const crafts: Craft[] = [
  { name: 'members as they should be, one of them with a tar in it', make: buildTar, honest: true },
  {
    name: 'filler where a member went when it was packed anew',
    make: (all) => insertBefore(all, 'd/b', filler(2048)),
    repacked: true,
    honest: true,
  },
  { name: 'filler in what was never packed anew', make: (all) => insertBefore(all, 'd/b', filler(2048)) },
  { name: 'a member between two others', make: (all) => insertBefore(all, 'd/b', hidden()) },
  { name: 'a member before all others', make: (all) => insertBefore(all, 'd', hidden()) },
  {
    name: 'a member in the comment of filler',
    make: (all) =>
      insertBefore(
        all,
        'd/b',
        filler(4096, (bytes) => void hidden().copy(bytes, 1024)),
      ),
    repacked: true,
  },
  {
    name: 'filler that says to be smaller than it is, with a member in the rest',
    make: (all) => insertBefore(all, 'd/b', Buffer.concat([filler(1024), hidden()])),
    repacked: true,
  },
  {
    name: 'filler with a path for what follows',
    make: (all) => insertBefore(all, 'd/b', paxHeader('g', ['path', 'elsewhere'])),
    repacked: true,
  },
  {
    name: 'filler that is larger than any is made',
    make: (all) => insertBefore(all, 'd/b', paxHeader('g', ['comment', ' '.repeat(2 * 1024 * 1024)])),
    repacked: true,
  },
  {
    name: 'a member behind the end of the tar stream, as of two archives in a row',
    make: (all) => Buffer.concat([buildTar(all), hidden(), endOfArchive]),
  },
  {
    name: 'an end of the tar stream in its middle',
    make: (all) => insertBefore(all, 'd/b', endOfArchive),
  },
  {
    name: 'a single block of zeros in its middle',
    make: (all) => insertBefore(all, 'd/b', Buffer.alloc(512)),
  },
  {
    name: 'zeros behind the end of the tar stream',
    make: (all) => Buffer.concat([buildTar(all), Buffer.alloc(10_240)]),
  },
  { name: 'no end of the tar stream', make: (all) => buildTar(all).subarray(0, -1024) },
  {
    name: 'a header with size 0, so that a tar in the content is members',
    make: (all) => {
      const tar = buildTar(all)
      resize(tar, headerAt(all, 'd/c').content, 0)
      return tar
    },
  },
  {
    name: 'a header whose size takes in the next member',
    make: (all) => {
      const tar = buildTar(all)
      resize(tar, headerAt(all, 'd/a').content, headerAt(all, 'd/c').begin - headerAt(all, 'd/a').content)
      return tar
    },
  },
  {
    name: 'a size in a pax record that is not the one of the header',
    make: (all) => {
      // Of a member that has no pax header of its own.
      all[3]!.entry.mtimeNanoseconds = 0
      return insertBefore(all, 'd/c', paxHeader('x', ['size', '0']))
    },
  },
  {
    name: 'a path in a pax record that is not the one of the header',
    make: (all) => insertBefore(all, 'd/b', paxHeader('x', ['path', '../../etc/cron.d/b'])),
  },
  {
    name: 'a path in a global pax header',
    make: (all) => insertBefore(all, 'd/b', paxHeader('g', ['path', 'all/the/same'])),
  },
  {
    name: 'another name in the header',
    make: (all) => {
      const tar = buildTar(all)
      const { content } = headerAt(all, 'd/b')
      tar.write('../evil', content - 512, 'latin1')
      rechecksum(tar.subarray(content - 512, content))
      return tar
    },
  },
  {
    name: 'a link where the index has a file',
    make: (all) => {
      const tar = buildTar(all)
      const { content } = headerAt(all, 'd/b')
      const block = tar.subarray(content - 512, content)
      block.write('2', 156, 'latin1')
      block.write('/etc', 157, 'latin1')
      rechecksum(block)
      return tar
    },
  },
  {
    name: 'another mode in the header: set-user-id',
    make: (all) => {
      const tar = buildTar(all)
      const { content } = headerAt(all, 'd/b')
      tar.write('0004755', content - 512 + 100, 'latin1')
      rechecksum(tar.subarray(content - 512, content))
      return tar
    },
  },
  {
    name: 'something in the padding of a file',
    make: (all) => {
      const tar = buildTar(all)
      tar.write('hidden', headerAt(all, 'd/b').content + 100, 'latin1')
      return tar
    },
  },
  {
    name: 'content within the content of another',
    make: (all) => {
      const tar = buildTar(all)
      const [, , , c] = all
      const inner = file('d/x', c!.content.subarray(512, 1024))
      const offset = c!.entry.extents[0]!.offset + 512
      all.splice(4, 1, {
        entry: { ...inner.entry, extents: [{ archive: null, offset, length: 512 }] },
        content: inner.content,
      })
      return tar
    },
  },
  {
    name: 'an entry without a member',
    make: (all) => {
      const tar = buildTar(all)
      all.push(other('d/z', 'directory'))
      return tar
    },
  },
  {
    name: 'a member without an entry',
    make: (all) => {
      const tar = buildTar(all)
      all.pop()
      return tar
    },
  },
  {
    name: 'members without content behind all others, where others were taken over',
    make: (all) => lateMembers(all, ['d/l', 'd']),
    absorbed: true,
    honest: true,
  },
  {
    name: 'members without content behind all others, where none were',
    make: (all) => lateMembers(all, ['d/l', 'd']),
  },
  {
    name: 'a member behind all others that the index does not name',
    make: (all) => lateMembers(all, ['d'], memberBytes(other('hidden', 'directory'))),
    absorbed: true,
  },
  {
    name: 'a member that the index names, and that stands nowhere',
    make: (all) => lateMembers(all, ['d/l']),
    absorbed: true,
  },
  {
    name: 'a member that stands twice',
    make: (all) => lateMembers(all, ['d', 'd', 'd/l']),
    absorbed: true,
  },
  {
    name: 'a member with content behind all others',
    make: (all) => lateMembers(all, ['d', 'd/l'], hidden()),
    absorbed: true,
  },
  {
    name: 'members in another order than the index',
    make: (all) => buildTar([all[0]!, all[2]!, all[1]!, ...all.slice(3)]),
  },
  {
    name: 'a checksum as old programs count it',
    make: (all) => {
      const tar = buildTar(all)
      const { content } = headerAt(all, 'd/b')
      tar.write('0000000', content - 512 + 148, 'latin1')
      return tar
    },
  },
]

let tried = 0
let apart = 0
for (const { name, make, repacked = false, absorbed = false, honest = false } of crafts) {
  test(`${name}: ${honest ? 'all readers agree' : 'refused'}`, async (t) => {
    if (skippedWithout(t, 'tar') || skippedWithout(t, 'python3')) return
    const all = members()
    const tar = make(all)
    const kept = ['2026-11-21T030000Z-full.tar.zst']
    const archive = buildArchiveAround(tar, all, {
      // So that members begin and end within frames, and across them.
      frameBytes: 3000,
      header: repacked || absorbed ? { ...header, repack: { kept, absorbed: absorbed ? kept : [] } } : header,
    })
    const views = await viewsOf(name, tar, all, archive)
    const refusal = await refusalOf(join(folder, `${name.replaceAll(/[^a-z0-9]/gi, '-')}.tar.zst`))
    tried++
    if (!agree(views)) apart++
    if (honest) {
      assert.equal(refusal, null)
      assert.ok(agree(absorbed ? sorted(views) : views), JSON.stringify(views, null, 1))
    } else {
      assert.match(refusal ?? 'taken', /not the one that its index describes: at byte \d+, /)
    }
  })
}

test('readers of tar were led apart by most of them', (t) => {
  if (tried === 0) return t.skip('there were no readers to lead apart')
  assert.ok(apart > tried / 2, `${apart} of ${tried}`)
})

test('any byte of the tar stream that is turned over outside of contents is refused', async () => {
  const all = members()
  const tar = buildTar(all)
  const isContent = (at: number) =>
    all.some(({ entry: { extents } }: { entry: Entry }) =>
      extents.some(({ offset, length }) => at >= offset && at < offset + length),
    )
  const path = join(folder, 'turned.tar.zst')
  let turned = 0
  for (let at = 0; at < tar.length; at += 11) {
    if (isContent(at)) continue
    const changed = Buffer.from(tar)
    changed[at]! ^= 1 << (at % 8)
    writeFileSync(path, buildArchiveAround(changed, all))
    assert.notEqual(await refusalOf(path), null, `byte ${at}`)
    turned++
  }
  assert.ok(turned > 300, `${turned}`)
})
