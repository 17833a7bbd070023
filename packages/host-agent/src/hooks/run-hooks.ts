import { type MessageOf, type Outcome, ProtocolError } from '@central-backup/protocol'
import type { Logger } from 'pino'
import type { Agent } from '../agent.ts'
import type { AgentSettings } from '../settings.ts'
import type { Warning } from '../warnings.ts'
import type { Hook } from './hook.ts'
import { type OwedHooks, OwedHooksNote } from './owed-hooks.ts'
import { type HookEnd, runHook } from './run-hook.ts'

type Request = MessageOf<'backup'>

/** How many of the last lines of a hook that failed go to the server. */
const linesToldMax = 20

/** While the agent is told to end, what has to be run after a run gets no more than this. */
const closingMsMax = 60_000

/** What hooks need of the session that they are run for. */
export interface HookSurroundings {
  agent: Agent
  settings: AgentSettings
  log: Logger
  /** The name in the server's certificate. */
  server: string
  /** The name of the archive that is made. */
  archive: string
}

/**
 * The hooks of one run. From `begin` on, no other run of this host gets hooks; `after` ends that, and has to be called
 * however the run ended. Further calls do nothing.
 */
export class RunHooks {
  readonly #surroundings: HookSurroundings
  readonly #before: readonly Hook[]
  readonly #after: readonly Hook[]
  readonly #variables: Readonly<Record<string, string>>
  readonly #note: OwedHooksNote
  #isNoted = false
  #done = 0
  #hasEnded = false

  private constructor(surroundings: HookSurroundings, request: Request, before: Hook[], after: Hook[]) {
    this.#surroundings = surroundings
    this.#before = before
    this.#after = after
    this.#note = new OwedHooksNote(surroundings.settings.stateDirectory)
    this.#variables = {
      CENTRAL_BACKUP_RUN_ID: surroundings.archive.replace(/\.tar\.zst$/, ''),
      CENTRAL_BACKUP_HOST: surroundings.settings.name,
      CENTRAL_BACKUP_SERVER: surroundings.server,
      CENTRAL_BACKUP_KIND: request.kind,
    }
  }

  /**
   * Chooses the hooks of a run: those that always run, in the order of the settings, then those that the server asks for, in its
   * order. Throws a `ProtocolError`: `policy-denied` for a hook that the settings do not have for that time, `busy`
   * where one has run as often as it may or another run is at work with hooks. Nothing was run then.
   */
  static begin(surroundings: HookSurroundings, request: Request): RunHooks {
    const { agent, settings } = surroundings
    const before = choose(settings.hooks, request.hooks?.before ?? [], 'before')
    const after = choose(settings.hooks, request.hooks?.after ?? [], 'after')
    const all = [...before, ...after]
    if (all.length > 0) {
      if (agent.hooksAtWork) throw new ProtocolError('busy', 'hooks of another run of this host are at work')
      for (const hook of all) refuseTooMany(agent, hook)
      for (const { name } of all) agent.hookRuns.add(name)
      agent.hooksAtWork = true
    }
    return new RunHooks(surroundings, request, before, after)
  }

  /** How many have ended. */
  get done(): number {
    return this.#done
  }

  /**
   * Runs those before the run, one after the other. Throws `hook-failed` where one fails that the run needs, and the reason of
   * `signal`, which kills the one at work.
   */
  async before(signal: AbortSignal, warn: (warning: Warning) => void): Promise<void> {
    await this.#noteOwed(warn)
    for (const hook of this.#before) {
      const end = await this.#run(hook, { CENTRAL_BACKUP_WHEN: 'before' }, hook.timeLimitMs, signal)
      signal.throwIfAborted()
      if (end.failure === null) continue
      tell(hook, end, warn)
      if (hook.failsRun) throw new ProtocolError('hook-failed', `the hook ${hook.name} ${end.failure}`)
    }
  }

  /**
   * Runs those after the run, all of them, whatever becomes of one: after one that `failed`, or was broken off, only those that
   * always run then. Never throws.
   */
  async after(outcome: Outcome, warn: (warning: Warning) => void): Promise<void> {
    if (this.#hasEnded || this.#before.length + this.#after.length === 0) return
    this.#hasEnded = true
    try {
      for (const hook of this.#after) {
        if (hook.when === 'after' && outcome === 'failed') continue
        const variables = { CENTRAL_BACKUP_WHEN: 'after', CENTRAL_BACKUP_OUTCOME: outcome }
        const { closing } = this.#surroundings.agent
        const limitMs = closing.aborted ? Math.min(closingMsMax, hook.timeLimitMs) : hook.timeLimitMs
        const end = await this.#run(hook, variables, limitMs)
        if (end.failure !== null) tell(hook, end, warn)
      }
      await this.#forgetOwed()
    } finally {
      this.#surroundings.agent.hooksAtWork = false
    }
  }

  async #run(
    hook: Hook,
    variables: Readonly<Record<string, string>>,
    timeLimitMs: number,
    signal?: AbortSignal,
  ): Promise<HookEnd> {
    const { log } = this.#surroundings
    const bounds = { timeLimitMs, ...(signal && { signal }) }
    const end = await runHook(hook, { ...this.#variables, ...variables }, bounds)
    this.#done++
    logHook(log, hook, end)
    return end
  }

  /** A run is worth more than the certainty that its end is made up for: without a note, it goes on. */
  async #noteOwed(warn: (warning: Warning) => void): Promise<void> {
    const hooks = this.#after.filter(({ when }) => when === 'after-always').map(({ name }) => name)
    if (hooks.length === 0) return
    try {
      await this.#note.write({ hooks, variables: this.#variables })
      this.#isNoted = true
    } catch (error) {
      const message = `if backup-host is killed in this run, its hooks are not run at the next start: ${(error as Error).message}`
      this.#surroundings.log.warn(message)
      warn({ code: 'hooks-not-noted', path: null, message })
    }
  }

  async #forgetOwed(): Promise<void> {
    if (!this.#isNoted) return
    try {
      await this.#note.remove()
    } catch (error) {
      this.#surroundings.log.error(
        `the hooks of this run will be run once more at the next start: ${(error as Error).message}`,
      )
    }
  }
}

