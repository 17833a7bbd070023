import type { AddressInfo, Server } from 'node:net'
import type { TLSSocket } from 'node:tls'
import {
  Channel,
  channelBinding,
  createEnrolmentCode,
  createEnrolmentListener,
  enrolmentProof,
  enrolmentProofMsMax,
  enrolmentStepMsMax,
  formatEnrolmentCode,
  isEnrolmentProof,
  PeerError,
  ProtocolError,
} from '@central-backup/protocol'
import { AgentError, EnrolmentError } from '../errors.ts'
import { requestCertificate } from '../host-key.ts'
import { initialize, refuseExistingSetup } from '../init.ts'
import type { ListenAddress } from '../settings-schema.ts'
import { software } from '../version.ts'
import { joinAddress } from './addresses.ts'
import { EnrolmentGate } from './gate.ts'
import { readGrant } from './grant.ts'
import type { PendingKey } from './pending-key.ts'
import { createThrowawayCertificate } from './throwaway-certificate.ts'

export interface EnrolmentOptions {
  /** Where the settings go; key and certificates go beside them. An absolute path. */
  settingsFile: string
  /** Where to listen, now and as an agent later. */
  listen: ListenAddress
  /** How long the code is good. */
  validMs: number
  /** Replace settings that are there. */
  force: boolean
  /** Milliseconds since 1970. */
  now: () => number
  /** Told of each connection that came to nothing. There may be many: anybody can cause them. */
  onRefused: (message: string) => void
}

/** What has become of this machine. */
export interface Enrolled {
  /** The name that the server gave it. */
  name: string
  /** What was written: absolute paths. */
  files: string[]
  /** The address that the server came from. */
  server: string
}

/** A connection whose other side has proven to know the code. */
interface Conversation {
  channel: Channel
  ended: Promise<void>
}

/**
 * A host that waits for a server which knows its code. It listens until one has enrolled it, the time is over, or it is
 * closed. Connections that come to nothing, those that break in the middle included, change nothing of that: the code stays
 * good, so that the same line can be run again.
 */
export class Enrolment {
  /** As a person gets to see it. */
  readonly code: string
  /** Resolves when this host is enrolled; rejects with an `EnrolmentError`, or the reason of `close`. */
  readonly ended: Promise<Enrolled>
  readonly #options: EnrolmentOptions
  readonly #key: PendingKey
  readonly #secret = createEnrolmentCode()
  readonly #gate = new EnrolmentGate()
  readonly #outcome = Promise.withResolvers<Enrolled>()
  readonly #closing = new AbortController()
  /** Aborted with `#closing`, and before that when the time is over, which ends no conversation that has begun. */
  readonly #expiry = new AbortController()
  readonly #deadline: { monotonicMs: number; clockMs: number }
  readonly #timer: NodeJS.Timeout
  #listener: Server | null = null
  #port = 0
  /** The newest; it waits for the end of the one before it. */
  #conversation: Conversation | null = null
  #hasWritten = false
  #isDone = false

