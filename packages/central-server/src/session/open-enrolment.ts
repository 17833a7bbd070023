import {
  type CertificateRequest,
  Channel,
  channelBinding,
  dialEnrolment,
  enrolmentProof,
  enrolmentProofMsMax,
  enrolmentStepMsMax,
  isEnrolmentProof,
  PeerError,
  ProtocolError,
  type ProtocolErrorCode,
} from '@central-backup/protocol'
import { softwareVersion } from '../version.ts'

export interface EnrolmentTarget {
  address: string
  port: number
  /** The secret of the code that the host has printed. */
  secret: Buffer
  /** For connection and handshake together. */
  connectTimeoutMs: number
  signal: AbortSignal
}

/** A conversation with a host that has the code, and knows that this side has it. Who opened it closes `channel`. */
export interface OpenEnrolment {
  channel: Channel
  /** Of the channel, to which `request` has to be bound. */
  binding: Buffer
  /** Not checked yet. */
  request: CertificateRequest
  /** The clock of the host, in milliseconds since 1970. */
  hostMs: number
}

/**
 * Connects to a host that waits to be enrolled, has it prove that it knows the code, and proves the same. To a host
 * that does not, nothing is said of the code. Throws a `ProtocolError` that tells a person what to do.
 */
export async function openEnrolment(target: EnrolmentTarget): Promise<OpenEnrolment> {
  const { address, port, secret, connectTimeoutMs, signal } = target
  const where = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
  const socket = await dialEnrolment({ host: address, port, connectTimeoutMs, signal }).catch((error) => {
    throw explain(error, where)
  })
  const binding = channelBinding(socket)
  const channel = new Channel(socket, { signal })
  try {
    const theirs = await channel.receive(['enrolment-proof'], { timeoutMs: enrolmentProofMsMax })
    if (!isEnrolmentProof(theirs.proof, secret, 'host', binding))
      throw new ProtocolError('enrolment-code-wrong')
  } catch (error) {
    const explained = explain(error, where)
    await channel.fail(explained)
    throw explained
  }
  try {
    const proof = enrolmentProof(secret, 'server', binding)
    await channel.send({ type: 'enrolment-proof', software: `backup-server ${softwareVersion()}`, proof })
    const answer = await channel.receive(['enrolment-request'], { timeoutMs: enrolmentStepMsMax })
    const { publicKey, possession, atMs: hostMs } = answer
    return { channel, binding, request: { publicKey, possession }, hostMs }
  } catch (error) {
    await channel.fail(error)
    throw error
  }
}

const runAgain = 'run `backup-host enroll` on the host again, and the line that it prints here'

const explanations: Partial<Record<ProtocolErrorCode, { message: (where: string) => string; hint: string }>> =
  {
    'connection-refused': {
      message: (where) => `nothing listens at ${where}`,
      hint: `A code is good for ten minutes, and until it was used: if one of the two is so, ${runAgain}. Else check address and port.`,
    },
    'connection-unreachable': {
      message: (where) => `${where} cannot be reached from here`,
      hint: 'This server must reach that TCP port. Check the address, the routes and the firewalls on the way; the host prints its other addresses, too.',
    },
    'handshake-timeout': {
      message: (where) => `${where} accepts connections, but does not answer`,
      hint: 'Check the address and the port, and that no firewall or proxy holds the connection back.',
    },
    'name-not-found': {
      message: (where) => `${where}: this name has no address`,
      hint: 'Check the name and the name server of this machine, or give an address.',
    },
    'application-protocol': {
      message: (where) => `${where} does not wait for an enrolment`,
      hint: `The agent itself seems to run there: then this host is enrolled already, and the code is used. To enrol it anew, stop the agent, and ${runAgain}.`,
    },
    'connection-lost': {
      message: (where) => `${where} hung up before it has proven that it knows the code`,
      hint: `See what \`backup-host enroll\` says on the host. After three wrong codes it hears no more from an address: then ${runAgain}.`,
    },
  }

/** Who has not proven to know the code gets to say nothing to the person at this terminal but the code of an error. */
function explain(error: unknown, where: string): unknown {
  if (!(error instanceof ProtocolError)) return error
  const explanation = explanations[error.code]
  if (explanation !== undefined) {
    return new ProtocolError(error.code, explanation.message(where), { hint: explanation.hint, cause: error })
  }
  return error instanceof PeerError ? new ProtocolError(error.code, undefined, { cause: error }) : error
}
