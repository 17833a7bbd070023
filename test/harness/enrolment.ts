/** Enrolments: the programs, their insides in this process, which is quicker, and hosts and servers that lie. */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import {
  type CertificateRequest,
  Channel,
  channelBinding,
  createEnrolmentListener,
  dialEnrolment,
  enrolmentProof,
  type MessageOf,
  parseEnrolmentCode,
} from '@central-backup/protocol'
import argon2 from 'argon2'
import { loadConfiguration } from '../../packages/central-server/src/config/load.ts'
import {
  type EnrolledHost,
  enrollHost,
  planEnrollHost,
} from '../../packages/central-server/src/jobs/enroll-host.ts'
import { issueHostCertificate } from '../../packages/central-server/src/pki/certificate-request.ts'
import { readAuthority } from '../../packages/central-server/src/pki/folder.ts'
import { type Enrolled, Enrolment } from '../../packages/host-agent/src/enroll/enrolment.ts'
import { PendingKey } from '../../packages/host-agent/src/enroll/pending-key.ts'
import { createThrowawayCertificate } from '../../packages/host-agent/src/enroll/throwaway-certificate.ts'
import { readSettings } from '../../packages/host-agent/src/settings.ts'
import type { Ended, JsonLine, Program, StartOptions } from './program.ts'
import type { Site } from './site.ts'

/** `backup-host enroll --json` that waits. */
export interface WaitingHost {
  program: Program
  config: string
  port: number
  code: string
  /** The arguments of the line that it printed, after `backup-server`. */
  line: string[]
}

export function configOf(site: Site, name: string): string {
  return site.at('hosts', name, 'backup-host.toml')
}

export async function startEnroll(
  site: Site,
  name: string,
  args: readonly string[] = [],
  options: StartOptions = {},
): Promise<WaitingHost> {
  const config = configOf(site, name)
  const program = site.startAgent(
    ['--config', config, '--json', 'enroll', '--listen', '127.0.0.1:0', ...args],
    options,
  )
  const waiting: JsonLine = await program.untilPrinted(({ event }) => event === 'waiting')
  const line = String(waiting.line).split(' ').slice(1)
  const port = Number(/:(\d+)$/.exec((waiting.addresses as string[])[0]!)![1])
  return { program, config, port, code: String(waiting.code), line }
}

/** The error that a program ended with. */
export function errorOf({ json }: Ended): { code: string; message: string; hint: string } {
  const line = json.find(({ error }) => error !== undefined)
  assert.ok(line, 'an error as JSON')
  return line.error as { code: string; message: string; hint: string }
}

export interface LocalHost {
  enrolment: Enrolment
  port: number
  secret: Buffer
  config: string
  refused: string[]
}

/** A host that waits, in this process. Whoever started it closes its `enrolment`. */
export async function waitInProcess(
  site: Site,
  name: string,
  over: { now?: () => number; validMs?: number } = {},
): Promise<LocalHost> {
  const config = configOf(site, name)
  const key = await PendingKey.take(config, process.geteuid!(), false)
  const refused: string[] = []
  const enrolment = new Enrolment(key, {
    settingsFile: config,
    listen: { address: '127.0.0.1', port: 0 },
    validMs: 600_000,
    force: false,
    now: Date.now,
    onRefused: (message) => refused.push(message),
    ...over,
  })
  const port = await enrolment.listen()
  return { enrolment, port, secret: parseEnrolmentCode(enrolment.code)!, config, refused }
}

/** `host enroll` in this process. */
export async function enrollInProcess(
  site: Site,
  name: string,
  port: number,
  secret: Buffer,
  replaces = false,
): Promise<EnrolledHost> {
  const configuration = await loadConfiguration(site.home, { environment: {}, uid: process.geteuid!() })
  const request = { name, address: '127.0.0.1', port, paths: ['/etc'], exclude: [] }
  const plan = await planEnrollHost(configuration, request, replaces)
  return enrollHost(plan, secret, { now: Date.now, signal: new AbortController().signal })
}

/** What the server knows of a host: the files of it that are there. */
export function serverFiles(site: Site, name: string): string[] {
  const paths = {
    certificate: `certs/hosts/${name}.crt`,
    secret: `secrets/${name}`,
    module: `hosts/${name}.ts`,
  }
  return Object.entries(paths).flatMap(([what, path]) => (existsSync(join(site.home, path)) ? [what] : []))
}