  constructor(key: PendingKey, options: EnrolmentOptions) {
    this.#key = key
    this.#options = options
    this.code = formatEnrolmentCode(this.#secret)
    this.ended = this.#outcome.promise
    // It may be rejected before anybody listens.
    this.ended.catch(() => {})
    const { validMs, now } = options
    // Both, as the one stands still while a machine sleeps, and the other can be set.
    this.#deadline = { monotonicMs: performance.now() + validMs, clockMs: now() + validMs }
    this.#timer = setTimeout(() => this.#expire(), validMs)
  }

  /** Whether files were written, or have begun to be: the server may take this host for enrolled already. */
  get hasWritten(): boolean {
    return this.#hasWritten
  }

  /** Begins to listen. Returns the port. Throws the system's error where it cannot. */
  async listen(): Promise<number> {
    const listener = createEnrolmentListener(createThrowawayCertificate(this.#options.now()), {
      admit: (address) => {
        return this.#gate.enter(address) ? { closed: () => this.#gate.leave(address) } : null
      },
      onConnection: (socket) => void this.#serve(socket),
      onRefused: (error, address) => this.#refused(error, address),
    })
    this.#listener = listener
    const { address, port } = this.#options.listen
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject)
      listener.listen({ host: address, port }, resolve)
    })
    // Like too many open files: the next connection may come through.
    listener.on('error', (error) =>
      this.#options.onRefused(`A connection cannot be accepted: ${error.message}`),
    )
    this.#port = (listener.address() as AddressInfo).port
    return this.#port
  }

  /**
   * Ends it, with all connections; `ended` rejects with `reason`, unless the host is enrolled. Waits for what is being
   * written.
   */
  async close(reason: Error): Promise<void> {
    clearTimeout(this.#timer)
    this.#listener?.close()
    this.#outcome.reject(reason)
    const told = new ProtocolError('cancelled', 'backup-host does not wait for its enrolment any more')
    this.#expiry.abort(told)
    this.#closing.abort(told)
    await this.#conversation?.ended
  }

  async #serve(socket: TLSSocket): Promise<void> {
    const address = socket.remoteAddress ?? 'unknown'
    const channel = new Channel(socket, { signal: this.#closing.signal })
    let isProven = false
    try {
      const binding = channelBinding(socket)
      await this.#requireProof(channel, binding, address)
      isProven = true
      await this.#takeTurn(channel, () => this.#enrol(channel, binding, address))
    } catch (error) {
      this.#refused(isProven ? error : withoutTheirWords(error), address)
      await channel.fail(toldError(error))
      this.#endIfOver()
    }
  }

  /** This side proves first: a server that has another code then says nothing of it, and cannot burn an attempt. */
  async #requireProof(channel: Channel, binding: Buffer, address: string): Promise<void> {
    const expire = () => void channel.fail(this.#expiry.signal.reason)
    this.#expiry.signal.addEventListener('abort', expire, { signal: channel.ended })
    const mine = enrolmentProof(this.#secret, 'host', binding)
    await channel.send({ type: 'enrolment-proof', software, proof: mine })
    const { proof } = await channel.receive(['enrolment-proof'], { timeoutMs: enrolmentProofMsMax })
    this.#expiry.signal.removeEventListener('abort', expire)
    if (this.#isOver()) throw expired()
    if (isEnrolmentProof(proof, this.#secret, 'server', binding)) return
    this.#gate.fail(address)
    throw new ProtocolError('enrolment-code-wrong')
  }

  /**
   * One conversation at a time. A newer one ends the older: it was proven to be of the same server, which has lost the
   * older connection, be it that this side has not noticed yet.
   */
  async #takeTurn(channel: Channel, work: () => Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const before = this.#conversation
    const mine = { channel, ended: promise }
    this.#conversation = mine
    try {
      void before?.channel.fail(new ProtocolError('cancelled', 'a newer connection has taken its place'))
      await before?.ended
      if (this.#isDone) throw used()
      await work()
    } finally {
      if (this.#conversation === mine) this.#conversation = null
      resolve()
    }
  }

  async #enrol(channel: Channel, binding: Buffer, address: string): Promise<void> {
    const { key } = this.#key
    const { now, listen, settingsFile } = this.#options
    await channel.send({ type: 'enrolment-request', ...requestCertificate(key, binding), atMs: now() })
    const grant = await channel.receive(['enrolment-grant'], { timeoutMs: enrolmentStepMsMax })
    const setup = readGrant(grant, key, now())
    if (!this.#mayReplace) await refuseExistingSetup(settingsFile)
    this.#hasWritten = true
    const files = await initialize(setup, {
      settingsFile,
      force: true,
      listen: joinAddress(listen.address, this.#port),
    })
    await channel.send({ type: 'enrolment-ready' })
    await channel.receive(['enrolment-done'], { timeoutMs: enrolmentStepMsMax })
    this.#isDone = true
    this.#listener!.close()
    try {
      await this.#key.remove()
      await this.#sendLastWord(channel)
      this.#outcome.resolve({ name: setup.name, files, server: address })
    } catch (error) {
      this.#outcome.reject(error)
      throw error
    }
  }

  /** The server hangs up as soon as it has read it; and it does not matter any more. */
  async #sendLastWord(channel: Channel): Promise<void> {
    try {
      await channel.send({ type: 'enrolment-end' })
      await channel.close()
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
    }
  }

  /** What is there is of this enrolment, or may go. */
  get #mayReplace(): boolean {
    return this.#options.force || this.#key.isResumed || this.#hasWritten
  }

  #refused(error: unknown, address: string): void {
    const { message } = error as Error
    const whose = error instanceof PeerError ? 'the other side says: ' : ''
    this.#options.onRefused(`A connection from ${address} came to nothing: ${whose}${message}`)
  }

  #isOver(): boolean {
    const { monotonicMs, clockMs } = this.#deadline
    return performance.now() >= monotonicMs || this.#options.now() >= clockMs
  }

  #expire(): void {
    this.#listener?.close()
    this.#expiry.abort(expired())
    this.#endIfOver()
  }

  /** When nobody can enrol this host any more. */
  #endIfOver(): void {
    const hint = 'Run this again for a new code.'
    if (this.#gate.isVoid) {
      const strangers = 'somebody has tried wrong codes, so often that this one is void'
      this.#outcome.reject(new EnrolmentError(`This host was not enrolled: ${strangers}`, { hint }))
    } else if (this.#isOver() && this.#conversation === null) {
      const late = 'no server came with the code before its time was over'
      this.#outcome.reject(new EnrolmentError(`This host was not enrolled: ${late}`, { hint }))
    }
  }
}

/** Nobody who has not proven to know the code gets to say something to the person at this terminal. */
function withoutTheirWords(error: unknown): unknown {
  return error instanceof PeerError ? new ProtocolError(error.code) : error
}

function expired(): ProtocolError {
  return new ProtocolError('enrolment-code-expired')
}

function used(): ProtocolError {
  return new ProtocolError('enrolment-code-expired', 'the code has been used: the host is enrolled', {
    hint: 'See whether it works: backup-server check. If it was another server that enrolled it, somebody else has had the code.',
  })
}

/** What goes wrong on this host is not the server's to know in full, but that it was here. */
function toldError(error: unknown): unknown {
  if (!(error instanceof AgentError)) return error
  return new ProtocolError('target-failed', `the host could not write its settings: ${error.message}`, {
    hint: error.hint,
    cause: error,
  })
}
