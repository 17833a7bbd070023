/** What a host may have of the server, and a server of a host: room, time, speed, number. With the real programs. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { describe, test } from 'node:test'
import type { Channel } from '@central-backup/protocol'
import { FakeAgent } from './harness/fake-agent.ts'
import { Mount } from './harness/mount.ts'
import { encodeIndex, honestPack, sending } from './harness/pack.ts'

import { Site } from './harness/site.ts'
import { noise, writeTree } from './harness/tree.ts'

const isRoot = process.geteuid!() === 0
const mebibyte = 1024 * 1024

/** Files that no compression makes smaller. */
function files(count: number, bytes: number): Record<string, Buffer> {
  return Object.fromEntries(
    Array.from({ length: count }, (_, i) => [`srv/file${i}`, noise(bytes, `file ${i} of ${bytes}`)]),
  )
}

function bytesOf(paths: readonly string[]): number {
  return paths.reduce((sum, path) => sum + statSync(path).size, 0)
}

describe('a host', { concurrency: 2 }, () => {
  test('that sends more than one archive may hold is cut there, and the next run goes on', async () => {
    await using site = await Site.create()
    site.configure(`connection: { attempts: 1 }, defaults: { maxArchiveBytes: '20 MiB' },`)
    const host = await site.addHost('web1')
    writeTree(site.tree('web1'), files(18, 2 * mebibyte))
    await host.start()
    const first = await site.run()
    assert.equal(first.code, 3, first.stderr)
    const { outcome, error } = first.ends.web1!
    assert.deepEqual([outcome, error!.code], ['incomplete', 'quota-exceeded'])
    assert.match(error!.message, /larger than the 20971520 bytes that web1 may have in one/)
    assert.ok(bytesOf(site.archives('web1')) < 21 * mebibyte)
    const further = [await site.run(), await site.run()]
    assert.equal(further.at(-1)!.code, 0, further.at(-1)!.stderr)
    assert.equal(further.at(-1)!.ends.web1!.outcome, 'complete')
    assert.equal((await site.server('verify', 'web1')).code, 0)
  })

  test('that has used up its room keeps what it has, and gets no more', async () => {
    await using site = await Site.create()
    const host = await site.addHost('web1')
    host.changeModule((text) => text.replace('paths:', `maxHostBytes: '12 MiB',\n  paths:`))
    writeTree(site.tree('web1'), files(18, mebibyte))
    // What is due to go from the trash goes before the host is refused.
    const old = `${site.repository}/trash/web1/2026-01-01T030000Z-full.tar.zst`
    mkdirSync(dirname(old), { recursive: true })
    writeFileSync(old, Buffer.alloc(13 * mebibyte))
    utimesSync(old, 1_767_236_400, 1_767_236_400)
    await host.start()
    const first = await site.run()
    assert.ok(!existsSync(old))
    assert.deepEqual(
      [first.code, first.ends.web1!.outcome, first.ends.web1!.error!.code],
      [3, 'incomplete', 'quota-exceeded'],
    )
    const kept = site.files('web1')
    const runs: unknown[] = []
    for (let more = 0; more < 2; more++) {
      const { code, ends } = await site.run()
      runs.push([code, ends.web1!.outcome, ends.web1!.error!.code])
    }
    // What the first left room for may still come; then nothing does.
    assert.deepEqual(runs.at(-1), [1, 'failed', 'quota-exceeded'])
    assert.ok(bytesOf(site.archives('web1')) < 13 * mebibyte)
    assert.deepEqual(site.files('web1').slice(0, kept.length), kept)
    assert.deepEqual(site.partials('web1'), [])
  })

  test('that takes its time is ended, what came is kept, and the next run goes on', async () => {
    await using site = await Site.create()
    const host = await site.addHost('web1', { withoutAgent: true })
    host.changeModule((text) => text.replace('paths:', `maxRunTime: '3 s',\n  paths:`))
    await using agent = await FakeAgent.start(host)
    // What it packs comes, and then progress without end.
    agent.script = async ({ channel, archive, request }) => {
      await channel.send({ type: 'archive-name', name: archive })
      const { frames, header, entries: packed } = honestPack(request)
      for (const payload of frames) await channel.send({ type: 'frame', payload })
      await channel.send({ type: 'entries', payload: encodeIndex(header, packed, null) })
      channel.ended.addEventListener('abort', () => clearInterval(timer))
      let entries = 0
      const timer = setInterval(() => {
        channel
          .send({ type: 'progress', phase: 'pack', entries: ++entries, contentBytes: 0, path: null })
          .catch(() => {})
      }, 50)
    }
    const { code, ends } = await site.run()
    assert.equal(code, 3)
    const { outcome, error, finishedAtMs, startedAtMs } = ends.web1!
    assert.equal(error!.code, 'time-limit')
    assert.equal(error!.message, 'the run was not over after 3 s')
    assert.equal(outcome, 'incomplete')
    assert.ok(finishedAtMs - startedAtMs >= 3000)
    assert.equal(site.archives('web1').length, 1)
  })

  test('that takes its time for a dry run or a restore is left when a run would have been over', async () => {
    await using site = await Site.create()
    const host = await site.addHost('web1', { withoutAgent: true })
    await using agent = await FakeAgent.start(host)
    agent.script = sending()
    assert.equal((await site.run()).code, 0)
    host.changeModule((text) => text.replace('paths:', `maxRunTime: '1 s',\n  paths:`))
    const advanceForEver = (channel: Channel, phase: 'pack' | 'files') => {
      let entries = 0
      const tell = () =>
        channel
          .send({ type: 'progress', phase, entries: ++entries, contentBytes: 0, path: null })
          .catch(() => {})
      const timer = setInterval(tell, 50)
      channel.ended.addEventListener('abort', () => clearInterval(timer))
    }
    agent.listing = async (channel) => advanceForEver(channel, 'pack')
    agent.restoring = async (channel) => advanceForEver(channel, 'files')
    const [listed, restored] = await Promise.all([
      site.server('--json', 'run', '--dry-run', 'web1'),
      site.server('--json', 'restore', 'web1', '--to-host', '--target', '/srv/restored'),
    ])
    const errors = [listed, restored].map(
      ({ json }) => json.at(-1) as unknown as { error: { code: string; message: string } },
    )
    assert.deepEqual(
      errors.map(({ error }) => [error.code, error.message]),
      [
        ['time-limit', 'the dry run was not over after 1 s'],
        ['time-limit', 'the restore was not over after 1 s'],
      ],
      listed.stdout + restored.stdout,
    )
    assert.deepEqual([listed.code, restored.code], [1, 1])
  })
})

