import { constants, setPriority } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import type { Server } from 'node:tls'
import { CompressorPool, keepLargeMemoryApart, releaseFreeMemory } from '@central-backup/archive'
import { createListener, ProtocolError, replaceCredentials } from '@central-backup/protocol'
import type { Agent } from './agent.ts'
import type { HostCertificates } from './certificates/read.ts'
import { CertificateStore } from './certificates/store.ts'
import { runOwedHooks } from './hooks/run-hooks.ts'
import { HourlyCount } from './hourly-count.ts'
import { removeStaleCopies } from './local-copy.ts'
import { type AgentLog, openLog } from './log.ts'
import { PasswordGate } from './password-gate.ts'
import { RefusalLog } from './refusals.ts'
import { serveSession } from './session.ts'
import { type AgentSettings, readSettings } from './settings.ts'
import type { ListenAddress } from './settings-schema.ts'
import { SharedPace } from './shared-pace.ts'
import { software } from './version.ts'
import { WaitingSessions } from './waiting-sessions.ts'

/** Sessions that were told to end get this long to say so to their servers. */
const closingMsMax = 5_000

/** And where they have hooks at work, this long. */
const hooksClosingMsMax = 75_000

/**
 * Serves until SIGTERM or SIGINT, in the foreground. SIGHUP reads the settings again and opens the log file anew.
 * Throws where it cannot listen. Resolves when all sessions have ended.
 */
export async function serve(settings: AgentSettings): Promise<void> {
  keepLargeMemoryApart()
  const agentLog = openLog(settings)
  const { log } = agentLog
  const closing = new AbortController()
  const sessions = new Set<Promise<void>>()
  const pool = new CompressorPool(settings.limits.compressThreads)
  const listeners: Server[] = []
  const agent: Agent = {
    settings,
    gate: new PasswordGate(),
    failedLogins: new RefusalLog(log),
    certificates: new CertificateStore(settings, (certificates) =>
      useCertificates(agent, listeners, certificates),
    ),
    connections: new Map(),
    pool,
    log,
    closing: closing.signal,
    waiting: new WaitingSessions(),
    sessions: 0,
    runs: new HourlyCount(),
    pace: new SharedPace(),
    hookRuns: new HourlyCount(),
    // Until what is owed was run.
    hooksAtWork: true,
  }
  for (const why of agent.certificates.current.strange)
    log.warn(`${settings.tls.revoked}: a revocation list does not count: ${why}`)
  beNice(agent)
  let owed: Promise<void> = Promise.resolve()

  listeners.push(...settings.listen.map(() => makeListener(agent, sessions)))
  const ended = Promise.withResolvers<string>()
  const onEnd = (signal: string) => ended.resolve(signal)
  const onReload = () => reload(agent, agentLog)
  process.on('SIGTERM', onEnd).on('SIGINT', onEnd).on('SIGHUP', onReload)
  try {
    await Promise.all(listeners.map((listener, i) => listen(listener, settings.listen[i]!)))
    for (const listener of listeners) {
      log.info({ address: addressOf(listener) }, `${software} listens on ${addressOf(listener)}`)
      // Like too many open files: the next connection may come through.
      listener.on('error', (error) => log.error(`cannot accept a connection: ${error.message}`))
    }
    // Not before: where another agent has the port, what looks as if it was left behind is at work.
    owed = runOwedHooks(agent)
    void cleanUp(agent)
    const signal = await ended.promise
    log.info(`${signal}: ending ${sessions.size} connections`)
    closing.abort(new ProtocolError('cancelled', 'backup-host is shutting down'))
  } finally {
    process.off('SIGTERM', onEnd).off('SIGINT', onEnd).off('SIGHUP', onReload)
    for (const listener of listeners) listener.close()
    await Promise.race([Promise.all([...sessions, owed]), closingTime(agent)])
    await pool.close()
  }
}

/** Hooks that bring something back to what it was are worth waiting for; but not for ever, as systemd does not either. */
async function closingTime(agent: Agent): Promise<void> {
  await delay(closingMsMax, null, { ref: false })
  for (let waitedMs = closingMsMax; agent.hooksAtWork && waitedMs < hooksClosingMsMax; waitedMs += 1000)
    await delay(1000)
}

function makeListener(agent: Agent, sessions: Set<Promise<void>>): Server {
  const refusals = new RefusalLog(agent.log)
  const listener = createListener(agent.certificates.current.credentials, {
    onConnection(socket, server) {
      const session = serveSession(agent, socket, server)
      sessions.add(session)
      void session.then(() => {
        sessions.delete(session)
        if (sessions.size === 0) releaseFreeMemory()
      })
    },
    onRefused: (error, address) => refusals.addConnection(error, address),
  })
  return listener
}

/** For connections to come; those of servers that are revoked now are ended. Throws where they cannot be used. */
function useCertificates(
  { connections, log }: Agent,
  listeners: readonly Server[],
  { credentials }: HostCertificates,
): void {
  for (const listener of listeners) replaceCredentials(listener, credentials)
  for (const [channel, serial] of connections) {
    if (!credentials.revoked?.has(serial)) continue
    log.error(
      { code: 'certificate-revoked' },
      `a session is ended: the certificate ${serial} of its server was revoked`,
    )
    void channel.fail(
      new ProtocolError(
        'certificate-revoked',
        `the certificate of the server, with the serial number ${serial}, was revoked`,
      ),
    )
  }
}

function listen(listener: Server, { address, port }: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    // It stays: until all of them listen, nobody else is there for errors.
    listener.once('error', reject)
    listener.listen({ host: address, port }, resolve)
  })
}

function addressOf(listener: Server): string {
  const address = listener.address()
  if (address === null || typeof address === 'string') return String(address)
  return address.family === 'IPv6'
    ? `[${address.address}]:${address.port}`
    : `${address.address}:${address.port}`
}

/** Settings that cannot be used leave those in force that are. */
function reload(agent: Agent, agentLog: AgentLog): void {
  try {
    agentLog.reopen()
    const settings = readSettings(agent.settings.file)
    agent.certificates.reload(settings)
    if (JSON.stringify(settings.listen) !== JSON.stringify(agent.settings.listen)) {
      agent.log.warn('the addresses to listen on have changed: restart backup-host to use them')
    }
    agent.settings = settings
    agent.log.info('SIGHUP: the settings were read again')
  } catch (error) {
    agent.log.error(`SIGHUP: the settings stay as they were: ${(error as Error).message}`)
  }
}

/** Threads inherit it. Linux derives the I/O priority from it, too. */
function beNice({ settings, log }: Agent): void {
  try {
    setPriority(0, Math.min(constants.priority.PRIORITY_LOW, settings.limits.cpuNice))
  } catch (error) {
    log.warn(`the CPU priority stays as it is: ${(error as Error).message}`)
  }
}

/** Never rejects. */
async function cleanUp({ settings, log }: Agent): Promise<void> {
  if (settings.localCopy === null) return
  try {
    for (const name of await removeStaleCopies(settings.localCopy.directory)) {
      log.warn({ name }, `removed ${name}, which a run that was interrupted had left`)
    }
  } catch (error) {
    log.warn(`cannot clean up the local copies: ${(error as Error).message}`)
  }
}