/**
 * Runs what an agent that was killed in the middle of a run owes, as after a run that failed. To be called at the start;
 * runs that have hooks are refused as `busy` meanwhile. Never throws.
 */
export async function runOwedHooks(agent: Agent): Promise<void> {
  const { log, settings } = agent
  agent.hooksAtWork = true
  try {
    const note = new OwedHooksNote(settings.stateDirectory)
    const owed = await note.read()
    if (owed === null) return
    log.warn({ hooks: owed.hooks }, 'a run was under way when backup-host was killed: its hooks are run now')
    for (const hook of hooksOwed(agent, owed)) {
      const variables = {
        ...owed.variables,
        CENTRAL_BACKUP_WHEN: 'after',
        CENTRAL_BACKUP_OUTCOME: 'failed',
        CENTRAL_BACKUP_INTERRUPTED: '1',
      }
      const bounds = { timeLimitMs: hook.timeLimitMs, signal: agent.closing }
      logHook(log, hook, await runHook(hook, variables, bounds))
      // It is owed still, at the next start.
      if (agent.closing.aborted) return
    }
    await note.remove()
  } catch (error) {
    log.error(`the hooks of a run that was interrupted are not run: ${(error as Error).message}`)
  } finally {
    agent.hooksAtWork = false
  }
}

/** What the settings do not have any more is owed no longer. */
function hooksOwed({ settings }: Agent, { hooks }: OwedHooks): Hook[] {
  return hooks.flatMap(
    (name) => settings.hooks.find((hook) => hook.name === name && hook.when === 'after-always') ?? [],
  )
}

function choose(hooks: readonly Hook[], asked: readonly string[], moment: 'before' | 'after'): Hook[] {
  const possible = hooks.filter(({ when }) => (when === 'before') === (moment === 'before'))
  const chosen = possible.filter(({ always }) => always)
  for (const name of asked) {
    const hook = possible.find((one) => one.name === name)
    if (hook === undefined) {
      const message = `the settings of the host have no hook ${name} that is run ${moment} a backup`
      throw new ProtocolError('policy-denied', message, {
        hint: '`[hooks]` in the settings of that host says what may be run there; `backup-server check` lists it.',
      })
    }
    if (!chosen.includes(hook)) chosen.push(hook)
  }
  return chosen
}

function refuseTooMany({ hookRuns }: Agent, { name, runsPerHour }: Hook): void {
  const waitMs = hookRuns.waitMs(name, runsPerHour)
  if (waitMs <= 0) return
  const minutes = Math.ceil(waitMs / 60_000)
  throw new ProtocolError(
    'busy',
    `the hook ${name} has run ${runsPerHour} times within an hour, and may not run again for ${minutes} min`,
    { hint: '`runs_per_hour` of that hook, in the settings of the host, is the limit.' },
  )
}

function tell(hook: Hook, { failure, lines }: HookEnd, warn: (warning: Warning) => void): void {
  warn({ code: 'hook-failed', path: null, message: `the hook ${hook.name} ${failure}` })
  if (!hook.tellsOutput) return
  for (const line of lines.slice(-linesToldMax))
    warn({ code: 'hook-output', path: null, message: `${hook.name}: ${line}` })
}

function logHook(log: Logger, hook: Hook, { failure, seconds, lines }: HookEnd): void {
  for (const line of lines) log.info({ hook: hook.name }, `${hook.name}: ${line}`)
  if (failure === null) log.info({ hook: hook.name, seconds }, `the hook ${hook.name} is done`)
  else log.error({ hook: hook.name, seconds }, `the hook ${hook.name} ${failure}`)
}
