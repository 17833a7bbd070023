import { channelBinding, type MessageOf, ProtocolError, trustMessagesMax } from '@central-backup/protocol'
import { createHostKey, requestCertificate } from '../host-key.ts'
import type { Session } from '../session.ts'

/** The messages of a server about certificates and trust. They come before its request. */
export const trustMessages = ['trust', 'trust-update', 'renew', 'certificate'] as const
export type TrustMessage = MessageOf<(typeof trustMessages)[number]>

/** Answers a server that looks after the certificates of this host. */
export class TrustConversation {
  readonly #session: Session
  #messages = 0
  /** Of a certificate that was asked for. It is kept nowhere until that has come. */
  #newKey: string | null = null

  constructor(session: Session) {
    this.#session = session
  }

  /** Throws a `ProtocolError` for what is out of turn; what is refused is only told, to the server and to the log. */
  async answer(message: TrustMessage): Promise<void> {
    if (++this.#messages > trustMessagesMax)
      throw new ProtocolError(
        'message-out-of-turn',
        `more than ${trustMessagesMax} messages about certificates`,
      )
    const { channel, agent } = this.#session
    switch (message.type) {
      case 'trust':
        return channel.send(agent.certificates.describe())
      case 'trust-update':
        return channel.send(agent.certificates.describe(await this.#update(message)))
      case 'renew':
        return channel.send(this.#request())
      case 'certificate':
        return channel.send(agent.certificates.describe(await this.#take(message)))
    }
  }

  /** Returns what was refused. */
  async #update(message: MessageOf<'trust-update'>): Promise<string | undefined> {
    const { agent, log } = this.#session
    try {
      const { faults, changes } = await agent.certificates.updateTrust(message, Date.now())
      for (const change of changes) log.info(change)
      for (const fault of faults) log.error({ code: 'trust-refused' }, `refused: ${fault}`)
      return faults.length === 0 ? undefined : faults.join('; ')
    } catch (error) {
      return this.#failed(error)
    }
  }

  #request(): MessageOf<'signing-request' | 'trusted'> {
    const { socket, agent } = this.#session
    try {
      // Seen before the server signs something that could not be kept.
      agent.certificates.requireWritable()
    } catch (error) {
      return agent.certificates.describe(this.#failed(error))
    }
    this.#newKey = createHostKey()
    return { type: 'signing-request', ...requestCertificate(this.#newKey, channelBinding(socket)) }
  }

  async #take({ certificate }: MessageOf<'certificate'>): Promise<string | undefined> {
    const key = this.#newKey
    if (key === null)
      throw new ProtocolError('message-out-of-turn', 'a certificate arrived that was not asked for')
    this.#newKey = null
    const { agent, log } = this.#session
    try {
      const fault = await agent.certificates.takeCertificate(key, certificate, Date.now())
      if (fault === null) {
        log.info(`this host has a new certificate, until ${agent.certificates.current.certificate.validTo}`)
        return undefined
      }
      log.error({ code: 'certificate-refused' }, `refused a new certificate: ${fault}`)
      return fault
    } catch (error) {
      return this.#failed(error)
    }
  }

  /** A disk that is full, or a folder that systemd keeps read-only: the backup goes on. */
  #failed(error: unknown): string {
    const { message } = error as Error
    this.#session.log.error({ code: 'certificates-not-written' }, `certificates were not written: ${message}`)
    return `it could not be written on the host: ${message}`
  }
}