/** What is in the folder of a host. */
export function hostFiles(config: string): string[] {
  const folder = join(config, '..')
  return existsSync(folder) ? readdirSync(folder).sort() : []
}

export const wholeHost = ['backup-host.toml', 'ca.crt', 'host.crt', 'host.key']

/** Fails unless both sides have the same host, whose files are private and go together; also its password, where asked. */
export async function requireEnrolled(
  site: Site,
  name: string,
  config: string,
  checksPassword = true,
): Promise<void> {
  assert.deepEqual(hostFiles(config), wholeHost)
  assert.deepEqual(serverFiles(site, name), ['certificate', 'secret', 'module'])
  const settings = readSettings(config)
  assert.equal(settings.name, name)
  assert.equal(
    readFileSync(settings.tls.certificate, 'utf8'),
    readFileSync(join(site.home, 'certs/hosts', `${name}.crt`), 'utf8'),
  )
  for (const file of wholeHost) assert.equal(lstatSync(join(config, '..', file)).mode & 0o777, 0o600)
  if (!checksPassword) return
  const password = readFileSync(join(site.home, 'secrets', name), 'utf8').trim()
  assert.ok(await argon2.verify(settings.passwordHash, password))
}

/** What a fake host does after the TLS handshake; what it throws ends the connection without a word. */
export type HostScript = (channel: Channel, binding: Buffer, socket: TLSSocket) => Promise<void>

/** A host that waits for its enrolment and then does what a test wants. */
export class FakeHost implements AsyncDisposable {
  /** How often somebody has connected. */
  connections = 0
  readonly #listener: Server
  readonly #sockets = new Set<TLSSocket>()

  private constructor(script: HostScript) {
    this.#listener = createEnrolmentListener(createThrowawayCertificate(Date.now()), {
      admit: () => ({ closed: () => {} }),
      onConnection: (socket) => {
        this.connections++
        this.#sockets.add(socket)
        const channel = new Channel(socket)
        script(channel, channelBinding(socket), socket).catch(() => channel.destroy())
      },
      onRefused: () => {},
    })
  }

  static async start(script: HostScript): Promise<FakeHost> {
    const host = new FakeHost(script)
    host.#listener.listen(0, '127.0.0.1')
    await once(host.#listener, 'listening')
    return host
  }

  get port(): number {
    return (this.#listener.address() as AddressInfo).port
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#listener, 'close')
    this.#listener.close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }
}

/** The first two messages of a host that has the code, or some other secret. */
export async function proveAsHost(channel: Channel, binding: Buffer, secret: Buffer): Promise<void> {
  const proof = enrolmentProof(secret, 'host', binding)
  await channel.send({ type: 'enrolment-proof', software: 'fake-host 1', proof })
  await channel.receive(['enrolment-proof'])
}

export interface FakeServer {
  channel: Channel
  binding: Buffer
  socket: TLSSocket
}

/** A connection to a host that waits, on which nothing was said yet. */
export async function dialHost(port: number): Promise<FakeServer> {
  const socket = await dialEnrolment({ host: '127.0.0.1', port })
  return { socket, channel: new Channel(socket), binding: channelBinding(socket) }
}

/** One whose host has sent its request. */
export async function dialAndProve(port: number, secret: Buffer) {
  const server = await dialHost(port)
  const { channel, binding } = server
  await channel.receive(['enrolment-proof'])
  const proof = enrolmentProof(secret, 'server', binding)
  await channel.send({ type: 'enrolment-proof', software: 'fake-server 1', proof })
  return { ...server, request: await channel.receive(['enrolment-request']) }
}

/** A grant as the site's own server makes it, with what a test wants to be different. */
export async function makeGrant(
  site: Site,
  name: string,
  { request, binding }: { request: CertificateRequest; binding: Buffer },
  over: Partial<MessageOf<'enrolment-grant'>> = {},
): Promise<MessageOf<'enrolment-grant'>> {
  const authority = await readAuthority(join(site.home, 'certs'))
  const certificate = await issueHostCertificate(authority, name, request, binding, Date.now())
  return {
    type: 'enrolment-grant',
    name,
    certificate: new X509Certificate(certificate).raw,
    authorities: [new X509Certificate(authority.certificate).raw],
    password: 'a password of a test',
    ...over,
  }
}

/** Closes what waits, and keeps quiet that it came to nothing. */
export async function giveUp({ enrolment }: LocalHost): Promise<Enrolled | null> {
  await enrolment.close(new Error('the test is over'))
  return enrolment.ended.catch(() => null)
}
