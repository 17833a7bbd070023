import type { BytePath, PackingProgress } from '@central-backup/archive'
import { type Channel, type Phase, progressIntervalMs, type RestorePhase } from '@central-backup/protocol'
import { absolutePath } from './warnings.ts'

/** Tells the server every few seconds how far the agent is, so that it knows that it is at work. */
export class ProgressReports {
  readonly #channel: Channel
  readonly #timer: NodeJS.Timeout
  #phase: Phase | RestorePhase = 'select'
  #source: () => PackingProgress = () => ({ entries: 0, contentBytes: 0, path: '' as BytePath })
  #underWay = false

  constructor(channel: Channel) {
    this.#channel = channel
    this.#timer = setInterval(() => this.#report(), progressIntervalMs / 5)
  }

  enter(phase: Phase | RestorePhase, source = this.#source): void {
    this.#phase = phase
    this.#source = source
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #report(): void {
    if (this.#underWay) return
    const { entries, contentBytes, path } = this.#source()
    this.#underWay = true
    const message = {
      type: 'progress',
      phase: this.#phase,
      entries,
      contentBytes,
      path: absolutePath(path),
    } as const
    this.#channel.send(message).then(
      () => {
        this.#underWay = false
      },
      // The channel ended: whoever sends or receives next is told so.
      () => this.stop(),
    )
  }
}
