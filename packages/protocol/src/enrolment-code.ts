/**
 * The code that a person carries from a new host to the server: 128 random bits, and 12 bits that tell a slip of the
 * fingers from a code that is another one, as 28 characters in groups of four. The characters are those of Crockford's
 * base 32, which has no I, L, O and U.
 */

import { createHash, randomBytes } from 'node:crypto'

/** Random bytes in a code. */
export const enrolmentCodeBytes = 16

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const characters = 28
const checkBits = 12n

/** Makes the secret of a code. */
export function createEnrolmentCode(): Buffer {
  return randomBytes(enrolmentCodeBytes)
}

/** The code as a person gets to see it, like `7F3K-Q9TX-…`. */
export function formatEnrolmentCode(secret: Buffer): string {
  let rest = (BigInt(`0x${secret.toString('hex')}`) << checkBits) | checkOf(secret)
  let text = ''
  for (let i = 0; i < characters; i++) {
    text = alphabet[Number(rest & 31n)] + text
    rest >>= 5n
  }
  return text.match(/.{4}/g)!.join('-')
}

/**
 * The secret of a code that was typed or copied: in either case, with or without hyphens and spaces, I and L for 1, O for
 * 0. `null` where something was added, left out or mistyped (one slip in 4096 is not noticed).
 */
export function parseEnrolmentCode(text: string): Buffer | null {
  // More than any code with its separators has; what is longer is not looked at.
  if (text.length > 4 * characters) return null
  const plain = text.toUpperCase().replaceAll(/[\s-]/g, '').replaceAll(/[IL]/g, '1').replaceAll('O', '0')
  const digits = [...plain].map((character) => alphabet.indexOf(character))
  if (digits.length !== characters || digits.includes(-1)) return null
  const whole = digits.reduce((value, digit) => (value << 5n) | BigInt(digit), 0n)
  const hex = (whole >> checkBits).toString(16).padStart(2 * enrolmentCodeBytes, '0')
  const secret = Buffer.from(hex, 'hex')
  return (whole & ((1n << checkBits) - 1n)) === checkOf(secret) ? secret : null
}

function checkOf(secret: Buffer): bigint {
  const hash = createHash('sha256').update('central-backup enrolment code 1\0').update(secret).digest()
  return BigInt(hash.readUInt16BE() >> 4)
}
