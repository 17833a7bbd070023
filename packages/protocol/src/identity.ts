import { ProtocolError } from './errors.ts'
import { nameCharsMax } from './limits.ts'

export const roles = ['server', 'host'] as const
export type Role = (typeof roles)[number]

/** Who a certificate says its owner is. */
export interface Identity {
  role: Role
  name: string
}

/** What a host or a server may be called. */
export const namePattern = new RegExp(`^[A-Za-z0-9][A-Za-z0-9._-]{0,${nameCharsMax - 1}}$`)

const uriPrefix = 'urn:central-backup:'

/** The subjectAltName URI that makes a certificate this identity's. */
export function identityUri(identity: Identity): string {
  return `${uriPrefix}${identity.role}:${identity.name}`
}

/**
 * One alternative name as Node prints it: `TYPE:value`, the value quoted like JSON where it holds anything that could
 * be taken for a separator.
 */
const altName = /([A-Za-z][A-Za-z0-9 ]*):("(?:[^"\\]|\\.)*"|[^",]*)(?:, |$)/y

/**
 * The identity in a certificate's alternative names, in the text form of `X509Certificate.subjectAltName`. Throws
 * `wrong-role` unless exactly one of them is a URI of ours, and it is well-formed. Other names are ignored: host names
 * and addresses in certificates do not decide anything.
 */
export function identityFromAltNames(subjectAltName: string | undefined): Identity {
  const uris = splitAltNames(subjectAltName ?? '').filter((name) => name.toLowerCase().includes(uriPrefix))
  if (uris.length === 0) {
    throw new ProtocolError('wrong-role', 'the certificate names no role in central-backup')
  }
  if (uris.length > 1) {
    throw new ProtocolError('wrong-role', 'the certificate names more than one role in central-backup')
  }
  const [, role, name] = /^URI:urn:central-backup:(server|host):(.*)$/.exec(uris[0]!) ?? []
  if (role === undefined || name === undefined || !namePattern.test(name)) {
    throw new ProtocolError('wrong-role', 'the certificate names a role that is not one of central-backup')
  }
  return { role: role as Role, name }
}

function splitAltNames(text: string): string[] {
  const names: string[] = []
  for (let at = 0; at < text.length; at = altName.lastIndex) {
    altName.lastIndex = at
    const match = altName.exec(text)
    if (match === null) {
      throw new ProtocolError('wrong-role', 'the alternative names of the certificate cannot be read')
    }
    names.push(`${match[1]}:${match[2]}`)
  }
  return names
}
