/** Whoever reads archives of a host holds retention off, and the run beside it says so. */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { Catalog } from '../packages/central-server/src/catalog/catalog.ts'
import { findReader, holdForReading } from '../packages/central-server/src/catalog/read-lease.ts'
import { Site } from './harness/site.ts'
import { writeTree } from './harness/tree.ts'

test('a run warns that retention was put off while a restore to a host reads, and the next makes up for it', async (context) => {
  await using site = await Site.create()
  const host = await site.addHost('web1')
  const folder = site.at('restored')
  mkdirSync(folder)
  host.configure((text) =>
    text.replace('read = ["/"]', `read = ["/"]\nrestore = [${JSON.stringify(folder)}]`),
  )
  host.changeModule((text) => text.replace(/ {2}paths:/, '  retention: { last: 1 },\n  paths:'))
  writeTree(site.tree('web1'), { a: 'a' })
  await host.start()
  assert.equal((await site.run()).code, 0)
  using catalog = new Catalog(join(site.repository, 'catalog.sqlite'))

  // What stands between the server and the agent looks who reads when a session begins.
  const seen: (string | null)[] = []
  const agentPort = host.port
  const proxy = createServer((socket) => {
    seen.push(findReader(catalog, 'web1'))
    const onward = connect(agentPort, '127.0.0.1')
    socket.pipe(onward).pipe(socket)
    for (const end of [socket, onward]) {
      end.on('error', () => {
        socket.destroy()
        onward.destroy()
      })
    }
  }).listen(0, '127.0.0.1')
  context.after(() => proxy.close())
  await new Promise((resolve) => proxy.once('listening', resolve))
  host.setPort((proxy.address() as AddressInfo).port)
  const restored = await site.server('restore', 'web1', '--to-host', '--target', folder)
  assert.equal(restored.code, 0, restored.stderr)
  assert.match(seen[0] ?? 'nobody', /^process \d+ reads its archives/)
  assert.equal(findReader(catalog, 'web1'), null)

  {
    using _reading = holdForReading(catalog, ['web1'])
    const run = await site.run()
    assert.deepEqual([run.code, run.ends.web1!.outcome], [0, 'complete'], run.stderr)
    assert.deepEqual(
      run.warnings.map(({ code }) => code),
      ['retention-put-off'],
    )
    assert.match(
      String(run.warnings[0]!.message),
      /^nothing is removed: process \d+ reads its archives since /,
    )
    assert.equal(catalog.runs('web1').length, 2)
  }
  const next = await site.run()
  assert.deepEqual(next.warnings, [])
  assert.equal(catalog.runs('web1').length, 1)
})