describe('an agent', { concurrency: 2 }, () => {
  test('sends no faster than its settings say, whatever the server asks for', async () => {
    await using site = await Site.create()
    const host = await site.addHost('web1', { settings: `[limits]\nbytes_per_second = ${2 * mebibyte}` })
    host.changeModule((text) => text.replace('paths:', `maxRate: '1 GB',\n  paths:`))
    writeTree(site.tree('web1'), files(6, mebibyte))
    await host.start()
    const fast = await site.run('--full')
    const took = ({ startedAtMs, finishedAtMs }: { startedAtMs: number; finishedAtMs: number }) =>
      finishedAtMs - startedAtMs
    assert.equal(fast.code, 0, fast.stderr)
    // 6 MiB at 2 MiB/s, of which the first second is a credit.
    assert.ok(took(fast.ends.web1!) >= 1900, `${took(fast.ends.web1!)} ms`)
    host.changeModule((text) => text.replace('1 GB', '1536K'))
    const slow = await site.run('--full')
    assert.ok(took(slow.ends.web1!) >= 2900, `${took(slow.ends.web1!)} ms`)
  })

  test('sends no faster than its settings say by several sessions at once, be it listings', async () => {
    await using site = await Site.create()
    const host = await site.addHost('web1', { settings: `[limits]\nbytes_per_second = ${64 * 1024}` })
    const names = Array.from({ length: 2000 }, () => randomBytes(20).toString('hex'))
    writeTree(site.tree('web1'), Object.fromEntries(names.map((name) => [name, ''])))
    await host.start()
    const runs = [1, 2].map(() => site.server('run', '--dry-run'))
    for (const { code, stderr } of await Promise.all(runs)) assert.equal(code, 0, stderr)
    const ends = () => host.agent.log.filter(({ msg }) => /^session (ended|failed)/.test(msg!))
    const [, last] = await host.agent.until(() => (ends().length === 2 ? ends() : undefined), 'both ends')
    assert.equal(last!.msg, 'session ended: check complete')
    // Some 120 KiB each, of which 64 are a credit. One alone would take a second.
    assert.ok(Number(last!.seconds) >= 1.8, `${last!.seconds} s`)
  })

  test('is not backed up more often than its settings say', async () => {
    await using site = await Site.create()
    const host = await site.addHost('web1', { settings: `[limits]\nruns_per_hour = 2` })
    writeTree(site.tree('web1'), { file: 'x' })
    await host.start()
    for (let run = 0; run < 2; run++) assert.equal((await site.run()).code, 0)
    assert.equal((await site.server('run', '--dry-run')).code, 0, 'to look costs nothing')
    const { code, ends } = await site.run()
    assert.equal(code, 13)
    assert.match(
      ends.web1!.error!.message,
      /was backed up 2 times within an hour, and may not be again for \d+ min/,
    )
  })
})

describe('the free space of the repository', () => {
  test('is kept: a run that comes to it leaves nothing, and others go on', {
    skip: !isRoot && 'only root mounts',
  }, async () => {
    using mount = Mount.tmpfs('size=64m')
    const settings = `connection: { attempts: 1 }, concurrency: 1, minFree: '40 MiB',`
    await using site = await Site.create({ repository: `${mount.path}/repository`, settings })
    const large = await site.addHost('large')
    const small = await site.addHost('small')
    writeTree(site.tree('large'), files(48, mebibyte))
    writeTree(site.tree('small'), files(1, mebibyte))
    await large.start()
    await small.start()
    const { code, ends } = await site.run()
    assert.equal(code, 1)
    assert.deepEqual([ends.large!.outcome, ends.large!.error!.code], ['failed', 'disk-full'])
    assert.match(ends.large!.error!.message, /only \d+ MiB are free, and 40 MiB are to stay free/)
    assert.deepEqual(site.files('large'), [])
    assert.equal(ends.small!.outcome, 'complete')
    site.configure(`connection: { attempts: 1 }, minFree: '99 %',`)
    const before = await site.run('small')
    assert.deepEqual([before.code, before.ends.small!.error!.code], [1, 'disk-full'])
    assert.equal((await site.server('list', 'small')).code, 0)
  })
})
