export {
  type CertificateRequest,
  isPublicKeyForm,
  possessionBytes,
  possessionStatement,
  publicKeyBytes,
} from './certificate-request.ts'
export { Channel, type ChannelOptions, type ChannelWaits, type ReceiveOptions } from './channel.ts'
export { channelBinding, channelBindingBytes } from './channel-binding.ts'
export { encodeMessage, MessageParser } from './codec.ts'
export {
  createEnrolmentCode,
  enrolmentCodeBytes,
  formatEnrolmentCode,
  parseEnrolmentCode,
} from './enrolment-code.ts'
export { enrolmentProof, enrolmentProofBytes, isEnrolmentProof } from './enrolment-proof.ts'
export {
  createEnrolmentListener,
  dialEnrolment,
  type EnrolmentHandlers,
  enrolmentProtocol,
} from './enrolment-tls.ts'
export {
  describeSpan,
  isProtocolErrorCode,
  PeerError,
  ProtocolError,
  type ProtocolErrorCode,
  type ProtocolErrorOptions,
  plainText,
  protocolErrors,
} from './errors.ts'
export { type Identity, identityFromAltNames, identityUri, namePattern, type Role } from './identity.ts'
export { certificateForKey, formatKeyFile } from './key-file.ts'
export * from './limits.ts'
export {
  type Counts,
  type HookMoment,
  hookMoments,
  hookNamePattern,
  type Kind,
  kinds,
  type Message,
  type MessageOf,
  type MessageType,
  type Outcome,
  outcomes,
  type Phase,
  phases,
  protocolVersion,
  type RestoreCounts,
  type RestorePhase,
  restorePhases,
  type SelectionPath,
  type SelectionRules,
} from './messages.ts'
export { Pace } from './pace.ts'
export { PayloadMemory } from './payload-memory.ts'
export { type RevocationList, RevocationListError, readRevocationList } from './revocation-list.ts'
export { errorFromSocket } from './socket-errors.ts'
export {
  applicationProtocol,
  type Credentials,
  certificateOf,
  createListener,
  type DialOptions,
  dial,
  identityOf,
  type ListenerHandlers,
  replaceCredentials,
} from './tls.ts'
export {
  digestOf,
  dropRevoked,
  endorsementUri,
  extendTrust,
  formatPem,
  formatTrust,
  isIssuedBy,
  listOf,
  type RevocationLists,
  readCertificates,
  readTrust,
  revokedSerials,
  type Trust,
  type TrustOffer,
} from './trust.ts'
