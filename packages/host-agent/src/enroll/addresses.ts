import { readFileSync } from 'node:fs'
import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os'

export type Interfaces = Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>

/** The kernel's tables of routes, as it prints them; `''` for one that is not there. */
export interface Routes {
  /** /proc/net/route */
  v4: string
  /** /proc/net/ipv6_route */
  v6: string
}

/**
 * Addresses at which another machine may reach what listens on `listening`, an IP address: it alone, or, where that is
 * every address, those of all interfaces that are not only of this machine or link, those of the default route first.
 * Where there are none, those of loopback.
 */
export function reachableAddresses(
  listening: string,
  interfaces: Interfaces = networkInterfaces(),
  routes: Routes = readRoutes(),
): string[] {
  if (listening !== '0.0.0.0' && listening !== '::') return [listening]
  const all = Object.entries(interfaces).flatMap(([device, infos]) =>
    (infos ?? []).map((info) => ({ device, ...info })),
  )
  const found = all.filter((one) => listening === '::' || one.family === 'IPv4')
  const outside = found.filter((one) => !one.internal && !isLinkLocal(one.address))
  const ways = { IPv4: defaultDevice4(routes.v4), IPv6: defaultDevice6(routes.v6) }
  const rank = ({ family, device }: (typeof all)[number]) =>
    (device === ways[family] ? 0 : 2) + (family === 'IPv4' ? 0 : 1)
  const ordered = outside.toSorted((a, b) => rank(a) - rank(b))
  return (ordered.length > 0 ? ordered : found).map(({ address }) => address)
}

/** As it is written for people and in settings: an IPv6 address in brackets. */
export function joinAddress(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function isLinkLocal(address: string): boolean {
  return /^fe[89ab]/i.test(address) || address.startsWith('169.254.')
}

function readRoutes(): Routes {
  const read = (file: string) => {
    try {
      return readFileSync(file, 'latin1')
    } catch {
      // No such family on this machine, or no /proc: then no interface comes first.
      return ''
    }
  }
  return { v4: read('/proc/net/route'), v6: read('/proc/net/ipv6_route') }
}

/** Columns: device, destination, gateway, flags, references, use, metric, mask, … (addresses in hexadecimal). */
function defaultDevice4(table: string): string | null {
  const rows = table.split('\n').map((line) => line.split(/\s+/))
  const defaults = rows.filter((row) => row[1] === '00000000' && row[7] === '00000000')
  return bestOf(defaults.map((row) => ({ device: row[0]!, metric: Number(row[6]) })))
}

/** Columns: destination, length of its prefix, source, its length, next hop, metric, references, use, flags, device. */
function defaultDevice6(table: string): string | null {
  const rows = table.split('\n').map((line) => line.trim().split(/\s+/))
  const defaults = rows.filter((row) => row[0] === '0'.repeat(32) && row[1] === '00' && row[9] !== 'lo')
  return bestOf(defaults.map((row) => ({ device: row[9]!, metric: Number.parseInt(row[5]!, 16) })))
}

function bestOf(routes: readonly { device: string; metric: number }[]): string | null {
  return routes.toSorted((a, b) => a.metric - b.metric)[0]?.device ?? null
}
