/** A run without backup-server: the least that a server says to get an archive, against a real agent. */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { ArchiveAssembly } from '@central-backup/archive'
import {
  Channel,
  dial,
  identityFromAltNames,
  type Message,
  type MessageOf,
  protocolVersion,
} from '@central-backup/protocol'
import { serverCredentials } from './certificates.ts'
import type { Site, TestHost } from './site.ts'

/** What the site's server says first. */
export function helloOf(site: Site): Message {
  const { name } = identityFromAltNames(new X509Certificate(serverCredentials(site).cert).subjectAltName)
  return { type: 'hello', protocol: protocolVersion, software: 'a test 1', role: 'server', name }
}

export function authenticationOf(host: TestHost): Message {
  return { type: 'authenticate', password: readFileSync(host.secret, 'utf8').trim() }
}

/** A request for a full backup of the host's own tree. */
export function requestOf(host: TestHost, fields: Partial<MessageOf<'backup'>> = {}): Message {
  return {
    type: 'backup',
    host: host.name,
    paths: [Buffer.from(host.site.tree(host.name))],
    exclude: [],
    kind: 'full',
    base: null,
    startedAtMs: Date.now(),
    ...fields,
  }
}

/** Backs the host up; fails where the agent does not send a whole archive that is complete. */
export async function runInProcess(host: TestHost): Promise<void> {
  const expect = { role: 'host', name: host.name } as const
  const socket = await dial({
    ...serverCredentials(host.site),
    host: '127.0.0.1',
    port: host.port,
    expect,
  })
  const channel = new Channel(socket)
  await channel.send(helloOf(host.site))
  await channel.receive(['hello'])
  await channel.send(authenticationOf(host))
  await channel.receive(['welcome'])
  await channel.send(requestOf(host))
  await channel.receive(['archive-name'])
  const assembly = new ArchiveAssembly()
  for (;;) {
    const message = await channel.receive(['frame', 'entries', 'warning', 'progress', 'summary'])
    if (message.type === 'frame') assembly.addFrame(message.payload)
    if (message.type === 'entries') assembly.addIndex(message.payload)
    if (message.type !== 'summary') continue
    const { digest, archiveBytes } = assembly.finish()
    assert.equal(message.outcome, 'complete')
    assert.deepEqual(message.digest, digest)
    await channel.send({ type: 'stored', digest, archiveBytes })
    await channel.receive(['finished'])
    await channel.close()
    return
  }
}
