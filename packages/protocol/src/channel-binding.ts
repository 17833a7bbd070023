import type { TLSSocket } from 'node:tls'

/** Bytes of a channel binding. */
export const channelBindingBytes = 32

/**
 * What only the two ends of this very TLS connection know and can compute: `tls-exporter` of RFC 9266, that is the
 * exporter of RFC 8446 with the label below and no context. Somebody in the middle, who has one connection with each
 * side, has two different ones. It is no secret key by itself: it goes into a proof, and never over the line.
 */
export function channelBinding(socket: TLSSocket): Buffer {
  return socket.exportKeyingMaterial(channelBindingBytes, 'EXPORTER-Channel-Binding', Buffer.alloc(0))
}
