/**
 * A server of the right CA, with the right password, that restores what it should not be able to. It gets nothing beyond
 * what the settings of the host allow, each break of a rule ends the session with its own code, and the agent goes on.
 */
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import {
  type BytePath,
  compressFrame,
  type Entry,
  encodeIndexBatch,
  indexFrameMagic,
  wrapSkippable,
} from '@central-backup/archive'
import { type Message, PeerError } from '@central-backup/protocol'
import { entry, file, header, type Member, other } from '../packages/archive/test/sample.ts'
import {
  type Answer,
  entriesEnd,
  entriesMessage,
  frameMessage,
  honest,
  logIn,
  type RestoreQuestion,
  restoreInProcess,
  restoreRequestOf,
  selectEntries,
} from './harness/restore-session.ts'
import { Site, type TestHost } from './harness/site.ts'
import { linesOf, readSnapshot } from './harness/snapshot.ts'

const self = { uid: process.geteuid!(), gid: process.getegid!() }

const own = (member: Member): Member => ({ ...member, entry: { ...member.entry, ...self } })
const aFile = (path: string, content: string | Uint8Array) => own(file(path, content))
const aFolder = (path: string) => own(other(path, 'directory', { mode: 0o755 }))

/** A tree that is as it should be. */
const members = [aFolder('etc'), aFile('etc/hosts', 'hosts\n'), aFile('etc/motd', 'hello\n')]

/** An answer to one kind of question in place of the honest one. */
function instead<T extends RestoreQuestion['type']>(type: T, messages: () => Message[]): Answer {
  const otherwise = honest(members)
  return (question) => (question.type === type ? messages() : otherwise(question))
}

