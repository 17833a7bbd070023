/**
 * Sessions of a server in which one thing is other than it should be, with a real agent: it gives nothing and writes
 * nothing but what its settings allow, each session ends, none is a bug of the agent, and it goes on serving.
 */
import assert from 'node:assert/strict'
import { mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { isWithin } from '@central-backup/archive'
import { bytes } from '../packages/archive/test/sample.ts'
import { converse } from './harness/lying-server.ts'
import { residentBytes } from './harness/measure.ts'
import { chooseMutations, describeMutation } from './harness/session-mutations.ts'
import { Site, type TestHost } from './harness/site.ts'
import { linesOf, readSnapshot } from './harness/snapshot.ts'
import { writeTree } from './harness/tree.ts'

/** Of each kind. */
const sessions = 10

const agentBytesMax = 400 * 1024 * 1024

describe('an agent whose server says one thing wrong', () => {
  let site: Site
  let host: TestHost
  let allowed: string
  before(async () => {
    site = await Site.create()
    allowed = site.at('allowed')
    host = await site.addHost('web1')
    mkdirSync(allowed)
    writeTree(site.at('outside'), { 'etc/hosts': 'not to be read, nor written to\n' })
    writeTree(site.tree('web1'), { 'etc/motd': 'hello\n', 'etc/hosts': 'hosts\n' })
    const settings = `read = ["${site.tree('web1')}"]\nrestore = ["${allowed}"]`
    host.configure((text) => text.replace('read = ["/"]', settings))
    await host.start()
  })
  after(() => site?.[Symbol.asyncDispose]())

  for (const kind of ['backup', 'restore'] as const) {
    test(`in a ${kind}: harms nobody`, async (t) => {
      const clear = () => {
        rmSync(allowed, { recursive: true, force: true })
        mkdirSync(allowed)
        symlinkSync(site.at('outside'), `${allowed}/etc2`)
      }
      clear()
      const { heard, said } = await converse(host, kind, allowed, null)
      assert.deepEqual([heard.code, heard.ended], [null, true], 'what is right ends well')
      // Without the folder itself, whose time changes with the allowed one.
      const besideAllowed = () =>
        linesOf(readSnapshot(site.folder, (name) => name === 'allowed'))
          .slice(1)
          .join('\n')
      const before = besideAllowed()
      const ends = new Map<string, number>()
      const readable = bytes(site.tree('web1').slice(1))
      for (const mutation of chooseMutations(1, sessions, said)) {
        clear()
        const logged = host.agent.log.length
        const { heard } = await converse(host, kind, allowed, mutation)
        const how = heard.code ?? (heard.ended ? 'ended well' : 'hung up')
        ends.set(how, (ends.get(how) ?? 0) + 1)
        const told = describeMutation(mutation)
        for (const path of heard.paths)
          assert.ok(isWithin(path, readable) || isWithin(readable, path), `${told}: it sent ${path}`)
        assert.equal(besideAllowed(), before, told)
        const bug = host.agent.log.slice(logged).find(({ stack }) => stack !== undefined)
        assert.equal(bug, undefined, `${told}: a bug of the agent: ${JSON.stringify(bug)}`)
      }
      const { heard: again } = await converse(host, kind, allowed, null)
      assert.equal(again.ended, true, 'it goes on serving')
      assert.ok(residentBytes(host.agent.pid) < agentBytesMax)
      t.diagnostic([...ends].map(([how, count]) => `${count} ${how}`).join(', '))
    })
  }
})
