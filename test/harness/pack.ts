/** A run as an honest agent would send it, made in memory, for tests that then change one thing of it. */
import {
  ArchiveAssembly,
  type ArchiveEnd,
  type ArchiveHeader,
  compressFrame,
  type Entry,
  frameBytesMax,
  IndexBatchEncoder,
  indexFrameMagic,
  wrapSkippable,
} from '@central-backup/archive'
import type { MessageOf } from '@central-backup/protocol'
import { buildTar, file, type Member, other } from '../../packages/archive/test/sample.ts'
import type { Script } from './fake-agent.ts'
import { noise } from './tree.ts'

export interface Pack {
  frames: Buffer[]
  entries: Entry[]
  header: ArchiveHeader
  end: ArchiveEnd
}

/** Some files with content, and their folders. */
export function honestPack(request: MessageOf<'backup'>): Pack {
  return packMembers(request, [
    other('srv', 'directory', { mode: 0o755 }),
    file('srv/a', 'first\n'),
    file('srv/b', noise(200_000, 'b')),
    file('srv/c', 'last\n'),
  ])
}

/** A run of these members, which stand in the order of paths. */
export function packMembers(request: MessageOf<'backup'>, members: readonly Member[]): Pack {
  const count = (...types: Entry['type'][]) =>
    members.filter(({ entry }) => types.includes(entry.type)).length
  const tar = buildTar(members)
  const frames: Buffer[] = []
  for (let at = 0; at < tar.length; at += frameBytesMax)
    frames.push(compressFrame(tar.subarray(at, at + frameBytesMax)))
  const { host, kind, base, startedAtMs } = request
  const texts = (paths: readonly Buffer[]) => paths.map(String)
  const paths = {
    paths: texts(request.paths.map((one) => (Buffer.isBuffer(one) ? one : one.path))),
    exclude: texts(request.exclude),
  }
  return {
    frames,
    entries: members.map(({ entry }) => entry),
    header: { host, kind, base, startedAtMs, software: 'fake-agent 1', ...paths, repack: null },
    end: {
      outcome: 'complete',
      counts: {
        files: count('file'),
        directories: count('directory'),
        symlinks: count('symlink'),
        hardlinks: count('hardlink'),
        specials: count('fifo', 'character-device', 'block-device'),
        sockets: count('socket'),
        unchanged: 0,
        gone: 0,
        excluded: 0,
        changed: 0,
        vanished: 0,
        unreadable: 0,
        attributes: 0,
        contentBytes: members.reduce((sum, { content }) => sum + content.length, 0),
      },
      finishedAtMs: startedAtMs + 1,
      broken: false,
    },
  }
}

/** One index frame. Nothing is checked but that it fits. */
export function encodeIndex(
  header: ArchiveHeader | null,
  entries: readonly Entry[],
  end: ArchiveEnd | null,
): Buffer {
  const encoder = new IndexBatchEncoder(header)
  for (const entry of entries)
    if (!encoder.add(entry)) throw new Error('the entries of a test are to fit into one batch')
  const contentEnds = entries.flatMap(({ extents }) =>
    extents.map(({ archive, offset, length }) => (archive === null ? offset + length : 0)),
  )
  encoder.reach(Math.max(0, ...contentEnds))
  return indexFrame(encoder.take(end))
}

/** An index frame around any bytes. */
export function indexFrame(batch: Uint8Array): Buffer {
  return wrapSkippable(indexFrameMagic, compressFrame(batch))
}

/** The messages of a whole run, from the first frame to the summary. */
export function messagesOf(pack: Pack): (MessageOf<'frame' | 'entries'> | MessageOf<'summary'>)[] {
  const index = encodeIndex(pack.header, pack.entries, pack.end)
  return [
    ...pack.frames.map((payload) => ({ type: 'frame', payload }) as const),
    { type: 'entries', payload: index },
    summaryOf(pack.frames, [index], pack.end),
  ]
}

/** The true summary of an archive of these frames. */
export function summaryOf(
  frames: readonly Buffer[],
  index: readonly Buffer[],
  end: ArchiveEnd,
): MessageOf<'summary'> {
  const assembly = new ArchiveAssembly()
  for (const frame of frames) assembly.addFrame(frame)
  for (const frame of index) assembly.addIndex(frame)
  const { digest, archiveBytes, tarBytes } = assembly.finish()
  const { outcome, counts, finishedAtMs } = end
  return { type: 'summary', outcome, counts, finishedAtMs, digest, archiveBytes, tarBytes }
}

/** What an agent does that sends an archive and has found no fault with anything. */
export function sending(pack: (request: MessageOf<'backup'>) => Pack = honestPack): Script {
  return async ({ channel, request, archive }) => {
    await channel.send({ type: 'archive-name', name: archive })
    for (const message of messagesOf(pack(request))) await channel.send(message)
    await channel.receive(['stored'])
    await channel.send({ type: 'finished', localCopy: null })
  }
}

/** What an agent says that has restored a file of six bytes, and the folder that it is in. */
export const restoredOneFile: NonNullable<MessageOf<'restore-end'>['report']> = {
  restored: { files: 1, directories: 1, symlinks: 0, hardlinks: 0, specials: 0 },
  contentBytes: 6,
  equal: 0,
  damaged: 0,
  failed: 0,
  kept: 0,
  notSet: [],
  mapped: [],
}
