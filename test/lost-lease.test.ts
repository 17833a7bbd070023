/** Two servers that both believe that a host is theirs: one was stopped for so long that the other took its lease over. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { Catalog } from '../packages/central-server/src/catalog/catalog.ts'
import { FakeAgent } from './harness/fake-agent.ts'
import { honestPack, messagesOf } from './harness/pack.ts'
import { Site } from './harness/site.ts'

test('a run whose lease was lost leaves no archive, and the next one goes on from what came', async () => {
  await using site = await Site.create()
  const host = await site.addHost('web1', { withoutAgent: true })
  await using agent = await FakeAgent.start(host)
  let taken = false
  agent.script = async ({ channel, request, archive }) => {
    await channel.send({ type: 'archive-name', name: archive })
    const messages = messagesOf(honestPack(request))
    for (const message of messages) {
      if (message.type === 'summary' && taken) {
        using catalog = new Catalog(join(site.repository, 'catalog.sqlite'))
        catalog.database.prepare('DELETE FROM leases').run()
      }
      await channel.send(message)
    }
    const { digest, archiveBytes } = await channel.receive(['stored'])
    assert.ok(digest.length === 32 && archiveBytes > 0)
    await channel.send({ type: 'finished', localCopy: null })
  }
  const first = await site.run()
  assert.equal(first.ends.web1!.outcome, 'complete', first.stderr)
  taken = true
  const second = await site.run()
  assert.equal(second.ends.web1!.outcome, 'failed')
  assert.equal(second.ends.web1!.error!.code, 'lease-lost')
  assert.equal(site.archives('web1').length, 1)
  taken = false
  const third = await site.run()
  assert.deepEqual(
    [third.ends.web1!.outcome, third.ends.web1!.kind],
    ['complete', 'incremental'],
    third.stderr,
  )
  assert.equal(site.archives('web1').length, 3)
  const rebuilt = await site.server('catalog', 'rebuild')
  assert.equal(rebuilt.code, 0, rebuilt.stdout)
})