describe('a server that restores to a host', () => {
  let site: Site
  let host: TestHost
  let allowed: string
  before(async () => {
    site = await Site.create()
    allowed = site.at('allowed')
    host = await site.addHost('web1')
    host.configure((text) => text.replace('read = ["/"]', `read = ["/"]\nrestore = ["${allowed}"]`))
    await host.start()
  })
  beforeEach(() => {
    for (const name of ['allowed', 'outside']) {
      rmSync(site.at(name), { recursive: true, force: true })
      mkdirSync(site.at(name, 'deep'), { recursive: true })
    }
    writeFileSync(site.at('outside/secret'), 'secret')
  })
  after(() => site?.[Symbol.asyncDispose]())

  const restoreTo = (target: string, answer: Answer, fields = {}) =>
    restoreInProcess(host, restoreRequestOf(host, target, fields), answer)

  const outside = () => linesOf(readSnapshot(site.at('outside')))

  /** The session ends with `code`; nothing is half done, it was no bug of the agent, and the agent goes on. */
  async function refused(code: string, target: string, answer: Answer, fields = {}): Promise<PeerError> {
    const before = outside()
    const logged = host.agent.log.length
    let refusal: unknown
    try {
      await restoreTo(target, answer, fields)
    } catch (error) {
      refusal = error
    }
    assert.ok(refusal instanceof PeerError, `the agent refuses: ${refusal}`)
    assert.equal(refusal.code, code, refusal.message)
    const line = await host.agent.untilLogged((one) => one.code !== undefined, logged)
    assert.equal(line.code, code)
    assert.equal(line.stack, undefined, 'no bug of the agent')
    assert.deepEqual(outside(), before)
    for (const name of readdirSync(allowed, { recursive: true }) as string[])
      assert.ok(!name.includes('.central-backup-restore-'), `${name} was left behind`)
    const { channel } = await logIn(host)
    await channel.close()
    return refusal
  }

  const never: Answer = () => assert.fail('the agent asks for something')

  test('what is honest is restored', async () => {
    const { report, warnings } = await restoreTo(allowed, honest(members))
    assert.deepEqual(warnings, [])
    assert.deepEqual([report!.restored.files, report!.restored.directories], [2, 1])
    assert.equal(readFileSync(join(allowed, 'etc/hosts'), 'utf8'), 'hosts\n')
  })

  test('outside of what the settings allow the refusal is the same, whatever is there', async () => {
    const { welcome, channel } = await logIn(host)
    await channel.close()
    assert.deepEqual(welcome.policy.restore, [Buffer.from(allowed)], 'the policy is told before any request')
    symlinkSync(site.at('outside'), site.at('link'))
    const targets = [
      '/',
      '/etc',
      '/etc/passwd',
      '/root/.ssh',
      '/nothing/is/here',
      site.at('outside'),
      site.at('outside/secret'),
      site.at('link'),
      `${allowed}2`,
      `${allowed}/../outside`,
      `${allowed}/deep/../../outside`,
      `${allowed}/`,
      `${allowed}/./deep`,
      `${allowed}//deep`,
      `/${allowed}`,
      allowed.slice(1),
      '.',
      'allowed',
      `${allowed}/a\0b`,
      `${allowed}/${'x/'.repeat(7_900)}`,
    ]
    const said = new Set<string>()
    for (const target of targets) {
      const { message, hint } = await refused('policy-denied', target, never)
      said.add(`${message}\n${hint}`)
      await refused('policy-denied', target, never, { dryRun: true })
    }
    assert.equal(said.size, 1, [...said].join('\n'))
    rmSync(site.at('link'))
  })

  test('a link below the allowed folder leads nowhere, be it planted or restored by the server itself', async () => {
    symlinkSync(site.at('outside'), join(allowed, 'planted'))
    await restoreTo(
      allowed,
      honest([own(other('made', 'symlink', { target: site.at('outside') as BytePath, mode: 0o777 }))]),
    )
    for (const name of ['planted', 'made', 'planted/deep', 'made/deep']) {
      const { message } = await refused('target-failed', join(allowed, name), honest(members))
      assert.match(message, /links are not followed/)
      await refused('target-failed', join(allowed, name), honest(members), { dryRun: true })
    }
    const { report, warnings } = await restoreTo(
      allowed,
      honest([aFolder('made'), aFile('made/new', 'x'), aFile('planted/deep/new', 'x')]),
    )
    assert.equal(report!.restored.files, 0)
    assert.deepEqual(
      warnings.map(({ code, path }) => `${code} ${path}`),
      ['kept /made', 'failed /made/new', 'failed /planted/deep/new'],
    )
    assert.deepEqual(readdirSync(site.at('outside')), ['deep', 'secret'])
  })

  test('a folder of the settings that is not there is not made', async () => {
    rmSync(allowed, { recursive: true })
    await assert.rejects(restoreTo(`${allowed}/deep`, honest(members)), { code: 'target-failed' })
    mkdirSync(allowed)
    await restoreTo(`${allowed}/new/folder`, honest(members))
    assert.equal(readFileSync(join(allowed, 'new/folder/etc/motd'), 'utf8'), 'hello\n')
  })

  const unsafe = ['../secret', '/etc/passwd', 'etc/../../x', '.', '..', 'a//b', 'a/', 'a\0b']
  for (const path of unsafe) {
    test(`the path ${JSON.stringify(path)} is refused`, async () => {
      const evil = { ...aFile('x', '').entry, path: path as BytePath }
      await refused(
        'message-malformed',
        allowed,
        instead('restore-entries', () => [entriesMessage([evil])]),
      )
    })
    test(`a hard link to ${JSON.stringify(path)} is refused`, async () => {
      const evil = entry('zzz', { ...self, type: 'hardlink', target: path as BytePath })
      await refused('message-malformed', allowed, (question) =>
        question.type === 'restore-entries' && question.types?.includes('hardlink')
          ? [entriesMessage([evil])]
          : honest(members)(question),
      )
    })
  }

  test('entries out of order, or twice, are refused, within a batch and between two', async () => {
    const [folder, hosts, motd] = selectEntries(members, null) as [Entry, Entry, Entry]
    const folders = [entry('b', { type: 'directory', ...self }), entry('a', { type: 'directory', ...self })]
    const malformed = (answer: Answer) => refused('message-malformed', allowed, answer)
    await malformed(instead('restore-entries', () => [entriesMessage(folders)]))
    await malformed(instead('restore-entries', () => [entriesMessage([folder, folder])]))
    await malformed(instead('restore-next', () => [entriesMessage([folder])]))
    await refused(
      'message-malformed',
      allowed,
      instead('restore-entries', () => [entriesMessage([folder, motd, hosts])]),
      { dryRun: true },
    )
    await malformed((question) =>
      question.type === 'restore-entries' && question.order === 'path-descending'
        ? [entriesMessage([...folders].reverse())]
        : honest(members)(question),
    )
  })

  test('entries of a type that was not asked for are refused', async () => {
    const link = entry('etc', { type: 'symlink', target: '/' as BytePath, ...self })
    await refused(
      'message-malformed',
      allowed,
      instead('restore-entries', () => [entriesMessage([link])]),
    )
  })

  const notEntries: Record<string, () => Message> = {
    'a batch without entries': () => entriesMessage([]),
    'the beginning of an archive': () =>
      indexMessage(encodeIndexBatch({ header, entries: [], gone: [], end: null })),
    noise: () => ({ type: 'entries', payload: Buffer.alloc(1000, 0xc3) }),
    'an index frame that holds noise': () => indexMessage(Buffer.alloc(1000, 0xc3)),
    'an index of 4 MiB': () => indexMessage(Buffer.alloc(4 * 1024 * 1024)),
  }
  for (const [name, message] of Object.entries(notEntries)) {
    test(`${name} in place of entries is refused`, async () => {
      await refused(
        'message-malformed',
        allowed,
        instead('restore-entries', () => [message()]),
      )
    })
  }

  test('content in place of entries, entries in place of content, and a second request are out of turn', async () => {
    const outOfTurn = (answer: Answer) => refused('message-out-of-turn', allowed, answer)
    await outOfTurn(instead('restore-entries', () => [frameMessage(Buffer.from('x'))]))
    await outOfTurn(instead('restore-entries', () => [{ type: 'content-missing', message: 'x' }]))
    await outOfTurn(instead('restore-content', () => [entriesEnd]))
    await outOfTurn(instead('restore-entries', () => [restoreRequestOf(host, allowed)]))
  })

  const badContents: Record<string, () => Message[]> = {
    'a byte more than the entry names': () => [frameMessage(Buffer.from('hosts\n+'))],
    'four MiB where six bytes are due': () => [frameMessage(Buffer.alloc(4 * 1024 * 1024))],
    'an empty frame': () => [frameMessage(Buffer.alloc(0))],
    noise: () => [{ type: 'frame', payload: Buffer.alloc(1000, 0xc3) }],
    'a frame that decompresses to 1 GiB': () => [{ type: 'frame', payload: bomb() }],
  }
  for (const [name, messages] of Object.entries(badContents)) {
    test(`${name} for the content of a file is refused, and leaves no file`, async () => {
      await refused('message-malformed', allowed, instead('restore-content', messages))
      assert.deepEqual(readdirSync(join(allowed, 'etc')), [])
    })
  }

  test('content without end is refused where it should have ended', async () => {
    const large = aFile('large', Buffer.alloc(10_000_000, 'x'))
    let sent = 0
    await refused('message-malformed', allowed, (question) => {
      if (question.type !== 'restore-content') return honest([large])(question)
      return Array.from({ length: 20 }, () => {
        sent++
        return frameMessage(Buffer.alloc(4_000_000, 'x'))
      })
    })
    assert.ok(sent > 3)
    assert.deepEqual(readdirSync(allowed), ['deep'])
  })

  test('content with another digest is damage: that file is not there, all else is', async () => {
    let asked = 0
    const { report, warnings } = await restoreTo(allowed, (question) =>
      question.type === 'restore-content' && asked++ === 0
        ? [frameMessage(Buffer.from('HOSTS\n'))]
        : honest(members)(question),
    )
    assert.deepEqual([report!.damaged, report!.restored.files], [1, 1])
    assert.deepEqual(
      warnings.map(({ code, path }) => [code, path]),
      [['damaged', '/etc/hosts']],
    )
    assert.match(warnings[0]!.message, /SHA-256 differs/)
    assert.deepEqual(readdirSync(join(allowed, 'etc')), ['motd'])
  })

  test('content that the server says it cannot read is damage, with its reason in one printable line', async () => {
    let asked = 0
    const { report, warnings } = await restoreTo(allowed, (question) =>
      question.type === 'restore-content' && asked++ === 0
        ? [frameMessage(Buffer.from('hos')), { type: 'content-missing', message: 'lost\n\x1b[2J' }]
        : honest(members)(question),
    )
    assert.deepEqual([report!.damaged, report!.restored.files], [1, 1])
    assert.equal(warnings[0]!.message, 'lost\ufffd\ufffd[2J')
  })

  test('the first name of a hard link that was not asked for is refused', async () => {
    const link = own(other('link', 'hardlink', { target: 'elsewhere' as BytePath }))
    await refused('message-malformed', allowed, (question) =>
      question.type === 'restore-firsts'
        ? [entriesMessage([entry('another', self)])]
        : honest([link])(question),
    )
  })

  test('a request for another host is refused', async () => {
    await refused('wrong-host', allowed, never, { host: 'web2' })
  })

  test('a host whose settings say nothing of restores takes none', async () => {
    const other = await site.addHost('web2')
    await other.start()
    const { welcome, channel } = await logIn(other)
    await channel.close()
    assert.deepEqual(welcome.policy.restore, [])
    for (const target of ['/', '/etc', allowed]) {
      await assert.rejects(restoreInProcess(other, restoreRequestOf(other, target), never), {
        code: 'policy-denied',
        message: 'the settings of this host do not allow to restore there',
      })
    }
  })
})

function indexMessage(batch: Uint8Array): Message {
  return { type: 'entries', payload: wrapSkippable(indexFrameMagic, compressFrame(batch)) }
}

/** A good frame whose header promises a gigabyte. */
function bomb(): Buffer {
  const frame = compressFrame(Buffer.alloc(1_000_000))
  const descriptor = 0xa4
  const size = Buffer.alloc(4)
  size.writeUInt32LE(2 ** 30)
  return Buffer.concat([frame.subarray(0, 4), Buffer.from([descriptor]), size, frame.subarray(9)])
}
