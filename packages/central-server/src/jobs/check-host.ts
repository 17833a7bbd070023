import { type Credentials, type MessageOf, ProtocolError } from '@central-backup/protocol'
import type { Host } from '../config/hosts.ts'
import type { ServerSettings } from '../config/settings.ts'
import { openSession } from '../session/open-session.ts'

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
  error: Error | null
}

export interface CheckContext {
  settings: ServerSettings
  credentials: Credentials
  serverName: string
  signal: AbortSignal
}

/** Logs in to the agent of a host, and looks at what its policy allows. Never throws. */
export async function checkHost(context: CheckContext, host: Host): Promise<HostCheck> {
  const { credentials, serverName, settings, signal } = context
  const result: HostCheck = {
    host: host.name,
    address: `${host.address}:${host.port}`,
    agent: null,
    notAllowed: [],
    error: null,
  }
  try {
    const { channel, welcome, software } = await openSession({
      host,
      credentials,
      serverName,
      connection: settings.connection,
      signal,
    })
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
