import { type Credentials, type MessageOf, ProtocolError } from '@central-backup/protocol'
import type { Host } from '../config/hosts.ts'
import type { ServerSettings } from '../config/settings.ts'
import { openSession } from '../session/open-session.ts'
import { keepHostTrust } from './keep-host-trust.ts'

/** A command that the settings of a host have, and when it runs. */
export type HostHook = NonNullable<MessageOf<'welcome'>['policy']['hooks']>[number]

/** What a host's agent answered. */
export interface HostCheck {
  host: string
  address: string
  /** `null` where it could not be asked. */
  agent: {
    software: string
    allowRead: string[]
    allowRestore: string[]
    localCopy: boolean
    hooks: HostHook[]
  } | null
  /** Paths of the host module that the agent's settings do not let us read. */
  notAllowed: string[]
  /** Until when the certificate is valid that the host got now; `null` where it needed none. */
  renewedUntilMs: number | null
  /** What is not as it should be with the host's certificate and what it trusts. */
  warnings: string[]
  error: Error | null
}

export interface CheckContext {
  settings: ServerSettings
  credentials: Credentials
  serverName: string
  signal: AbortSignal
  /** Milliseconds since 1970. */
  now: () => number
}

/** Logs in to the agent of a host, looks after its certificate, and at what its policy allows. Never throws. */
export async function checkHost(context: CheckContext, host: Host): Promise<HostCheck> {
  const { credentials, serverName, settings, signal } = context
  const result: HostCheck = {
    host: host.name,
    address: `${host.address}:${host.port}`,
    agent: null,
    notAllowed: [],
    renewedUntilMs: null,
    warnings: [],
    error: null,
  }
  try {
    const session = await openSession({
      host,
      credentials,
      serverName,
      connection: settings.connection,
      signal,
    })
    const { channel, welcome, software } = session
    const { renewed, warnings } = await keepHostTrust(settings.certs, session, host.name, context.now)
    result.renewedUntilMs = renewed === null ? null : renewed.validToDate.getTime()
    result.warnings = warnings
    await channel.close()
    const allowRead = welcome.policy.read.map((path) => path.toString())
    const allowRestore = welcome.policy.restore.map((path) => path.toString())
    const hooks = welcome.policy.hooks ?? []
    result.agent = { software, allowRead, allowRestore, localCopy: welcome.localCopy, hooks }
    const paths = host.paths.map(({ path }) => path)
    result.notAllowed = paths.filter((path) => !allowRead.some((allowed) => isBelow(path, allowed)))
    if (result.notAllowed.length > 0) {
      throw new ProtocolError(
        'policy-denied',
        `the settings of the host do not allow to read ${result.notAllowed.join(', ')}`,
      )
    }
    refuseUnknownHooks(host, hooks)
  } catch (error) {
    result.error = error as Error
  }
  return result
}

/** The agent would refuse the run. */
function refuseUnknownHooks({ hooks: { before, after } }: Host, known: readonly HostHook[]): void {
  const has = (name: string, isBefore: boolean) =>
    known.some((hook) => hook.name === name && (hook.when === 'before') === isBefore)
  const missing = [
    ...before.filter((name) => !has(name, true)).map((name) => `${name} before`),
    ...after.filter((name) => !has(name, false)).map((name) => `${name} after`),
  ]
  if (missing.length === 0) return
  throw new ProtocolError(
    'policy-denied',
    `the settings of the host have no hook ${missing.join(' or ')} a backup`,
    { hint: '`[hooks]` in the settings of that host says what may be run there, and when.' },
  )
}

/** For a pattern, its fixed beginning decides, as it does on the host. */
function isBelow(path: string, allowed: string): boolean {
  const folder = allowed.replace(/\/+$/, '')
  const fixed = path.slice(0, path.search(/[*?[{\\(]|$/))
  return fixed === folder || `${fixed}/`.startsWith(`${folder}/`)
}
