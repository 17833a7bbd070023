import { isIPv6 } from 'node:net'
import { isAddress } from '../config/fields.ts'
import { UsageError } from '../errors.ts'

/** Reads `HOST`, `HOST:PORT`, an IPv6 address, or `[IPv6]:PORT`. `port` is `null` where there is none. */
export function parseAddress(text: string): { address: string; port: number | null } {
  if (isIPv6(text)) return { address: text, port: null }
  const [, inBrackets, plain, digits] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  const address = inBrackets ?? plain ?? ''
  const port = digits === undefined ? null : Number(digits)
  const goodAddress = inBrackets === undefined ? isAddress(address) : isIPv6(inBrackets)
  if (goodAddress && (port === null || (port >= 1 && port <= 65_535))) return { address, port }
  throw new UsageError(`${JSON.stringify(text)} is not an address`, {
    hint: 'Expected HOST or HOST:PORT, like web1.example.org, 192.0.2.10:7911 or [2001:db8::1]:7911.',
  })
}
