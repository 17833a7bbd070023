/**
 * Clients that come in great numbers, or come and say nothing. None of them costs the agent anything that lasts, each is
 * hung up on in bounded time, and the agent goes on serving its server.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { authenticationMsMax, handshakeMsMax } from '@central-backup/protocol'
import { serverCredentials } from './harness/certificates.ts'
import { bytesOf, dialPlain, dialTls, hearOut, provoke } from './harness/dialer.ts'
import { helloOf, runInProcess } from './harness/in-process-run.ts'
import { openDescriptors, residentBytes } from './harness/measure.ts'
import { patienceMs } from './harness/program.ts'
import { Site, type TestHost } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

const mebibyte = 1024 * 1024

/** In four rounds. `npm run floods` tries 10,000; what is the same in all of them is so after some hundreds. */
const wrongPasswords = Number(process.env.WRONG_PASSWORDS ?? 1200)

/** What a deadline may be missed by on a busy machine. */
const latenessMs = 5_000

// Most of the time is spent waiting for deadlines of the agents.
describe('an agent', { concurrency: 3 }, () => {
  /** A site with one host whose agent is at work. */
  function makeSite(): { site(): Site; host(): TestHost } {
    let site: Site
    let host: TestHost
    before(async () => {
      site = await Site.create()
      host = await site.addHost('web1', { costlyPassword: true })
      writeTree(site.tree('web1'), { 'etc/motd': 'hello\n', 'srv/data': randomBytes(50_000) })
      await host.start()
      await requireService(site)
    })
    after(() => site?.[Symbol.asyncDispose]())
    return { site: () => site, host: () => host }
  }

  describe('that clients fall silent on', { concurrency: 1 }, () => {
    const { site, host } = makeSite()

    test('hangs up on each, wherever it was, and serves others until then', async () => {
      const server = serverCredentials(site())
      const hello = bytesOf(helloOf(site()))
      const { port } = host()
      const startedMs = performance.now()

      const plain = await dialPlain(port)
      const beginning = await dialPlain(port)
      beginning.write(Buffer.from('160301', 'hex'))
      const bare = [hearOut(plain), hearOut(beginning)].map(async (ended) => {
        assert.equal((await ended).length, 0)
        const tookMs = performance.now() - startedMs
        assert.ok(tookMs < handshakeMsMax + latenessMs, `after ${tookMs} ms`)
      })

      const silent = await dialTls(port, server)
      const greeted = await dialTls(port, server)
      greeted.write(hello)
      const halfway = await dialTls(port, server)
      halfway.write(hello.subarray(0, 7))
      const dripping = await dialTls(port, server)
      let drops = 0
      const tap = setInterval(() => dripping.write(hello.subarray(drops++, drops)), 900)
      const secured = [silent, greeted, halfway, dripping].map(async (socket) => {
        assert.equal(await provoke(socket), 'stalled')
        const tookMs = performance.now() - startedMs
        assert.ok(tookMs < authenticationMsMax + latenessMs, `after ${tookMs} ms`)
      })

      await requireService(site())
      await Promise.all([...bare, ...secured])
      clearInterval(tap)
      for (const [code, count] of [
        ['handshake-timeout', 2],
        ['stalled', 4],
      ] as const)
        await host().agent.until(
          () => host().agent.log.filter((line) => line.code === code).length === count || undefined,
          `${count} lines of ${code}`,
        )
      await requireService(site())
    })
  })

  describe('that holds more connections than it takes', { concurrency: 1 }, () => {
    const { site, host } = makeSite()

    test('hangs up on all of them, and serves its server after that', async () => {
      const sockets = await Promise.all(Array.from({ length: 100 }, () => dialPlain(host().port)))
      await Promise.all(sockets.map(hearOut))
      await requireService(site())
    })
  })

  describe('that is flooded', { concurrency: 1 }, () => {
    const { site, host } = makeSite()

    /** Does `round` four times; the agent's memory and descriptors are to be the same after the last as after the first. */
    async function staysFlat(round: () => Promise<void>): Promise<void> {
      const { pid } = host().agent
      const served = async () => {
        await round()
        await runInProcess(host())
      }
      await served()
      const descriptors = openDescriptors(pid)
      const resident = residentBytes(pid)
      for (let again = 0; again < 3; again++) await served()
      await until(
        () => openDescriptors(pid) <= descriptors,
        () => `${openDescriptors(pid)} descriptors, ${descriptors} before`,
      )
      // What is only garbage goes when the collector comes by.
      const grown = () => residentBytes(pid) - resident
      await until(
        () => grown() < 48 * mebibyte,
        () => `the agent has grown by ${grown()} bytes`,
      )
      await requireService(site())
    }

    test('with 1000 connections that go as soon as they came is left as it was', async () => {
      const startedMs = performance.now()
      const beginning = Buffer.from('1603010200010001fc0303', 'hex')
      await staysFlat(async () => {
        for (let batch = 0; batch < 5; batch++) {
          const sockets = await Promise.all(Array.from({ length: 50 }, () => dialPlain(host().port)))
          for (const [number, socket] of sockets.entries()) {
            if (number % 3 === 0) socket.write(beginning)
            if (number % 2 === 0) socket.resetAndDestroy()
            else socket.destroy()
          }
        }
      })
      const refusals = host().agent.log.filter(({ msg }) => msg?.startsWith('connection refused')).length
      // The minutes of the agent begin when it did.
      const minutes = Math.ceil((performance.now() - startedMs) / 60_000) + 1
      assert.ok(refusals > 0 && refusals <= 30 * minutes, `${refusals} lines in the log`)
    })

    test(`with ${wrongPasswords} wrong passwords tries few of them, and takes the next right one`, async () => {
      const server = serverCredentials(site())
      const hello = bytesOf(helloOf(site()))

      /** What the attempt was told; `dropped` where it was not let in, or has not waited. */
      const tryPassword = async (sockets: Socket[]): Promise<string> => {
        let socket: TLSSocket
        try {
          socket = await dialTls(host().port, server)
        } catch {
          return 'dropped'
        }
        sockets.push(socket)
        socket.on('error', () => {})
        const guess = bytesOf({ type: 'authenticate', password: `guess ${sockets.length}` })
        return (await provoke(socket, hello, guess)) ?? 'dropped'
      }

      const logLines = host().agent.log.length
      await staysFlat(async () => {
        const sockets: Socket[] = []
        const told: Record<string, number> = { busy: 0, dropped: 0, 'authentication-failed': 0 }
        const attempts = Array.from({ length: wrongPasswords / 4 }, async () => {
          const code = await tryPassword(sockets)
          told[code] = (told[code] ?? 0) + 1
          // Those that wait for their turn would wait ever longer.
          if (told['authentication-failed']! >= 2) for (const socket of sockets) socket.destroy()
        })
        await Promise.all(attempts)
        const failed = told['authentication-failed']!
        assert.ok(failed >= 2 && failed <= 4, JSON.stringify(told))
        assert.equal(told.busy! + told.dropped! + failed, wrongPasswords / 4, JSON.stringify(told))
      })
      const lines = host().agent.log.slice(logLines)
      const ofFailures = lines.filter(
        ({ level, msg }) => level === 'warn' && msg?.startsWith('session failed'),
      )
      // 30 of each quarter, as a right login comes in between, and perhaps of another minute.
      const count = ofFailures.length
      assert.ok(count > 0 && count <= wrongPasswords / 4, `${count} lines in the log`)
    })
  })
})

/** One run of the real server, which succeeds. */
async function requireService(site: Site): Promise<void> {
  const run = await site.run('web1')
  assert.equal(run.code, 0, run.stdout + run.stderr)
  assert.equal(run.ends.web1!.outcome, 'complete')
}

/** Waits until `condition` holds, looking again and again. */
async function until(condition: () => boolean, describeState: () => string): Promise<void> {
  const deadlineMs = performance.now() + patienceMs
  while (!condition()) {
    if (performance.now() > deadlineMs) assert.fail(describeState())
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
