/**
 * Sessions of an agent in which one thing is other than it should be: a few here, all of them and millions of bytes with
 * `npm run fuzz -- --only sessions`.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { chooseMutations, LyingHosts, systematicMutations } from './harness/session-mutations.ts'
import { Site } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

const liars = 6

describe('a session with a mutation', () => {
  let site: Site
  let hosts: LyingHosts
  before(async () => {
    site = await Site.create({ settings: `connection: { attempts: 1 }, concurrency: ${liars + 1},` })
    const honest = await site.addHost('honest')
    writeTree(site.tree('honest'), { 'etc/motd': 'hello\n' })
    await honest.start()
    hosts = await LyingHosts.create(site, liars)
  })
  after(async () => {
    await hosts?.[Symbol.asyncDispose]()
    await site?.[Symbol.asyncDispose]()
  })

  test('there is one for each field of each message', () => {
    const places = new Set(
      systematicMutations().flatMap((one) =>
        'place' in one ? [`${one.message} ${one.place.join('.')}`] : [],
      ),
    )
    assert.ok(places.size > 150, `${places.size} fields`)
  })

  test('harms nobody but its own host', async (t) => {
    const report = await hosts.tell(
      chooseMutations(Number(process.env.SEED ?? 1), Number(process.env.N ?? 48)),
      {
        serverBytesMax: 400 * 1024 * 1024,
        runMsMax: 60_000,
      },
    )
    const ends = [...report.ends].sort().map(([how, count]) => `${count} ${how}`)
    t.diagnostic(`${report.sessions} sessions: ${ends.join(', ')}; peak ${report.peakBytes >> 20} MiB`)
    await hosts.checkWhatWasBelieved()
  })
})
